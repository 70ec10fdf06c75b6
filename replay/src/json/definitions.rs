//! Definitions as JSON, and back. Parsing verifies the fingerprint.

use std::sync::Arc;

use cloacina_engine::core::codec::fingerprint;
use cloacina_engine::core::definition::{Condition, Definition, Operator, TaskDefinition, Timeout, TriggerRule};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::{Backoff, RetryCondition, RetryPolicy};
use cloacina_engine::core::time::Millis;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::values::{present, raw};
use super::{InvalidHistory, hex, unhex};

/// A workflow as data.
#[derive(Debug, Serialize, Deserialize)]
pub struct DefinitionJson {
    /// SHA-256 of its canonical encoding.
    pub fingerprint: String,
    workflow: String,
    tasks: Vec<TaskJson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TaskJson {
    id: String,
    dependencies: Vec<String>,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    condition: Option<ConditionJson>,
    retry: RetryJson,
    timeout_ms: Option<u64>,
    /// Whether attempts have no timeout, regardless of the execution's options.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    timeout_off: bool,
    code: String,
    source: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct RetryJson {
    max_attempts: u32,
    backoff: BackoffJson,
    initial_delay_ms: u64,
    max_delay_ms: u64,
    jitter: bool,
    conditions: Vec<RetryConditionJson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct BackoffJson {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    multiplier: Option<f64>,
}

#[derive(Debug, Serialize, Deserialize)]
struct RetryConditionJson {
    kind: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    words: Vec<String>,
}

/// A condition, in the same form as in workflow definitions: `{"type": "TaskSuccess", "task_name": …}`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct ConditionJson {
    r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conditions: Option<Vec<ConditionJson>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operator: Option<String>,
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

const OPERATORS: [Operator; 8] = [
    Operator::Equals,
    Operator::NotEquals,
    Operator::GreaterThan,
    Operator::LessThan,
    Operator::Contains,
    Operator::NotContains,
    Operator::Exists,
    Operator::NotExists,
];

impl DefinitionJson {
    /// Converts a definition to JSON.
    ///
    /// # Errors
    /// Never for a definition of this library.
    pub fn new(definition: &Definition) -> serde_json::Result<Self> {
        Ok(Self {
            fingerprint: fingerprint(definition).to_string(),
            workflow: definition.workflow.to_string(),
            tasks: definition.tasks.iter().map(TaskJson::new).collect::<Result<_, _>>()?,
        })
    }

    /// Converts it back to a definition.
    ///
    /// # Errors
    /// [`InvalidHistory`], also if the fingerprint does not match.
    pub fn definition(&self) -> Result<Definition, InvalidHistory> {
        let tasks = self.tasks.iter().map(TaskJson::task).collect::<Result<_, _>>()?;
        let definition = Definition { workflow: self.workflow.as_str().into(), tasks };
        let found = fingerprint(&definition).to_string();
        if found == self.fingerprint {
            Ok(definition)
        } else {
            Err(InvalidHistory::Part(format!(
                "a definition has the fingerprint {found} instead of {}",
                self.fingerprint
            )))
        }
    }
}

impl TaskJson {
    fn new(task: &TaskDefinition) -> serde_json::Result<Self> {
        Ok(Self {
            id: task.id.to_string(),
            dependencies: task.dependencies.iter().map(ToString::to_string).collect(),
            rule: task.rule.name().to_owned(),
            condition: match &task.rule {
                TriggerRule::When(condition) => Some(ConditionJson::new(condition)?),
                _ => None,
            },
            retry: RetryJson::from(&task.retry),
            timeout_ms: match task.timeout {
                Timeout::After(limit) => Some(limit.0),
                Timeout::Inherited | Timeout::Off => None,
            },
            timeout_off: task.timeout == Timeout::Off,
            code: hex(&task.code),
            source: task.source.to_string(),
        })
    }

    fn task(&self) -> Result<TaskDefinition, InvalidHistory> {
        let rule = match &self.condition {
            Some(condition) => Some(TriggerRule::When(condition.condition()?)),
            None => TriggerRule::named(&self.rule),
        };
        Ok(TaskDefinition {
            id: self.id.as_str().into(),
            dependencies: self.dependencies.iter().map(|name| name.as_str().into()).collect(),
            rule: rule.ok_or_else(|| InvalidHistory::Part(format!("unknown trigger rule '{}'", self.rule)))?,
            retry: self.retry.policy()?,
            timeout: match self.timeout_ms {
                Some(limit) => Timeout::After(Millis(limit)),
                None if self.timeout_off => Timeout::Off,
                None => Timeout::Inherited,
            },
            code: unhex(&self.code)?,
            source: self.source.as_str().into(),
        })
    }
}

impl From<&RetryPolicy> for RetryJson {
    fn from(policy: &RetryPolicy) -> Self {
        let (kind, base, multiplier) = match policy.backoff {
            Backoff::Fixed => ("fixed", None, None),
            Backoff::Linear { multiplier } => ("linear", None, Some(multiplier)),
            Backoff::Exponential { base, multiplier } => ("exponential", Some(base), Some(multiplier)),
        };
        let condition = |condition: &RetryCondition| {
            let words = |words: &[Arc<str>]| words.iter().map(ToString::to_string).collect();
            let (kind, words) = match condition {
                RetryCondition::Never => ("never", Vec::new()),
                RetryCondition::Transient => ("transient", Vec::new()),
                RetryCondition::All => ("all", Vec::new()),
                RetryCondition::Pattern(patterns) => ("pattern", words(patterns)),
                RetryCondition::Type(names) => ("type", words(names)),
            };
            RetryConditionJson { kind: kind.to_owned(), words }
        };
        Self {
            max_attempts: policy.max_attempts,
            backoff: BackoffJson { kind: kind.to_owned(), base, multiplier },
            initial_delay_ms: policy.initial_delay.0,
            max_delay_ms: policy.max_delay.0,
            jitter: policy.jitter,
            conditions: policy.conditions.iter().map(condition).collect(),
        }
    }
}

impl RetryJson {
    fn policy(&self) -> Result<RetryPolicy, InvalidHistory> {
        let BackoffJson { kind, base, multiplier } = &self.backoff;
        let backoff = match (kind.as_str(), base, multiplier) {
            ("fixed", None, None) => Backoff::Fixed,
            ("linear", None, Some(multiplier)) => Backoff::Linear { multiplier: *multiplier },
            ("exponential", Some(base), Some(multiplier)) => {
                Backoff::Exponential { base: *base, multiplier: *multiplier }
            }
            _ => return Err(InvalidHistory::Part(format!("unknown or incomplete backoff '{kind}'"))),
        };
        let condition = |condition: &RetryConditionJson| {
            let words = || condition.words.iter().map(|word| word.as_str().into()).collect();
            Ok(match condition.kind.as_str() {
                "never" => RetryCondition::Never,
                "transient" => RetryCondition::Transient,
                "all" => RetryCondition::All,
                "pattern" => RetryCondition::Pattern(words()),
                "type" => RetryCondition::Type(words()),
                other => return Err(InvalidHistory::Part(format!("unknown retry condition '{other}'"))),
            })
        };
        Ok(RetryPolicy {
            max_attempts: self.max_attempts,
            backoff,
            initial_delay: Millis(self.initial_delay_ms),
            max_delay: Millis(self.max_delay_ms),
            jitter: self.jitter,
            conditions: self.conditions.iter().map(condition).collect::<Result<_, _>>()?,
        })
    }
}

impl ConditionJson {
    fn new(condition: &Condition) -> serde_json::Result<Self> {
        let typed = |name: &str| Self { r#type: name.to_owned(), ..Self::default() };
        let tree = |name: &str, parts: &[Condition]| -> serde_json::Result<Self> {
            let parts = parts.iter().map(Self::new).collect::<Result<_, _>>()?;
            Ok(Self { conditions: Some(parts), ..typed(name) })
        };
        let task = |name: &str, task: &Arc<str>| Self { task_name: Some(task.to_string()), ..typed(name) };
        Ok(match condition {
            Condition::Always => typed("Always"),
            Condition::All(parts) => tree("All", parts)?,
            Condition::Any(parts) => tree("Any", parts)?,
            Condition::None(parts) => tree("None", parts)?,
            Condition::TaskSuccess(name) => task("TaskSuccess", name),
            Condition::TaskFailed(name) => task("TaskFailed", name),
            Condition::TaskSkipped(name) => task("TaskSkipped", name),
            Condition::ContextValue { key, operator, value } => Self {
                key: Some(key.to_string()),
                operator: Some(format!("{operator:?}")),
                value: value.as_ref().map(raw).transpose()?,
                ..typed("ContextValue")
            },
        })
    }

    fn condition(&self) -> Result<Condition, InvalidHistory> {
        let wrong = || InvalidHistory::Part(format!("unknown or incomplete condition '{}'", self.r#type));
        let parts = || -> Result<Vec<Condition>, InvalidHistory> {
            self.conditions.as_ref().ok_or_else(wrong)?.iter().map(Self::condition).collect()
        };
        let task = || -> Result<Arc<str>, InvalidHistory> { Ok(self.task_name.as_deref().ok_or_else(wrong)?.into()) };
        Ok(match self.r#type.as_str() {
            "Always" => Condition::Always,
            "All" => Condition::All(parts()?),
            "Any" => Condition::Any(parts()?),
            "None" => Condition::None(parts()?),
            "TaskSuccess" => Condition::TaskSuccess(task()?),
            "TaskFailed" => Condition::TaskFailed(task()?),
            "TaskSkipped" => Condition::TaskSkipped(task()?),
            "ContextValue" => Condition::ContextValue {
                key: self.key.as_deref().ok_or_else(wrong)?.into(),
                operator: self.operator()?,
                value: self.value.as_ref().map(|value| Json::from_serializer(value.get())),
            },
            _ => return Err(wrong()),
        })
    }

    fn operator(&self) -> Result<Operator, InvalidHistory> {
        let name = self.operator.as_deref().unwrap_or_default();
        let found = OPERATORS.into_iter().find(|operator| format!("{operator:?}") == name);
        found.ok_or_else(|| InvalidHistory::Part(format!("unknown operator '{name}'")))
    }
}
