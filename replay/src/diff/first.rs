//! The first divergence of two executions, as one sentence.

use cloacina_engine::core::event::{Seq, TaskId};
use cloacina_engine::core::json::Json;

use super::excerpt;
use super::{Diff, Difference, KeyDiff, Looked, Ran, ReadDiff, Side, Standing, TaskDiff};

/// How many characters of a value a sentence shows.
const VALUE: usize = 40;

/// The first divergence of two executions.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// `workflow`, `input`, a task's [`Difference::name`], `tasks` (only one has the task), `context` or `status`.
    pub aspect: &'static str,
    /// The task; `None` if it is not about one.
    pub task: Option<TaskId>,
    /// The task's first event in A.
    pub a: Option<Seq>,
    /// The task's first event in B.
    pub b: Option<Seq>,
    /// Whether it makes the two differ; `false` if timing alone explains it.
    pub counts: bool,
    /// One sentence that calls the two A and B.
    pub sentence: String,
}

/// Finds the first divergence: workflow and input first, then task by task in the order in which they ran.
pub fn divergence(diff: &Diff, a: Side<'_>, b: Side<'_>) -> Option<Divergence> {
    before_tasks(diff)
        .or_else(|| among_tasks(diff))
        .or_else(|| at_the_end(diff, a, b))
        .or_else(|| retries(diff))
        .or_else(|| diff.tasks.iter().find_map(|task| about(task, |_| true)))
}

/// A divergence that is not about a task.
fn without_task(aspect: &'static str, sentence: String) -> Divergence {
    Divergence { aspect, task: None, a: None, b: None, counts: true, sentence }
}

fn before_tasks(diff: &Diff) -> Option<Divergence> {
    let (a, b) = (diff.a.workflow(), diff.b.workflow());
    if a != b {
        return Some(without_task("workflow", format!("different workflows: {a} in A, {b} in B")));
    }
    let first = diff.input.first()?;
    Some(without_task("input", format!("the input differs: {}", value_words(first))))
}

fn among_tasks(diff: &Diff) -> Option<Divergence> {
    // A task that only had more attempts is not the divergence: look for one that led to something else.
    let counts = |difference: &Difference| difference.counts() && !matches!(difference, Difference::Attempts);
    let mut first = diff.tasks.iter().find_map(|task| about(task, counts))?;
    // Different code with the same result is the divergence, but users look for the first different result too.
    let results = |difference: &Difference| difference.is_result() || matches!(difference, Difference::Input(_));
    if matches!(first.aspect, "code" | "definition")
        && let Some(result) = diff.tasks.iter().find_map(|task| about(task, results))
        && result.task != first.task
    {
        first.sentence = format!("{}, with the same result; then {}", first.sentence, result.sentence);
    } else if matches!(first.aspect, "code" | "definition")
        && let Some(task) = diff.tasks.iter().find(|task| Some(&task.task) == first.task.as_ref())
        && let Some(result) = task.differences.iter().find(|difference| difference.is_result())
    {
        first.sentence = format!("{}: {}", first.sentence, result_words(task, result));
    }
    Some(first)
}

/// The divergence if only numbers of attempts differ.
fn retries(diff: &Diff) -> Option<Divergence> {
    let mut found = diff.tasks.iter().filter_map(|task| about(task, |it| matches!(it, Difference::Attempts)));
    let mut first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(", and so were {more} more"),
    };
    first.sentence = format!("the same except for retries: {}{more}", first.sentence);
    Some(first)
}

fn at_the_end(diff: &Diff, a: Side<'_>, b: Side<'_>) -> Option<Divergence> {
    if let Some(first) = diff.context.first() {
        let says = format!("every task had the same result, but the context differs: {}", value_words(first));
        return Some(without_task("context", says));
    }
    let (one, other) = (a.head.status(), b.head.status());
    let says = || format!("every task had the same result, but A is {one} and B is {other}");
    (one != other).then(|| without_task("status", says()))
}

/// Returns the divergence of a task that only one execution has, or else its first difference that is `wanted`.
fn about(task: &TaskDiff, wanted: impl Fn(&Difference) -> bool) -> Option<Divergence> {
    let (aspect, counts, sentence) = match task.standing() {
        Standing::OnlyA => ("tasks", true, only(&task.task, "A", "B")),
        Standing::OnlyB => ("tasks", true, only(&task.task, "B", "A")),
        Standing::Same | Standing::Differs => {
            let difference = task.differences.iter().find(|difference| wanted(difference))?;
            (difference.name(), difference.counts(), task_words(task, difference))
        }
    };
    let first = |ran: &Option<Ran>| ran.as_ref().and_then(|ran| ran.first);
    Some(Divergence { aspect, task: Some(task.task.clone()), a: first(&task.a), b: first(&task.b), counts, sentence })
}

