//! `replay diff A B`: the first divergence, then task by task, then the context key by key.

use std::io::{self, Write};

use cloacina_engine::core::json::Json;

use super::columns::{Cell, Column, Table};
use super::failure::{Failure, code};
use super::header;
use super::screen::Screen;
use super::style::Tone;
use super::target::{Target, quoted};
use super::text;
use crate::diff::excerpt;
use crate::diff::{Diff, Difference, Ignored, KeyDiff, Looked, Ran, ReadDiff, Side, Standing, TaskDiff, diff};
use crate::json::diff::DiffJson;
use crate::json::document::Object;
use crate::prefetch::Prefetch;
use crate::source;
use crate::story::{Story, tell};

/// How many differences within the value of one key are shown.
const MAX_PLACES: usize = 5;

/// Compares two executions, shows what differs, and returns the exit code.
///
/// # Errors
/// [`Failure`] if one of them cannot be read to its end.
pub fn show(
    screen: &mut Screen<'_>,
    err: &mut dyn Write,
    (json, ignored): (bool, &[Ignored]),
    (a, b): (&Target, &Target),
) -> Result<i32, Failure> {
    let story = |target: &Target| -> Result<(source::Head, Story), Failure> {
        let reader = &*target.log.reader;
        let head = source::head(reader, target.id)?;
        let story = Prefetch::new(reader, target.id).entries(|entries| tell(target.id, reader, entries));
        // Do not compare a history that cannot be read to its end: it would show differences that may not exist.
        match story.trouble {
            Some(trouble) => Err(trouble.into()),
            None => Ok((head, story)),
        }
    };
    let ((head_a, story_a), (head_b, story_b)) = (story(a)?, story(b)?);
    let diff = diff(Side { head: &head_a, story: &story_a }, Side { head: &head_b, story: &story_b }, ignored);
    let exit = if diff.is_same() { code::OK } else { code::DIFFERS };
    if json {
        let logs = (a.log.path.display().to_string(), b.log.path.display().to_string());
        let mut object = Object::begin(screen.out, "diff")?;
        object.member("diff", &DiffJson::new(&diff, (&logs.0, &logs.1))?)?;
        object.end()?;
        return Ok(exit);
    }
    header::write_two(screen, (a, &head_a), (b, &head_b))?;
    write(screen, &diff)?;
    screen.out.flush()?;
    writeln!(err, "\nhint: {}", hints(&diff, a, b).join(" · "))?;
    Ok(exit)
}

fn write(screen: &mut Screen<'_>, diff: &Diff) -> io::Result<()> {
    let Some(first) = &diff.first else {
        return screen.paragraph(0, Tone::Good, "same: every task ran the same code, saw and left the same values");
    };
    if first.aspect == Difference::Attempts.name() {
        screen.paragraph(0, Tone::Warning, &text::clean(&first.sentence))?;
    } else if first.counts {
        let line = format!("first divergence: {}", text::clean(&first.sentence));
        screen.paragraph(0, Tone::Strong, &line)?;
    } else {
        screen.paragraph(0, Tone::Good, &text::clean(&first.sentence))?;
    }
    if !diff.input.is_empty() {
        screen.line("")?;
        keys(screen, "input", &diff.input)?;
    }
    let same = diff.tasks.iter().filter(|task| task.differences.is_empty() && task.standing() == Standing::Same);
    let same = same.count();
    if same < diff.tasks.len() {
        screen.line("")?;
        table(diff).write(screen)?;
    }
    if same > 0 {
        screen.line("")?;
        screen.line(&format!("{} the same in both", text::count(same as u64, "task")))?;
    }
    if !diff.context.is_empty() {
        screen.line("")?;
        keys(screen, "context", &diff.context)?;
    }
    Ok(())
}

/// The table of tasks that differ.
fn table(diff: &Diff) -> Table {
    let columns = vec![
        Column::shrinking("task", 14),
        Column::left("is"),
        Column::shrinking("in A", 14),
        Column::shrinking("in B", 14),
        Column::shrinking("differs in", 12),
    ];
    let mut table = Table::new(columns, 0);
    for task in &diff.tasks {
        let standing = task.standing();
        if standing == Standing::Same && task.differences.is_empty() {
            continue;
        }
        let tone = if standing == Standing::Same { Tone::Dim } else { Tone::Warning };
        let mut aspects: Vec<String> = task.differences.iter().map(|difference| difference.name().to_owned()).collect();
        aspects.dedup();
        table.row(vec![
            Cell::new(text::clean(&task.task)),
            Cell::new(standing.name()).tone(tone),
            ran(task.a.as_ref()),
            ran(task.b.as_ref()),
            Cell::list(aspects),
        ]);
        notes(&mut table, task);
    }
    table
}

fn ran(ran: Option<&Ran>) -> Cell {
    let Some(ran) = ran else { return Cell::new("-").tone(Tone::Dim) };
    let mut parts = vec![ran.outcome.to_owned()];
    if ran.attempts > 1 {
        parts.push(text::count(u64::from(ran.attempts), "attempt"));
    }
    parts.extend(ran.took.map(text::span));
    let tone = match ran.outcome {
        "completed" => Tone::Good,
        "failed" => Tone::Bad,
        "skipped" | "not started" => Tone::Dim,
        "cancelled" | "waiting" => Tone::Warning,
        _ => Tone::Plain,
    };
    Cell::list(parts).tone(tone)
}

