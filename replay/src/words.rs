//! Text for causes, outcomes, durations and the like: the same in tables, JSON and documentation.

use cloacina_engine::core::definition::TaskDefinition;
use cloacina_engine::core::event::{AbandonReason, Cause, Environment, Settled, SkipReason, TaskError, TaskId};
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::rule::is_failure;
use cloacina_store::log::Durability;

use crate::ids::short;
use crate::time::rfc3339;

/// Describes what started an execution.
#[must_use]
pub fn cause(cause: &Cause) -> String {
    match cause {
        Cause::Call => "call".to_owned(),
        Cause::Schedule { schedule, scheduled } => {
            let schedule = short(cloacina_engine::core::event::ExecutionId(*schedule));
            format!("schedule …{schedule} for {}", rfc3339(*scheduled))
        }
        Cause::Trigger { name } => format!("trigger {name}"),
        Cause::Fork { execution, seq } => format!("fork of …{} at seq {seq}", short(*execution)),
        Cause::Parent { execution, task } => format!("task {task} of …{}", short(*execution)),
    }
}

/// Formats a durability mode: `sync`, `interval:100` or `os`.
#[must_use]
pub fn durability(durability: Durability) -> String {
    match durability {
        Durability::Sync => "sync".to_owned(),
        Durability::Interval(milliseconds) => format!("interval:{milliseconds}"),
        Durability::Os => "os".to_owned(),
    }
}

/// Parses the output of [`durability`].
#[must_use]
pub fn parse_durability(text: &str) -> Option<Durability> {
    match text {
        "sync" => Some(Durability::Sync),
        "os" => Some(Durability::Os),
        _ => text.strip_prefix("interval:")?.parse().ok().map(Durability::Interval),
    }
}

/// Describes how a task ended.
#[must_use]
pub fn settled(settled: Settled) -> &'static str {
    match settled {
        Settled::Completed => "completed",
        Settled::Failed => "failed",
        Settled::Skipped => "was skipped",
        Settled::SkippedByFailure => "was skipped by failure",
    }
}

/// Describes how a task was skipped: by its own rule, or by failure.
#[must_use]
pub fn skipped(why: &SkipReason) -> &'static str {
    if why.failure { "skipped by failure" } else { "skipped" }
}

/// Describes why a task was skipped: the tasks that decided it, failures first, or the condition that did not hold.
#[must_use]
pub fn skip(why: &SkipReason) -> String {
    const MAX_NAMES: usize = 3;
    let mut tasks: Vec<&(TaskId, Settled)> = why.tasks.iter().collect();
    tasks.sort_by_key(|(_, how)| !is_failure(*how));
    let mut parts: Vec<String> =
        tasks.iter().take(MAX_NAMES).map(|(task, how)| format!("{task} {}", settled(*how))).collect();
    if why.tasks.len() > MAX_NAMES {
        parts.push(format!("{} more", why.tasks.len() - MAX_NAMES));
    }
    match (parts.is_empty(), &*why.rule) {
        (true, rule) => format!("{rule} does not hold"),
        (false, "none_failed") => parts.join(", "),
        (false, rule) => format!("{}; {rule} does not hold", parts.join(", ")),
    }
}

/// Describes why an attempt was abandoned.
#[must_use]
pub fn abandoned(why: AbandonReason) -> &'static str {
    match why {
        AbandonReason::ProcessDied => "its process died",
        AbandonReason::Shutdown => "its engine was shut down",
    }
}

/// Summarizes a retry policy: `retry: fixed, 300 ms`.
#[must_use]
pub fn retry(policy: &RetryPolicy) -> String {
    if policy.max_attempts <= 1 {
        return "no retry".to_owned();
    }
    let backoff = match policy.backoff {
        Backoff::Fixed => "fixed",
        Backoff::Linear { .. } => "linear",
        Backoff::Exponential { .. } => "exponential",
    };
    format!("retry: {backoff}, {}", milliseconds(policy.initial_delay.0))
}

/// Formats a duration in milliseconds.
#[must_use]
pub fn milliseconds(span: u64) -> String {
    match span {
        0..1_000 => format!("{span} ms"),
        _ if span.is_multiple_of(1_000) => format!("{} s", span / 1_000),
        _ => format!("{}.{:03} s", span / 1_000, span % 1_000).replace("00 s", " s").replace("0 s", " s"),
    }
}

/// Formats a duration in microseconds, rounded to the precision that is shown. The HTML pages (`words.js`) and Python
/// use the same format.
#[must_use]
pub fn span(micros: u64) -> String {
    let rounded = |unit: u64| micros.saturating_add(unit / 2) / unit;
    let (thousandths, hundredths) = (rounded(1_000), rounded(10_000));
    let (seconds, minutes, hours) = (rounded(1_000_000), rounded(60_000_000), rounded(3_600_000_000));
    if thousandths < 100 {
        return format!("0.{thousandths:03} s");
    }
    if hundredths < 10_000 {
        return format!("{}.{:02} s", hundredths / 100, hundredths % 100);
    }
    if seconds < 3_600 {
        return format!("{} min {:02} s", seconds / 60, seconds % 60);
    }
    if minutes < 2 * 24 * 60 {
        return format!("{} h {:02} min", minutes / 60, minutes % 60);
    }
    format!("{} d {} h", hours / 24, hours % 24)
}

/// Formats an error: its type and its message.
#[must_use]
pub fn error(error: &TaskError) -> String {
    if error.message.is_empty() { error.kind.to_string() } else { format!("{}: {}", error.kind, error.message) }
}

/// Returns how many attempts at a task may fail.
#[must_use]
pub fn allowed(task: &TaskDefinition) -> u32 {
    task.retry.max_attempts.max(1)
}

/// Lists at most `most` names, then how many more there are.
#[must_use]
pub fn names<'a>(names: impl IntoIterator<Item = &'a TaskId>, most: usize) -> String {
    let mut names = names.into_iter();
    let shown: Vec<&str> = names.by_ref().take(most).map(|name| &**name).collect();
    match names.count() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Describes a process: `engine 0.1.0, host db01, pid 42, Python 3.13`.
#[must_use]
pub fn environment(environment: &Environment) -> String {
    let mut parts = Vec::new();
    if !environment.engine.is_empty() {
        parts.push(format!("engine {}", environment.engine));
    }
    if !environment.host.is_empty() {
        parts.push(format!("host {}", environment.host));
    }
    parts.push(format!("pid {}", environment.pid));
    if let Some(python) = &environment.python {
        parts.push(format!("Python {python}"));
    }
    parts.join(", ")
}
