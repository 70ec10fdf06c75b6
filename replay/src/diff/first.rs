//! Where two executions first diverge, in one sentence.

use cloacina_engine::core::event::{Seq, TaskId};
use cloacina_engine::core::json::Json;

use super::excerpt;
use super::{Diff, Difference, KeyDiff, Looked, Ran, ReadDiff, Side, Standing, TaskDiff};

/// How many letters of a value stand in a sentence.
const VALUE: usize = 40;

/// Where two executions first diverge.
#[derive(Clone, Debug, PartialEq)]
pub struct Divergence {
    /// What differs: `workflow`, `input`, a task's [`Difference::name`], `tasks` (only one has it), `context` or `status`.
    pub aspect: &'static str,
    /// The task; `None` if it is not about one.
    pub task: Option<TaskId>,
    /// The task's first event in A.
    pub a: Option<Seq>,
    /// The task's first event in B.
    pub b: Option<Seq>,
    /// Whether it makes the two differ; `false` for what timing alone explains.
    pub counts: bool,
    /// All of it in one sentence. The two are called A and B.
    pub sentence: String,
}

/// Finds the first divergence: first what differs before any task, then task by task in the order in which they ran.
pub fn divergence(diff: &Diff, a: Side<'_>, b: Side<'_>) -> Option<Divergence> {
    before_tasks(diff)
        .or_else(|| among_tasks(diff))
        .or_else(|| at_the_end(diff, a, b))
        .or_else(|| retries(diff))
        .or_else(|| diff.tasks.iter().find_map(|task| about(task, |_| true)))
}

fn whole(aspect: &'static str, sentence: String) -> Divergence {
    Divergence { aspect, task: None, a: None, b: None, counts: true, sentence }
}

fn before_tasks(diff: &Diff) -> Option<Divergence> {
    let (a, b) = (diff.a.workflow(), diff.b.workflow());
    if a != b {
        return Some(whole("workflow", format!("they are of two workflows: A of {a}, B of {b}")));
    }
    let first = diff.input.first()?;
    Some(whole("input", format!("the input differs: {}", value_words(first))))
}

fn among_tasks(diff: &Diff) -> Option<Divergence> {
    // A task that was only tried again is not where they part: what leads somewhere else comes later.
    let counts = |difference: &Difference| difference.counts() && !matches!(difference, Difference::Attempts);
    let mut first = diff.tasks.iter().find_map(|task| about(task, counts))?;
    // Other code that gives the same is where they part, but not what somebody looks for.
    let results = |difference: &Difference| difference.is_result() || matches!(difference, Difference::Input(_));
    if matches!(first.aspect, "code" | "definition")
        && let Some(result) = diff.tasks.iter().find_map(|task| about(task, results))
        && result.task != first.task
    {
        first.sentence = format!("{}, and gave the same; then {}", first.sentence, result.sentence);
    } else if matches!(first.aspect, "code" | "definition")
        && let Some(task) = diff.tasks.iter().find(|task| Some(&task.task) == first.task.as_ref())
        && let Some(result) = task.differences.iter().find(|difference| difference.is_result())
    {
        first.sentence = format!("{}: {}", first.sentence, result_words(task, result));
    }
    Some(first)
}

/// Where only the number of attempts differs.
fn retries(diff: &Diff) -> Option<Divergence> {
    let mut found = diff.tasks.iter().filter_map(|task| about(task, |it| matches!(it, Difference::Attempts)));
    let mut first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        more => format!(", and so were {more} more"),
    };
    first.sentence = format!("the same but for retries: {}{more}", first.sentence);
    Some(first)
}

fn at_the_end(diff: &Diff, a: Side<'_>, b: Side<'_>) -> Option<Divergence> {
    if let Some(first) = diff.context.first() {
        let says = format!("every task gave the same, but the context differs: {}", value_words(first));
        return Some(whole("context", says));
    }
    let (one, other) = (a.head.status(), b.head.status());
    (one != other).then(|| whole("status", format!("every task gave the same, but A is {one} and B is {other}")))
}

/// The first difference of a task that is wanted, or that only one has it.
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

/// A difference of a task, with its name.
fn task_words(task: &TaskDiff, difference: &Difference) -> String {
    let name = &task.task;
    match difference {
        Difference::Code { .. } => format!("{name} has other code in B"),
        Difference::Definition { part, a, b } => format!("{name} is defined with another {part}: {a} in A, {b} in B"),
        Difference::Input(ReadDiff { key, b: Looked::NotRead, .. }) => format!("{name} looked for {key} only in A"),
        Difference::Input(ReadDiff { key, a: Looked::NotRead, .. }) => format!("{name} looked for {key} only in B"),
        Difference::Input(read) => format!("{name} read {}", read_words(read)),
        Difference::Order { other } => {
            format!("the same but for the order: {name} and {other} ran the other way round")
        }
        Difference::Time => {
            let (a, b) = both(task, |ran| ran.took.map(crate::words::span).unwrap_or_default());
            format!("the same but for time: {name} took {a} in A and {b} in B")
        }
        Difference::Attempts => {
            let (a, b) = both(task, |ran| ran.attempts.to_string());
            format!("{name} was tried {a} times in A and {b} times in B").replace(" 1 times", " once")
        }
        Difference::Outcome | Difference::Error => format!("{name} {}", result_words(task, difference)),
        Difference::Output(_) => format!("{name} {}", result_words(task, difference)),
    }
}

/// What came out of a task in the two.
fn result_words(task: &TaskDiff, difference: &Difference) -> String {
    match difference {
        Difference::Output(diff) => format!("wrote other values: {}", value_words(diff)),
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
        (_, "running") => "still runs".to_owned(),
        (_, outcome) => outcome.to_owned(),
    }
}

/// Where a value differs first: `rows[0].price is 1.10 in A and 1.20 in B`.
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
        Some(values) => format!("another {key}: {}", value_words(values)),
        None => format!("another {key}: it was {} in A and {} in B", side(&read.a), side(&read.b)),
    };
    if read.undeclared {
        return format!("{says} (an undeclared read: what it sees depends on who is faster)");
    }
    says
}

/// A value, cut to what a sentence can hold.
fn short(value: &Json) -> String {
    let text = value.as_str();
    match text.char_indices().nth(VALUE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
