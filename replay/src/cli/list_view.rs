//! `replay list`: the executions of a log, newest first.

use std::io;

use cloacina_engine::core::event::Cause;
use cloacina_engine::core::time::Timestamp;

use super::columns::{Cell, Column, Table};
use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::ids::short;
use crate::reading::started;
use crate::source::Head;
use crate::words;

/// Writes the executions.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, heads: &[Head]) -> io::Result<()> {
    let columns = vec![
        Column::left("id"),
        Column::giving_way("workflow", 16),
        Column::left("status"),
        Column::left("started"),
        Column::left("duration"),
        Column::right("events"),
        Column::right("size"),
        Column::giving_way("caused by", 8),
    ];
    let mut table = Table::new(columns, 1);
    for head in heads {
        let start = started(&head.entry);
        table.row(vec![
            Cell::new(format!("…{}", short(head.id))).tone(Tone::Strong),
            Cell::new(text::clean(head.workflow())),
            Cell::new(head.status()).tone(tone_of(head.status())),
            Cell::new(screen.date(start)),
            Cell::new(duration(head, start)),
            Cell::new(head.entry.records.to_string()),
            Cell::new(text::size(head.entry.bytes)),
            Cell::new(cause(head)),
        ]);
        if let Err(error) = &head.label {
            table.note(Tone::Bad, format!("its label cannot be read: {error}"));
        }
    }
    table.write(screen)
}

fn duration(head: &Head, start: Timestamp) -> String {
    match head.label.as_ref().ok().and_then(|label| label.ended) {
        Some(ended) => text::span(ended.micros_since(start)),
        None => String::new(),
    }
}

/// What caused it, and that it was recovered.
fn cause(head: &Head) -> String {
    let Ok(label) = &head.label else { return String::new() };
    let cause = match &label.cause {
        Cause::Schedule { .. } => "schedule".to_owned(),
        cause => text::clean(&words::cause(cause)),
    };
    match label.recoveries {
        0 => cause,
        1 => format!("{cause}, recovered"),
        times => format!("{cause}, recovered {times} times"),
    }
}
