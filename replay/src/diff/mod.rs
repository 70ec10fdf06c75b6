//! Two executions side by side: aligned by task, then the context key by key. The first divergence comes first.
//!
//! What differs is told apart from what timing alone explains. Other code, input, output, errors and attempts make two
//! executions *differ*; another order of tasks that do not wait for each other, or more time, does not.

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
    /// What the index says of it.
    pub head: &'a Head,
    /// What happened.
    pub story: &'a Story,
}

impl<'a> Side<'a> {
    /// The graph that it went by last; `None` if its events cannot be folded.
    fn graph(&self) -> Option<&'a Arc<Graph>> {
        self.story.state.as_ref().map(|state| state.graph())
    }

    fn context(&self) -> Context {
        self.story.state.as_ref().map(|state| state.context()).unwrap_or_default()
    }
}

/// What differs between two executions.
#[derive(Clone, Debug, PartialEq)]
pub struct Diff {
    /// What the index says of the first one, A.
    pub a: Head,
    /// What the index says of the second one, B.
    pub b: Head,
    /// Where they first diverge; `None` if nothing is different.
    pub first: Option<Divergence>,
    /// What differs in the input.
    pub input: Vec<KeyDiff>,
    /// Every task of either, in the order in which A ran them; those of B alone where B ran them.
    pub tasks: Vec<TaskDiff>,
    /// What differs in the context that they left.
    pub context: Vec<KeyDiff>,
}

/// A task in both executions.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskDiff {
    /// Its name.
    pub task: TaskId,
    /// What became of it in A; `None` if the workflow of A has no such task.
    pub a: Option<Ran>,
    /// What became of it in B.
    pub b: Option<Ran>,
    /// What differs, what leads to the rest first.
    pub differences: Vec<Difference>,
}

/// What became of a task in one execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Ran {
    /// Its first event; `None` if nothing happened to it.
    pub first: Option<Seq>,
    /// How it ended, or stands: `completed`, `failed`, `skipped`, `cancelled`, `running`, `waiting`, `not started`.
    pub outcome: &'static str,
    /// How many attempts there were.
    pub attempts: Attempt,
    /// From the start of its first attempt to the end of its last, in microseconds.
    pub took: Option<u64>,
    /// Why its last attempt failed.
    pub error: Option<TaskError>,
}

/// How a task stands in the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing differs but what timing explains.
    Same,
    /// The workflow of B has no such task.
    OnlyA,
    /// The workflow of A has no such task.
    OnlyB,
    /// Something does.
    Differs,
}

impl Standing {
    /// Its name: `same`, `only in A`, `only in B`, `differs`.
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

/// What a comparison leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// That tasks ran in another order.
    Order,
    /// That a task needed more attempts.
    Attempts,
    /// That a task took longer.
    Time,
}

impl Ignored {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Order, Self::Attempts, Self::Time];

    /// Its name, the same as [`Difference::name`].
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Attempts => "attempts",
            Self::Time => "time",
        }
    }
}

/// One thing that differs in a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// Its code has another hash. With the first line of its source that differs, where both are known.
    Code {
        /// The number of that line in the source, from 1; `None` if the sources are not known, or the same.
        line: Option<usize>,
        /// The line in A; empty if it has no such line.
        a: String,
        /// The line in B.
        b: String,
    },
    /// Its definition says something else: which part, and what in A and in B.
    Definition {
        /// `dependencies`, `rule`, `retry` or `timeout`.
        part: &'static str,
        /// What A says.
        a: String,
        /// What B says.
        b: String,
    },
    /// Its last attempt read something else.
    Input(ReadDiff),
    /// It ended in another way.
    Outcome,
    /// Its last attempt failed for another reason.
    Error,
    /// There were more attempts in one than in the other.
    Attempts,
    /// It left something else.
    Output(KeyDiff),
    /// It ran before a task in one that it ran after in the other.
    Order {
        /// That task.
        other: TaskId,
    },
    /// It took at least twice as long in one, and a tenth of a second more.
    Time,
}

impl Difference {
    /// Its name: `code`, `definition`, `input`, `outcome`, `error`, `attempts`, `output`, `order`, `time`.
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

    /// Whether it makes two executions differ: timing alone does not explain it.
    #[must_use]
    pub fn counts(&self) -> bool {
        !matches!(self, Self::Order { .. } | Self::Time)
    }

    /// Whether it is a result, which others can see, and not only a way to it.
    #[must_use]
    pub fn is_result(&self) -> bool {
        matches!(self, Self::Outcome | Self::Error | Self::Output(_))
    }
}

/// What an attempt saw of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Looked {
    /// It did not look.
    NotRead,
    /// It looked, and there was no such key.
    Nothing,
    /// This value.
    Value(Json),
}

/// A key that was read, and what was seen differs.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadDiff {
    /// The key.
    pub key: Key,
    /// What the last attempt saw in A.
    pub a: Looked,
    /// What the last attempt saw in B.
    pub b: Looked,
    /// Where the two values differ, if both saw one.
    pub values: Option<KeyDiff>,
    /// Whether one of them saw the write of a task that it does not depend on: then it depends on timing what it sees.
    pub undeclared: bool,
}

impl TaskDiff {
    /// How it stands in the two.
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
    /// Whether both ran the same, but for what timing explains.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.first.as_ref().is_none_or(|first| !first.counts)
    }
}

/// Compares two executions, but for what is `ignored`.
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

/// The keys whose values differ, in their order.
fn keys(a: &align::Values, b: &align::Values) -> Vec<KeyDiff> {
    let all: std::collections::BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    all.into_iter().filter_map(|key| values::compare(key, a.get(key), b.get(key))).collect()
}

impl History {
    /// What differs between this execution, A, and another one, B, but for what is `ignored`.
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
