//! Comparison of the tasks of two executions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cloacina_engine::core::definition::{TaskDefinition, Timeout};
use cloacina_engine::core::event::{Key, Read, Seen, Seq, TaskId};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::{Execution, TaskState};

use super::align;
use super::values::compare as compare_values;
use super::{Difference, KeyDiff, Looked, Place, Ran, ReadDiff, Side, TaskDiff};
use crate::story::{Outcome, Row, TaskRow};
use crate::words;

/// Smaller differences in time are not reported, in microseconds.
const MIN_TIME_DIFFERENCE: u64 = 100_000;

/// Compares every task of either execution.
pub fn compare(a: Side<'_>, b: Side<'_>) -> Vec<TaskDiff> {
    let (left, right) = (Tasks::new(a), Tasks::new(b));
    let all = align::tasks(a, b);
    let mut tasks: Vec<TaskDiff> = all.into_iter().map(|task| compare_task(&left, &right, task)).collect();
    add_order(&mut tasks);
    tasks
}

/// The tasks of one execution.
struct Tasks<'a> {
    state: Option<&'a Execution>,
    rows: HashMap<&'a TaskId, (&'a Row, &'a TaskRow)>,
    writes: HashMap<Seq, &'a Json>,
}

impl<'a> Tasks<'a> {
    fn new(side: Side<'a>) -> Self {
        Self {
            state: side.story.state.as_ref(),
            rows: align::rows(side.story).map(|(row, task)| (&task.task, (row, task))).collect(),
            writes: align::writes(side.story),
        }
    }

    fn definition(&self, task: &TaskId) -> Option<&'a TaskDefinition> {
        let state = self.state?;
        Some(state.task_definition(state.graph().find(task)?))
    }

    fn row(&self, task: &TaskId) -> Option<&'a TaskRow> {
        self.rows.get(task).map(|(_, row)| *row)
    }

    /// Returns how a task ran; `None` if there is no such task.
    fn ran(&self, task: &TaskId) -> Option<Ran> {
        let Some((row, task)) = self.rows.get(task) else {
            let state = self.state?;
            let outcome = match state.task(state.graph().find(task)?).state() {
                TaskState::Cancelled => "cancelled",
                _ => "not started",
            };
            return Some(Ran { first: None, outcome, attempts: 0, took: None, error: None });
        };
        let last = task.attempts.last();
        let error = last.and_then(|last| match &last.outcome {
            Outcome::Failed { error, .. } => Some(error.clone()),
            _ => None,
        });
        Some(Ran {
            first: Some(row.first),
            outcome: outcome(task),
            attempts: last.map_or(0, |last| last.number),
            took: task.took(),
            error,
        })
    }

    /// Returns what the last attempt at a task saw: the keys that it looked up, or every key if it read all of the context.
    fn reads(&self, task: &TaskId) -> Reads {
        let mut reads = Reads::default();
        let Some(last) = self.row(task).and_then(|row| row.attempts.last()) else { return reads };
        if last.reads.all {
            let declared = self.view(task).map(|view| align::context(&view.declared)).unwrap_or_default();
            reads.looked.extend(declared.into_iter().map(|(key, value)| (key, Looked::Value(value))));
        }
        for read in &last.reads.keys {
            reads.looked.insert(read.key.clone(), self.looked(task, read));
            if matches!(read.seen, Seen::Undeclared(_)) {
                reads.undeclared.insert(read.key.clone());
            }
        }
        reads
    }

    fn view(&self, task: &TaskId) -> Option<cloacina_engine::core::context::View> {
        let state = self.state?;
        Some(state.view(state.graph().find(task)?))
    }

    fn looked(&self, task: &TaskId, read: &Read) -> Looked {
        let value = match &read.seen {
            Seen::Nothing => None,
            Seen::Write(seq) | Seen::Undeclared(seq) => self.writes.get(seq).copied().cloned(),
            Seen::Merged(_) => self.view(task).and_then(|view| view.declared.get(&read.key)?.value().cloned()),
        };
        value.map_or(Looked::Nothing, Looked::Value)
    }
}

