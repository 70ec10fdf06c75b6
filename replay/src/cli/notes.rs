//! What is said below a row: failed and abandoned attempts, undeclared reads, collisions, written values.

use std::io;

use cloacina_engine::core::event::{Seq, TaskError, TaskId};
use cloacina_engine::core::state::Execution;

use super::columns::Table;
use super::found::{Found, quoted};
use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::story::{AttemptRow, Change, Met, Outcome, Row, TaskRow, Undeclared, What};
use crate::words;

/// The notes to a task. Its last failure is left out if it is told below the table.
pub fn task(table: &mut Table, row: &TaskRow, told_below: bool) {
    collisions(table, &row.collisions);
    let mut told = String::new();
    for (place, attempt) in row.attempts.iter().enumerate() {
        let is_last = place + 1 == row.attempts.len();
        let hint = attempt.hint.as_ref().filter(|hint| **hint != told);
        match &attempt.outcome {
            Outcome::Failed { .. } if is_last && told_below => continue,
            Outcome::Failed { error, .. } => table.note(Tone::Bad, failed(attempt, error, row.attempts.get(place + 1))),
            Outcome::Abandoned(why) => {
                let after = attempt.ended.map_or(0, |ended| ended.micros_since(attempt.since));
                let why = words::abandoned(*why);
                table.note(
                    Tone::Warning,
                    format!("attempt {} abandoned after {}: {why}", attempt.number, text::span(after)),
                );
            }
            _ => {}
        }
        for read in &attempt.undeclared {
            table.note(Tone::Warning, undeclared(read));
        }
        if let Some(hint) = hint {
            table.note(Tone::Plain, format!("hint: {}", text::clean(hint)));
            told.clone_from(hint);
        }
    }
}

fn failed(attempt: &AttemptRow, error: &TaskError, next: Option<&AttemptRow>) -> String {
    let took = attempt.ended.map_or(0, |ended| ended.micros_since(attempt.since));
    let mut says = format!("attempt {} failed after {}: {}", attempt.number, text::span(took), error_text(error));
    if let Some((next, ended)) = next.zip(attempt.ended) {
        says.push_str(&format!(" (tried again {} later)", text::span(next.since.micros_since(ended))));
    }
    says
}

/// An error's type and what it says.
#[must_use]
pub fn error_text(error: &TaskError) -> String {
    if error.message.is_empty() {
        return text::clean(&error.kind);
    }
    format!("{}: {}", text::clean(&error.kind), text::clean(&error.message))
}

/// An undeclared read.
#[must_use]
pub fn undeclared(read: &Undeclared) -> String {
    let writer = read.writer.as_ref().map_or("the input", |task| task);
    format!(
        "undeclared: {} (written by {} at seq {}; not a dependency)",
        text::clean(&read.key),
        text::clean(writer),
        read.seq
    )
}

/// Notes of collisions.
pub fn collisions(table: &mut Table, collisions: &[Met]) {
    for met in collisions {
        table.note(Tone::Warning, collision(met));
    }
}

/// A collision: who wrote what neither of them saw of the other, and whose value was taken.
#[must_use]
pub fn collision(met: &Met) -> String {
    let write = |(seq, task): &(Seq, Option<TaskId>)| {
        format!("{} (seq {seq})", text::clean(task.as_ref().map_or("the input", |task| task)))
    };
    let all: Vec<String> = met.writes.iter().map(write).collect();
    let taken: Vec<String> = met.writes.iter().filter(|(seq, _)| met.taken.contains(seq)).map(write).collect();
    format!(
        "collision: {} was written by {}, and none of them saw the other; taken from {}",
        text::clean(&met.key),
        all.join(" and "),
        taken.join(" and ")
    )
}

/// The values that a row's events wrote, each cut to a line; a long one with the command that shows it whole.
pub fn values(table: &mut Table, row: &Row, found: &Found, columns: usize) {
    let whole = |key: &str| found.command(&format!("context {} --at {}", quoted(key), row.last));
    match &row.what {
        What::Started { input, .. } => {
            input.iter().for_each(|change| value(table, change, "", &whole(&change.key), columns));
        }
        What::Task(task) => {
            for attempt in &task.attempts {
                let effective = attempt.outcome == Outcome::Completed;
                for change in &attempt.writes {
                    if effective {
                        value(table, change, "", &whole(&change.key), columns);
                    } else {
                        let origin = format!(" (attempt {}, without effect)", attempt.number);
                        value(table, change, &origin, &found.command("--json"), columns);
                    }
                }
            }
        }
        _ => {}
    }
}

fn value(table: &mut Table, change: &Change, origin: &str, whole: &str, columns: usize) {
    let key = text::clean(&change.key);
    let Some(json) = &change.value else {
        table.note(Tone::Plain, format!("{key} removed{origin}"));
        return;
    };
    let (shown, was_cut) = text::value(json, columns.saturating_sub(text::width(&key) + text::width(origin) + 3));
    table.note(Tone::Plain, format!("{key} = {shown}{origin}"));
    if was_cut {
        table.note(Tone::Dim, format!("whole: {whole}"));
    }
}

/// Why a task finally failed: its last attempt, its policy, where it was raised, what to do about it.
///
/// # Errors
/// Whatever writing gives.
pub fn failure(screen: &mut Screen<'_>, row: &TaskRow, state: Option<&Execution>) -> io::Result<()> {
    let Some(last) = row.attempts.last() else { return Ok(()) };
    let Outcome::Failed { error, .. } = &last.outcome else { return Ok(()) };
    let definition = state.and_then(|state| Some(state.task_definition(state.graph().find(&row.task)?)));
    let allowed = definition.map(|task| format!(" of {}", words::allowed(task))).unwrap_or_default();
    let retry = definition.map(|task| format!(" ({})", words::retry(&task.retry))).unwrap_or_default();
    let says =
        format!("{} failed, attempt {}{allowed}: {}{retry}", text::clean(&row.task), last.number, error_text(error));
    screen.paragraph(0, Tone::Bad, &says)?;
    if let Some(place) = error.traceback.as_deref().and_then(raised_at) {
        screen.paragraph(2, Tone::Plain, &text::clean(&place))?;
    }
    for read in &last.undeclared {
        screen.paragraph(2, Tone::Warning, &undeclared(read))?;
    }
    if let Some(hint) = &last.hint {
        screen.paragraph(2, Tone::Plain, &text::clean(hint))?;
    }
    Ok(())
}

/// The last place that a Python traceback names, with its line of code.
fn raised_at(traceback: &str) -> Option<String> {
    let mut lines = traceback.lines().map(str::trim).skip_while(|line| !line.starts_with("File \"")).peekable();
    let mut place = None;
    while let Some(line) = lines.next() {
        if line.starts_with("File \"") {
            let code = lines.peek().filter(|next| !next.starts_with("File \"") && !next.is_empty());
            place = Some(match code {
                Some(code) => format!("{line}: {code}"),
                None => line.to_owned(),
            });
        }
    }
    place
}
