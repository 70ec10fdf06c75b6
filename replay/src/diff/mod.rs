//! Comparison of two executions: aligned by task, then the context key by key, with the first divergence on top.
//!
//! Differences in code, input, output, errors and attempts make two executions *differ*. Differences that timing alone
//! explains do not: the order of independent tasks, and durations.

mod align;
pub mod excerpt;
pub mod first;
mod tasks;
pub mod values;

use std::sync::Arc;

use cloacina_engine::core::context::Context;
use cloacina_engine::core::event::{Attempt, Key, Seq, TaskError, TaskId};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;

use crate::history::History;
use crate::source::Head;
use crate::story::Story;

pub use first::Divergence;
pub use values::{KeyDiff, Place};

/// One of the two executions, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub struct Side<'a> {
    /// Its entry in the index.
    pub head: &'a Head,
    /// Its events by task.
    pub story: &'a Story,
}

impl<'a> Side<'a> {
    /// Returns the graph of its last definition; `None` if its events cannot be folded.
    fn graph(&self) -> Option<&'a Arc<Graph>> {
        self.story.state.as_ref().map(|state| state.graph())
    }

    fn context(&self) -> Context {
        self.story.state.as_ref().map(|state| state.context()).unwrap_or_default()
    }
}

/// The differences between two executions.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// The index entry of the first one, A.
    pub a: Head,
    /// The index entry of the second one, B.
    pub b: Head,
    /// The first divergence; `None` if there is no difference.
    pub first: Option<Divergence>,
    /// The differences in the input.
    pub input: Vec<KeyDiff>,
    /// Every task of either, in the order in which A ran them; tasks that only B has come where B ran them.
    pub tasks: Vec<TaskDiff>,
    /// The differences in the final context.
    pub context: Vec<KeyDiff>,
}

/// A task in both executions.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDiff {
    /// Its name.
    pub task: TaskId,
    /// How it ran in A; `None` if the workflow of A has no such task.
    pub a: Option<Ran>,
    /// How it ran in B.
    pub b: Option<Ran>,
    /// The differences, causes before effects.
    pub differences: Vec<Difference>,
}

/// How a task ran in one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Its first event; `None` if nothing happened to it.
    pub first: Option<Seq>,
    /// Its outcome or state: `completed`, `failed`, `skipped`, `cancelled`, `running`, `waiting`, `not started`.
    pub outcome: &'static str,
    /// The number of attempts.
    pub attempts: Attempt,
    /// From the start of its first attempt to the end of its last, in microseconds.
    pub took: Option<u64>,
    /// Why its last attempt failed.
    pub error: Option<TaskError>,
}

/// The result of comparing a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No difference, or only such that timing explains.
    Same,
    /// The workflow of B has no such task.
    OnlyA,
    /// The workflow of A has no such task.
    OnlyB,
    /// The task differs.
    Differs,
}

impl Standing {
    /// Returns its name: `same`, `only in A`, `only in B`, `differs`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::OnlyA => "only in A",
            Self::OnlyB => "only in B",
            Self::Differs => "differs",
        }
    }
}

/// A kind of difference that a comparison can ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// The order in which tasks ran.
    Order,
    /// The number of attempts.
    Attempts,
    /// The duration of tasks.
    Time,
}

impl Ignored {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Order, Self::Attempts, Self::Time];

    /// Returns its name, the same as [`Difference::name`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Attempts => "attempts",
            Self::Time => "time",
        }
    }
}

/// A difference of a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Its code has another hash. Includes the first different line of the sources, if both are known.
    Code {
        /// The number of that line, from 1; `None` if the sources are unknown or equal.
        line: Option<usize>,
        /// The line in A; empty if it has no such line.
        a: String,
        /// The line in B.
        b: String,
    },
    /// A part of its definition is different.
    Definition {
        /// `dependencies`, `rule`, `retry` or `timeout`.
        part: &'static str,
        /// The part in A.
        a: String,
        /// The part in B.
        b: String,
    },
    /// Its last attempt saw a different value of a key.
    Input(ReadDiff),
    /// Its outcome is different.
    Outcome,
    /// Its last attempt failed with a different error.
    Error,
    /// The number of attempts is different.
    Attempts,
    /// Its value of a key is different.
    Output(KeyDiff),
    /// It ran before a task in one execution and after the same task in the other.
    Order {
        /// That task.
        other: TaskId,
    },
    /// It took at least twice as long in one, and at least 0.1 s longer.
    Time,
}

