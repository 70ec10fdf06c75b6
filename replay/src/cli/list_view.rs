//! `replay list`: the executions of a log, newest first.

use std::collections::HashMap;
use std::io;

use cloacina_engine::core::time::Timestamp;

use super::columns::{Cell, Column, Table};
use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::ids::short;
use crate::reading::started;
use crate::source::Head;
use crate::tree::{Branch, tree, unique_ends};
use crate::words;

/// The smallest number of highlighted digits of an id: fewer would soon match other ids.
const MIN_DIGITS: usize = 4;

/// Writes the executions.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, heads: Vec<Head>) -> io::Result<()> {
    let ids: Vec<_> = heads.iter().map(|head| head.id).collect();
    let ends: HashMap<_, _> = ids.iter().copied().zip(unique_ends(&ids, MIN_DIGITS)).collect();
    let columns = vec![
        Column::left("id"),
        Column::shrinking("workflow", 16),
        Column::left("status"),
        Column::left(screen.dates()),
        Column::left("duration").optional(),
        Column::right("events").optional(),
        Column::right("size").optional(),
        Column::shrinking("cause", 10).optional(),
    ];
    let mut table = Table::new(columns, 1);
    for branch in tree(heads) {
        let head = &branch.head;
        let start = started(&head.entry);
        table.row(vec![
            id(&branch, ends.get(&head.id).copied().unwrap_or(MIN_DIGITS)),
            Cell::new(text::clean(head.workflow())),
            Cell::new(head.status()).tone(tone_of(head.status())),
            Cell::new(screen.date(start)),
            Cell::new(duration(head, start)),
            Cell::new(head.entry.records.to_string()),
            Cell::new(text::size(head.entry.bytes)),
            Cell::new(cause(head)),
        ]);
        if let Some(line) = super::header::standing_line(screen, head.status(), &head.standing) {
            table.note(tone_of(head.status()), line);
        }
        if let Ok(label) = &head.label {
            let times = |count: u32| text::count(u64::from(count), "time");
            if label.recoveries > 0 {
                table.note(Tone::Dim, format!("recovered {}, by another process", times(label.recoveries)));
            }
            if label.retries > 0 {
                table.note(Tone::Dim, format!("retried {}", times(label.retries)));
            }
        }
    }
    table.write(screen)
}

/// Formats an id, with the digits to type highlighted.
fn id(branch: &Branch, needed: usize) -> Cell {
    let shown = short(branch.head.id);
    let shown = if needed <= shown.len() { format!("…{shown}") } else { branch.head.id.to_string() };
    Cell::new(format!("{}{shown}", branch.prefix())).tone(Tone::Strong).highlight_end(needed)
}

fn duration(head: &Head, start: Timestamp) -> String {
    match head.ended() {
        Some(ended) => text::span(ended.micros_since(start)),
        None => String::new(),
    }
}

/// Returns what started an execution.
fn cause(head: &Head) -> String {
    match head.label.as_ref().map(|label| &label.cause) {
        Ok(cause) => text::clean(&words::cause(cause)),
        Err(_) => String::new(),
    }
}
