//! Notes below the row of a table: failed and abandoned attempts, undeclared reads, collisions, written values.

use std::io;

use cloacina_engine::core::event::{Attempt, Seq, TaskError, TaskId};
use cloacina_engine::core::state::Execution;

use super::columns::Table;
use super::screen::Screen;
use super::style::Tone;
use super::target::{Target, quoted};
use super::text;
use crate::story::{AttemptRow, Change, NamedCollision, Outcome, Row, TaskRow, Undeclared, What};
use crate::words;

/// Adds the notes of a task, without its last failure if that is shown below the table.
pub fn task(table: &mut Table, row: &TaskRow, shown_below: bool) {
    collisions(table, &row.collisions);
    let count = row.attempts.len() - usize::from(shown_below && !row.attempts.is_empty());
    let mut hint = None;
    let mut place = 0;
    while let Some(attempt) = row.attempts[..count].get(place) {
        let alike = row.attempts[place..count].iter().take_while(|other| fails_alike(attempt, other)).count().max(1);
        if let Some(ended) = ended(attempt, alike, row.attempts.get(place + alike)) {
            let tone = if matches!(attempt.outcome, Outcome::Failed { .. }) { Tone::Bad } else { Tone::Warning };
            table.note(tone, ended);
        }
        for read in &attempt.undeclared {
            table.note(Tone::Warning, undeclared(read, attempt.number));
        }
        if attempt.hint.is_some() && attempt.hint != hint {
            hint.clone_from(&attempt.hint);
            table.note(Tone::Plain, format!("hint: {}", text::clean(hint.as_deref().unwrap_or_default())));
        }
        place += alike;
    }
}

/// Returns whether two attempts have the same outcome and the same notes.
fn fails_alike(one: &AttemptRow, other: &AttemptRow) -> bool {
    match (&one.outcome, &other.outcome) {
        (Outcome::Abandoned(why), Outcome::Abandoned(again)) => why == again,
        (Outcome::Failed { error, .. }, Outcome::Failed { error: again, .. }) => {
            (&error.kind, &error.message, &one.hint, &one.undeclared)
                == (&again.kind, &again.message, &other.hint, &other.undeclared)
        }
        _ => false,
    }
}

/// Describes the failure of an attempt and of the `alike - 1` attempts after it; `None` if it did not fail.
fn ended(attempt: &AttemptRow, alike: usize, next: Option<&AttemptRow>) -> Option<String> {
    let after = text::span(attempt.ended?.micros_since(attempt.since));
    match &attempt.outcome {
        Outcome::Failed { error, .. } if alike > 1 => {
            let last = u64::from(attempt.number) + alike as u64 - 1;
            Some(format!("attempts {}-{last} failed: {}", attempt.number, error_text(error)))
        }
        Outcome::Failed { error, .. } => {
            let again = next.zip(attempt.ended).map(|(next, ended)| next.since.micros_since(ended));
            let again = again.map(|wait| format!(" (tried again {} later)", text::span(wait))).unwrap_or_default();
            Some(format!("attempt {} failed after {after}: {}{again}", attempt.number, error_text(error)))
        }
        Outcome::Abandoned(why) if alike > 1 => {
            let last = u64::from(attempt.number) + alike as u64 - 1;
            Some(format!("attempts {}-{last} abandoned: {}", attempt.number, words::abandoned(*why)))
        }
        Outcome::Abandoned(why) => {
            Some(format!("attempt {} abandoned after {after}: {}", attempt.number, words::abandoned(*why)))
        }
        _ => None,
    }
}

/// Formats an error: its type and its message.
#[must_use]
pub fn error_text(error: &TaskError) -> String {
    text::clean(&words::error(error))
}

/// Describes an undeclared read.
#[must_use]
pub fn undeclared(read: &Undeclared, attempt: Attempt) -> String {
    let writer = read.writer.as_ref().map_or("the input", |task| task);
    format!(
        "undeclared: {}, read by attempt {attempt} (written at seq {} by {}, which it does not depend on)",
        text::clean(&read.key),
        read.seq,
        text::clean(writer),
    )
}

/// Describes the values of the keys that the rule of a skipped task read.
pub fn asked(row: &TaskRow, columns: usize) -> impl Iterator<Item = String> + '_ {
    row.asked.iter().map(move |(key, value)| {
        let key = text::clean(key);
        match value {
            Some(json) => format!("{key} was {}", text::value(json, columns.saturating_sub(text::width(&key) + 5)).0),
            None => format!("{key} was not set"),
        }
    })
}

/// Adds a note for each collision.
pub fn collisions(table: &mut Table, collisions: &[NamedCollision]) {
    for met in collisions {
        table.note(Tone::Warning, collision(met));
    }
}

