//! `replay ID explain TASK`: why a task ran, was skipped, or is waiting; and each of its attempts.

use std::io;

use cloacina_engine::core::definition::TriggerRule;
use cloacina_engine::core::event::{Seen, Seq, TaskError, TaskId};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::{Execution, TaskState};
use cloacina_engine::core::time::Timestamp;

use super::notes::{self, error_text};
use super::screen::Screen;
use super::state_view::waits_for;
use super::style::{Tone, tone_of};
use super::text;
use crate::story::{AttemptRow, Outcome, Story, TaskRow, What};
use crate::words;

/// How many task names are shown in one line.
const MAX_NAMES: usize = 8;

/// Explains a task in the final state of the story.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, story: &Story, state: &Execution, task: TaskIndex) -> io::Result<()> {
    let name = state.graph().name(task);
    let status = story.state_name(state.task(task).state());
    let painted = screen.style.paint(tone_of(status), status);
    screen.line(&format!("{}: {painted}", text::clean(name)))?;
    dependencies(screen, state, task)?;
    screen.paragraph(2, Tone::Plain, &why(screen, state, task, story.is_orphaned()))?;
    if let Some(row) = row_of(story, name) {
        for asked in notes::asked(row, screen.width.saturating_sub(4)) {
            screen.paragraph(4, Tone::Plain, &asked)?;
        }
        for met in &row.collisions {
            screen.paragraph(2, Tone::Warning, &notes::collision(met))?;
        }
        let count = words::allowed(state.task_definition(task));
        for (place, one) in row.attempts.iter().enumerate() {
            screen.line("")?;
            attempt(screen, one, &row.attempts[..place], state.started(), Some(count))?;
        }
    }
    Ok(())
}

/// Explains a task that the recovery at `seq` removed.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write_removed(
    screen: &mut Screen<'_>,
    story: &Story,
    state: &Execution,
    (name, seq): (&str, Seq),
) -> io::Result<()> {
    let painted = screen.style.paint(Tone::Warning, "removed");
    screen.line(&format!("{}: {painted}", text::clean(name)))?;
    let reason = "no longer in the graph: the execution was resumed with another graph";
    screen.paragraph(2, Tone::Plain, &format!("{reason} (seq {seq})"))?;
    let row = row_of(story, &name.into());
    let Some(row) = row else { return screen.paragraph(2, Tone::Plain, "it had no events before that") };
    for (place, one) in row.attempts.iter().enumerate() {
        screen.line("")?;
        attempt(screen, one, &row.attempts[..place], state.started(), None)?;
    }
    Ok(())
}

fn row_of<'a>(story: &'a Story, name: &TaskId) -> Option<&'a TaskRow> {
    story.rows.iter().find_map(|row| match &row.what {
        What::Task(row) if row.task == *name => Some(row),
        _ => None,
    })
}

fn dependencies(screen: &mut Screen<'_>, state: &Execution, task: TaskIndex) -> io::Result<()> {
    let upstream = state.graph().upstream(task);
    if upstream.is_empty() {
        return screen.paragraph(2, Tone::Plain, "depends on no task");
    }
    for &up in upstream {
        let slot = state.task(up);
        let ended = slot.ended().map(|ended| format!(" at {}", screen.moment(ended, state.started())));
        let name = text::clean(state.graph().name(up));
        let verb = if state.graph().dependencies(task).contains(&up) { "depends on" } else { "its rule refers to" };
        let after = if was_retried_after(state, up, task) { "; it was retried after this task ended" } else { "" };
        let line = format!("{verb} {name}: {}{}{after}", slot.state().name(), ended.unwrap_or_default());
        screen.paragraph(2, Tone::Plain, &line)?;
    }
    Ok(())
}

/// Returns whether a retry of the execution put an upstream task back after a task had ended: then its state is not the one
/// that the task's rule saw.
fn was_retried_after(state: &Execution, up: TaskIndex, task: TaskIndex) -> bool {
    let Some(ended) = state.task(task).ended() else { return false };
    state.retries() > 0 && state.task(up).ended().is_none_or(|other| other > ended)
}

/// Returns why a task ran, was skipped, or is waiting.
fn why(screen: &Screen<'_>, state: &Execution, task: TaskIndex, left: bool) -> String {
    let slot = state.task(task);
    let rule = rule(&state.task_definition(task).rule);
    match slot.state() {
        TaskState::Skipped { .. } => {
            let Some(why) = slot.skipped() else { return "was skipped".to_owned() };
            format!("was {}: {} (its rule: {rule})", words::skipped(why), text::clean(&words::skip(why)))
        }
        TaskState::Pending => {
            let open = waits_for(state, task);
            if open.is_empty() {
                let when = if left { "its execution is resumed" } else { "a slot is free" };
                return format!("is ready: it runs once {when} (its rule holds: {rule})");
            }
            format!("waits for {}; then its rule decides: {rule}", text::clean(&words::names(open, MAX_NAMES)))
        }
        TaskState::WaitingRetry { due } => {
            let due = screen.moment(due, state.started());
            let left = if left { "; it starts once its execution is resumed" } else { "" };
            format!("waits for its next attempt, due at {due}{left}")
        }
        TaskState::Cancelled if slot.attempts() == 0 => "did not run: the execution ended first".to_owned(),
        _ => format!("ran because its rule holds: {rule}"),
    }
}

