//! Workflow definitions: tasks, dependencies, rules. The log stores each definition once, under its fingerprint, so
//! that an execution can be rebuilt after the code has changed or been deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use bincode::de::Decoder;
use bincode::error::{AllowedEnumVariants, DecodeError};
use bincode::{Decode, Encode, impl_borrow_decode};

pub use super::digest::Fingerprint;
use super::event::{Key, TaskId};
use super::json::Json;
use super::retry::RetryPolicy;
use super::time::Millis;

/// A workflow as data.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct Definition {
    /// Its name.
    pub workflow: Arc<str>,
    /// Its tasks, in the order in which they were added. The final context joins the leaves in this order.
    pub tasks: Vec<TaskDefinition>,
}

/// The differences between two definitions of a workflow, by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The tasks that only the new one has.
    pub added: Vec<TaskId>,
    /// The tasks that only the old one has.
    pub removed: Vec<TaskId>,
    /// The tasks whose code changed.
    pub code: Vec<TaskId>,
    /// The tasks whose dependencies or rule changed.
    pub rewired: Vec<TaskId>,
    /// The tasks whose retry policy or timeout changed.
    pub policy: Vec<TaskId>,
}

impl Changes {
    /// Compares two definitions.
    ///
    /// ```
    /// use cloacina_engine::core::definition::{Changes, Definition, TaskDefinition};
    /// let of = |tasks: &[&str]| Definition {
    ///     workflow: "etl".into(),
    ///     tasks: tasks.iter().map(|name| TaskDefinition::new(*name)).collect(),
    /// };
    /// let changes = Changes::between(&of(&["extract", "load"]), &of(&["extract", "check"]));
    /// assert_eq!(changes.words(), ["task added: check", "task removed: load"]);
    /// ```
    #[must_use]
    pub fn between(old: &Definition, new: &Definition) -> Self {
        let by_name = |definition: &Definition| -> BTreeMap<TaskId, TaskDefinition> {
            definition.tasks.iter().map(|task| (task.id.clone(), task.clone())).collect()
        };
        let (before, after) = (by_name(old), by_name(new));
        let mut changes = Self::default();
        for task in &new.tasks {
            let Some(prior) = before.get(&task.id) else {
                changes.added.push(task.id.clone());
                continue;
            };
            let mut note = |differs: bool, list: fn(&mut Self) -> &mut Vec<TaskId>| {
                if differs {
                    list(&mut changes).push(task.id.clone());
                }
            };
            note(prior.code != task.code, |changes| &mut changes.code);
            note((&prior.dependencies, &prior.rule) != (&task.dependencies, &task.rule), |changes| {
                &mut changes.rewired
            });
            note((&prior.retry, prior.timeout) != (&task.retry, task.timeout), |changes| &mut changes.policy);
        }
        let removed = old.tasks.iter().filter(|task| !after.contains_key(&task.id));
        changes.removed = removed.map(|task| task.id.clone()).collect();
        changes
    }

    /// Returns one line per kind of change, with the tasks: `code changed: extract, load`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        /// How many tasks a line names at most.
        const NAMED: usize = 12;
        let kinds = [
            ("code changed", &self.code),
            ("task added", &self.added),
            ("task removed", &self.removed),
            ("dependencies or rule changed", &self.rewired),
            ("retry policy or timeout changed", &self.policy),
        ];
        let some = kinds.into_iter().filter(|(_, tasks)| !tasks.is_empty());
        some.map(|(kind, tasks)| {
            let named = tasks[..tasks.len().min(NAMED)].join(", ");
            let more = tasks.len().saturating_sub(NAMED);
            if more == 0 { format!("{kind}: {named}") } else { format!("{kind}: {named} and {more} more") }
        })
        .collect()
    }
}

/// A task as data.
#[derive(Clone, Debug, PartialEq, Encode)]
pub struct TaskDefinition {
    /// Its name.
    pub id: TaskId,
    /// The tasks whose writes it sees. Joins merge them in this order.
    pub dependencies: Vec<TaskId>,
    /// The rule that decides whether it runs once everything upstream is settled.
    pub rule: TriggerRule,
    /// The retry policy.
    pub retry: RetryPolicy,
    /// The timeout of an attempt.
    pub timeout: Timeout,
    /// A hash of its code: tasks with the same hash do the same.
    pub code: [u8; 32],
    /// Its source text, for the debugger; empty if unknown.
    pub source: Arc<str>,
}

impl TaskDefinition {
    /// Creates a task without dependencies and with default settings.
    #[must_use]
    pub fn new(id: impl Into<TaskId>) -> Self {
        Self {
            id: id.into(),
            dependencies: Vec::new(),
            rule: TriggerRule::NoneFailed,
            retry: RetryPolicy::default(),
            timeout: Timeout::Inherited,
            code: [0; 32],
            source: "".into(),
        }
    }
}

/// The timeout of an attempt at a task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Timeout {
    /// The `task_timeout` of the execution's options.
    #[default]
    Inherited,
    /// This long.
    After(Millis),
    /// No timeout.
    Off,
}