/// Adds what the columns do not show of a task.
fn notes(table: &mut Table, task: &TaskDiff) {
    for difference in &task.differences {
        match difference {
            Difference::Definition { part, a, b } => {
                table.note(Tone::Plain, format!("{part}: {} in A, {} in B", text::clean(a), text::clean(b)));
            }
            Difference::Input(read) => {
                let tone = if read.undeclared { Tone::Warning } else { Tone::Plain };
                table.note(tone, format!("read {}", describe_read(read)));
            }
            Difference::Outcome | Difference::Error => {
                for (side, ran) in [("A", &task.a), ("B", &task.b)] {
                    if let Some(error) = ran.as_ref().and_then(|ran| ran.error.as_ref()) {
                        table.note(Tone::Bad, format!("in {side}: {}", super::notes::error_text(error)));
                    }
                }
            }
            Difference::Output(output) => {
                for line in places(output, 48) {
                    table.note(Tone::Plain, format!("wrote {line}"));
                }
            }
            Difference::Order { other } => {
                table.note(
                    Tone::Dim,
                    format!("ran before {} in one execution, after it in the other", text::clean(other)),
                );
            }
            Difference::Code { line: Some(line), a, b } => {
                let excerpts = excerpt::texts(a.trim(), b.trim(), 100);
                table.note(Tone::Plain, format!("line {line} in A: {}", text::clean(&excerpts.a)));
                table.note(Tone::Plain, format!("line {line} in B: {}", text::clean(&excerpts.b)));
            }
            Difference::Code { line: None, .. } | Difference::Attempts | Difference::Time => {}
        }
    }
}

fn describe_read(read: &ReadDiff) -> String {
    let side = |looked: &Looked| match looked {
        Looked::NotRead => "not read".to_owned(),
        Looked::Nothing => "not there".to_owned(),
        Looked::Value(value) => text::value(value, 40).0,
    };
    let difference = match &read.values {
        Some(values) => places(values, 48).join("; "),
        None => format!("{}: {} in A, {} in B", text::clean(&read.key), side(&read.a), side(&read.b)),
    };
    let undeclared = if read.undeclared { " (undeclared: the value depends on timing)" } else { "" };
    format!("{difference}{undeclared}")
}

fn keys(screen: &mut Screen<'_>, title: &str, keys: &[KeyDiff]) -> io::Result<()> {
    screen.line(&format!("{title}: {} different", super::text::count(keys.len() as u64, "key")))?;
    let columns = (screen.width / 3).max(24);
    for key in keys {
        for line in places(key, columns) {
            screen.paragraph(2, Tone::Plain, &line)?;
        }
    }
    Ok(())
}

/// Lists the places where a value differs, one per line.
fn places(diff: &KeyDiff, columns: usize) -> Vec<String> {
    let value = |side: &Option<cloacina_engine::core::json::Json>| {
        side.as_ref().map_or_else(|| "not there".to_owned(), |value| text::value(value, columns).0)
    };
    let shown = diff.places.iter().take(MAX_PLACES);
    let mut lines: Vec<String> = shown
        .map(|place| match (&place.a, &place.b) {
            (None, None) => format!("{}: removed in one of them", text::clean(&place.path)),
            (Some(a), Some(b)) => {
                let (path, excerpts) = (text::clean(&place.path), excerpt::values(a, b, columns));
                // Show the size of a value that is not shown in full.
                let size = |value: &Json, shown: &str| match shown.contains('…') {
                    true => format!(" ({})", text::value_size(value)),
                    false => String::new(),
                };
                let (text_a, text_b) = (text::clean(&excerpts.a), text::clean(&excerpts.b));
                let (size_a, size_b) = (size(a, &excerpts.a), size(b, &excerpts.b));
                format!("{path}: {text_a}{size_a} in A, {text_b}{size_b} in B{}", excerpts.place())
            }
            (a, b) => format!("{}: {} in A, {} in B", text::clean(&place.path), value(a), value(b)),
        })
        .collect();
    let more = diff.more + diff.places.len().saturating_sub(MAX_PLACES) as u64;
    if more > 0 {
        let places = if more == 1 { "place" } else { "places" };
        lines.push(format!("{}: {more} more {places}", text::clean(&diff.key)));
    }
    lines
}

/// Returns the commands to suggest: the divergence, seen from both executions.
fn hints(diff: &Diff, a: &Target, b: &Target) -> Vec<String> {
    let command = |target: &Target, rest: &str| target.command(rest);
    let first = diff.first.as_ref().filter(|first| first.counts);
    let Some(first) = first else { return vec![command(a, ""), command(b, "")] };
    let key = || {
        let task = diff.tasks.iter().find(|task| Some(&task.task) == first.task.as_ref())?;
        task.differences.iter().find_map(|difference| match difference {
            Difference::Output(output) => Some(output.key.clone()),
            _ => None,
        })
    };
    match (&first.task, first.aspect) {
        (Some(_), "output") if key().is_some() => {
            let why = format!("why {}", quoted(&key().unwrap_or_else(|| "".into())));
            vec![command(a, &why), command(b, &why)]
        }
        (Some(task), _) => {
            let explain = format!("explain {}", quoted(task));
            let present = [(a, first.a), (b, first.b)].into_iter().filter(|(_, seq)| seq.is_some());
            let mut all: Vec<String> = present.map(|(target, _)| command(target, &explain)).collect();
            if all.is_empty() {
                all = vec![command(a, ""), command(b, "")];
            }
            all
        }
        (None, _) => vec![command(a, "context"), command(b, "context")],
    }
}