#[derive(Default)]
struct Reads {
    looked: BTreeMap<Key, Looked>,
    undeclared: BTreeSet<Key>,
}

/// Returns the word for the outcome or present state of a task.
fn outcome(row: &TaskRow) -> &'static str {
    if row.skipped.is_some() {
        return "skipped";
    }
    match row.attempts.last().map(|last| &last.outcome) {
        _ if row.retried => "waiting",
        None if row.cancelled => "cancelled",
        None => "not started",
        Some(Outcome::Completed) => "completed",
        Some(_) if row.cancelled => "cancelled",
        Some(Outcome::Running) => "running",
        Some(Outcome::Deferred) => "deferred",
        Some(Outcome::Left) => "not running",
        Some(Outcome::Failed { retry_at: None, .. }) => "failed",
        Some(Outcome::Failed { .. } | Outcome::Abandoned(_)) => "waiting",
        Some(Outcome::Cancelled) => "cancelled",
    }
}

fn compare_task(left: &Tasks<'_>, right: &Tasks<'_>, task: TaskId) -> TaskDiff {
    let (a, b) = (left.ran(&task), right.ran(&task));
    let mut differences = Vec::new();
    if let (Some(one), Some(other)) = (&a, &b) {
        if let (Some(one), Some(other)) = (left.definition(&task), right.definition(&task)) {
            compare_definitions(one, other, &mut differences);
        }
        let (by_both, by_one) = compare_reads(&left.reads(&task), &right.reads(&task));
        let both_ran = one.attempts > 0 && other.attempts > 0;
        differences.extend(by_both.into_iter().filter(|_| both_ran));
        compare_outcomes(one, other, &mut differences);
        differences.extend(compare_outputs(left.row(&task), right.row(&task)));
        // Keys that only one of them looked up come last: that follows from different code or from what both saw.
        differences.extend(by_one.into_iter().filter(|_| both_ran));
        if takes_longer(one, other) {
            differences.push(Difference::Time);
        }
    }
    TaskDiff { task, a, b, differences }
}

fn compare_definitions(a: &TaskDefinition, b: &TaskDefinition, differences: &mut Vec<Difference>) {
    if a.code != b.code {
        differences.push(code(&a.source, &b.source));
    }
    let timeout = |task: &TaskDefinition| match task.timeout {
        Timeout::After(limit) => words::milliseconds(limit.0),
        Timeout::Inherited => "none of its own".to_owned(),
        Timeout::Off => "off".to_owned(),
    };
    let list = |task: &TaskDefinition| match &task.dependencies[..] {
        [] => "none".to_owned(),
        some => some.join(", "),
    };
    // Compares the values and not the words: different values can have the same words.
    let mut part = |part: &'static str, differs: bool, a: String, b: String| {
        if differs {
            differences.push(Difference::Definition { part, a, b });
        }
    };
    part("dependencies", a.dependencies != b.dependencies, list(a), list(b));
    part("rule", a.rule != b.rule, a.rule.name().to_owned(), b.rule.name().to_owned());
    part("retry", a.retry != b.retry, policy(a), policy(b));
    part("timeout", a.timeout != b.timeout, timeout(a), timeout(b));
}

/// The first line in which two sources differ.
fn code(a: &str, b: &str) -> Difference {
    let same = a.lines().zip(b.lines()).take_while(|(one, other)| one == other).count();
    let (one, other) = (a.lines().nth(same), b.lines().nth(same));
    let line = (one.is_some() || other.is_some()).then_some(same + 1);
    let text = |line: Option<&str>| line.unwrap_or_default().to_owned();
    Difference::Code { line, a: text(one), b: text(other) }
}

fn policy(task: &TaskDefinition) -> String {
    format!("{}, at most {} attempts", words::retry(&task.retry), words::allowed(task))
}