impl Difference {
    /// Returns its name: `code`, `definition`, `input`, `outcome`, `error`, `attempts`, `output`, `order`, `time`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Code { .. } => "code",
            Self::Definition { .. } => "definition",
            Self::Input(_) => "input",
            Self::Outcome => "outcome",
            Self::Error => "error",
            Self::Attempts => "attempts",
            Self::Output(_) => "output",
            Self::Order { .. } => "order",
            Self::Time => "time",
        }
    }

    /// Whether it makes two executions differ, since timing alone does not explain it.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Order { .. } | Self::Time)
    }

    /// Whether it is a result of the task that others can see.
    #[must_use]
    pub fn is_result(&self) -> bool {
        matches!(self, Self::Outcome | Self::Error | Self::Output(_))
    }
}

/// What an attempt saw of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// It did not look the key up.
    NotRead,
    /// It looked the key up, and there was none.
    Nothing,
    /// It read this value.
    Value(Json),
}

/// A key of which the two executions saw different values.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadDiff {
    /// The key.
    pub key: Key,
    /// What the last attempt saw in A.
    pub a: Looked,
    /// What the last attempt saw in B.
    pub b: Looked,
    /// The differences of the two values, if both saw one.
    pub values: Option<KeyDiff>,
    /// Whether one of them is an undeclared read, of which the value depends on timing.
    pub undeclared: bool,
}

impl TaskDiff {
    /// Returns the result of the comparison.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match (&self.a, &self.b) {
            (Some(_), None) => Standing::OnlyA,
            (None, Some(_)) => Standing::OnlyB,
            _ if self.differences.iter().any(Difference::counts) => Standing::Differs,
            _ => Standing::Same,
        }
    }
}

impl Diff {
    /// Whether both ran the same, except for differences that timing explains.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.first.as_ref().is_none_or(|first| !first.counts)
    }
}

/// Compares two executions, except for the `ignored` kinds of differences.
#[must_use]
pub fn diff(a: Side<'_>, b: Side<'_>, ignored: &[Ignored]) -> Diff {
    let input = keys(&align::input(a.story), &align::input(b.story));
    let context = keys(&align::context(&a.context()), &align::context(&b.context()));
    let mut tasks = tasks::compare(a, b);
    for task in &mut tasks {
        task.differences.retain(|difference| ignored.iter().all(|ignored| ignored.name() != difference.name()));
    }
    let mut diff = Diff { a: a.head.clone(), b: b.head.clone(), first: None, input, tasks, context };
    diff.first = first::divergence(&diff, a, b);
    diff
}

/// Returns the keys whose values differ, sorted.
fn keys(a: &align::Values, b: &align::Values) -> Vec<KeyDiff> {
    let all: std::collections::BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    all.into_iter().filter_map(|key| values::compare(key, a.get(key), b.get(key))).collect()
}

impl History {
    /// Compares this execution, A, with another one, B, except for the `ignored` kinds of differences.
    ///
    /// ```no_run
    /// # fn f(one: &cloacina_replay::history::History, other: &cloacina_replay::history::History) {
    /// let diff = one.diff(other, &[]);
    /// if let Some(first) = &diff.first {
    ///     println!("{}", first.sentence);
    /// }
    /// # }
    /// ```
    #[must_use]
    pub fn diff(&self, other: &Self, ignored: &[Ignored]) -> Diff {
        let (a, b) = (self.story(), other.story());
        diff(Side { head: &self.head, story: &a }, Side { head: &other.head, story: &b }, ignored)
    }
}
