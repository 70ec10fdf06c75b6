//! `replay ID context`: every key with its value and its writer; `context KEY`: one value in full, as it was written.

use std::collections::BTreeMap;

use cloacina_engine::core::context::{Source, Version, values};
use cloacina_engine::core::event::Key;
use cloacina_engine::core::graph::nearest;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::Execution;

use super::columns::{Cell, Column, Table};
use super::failure::Failure;
use super::screen::Screen;
use super::target::{Target, quoted};
use super::text;
use crate::errors::number;

/// Writes one value and nothing else.
///
/// # Errors
/// [`Failure`] if there is no such key, or its value was erased.
pub fn one(screen: &mut Screen<'_>, target: &Target, state: &Execution, seq: u64, key: &str) -> Result<(), Failure> {
    let context = state.context();
    if let Some(version) = context.get(key).filter(|version| version.value().is_some_and(Json::is_erased)) {
        let error = format!("the value of '{}' was erased ({})", text::clean(key), written_by(version));
        return Err(Failure::not_found(error, target.command(&format!("why {}", quoted(key)))));
    }
    if let Some(value) = context.get(key).and_then(|version| version.value()) {
        writeln!(screen.out, "{value}")?;
        return Ok(());
    }
    let keys: Vec<&Key> = values(&context).map(|(key, _)| key).collect();
    let near = nearest(key, keys.iter().map(|key| &***key));
    let error = format!("no key '{}' in the context after seq {seq}", text::clean(key));
    let hint = match near {
        Some(near) => target.command(&format!("context {}", quoted(near))),
        None => target.command("context"),
    };
    let names: Vec<String> = keys.iter().map(|key| text::clean(key)).collect();
    let line = if names.is_empty() { "the context is empty".to_owned() } else { format!("keys: {}", names.join(", ")) };
    Err(Failure::not_found(error, hint).numbered(number::NO_KEY).with_details(text::wrap(&line, screen.width)))
}

/// Writes the whole context, and returns its first key.
///
/// # Errors
/// [`Failure`] if writing fails.
pub fn all(screen: &mut Screen<'_>, state: &Execution, seq: u64) -> Result<Option<Key>, Failure> {
    let context = state.context();
    let mut table = Table::new(
        vec![
            Column::shrinking("key", 12),
            Column::right("size"),
            Column::shrinking("written by", 12),
            Column::shrinking("value", 20),
        ],
        0,
    );
    let shown: BTreeMap<_, _> = values(&context).collect();
    for (key, value) in &shown {
        let by = context.get(key).map(|version| written_by(version)).unwrap_or_default();
        table.row(vec![
            Cell::new(text::clean(key)),
            Cell::new(text::value_size(value)),
            Cell::new(by),
            Cell::new(text::clean(&value.as_str().chars().take(screen.width).collect::<String>())),
        ]);
    }
    screen.line(&format!("after seq {seq}: {}", text::count(shown.len() as u64, "key")))?;
    if shown.is_empty() {
        return Ok(None);
    }
    screen.line("")?;
    table.write(screen)?;
    Ok(shown.keys().next().map(|key| (*key).clone()))
}

/// Describes the origin of a version: a task and the `seq` of its write, the input, or the merged writes.
#[must_use]
pub fn written_by(version: &Version) -> String {
    match version.source() {
        Source::Write { seq, writer: None } => format!("input (seq {seq})"),
        Source::Write { seq, writer: Some(task) } => format!("{} (seq {seq})", text::clean(task)),
        Source::Merge { collision } => {
            let writes: Vec<String> = version.writes().iter().map(ToString::to_string).collect();
            let collided = if *collision { ", collided" } else { "" };
            format!("merged from seq {}{collided}", writes.join(", "))
        }
    }
}
