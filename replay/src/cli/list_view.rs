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

/// Writes the executions.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, heads: &[Head]) -> io::Result<()> {
    let columns = vec![
        Column::left("id"),
        Column::giving_way("workflow", 16),
        Column::left("status"),
        Column::left(screen.dates()),
        Column::left("duration").may_go(),
        Column::right("events").may_go(),
        Column::right("size").may_go(),
        Column::left("cause").may_go(),
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
        if let Ok(label) = &head.label
            && label.recoveries > 0
        {
            let times = text::count(u64::from(label.recoveries), "time");
            table.note(Tone::Dim, format!("recovered {times}, by another process"));
        }
        if let Err(error) = &head.label {
            table.note(Tone::Bad, format!("its label cannot be read: {error}"));
        }
    }
    table.write(screen)
}

fn duration(head: &Head, start: Timestamp) -> String {
    match head.ended() {
        Some(ended) => text::span(ended.micros_since(start)),
        None => String::new(),
    }
}

/// What caused it, in a word.
fn cause(head: &Head) -> &'static str {
    match head.label.as_ref().map(|label| &label.cause) {
        Ok(Cause::Call) => "call",
        Ok(Cause::Schedule { .. }) => "schedule",
        Ok(Cause::Trigger { .. }) => "trigger",
        Ok(Cause::Fork { .. }) => "fork",
        Ok(Cause::Parent { .. }) => "task",
        Err(_) => "",
    }
}