/// Describes a collision: the writers, none of which saw the value of another, and the one whose value was taken.
#[must_use]
pub fn collision(met: &NamedCollision) -> String {
    let write = |(seq, task): &(Seq, Option<TaskId>)| {
        format!("{} (seq {seq})", text::clean(task.as_ref().map_or("the input", |task| task)))
    };
    let all: Vec<String> = met.writes.iter().map(write).collect();
    let taken: Vec<String> = met.writes.iter().filter(|(seq, _)| met.taken.contains(seq)).map(write).collect();
    let blind = if all.len() == 2 { "neither saw the other" } else { "none saw the others" };
    format!(
        "collision: {} was written by {}, {blind}; the value is from {}",
        text::clean(&met.key),
        all.join(" and "),
        taken.join(" and ")
    )
}

/// Adds the values that the events of a row wrote, each cut to one line. A long value is followed by the command that
/// shows it in full.
pub fn values(table: &mut Table, row: &Row, target: &Target, columns: usize) {
    let full = |key: &str| target.command(&format!("context {} --at {}", quoted(key), row.last));
    match &row.what {
        What::Started { input, .. } => {
            input.iter().for_each(|change| value(table, change, "", &full(&change.key), columns));
        }
        What::Task(task) => {
            for attempt in &task.attempts {
                let effective = attempt.outcome == Outcome::Completed;
                for change in &attempt.writes {
                    if effective {
                        value(table, change, "", &full(&change.key), columns);
                    } else {
                        let origin = format!(" (attempt {}, without effect)", attempt.number);
                        value(table, change, &origin, &target.command("--json"), columns);
                    }
                }
            }
        }
        _ => {}
    }
}

fn value(table: &mut Table, change: &Change, origin: &str, full: &str, columns: usize) {
    let key = text::clean(&change.key);
    let Some(json) = &change.value else {
        table.note(Tone::Plain, format!("{key} removed{origin}"));
        return;
    };
    let (shown, was_cut) = text::value(json, columns.saturating_sub(text::width(&key) + text::width(origin) + 3));
    table.note(Tone::Plain, format!("{key} = {shown}{origin}"));
    if was_cut {
        table.note(Tone::Dim, format!("full value: {full}"));
    }
}

/// Writes why a task failed for good: its last attempt, its retry policy, where the error was raised, what to do about
/// it.
///
/// # Errors
/// Errors from writing to the screen.
pub fn failure(screen: &mut Screen<'_>, row: &TaskRow, state: Option<&Execution>) -> io::Result<()> {
    let Some(last) = row.attempts.last() else { return Ok(()) };
    let Outcome::Failed { error, .. } = &last.outcome else { return Ok(()) };
    let definition = state.and_then(|state| Some(state.task_definition(state.graph().find(&row.task)?)));
    // Attempts whose process died do not count, so the last one may have a higher number than the limit.
    let counted = definition.filter(|task| last.number <= words::allowed(task));
    let allowed = counted.map(|task| format!(" of {}", words::allowed(task))).unwrap_or_default();
    let retry = counted.map(|task| format!(" ({})", words::retry(&task.retry))).unwrap_or_default();
    let line =
        format!("{} failed, attempt {}{allowed}: {}{retry}", text::clean(&row.task), last.number, error_text(error));
    screen.paragraph(0, Tone::Bad, &line)?;
    if let Some(place) = error.traceback.as_deref().and_then(raised_at) {
        screen.paragraph(2, Tone::Plain, &text::clean(&place))?;
    }
    for read in &last.undeclared {
        screen.paragraph(2, Tone::Warning, &undeclared(read, last.number))?;
    }
    if let Some(hint) = &last.hint {
        screen.paragraph(2, Tone::Plain, &text::clean(hint))?;
    }
    Ok(())
}

/// Returns where an error was raised, from its Python traceback: the last place in the user's own code, with its line.
/// If a library called from there raised it, that place is named, too.
#[must_use]
pub fn raised_at(traceback: &str) -> Option<String> {
    let mut lines = traceback.lines().map(str::trim).skip_while(|line| !line.starts_with("File \"")).peekable();
    let mut places: Vec<(&str, Option<&str>)> = Vec::new();
    while let Some(line) = lines.next() {
        if line.starts_with("File \"") {
            let code = lines.peek().filter(|next| !next.starts_with("File \"") && !next.is_empty());
            places.push((line, code.copied()));
        }
    }
    let format = |(place, code): &(&str, Option<&str>)| match code {
        Some(code) => format!("{place}: {code}"),
        None => (*place).to_owned(),
    };
    let last = places.last()?;
    let own = places.iter().rfind(|(place, _)| !is_library(place)).unwrap_or(last);
    match own == last {
        true => Some(format(own)),
        false => Some(format!("{} (raised below it, in {})", format(own), last.0.trim_start_matches("File "))),
    }
}

/// Returns whether a place in a traceback is in an installed package or Python itself rather than in the user's own
/// code.
fn is_library(place: &str) -> bool {
    let path = place.trim_start_matches("File \"").split('"').next().unwrap_or_default().replace('\\', "/");
    path.starts_with('<') && path != "<stdin>" && path != "<string>" && !path.starts_with("<ipython")
        || ["/site-packages/", "/dist-packages/"].iter().any(|part| path.contains(part))
        || path.split('/').any(|part| part.strip_prefix("python3.").is_some_and(|minor| minor.parse::<u32>().is_ok()))
}