/// Decides whether a task runs or is skipped once everything upstream is settled.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub enum TriggerRule {
    /// No dependency failed or was skipped because of a failure.
    #[default]
    NoneFailed,
    /// Every dependency completed.
    AllSuccess,
    /// Every dependency is settled, however it ended.
    AllDone,
    /// Every dependency failed or was skipped because of a failure.
    AllFailed,
    /// At least one dependency completed.
    OneSuccess,
    /// At least one dependency failed or was skipped because of a failure.
    OneFailed,
    /// Always.
    Always,
    /// The condition holds.
    When(Condition),
}

impl TriggerRule {
    /// Returns the name used in code, or `when` for a condition.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::NoneFailed => "none_failed",
            Self::AllSuccess => "all_success",
            Self::AllDone => "all_done",
            Self::AllFailed => "all_failed",
            Self::OneSuccess => "one_success",
            Self::OneFailed => "one_failed",
            Self::Always => "always",
            Self::When(_) => "when",
        }
    }

    /// Returns the rule with this name; `None` for `when` and unknown names.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [
            Self::NoneFailed,
            Self::AllSuccess,
            Self::AllDone,
            Self::AllFailed,
            Self::OneSuccess,
            Self::OneFailed,
            Self::Always,
        ]
        .into_iter()
        .find(|rule| rule.name() == name)
    }
}

/// A condition on upstream task states and context values. Trees nest at most [`Condition::MAX_DEPTH`] levels deep.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum Condition {
    /// Always holds.
    Always,
    /// Every part holds.
    All(Vec<Condition>),
    /// At least one part holds.
    Any(Vec<Condition>),
    /// No part holds.
    None(Vec<Condition>),
    /// The task completed.
    TaskSuccess(TaskId),
    /// The task failed and will not be retried.
    TaskFailed(TaskId),
    /// The task was skipped.
    TaskSkipped(TaskId),
    /// A comparison with a context value that the task would see.
    ContextValue {
        /// The key.
        key: Key,
        /// The comparison.
        operator: Operator,
        /// The value to compare with; `None` for `Exists` and `NotExists`.
        value: Option<Json>,
    },
}

/// A comparison of a context value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operator {
    /// Equal JSON values; numbers compare by value.
    Equals,
    /// Not equal.
    NotEquals,
    /// A greater number, or a string that sorts later.
    GreaterThan,
    /// A smaller number, or a string that sorts earlier.
    LessThan,
    /// A string with this substring, a list with this element, or an object with this key.
    Contains,
    /// The opposite of `Contains`.
    NotContains,
    /// The key exists.
    Exists,
    /// The key does not exist.
    NotExists,
}

impl Condition {
    /// How deep `all_of`, `any_of` and `none_of` may nest. The limit keeps crafted input from causing deep recursion.
    pub const MAX_DEPTH: usize = 64;

    /// Returns whether the condition nests at most [`Condition::MAX_DEPTH`] levels deep.
    #[must_use]
    pub fn fits_depth_limit(&self) -> bool {
        self.nests_within(Self::MAX_DEPTH)
    }

    fn nests_within(&self, levels: usize) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::None(parts) => {
                levels > 0 && parts.iter().all(|part| part.nests_within(levels - 1))
            }
            _ => true,
        }
    }

    /// Decodes what the derived `Encode` writes, with a limit on nesting.
    fn decode_within<D: Decoder>(levels: usize, decoder: &mut D) -> Result<Self, DecodeError> {
        Ok(match u32::decode(decoder)? {
            0 => Self::Always,
            1 => Self::All(Self::decode_parts(levels, decoder)?),
            2 => Self::Any(Self::decode_parts(levels, decoder)?),
            3 => Self::None(Self::decode_parts(levels, decoder)?),
            4 => Self::TaskSuccess(TaskId::decode(decoder)?),
            5 => Self::TaskFailed(TaskId::decode(decoder)?),
            6 => Self::TaskSkipped(TaskId::decode(decoder)?),
            7 => Self::ContextValue {
                key: Key::decode(decoder)?,
                operator: Operator::decode(decoder)?,
                value: Option::decode(decoder)?,
            },
            found => {
                return Err(DecodeError::UnexpectedVariant {
                    type_name: "Condition",
                    allowed: &AllowedEnumVariants::Range { min: 0, max: 7 },
                    found,
                });
            }
        })
    }

    fn decode_parts<D: Decoder>(levels: usize, decoder: &mut D) -> Result<Vec<Self>, DecodeError> {
        let Some(levels) = levels.checked_sub(1) else {
            return Err(DecodeError::Other("a condition is nested too deep"));
        };
        let count = usize::try_from(u64::decode(decoder)?).map_err(|_| DecodeError::LimitExceeded)?;
        decoder.claim_container_read::<Self>(count)?;
        let mut parts = Vec::new();
        for _ in 0..count {
            decoder.unclaim_bytes_read(size_of::<Self>());
            parts.push(Self::decode_within(levels, decoder)?);
        }
        Ok(parts)
    }
}

impl<Context> Decode<Context> for Condition {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        Self::decode_within(Self::MAX_DEPTH, decoder)
    }
}

impl_borrow_decode!(Condition);