/// Returns the name of a trigger rule and its meaning.
fn rule(rule: &TriggerRule) -> String {
    let means = match rule {
        TriggerRule::NoneFailed => "no dependency failed",
        TriggerRule::AllSuccess => "every dependency completed",
        TriggerRule::AllDone => "every dependency is settled",
        TriggerRule::AllFailed => "every dependency failed",
        TriggerRule::OneSuccess => "at least one dependency completed",
        TriggerRule::OneFailed => "at least one dependency failed",
        TriggerRule::Always => "always",
        TriggerRule::When(_) => "a tree of conditions",
    };
    format!("{}, {means}", rule.name())
}

fn attempt(
    screen: &mut Screen<'_>,
    row: &AttemptRow,
    before: &[AttemptRow],
    start: Timestamp,
    allowed: Option<u32>,
) -> io::Result<()> {
    if let Some(seq) = row.after_retry {
        screen.paragraph(0, Tone::Warning, &format!("the execution was retried (seq {seq})"))?;
    }
    let at = screen.moment(row.since, start);
    let took = row.ended.map(|ended| format!(" after {}", text::span(ended.micros_since(row.since))));
    let took = took.unwrap_or_default();
    let (how, tone) = match &row.outcome {
        Outcome::Running => ("runs".to_owned(), Tone::Plain),
        Outcome::Deferred => ("is deferred: waits for an external event, without a slot".to_owned(), Tone::Warning),
        Outcome::Left => ("not running: no process runs it now, and it has no outcome".to_owned(), Tone::Warning),
        Outcome::Completed => (format!("completed{took}"), Tone::Good),
        Outcome::Failed { error, .. } => (format!("failed{took}: {}", error_text(error)), Tone::Bad),
        Outcome::Abandoned(why) => (format!("abandoned{took}: {}", words::abandoned(*why)), Tone::Warning),
        Outcome::Cancelled => (format!("stopped{took}: the execution ended first"), Tone::Warning),
    };
    screen.paragraph(0, tone, &format!("attempt {} (seq {}, at {at}): {how}", row.number, row.started))?;
    for read in &row.reads.keys {
        let (tone, seen) = match &read.seen {
            Seen::Nothing => (Tone::Warning, "which was not set".to_owned()),
            Seen::Write(seq) => (Tone::Plain, format!("written at seq {seq}")),
            Seen::Merged(seqs) => {
                let seqs: Vec<String> = seqs.iter().map(ToString::to_string).collect();
                (Tone::Plain, format!("merged from seq {}", seqs.join(", ")))
            }
            Seen::Undeclared(seq) => (Tone::Warning, format!("written at seq {seq}, undeclared")),
        };
        screen.paragraph(2, tone, &format!("read {}, {seen}", text::clean(&read.key)))?;
    }
    if row.reads.all {
        screen.paragraph(2, Tone::Plain, "read the whole context")?;
    }
    let effect = if row.outcome == Outcome::Completed { "" } else { ", without effect" };
    for change in &row.writes {
        let seq = change.seq;
        screen.paragraph(2, Tone::Plain, &format!("{} at seq {seq}{effect}", super::history_view::change(change)))?;
    }
    let Outcome::Failed { error, retry_at } = &row.outcome else { return Ok(()) };
    traceback(screen, error, before)?;
    let next = match (retry_at, allowed) {
        (Some(due), _) => format!("next attempt due at {}", screen.moment(*due, start)),
        (None, Some(allowed)) => format!("no further attempt (at most {allowed} may fail)"),
        (None, None) => "no further attempt".to_owned(),
    };
    screen.paragraph(2, Tone::Plain, &next)?;
    match &row.hint {
        Some(hint) => screen.paragraph(2, Tone::Plain, &format!("hint: {}", text::clean(hint))),
        None => Ok(()),
    }
}

/// Writes the traceback of an error: first the place in the user's own code that raised it, then all of it. If an
/// earlier attempt had the same traceback, refers to that attempt instead.
fn traceback(screen: &mut Screen<'_>, error: &TaskError, before: &[AttemptRow]) -> io::Result<()> {
    let Some(traceback) = error.traceback.as_deref() else { return Ok(()) };
    let same = before.iter().find(|one| match &one.outcome {
        Outcome::Failed { error, .. } => error.traceback.as_deref() == Some(traceback),
        _ => false,
    });
    // A traceback with a single place begins with it.
    let is_short = same.is_none() && traceback.matches("File \"").count() < 2;
    if let Some(place) = notes::raised_at(traceback).filter(|_| !is_short) {
        screen.paragraph(2, Tone::Strong, &text::clean(&place))?;
    }
    if let Some(same) = same {
        return screen.paragraph(2, Tone::Dim, &format!("(the same traceback as attempt {})", same.number));
    }
    for line in traceback.trim_end().lines() {
        screen.line(&format!("  | {}", text::clean(line)))?;
    }
    Ok(())
}
