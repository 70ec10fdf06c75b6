//! What a workflow is: tasks, dependencies, rules. Stored once in the log under its fingerprint, so that an execution
//! can be rebuilt after the code has changed or gone.

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
    /// Its tasks, in the order in which they were added: the order in which the final context joins the leaves.
    pub tasks: Vec<TaskDefinition>,
}

/// What is different between two definitions of a workflow, by task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The tasks that only the new one has.
    pub added: Vec<TaskId>,
    /// The tasks that only the old one has.
    pub removed: Vec<TaskId>,
    /// The tasks whose code is another.
    pub code: Vec<TaskId>,
    /// The tasks with other dependencies, or another rule.
    pub rewired: Vec<TaskId>,
    /// The tasks with another retry policy or timeout.
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
            let Some(then) = before.get(&task.id) else {
                changes.added.push(task.id.clone());
                continue;
            };
            let mut note = |differs: bool, list: fn(&mut Self) -> &mut Vec<TaskId>| {
                if differs {
                    list(&mut changes).push(task.id.clone());
                }
            };
            note(then.code != task.code, |changes| &mut changes.code);
            note((&then.dependencies, &then.rule) != (&task.dependencies, &task.rule), |changes| &mut changes.rewired);
            note((&then.retry, then.timeout) != (&task.retry, task.timeout), |changes| &mut changes.policy);
        }
        let gone = old.tasks.iter().filter(|task| !after.contains_key(&task.id));
        changes.removed = gone.map(|task| task.id.clone()).collect();
        changes
    }

    /// Each kind of change in a few words, with the tasks: `code changed: extract, load`.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        /// How many names stand in a line.
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
    /// The tasks whose writes it sees, in the order that matters at joins.
    pub dependencies: Vec<TaskId>,
    /// Whether it runs, once its dependencies are settled.
    pub rule: TriggerRule,
    /// What happens when it fails.
    pub retry: RetryPolicy,
    /// How long an attempt may run.
    pub timeout: Timeout,
    /// A hash of its code: two tasks of the same hash do the same.
    pub code: [u8; 32],
    /// Its source text, for the debugger; empty where there is none.
    pub source: Arc<str>,
}

impl TaskDefinition {
    /// A task without dependencies and with the default rules.
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

/// How long an attempt at a task may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Timeout {
    /// As long as the execution's options say.
    #[default]
    Inherited,
    /// So long.
    After(Millis),
    /// Without a limit.
    Off,
}

/// Whether a task runs once its dependencies are settled; otherwise it is skipped.
#[derive(Clone, Debug, Default, PartialEq, Encode, Decode)]
pub enum TriggerRule {
    /// No dependency failed or was skipped because of a failure.
    #[default]
    NoneFailed,
    /// Every dependency completed.
    AllSuccess,
    /// Every dependency is settled, in whatever way.
    AllDone,
    /// Every dependency failed or was skipped because of a failure.
    AllFailed,
    /// At least one dependency completed.
    OneSuccess,
    /// At least one dependency failed or was skipped because of a failure.
    OneFailed,
    /// Always.
    Always,
    /// A tree of conditions holds.
    When(Condition),
}

impl TriggerRule {
    /// The name that people write, or `when` for a tree.
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

    /// The rule with this name.
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

/// A condition over upstream task states and context values. Trees nest at most [`Condition::DEEPEST`] levels.
#[derive(Clone, Debug, PartialEq, Encode)]
pub enum Condition {
    /// Always holds.
    Always,
    /// Every one holds.
    All(Vec<Condition>),
    /// At least one holds.
    Any(Vec<Condition>),
    /// None holds.
    None(Vec<Condition>),
    /// The task completed.
    TaskSuccess(TaskId),
    /// The task finally failed.
    TaskFailed(TaskId),
    /// The task was skipped.
    TaskSkipped(TaskId),
    /// A context value that the task would see compares so.
    ContextValue {
        /// The key.
        key: Key,
        /// How it is compared.
        operator: Operator,
        /// What it is compared with; `None` for `Exists` and `NotExists`.
        value: Option<Json>,
    },
}

/// How a context value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Operator {
    /// Is the same JSON value; numbers by value.
    Equals,
    /// Is not.
    NotEquals,
    /// A greater number, or a text that sorts after.
    GreaterThan,
    /// A smaller number, or a text that sorts before.
    LessThan,
    /// A text, list or object that has it as a part, an element or a key.
    Contains,
    /// One that has not.
    NotContains,
    /// The key is there.
    Exists,
    /// The key is not there.
    NotExists,
}

impl Condition {
    /// How many levels of `all_of`, `any_of` and `none_of` may stand in each other: no text can make a reader recurse
    /// deeper.
    pub const DEEPEST: usize = 64;

    /// Whether it nests no deeper than it may.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.fits(Self::DEEPEST)
    }

    fn fits(&self, levels: usize) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) | Self::None(parts) => {
                levels > 0 && parts.iter().all(|part| part.fits(levels - 1))
            }
            _ => true,
        }
    }

    /// Reads what the derived `Encode` writes, and counts the levels.
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
        Self::decode_within(Self::DEEPEST, decoder)
    }
}

impl_borrow_decode!(Condition);