/// Returns the keys of which different values were seen: those that both looked up, and those that only one looked up.
fn compare_reads(a: &Reads, b: &Reads) -> (Vec<Difference>, Vec<Difference>) {
    let keys: BTreeSet<&Key> = a.looked.keys().chain(b.looked.keys()).collect();
    let mut found = Vec::new();
    for key in keys {
        let side = |reads: &Reads| reads.looked.get(key).cloned().unwrap_or(Looked::NotRead);
        let (one, other) = (side(a), side(b));
        let values = match (&one, &other) {
            (Looked::Value(one), Looked::Value(other)) => compare_values(key, Some(one), Some(other)),
            _ => None,
        };
        let both_saw = matches!((&one, &other), (Looked::Value(_), Looked::Value(_)));
        if one == other || both_saw && values.is_none() {
            continue;
        }
        let undeclared = a.undeclared.contains(key) || b.undeclared.contains(key);
        found.push(ReadDiff { key: key.clone(), a: one, b: other, values, undeclared });
    }
    let (by_one, by_both): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|read| read.a == Looked::NotRead || read.b == Looked::NotRead);
    let all = |reads: Vec<ReadDiff>| reads.into_iter().map(Difference::Input).collect();
    (all(by_both), all(by_one))
}

/// Compares outcomes, errors and numbers of attempts.
fn compare_outcomes(a: &Ran, b: &Ran, differences: &mut Vec<Difference>) {
    if a.outcome != b.outcome {
        differences.push(Difference::Outcome);
    } else if let (Some(one), Some(other)) = (&a.error, &b.error)
        && (&one.kind, &one.message) != (&other.kind, &other.message)
    {
        differences.push(Difference::Error);
    }
    if a.attempts != b.attempts && a.attempts > 0 && b.attempts > 0 {
        differences.push(Difference::Attempts);
    }
}

/// Compares the effective writes: those of the attempt that completed.
fn compare_outputs(a: Option<&TaskRow>, b: Option<&TaskRow>) -> Vec<Difference> {
    let changes = |row: Option<&TaskRow>| -> BTreeMap<Key, Option<Json>> {
        let changes = row.map(TaskRow::effective_writes).unwrap_or_default();
        changes.iter().map(|change| (change.key.clone(), change.value.clone())).collect()
    };
    let (a, b) = (changes(a), changes(b));
    let keys: BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    let differs = keys.into_iter().filter_map(|key| match (a.get(key), b.get(key)) {
        // A key that one of them removed and the other left alone.
        (Some(None), None) | (None, Some(None)) => {
            let place = Place { path: key.to_string(), a: None, b: None };
            Some(KeyDiff { key: key.clone(), a: None, b: None, places: vec![place], more: 0 })
        }
        (one, other) => compare_values(key, one.and_then(Option::as_ref), other.and_then(Option::as_ref)),
    });
    differs.map(Difference::Output).collect()
}

fn takes_longer(a: &Ran, b: &Ran) -> bool {
    let (Some(one), Some(other)) = (a.took, b.took) else { return false };
    let (less, more) = (one.min(other), one.max(other));
    more >= less.saturating_mul(2) && more - less >= MIN_TIME_DIFFERENCE
}

/// Adds an [`Difference::Order`] to each task that ran in a different position among the tasks that both ran.
fn add_order(tasks: &mut [TaskDiff]) {
    let first = |ran: &Option<Ran>| ran.as_ref().and_then(|ran| ran.first);
    let mut both: Vec<(Seq, Seq, usize)> =
        tasks.iter().enumerate().filter_map(|(place, task)| Some((first(&task.a)?, first(&task.b)?, place))).collect();
    both.sort_unstable();
    let mut in_b: Vec<Seq> = both.iter().map(|(_, b, _)| *b).collect();
    in_b.sort_unstable();
    let places: Vec<usize> = both.iter().map(|(_, b, _)| in_b.partition_point(|other| other < b)).collect();
    for (at, crossed) in align::moved(&places) {
        let other = tasks[both[crossed].2].task.clone();
        tasks[both[at].2].differences.push(Difference::Order { other });
    }
}