fn only(task: &TaskId, has: &str, has_not: &str) -> String {
    format!("{task} is only in {has}: the workflow of {has_not} has no such task")
}

/// Describes a difference of a task, beginning with the task's name.
fn task_words(task: &TaskDiff, difference: &Difference) -> String {
    let name = &task.task;
    match difference {
        Difference::Code { .. } => format!("{name} has different code in B"),
        Difference::Definition { part, a, b } => format!("{name} has a different {part}: {a} in A, {b} in B"),
        Difference::Input(ReadDiff { key, b: Looked::NotRead, .. }) => format!("{name} looked up {key} only in A"),
        Difference::Input(ReadDiff { key, a: Looked::NotRead, .. }) => format!("{name} looked up {key} only in B"),
        Difference::Input(read) => format!("{name} read {}", read_words(read)),
        Difference::Order { other } => {
            format!("the same except for the order: {name} and {other} ran in the opposite order")
        }
        Difference::Time => {
            let (a, b) = both(task, |ran| ran.took.map(crate::words::span).unwrap_or_default());
            format!("the same except for time: {name} took {a} in A and {b} in B")
        }
        Difference::Attempts => {
            let (a, b) = both(task, |ran| ran.attempts.to_string());
            format!("{name} was tried {a} times in A and {b} times in B").replace(" 1 times", " once")
        }
        Difference::Outcome | Difference::Error => format!("{name} {}", result_words(task, difference)),
        Difference::Output(_) => format!("{name} {}", result_words(task, difference)),
    }
}

/// Describes the different results of a task.
fn result_words(task: &TaskDiff, difference: &Difference) -> String {
    match difference {
        Difference::Output(diff) => format!("wrote different values: {}", value_words(diff)),
        _ => {
            let (a, b) = both(task, ended);
            format!("{a} in A, and {b} in B")
        }
    }
}

fn both(task: &TaskDiff, words: impl Fn(&Ran) -> String) -> (String, String) {
    let side = |ran: &Option<Ran>| ran.as_ref().map(&words).unwrap_or_default();
    (side(&task.a), side(&task.b))
}

fn ended(ran: &Ran) -> String {
    match (&ran.error, ran.outcome) {
        (Some(error), "failed") => format!("failed ({})", crate::words::error(error)),
        (_, "skipped" | "cancelled") => format!("was {}", ran.outcome),
        (_, "not started") => "did not start".to_owned(),
        (_, "waiting") => "waits for its next attempt".to_owned(),
        (_, "running") => "is still running".to_owned(),
        (_, outcome) => outcome.to_owned(),
    }
}

/// Describes the first difference in a value: `rows[0].price is 1.10 in A and 1.20 in B`.
#[must_use]
pub fn value_words(diff: &KeyDiff) -> String {
    let Some(place) = diff.places.first() else { return diff.key.to_string() };
    let path = &place.path;
    let more = diff.more + diff.places.len() as u64 - 1;
    let more = if more == 0 { String::new() } else { format!(", and {more} more") };
    match (&place.a, &place.b) {
        (Some(a), Some(b)) => {
            let found = excerpt::values(a, b, VALUE);
            format!("{path} is {} in A and {} in B{}{more}", found.a, found.b, found.place())
        }
        (Some(a), None) => format!("{path} is {} in A and not there in B{more}", short(a)),
        (None, Some(b)) => format!("{path} is not there in A and {} in B{more}", short(b)),
        (None, None) => format!("{path} was removed in one of them"),
    }
}

fn read_words(read: &ReadDiff) -> String {
    let key = &read.key;
    let side = |looked: &Looked| match looked {
        Looked::NotRead => "not read".to_owned(),
        Looked::Nothing => "not there".to_owned(),
        Looked::Value(value) => short(value),
    };
    let says = match &read.values {
        Some(values) => format!("a different {key}: {}", value_words(values)),
        None => format!("a different {key}: {} in A and {} in B", side(&read.a), side(&read.b)),
    };
    if read.undeclared {
        return format!("{says} (an undeclared read: its value depends on timing)");
    }
    says
}

/// Returns a value, cut to [`VALUE`] characters.
fn short(value: &Json) -> String {
    let text = value.as_str();
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
