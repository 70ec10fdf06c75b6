//! The first two lines of every view: which execution, how it stands, and where this was read.

use std::io;

use cloacina_store::log::LogReader;

use super::found::Found;
use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::ids::short;
use crate::reading::started;
use crate::source::{Head, written_with};
use crate::words;

/// What the header says of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainWord {
    /// All records were read, and each one fits its hash and the one before it.
    Ok,
    /// One does not.
    Broken,
    /// They were not all read.
    Unread,
}

/// Writes the header.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, found: &Found, head: &Head, chain: ChainWord) -> io::Result<()> {
    let mut parts = vec![
        format!("execution …{}", screen.style.paint(Tone::Strong, &short(head.id))),
        screen.style.paint(Tone::Strong, &text::clean(head.workflow())),
    ];
    if let Ok(label) = &head.label {
        parts.push(format!("v{}", &label.definition.version()[..6]));
    }
    parts.push(status(screen, head));
    parts.push(text::count(head.entry.records, "event"));
    match chain {
        ChainWord::Ok => parts.push("chain ok".to_owned()),
        ChainWord::Broken => parts.push(screen.style.paint(Tone::Bad, "chain broken")),
        ChainWord::Unread => {}
    }
    let reader: &dyn LogReader = &*found.log.reader;
    if let Some(durability) = written_with(reader, head) {
        parts.push(format!("durability {}", words::durability(durability)));
    }
    screen.line(&parts.join("   "))?;
    read_from(screen, &found.log.path.display().to_string())?;
    screen.line("")
}

/// Writes where this was read.
///
/// # Errors
/// Whatever writing gives.
pub fn read_from(screen: &mut Screen<'_>, location: &str) -> io::Result<()> {
    let line = format!("read from {}; read-only, no task code is run", text::clean(location));
    let line = screen.style.paint(Tone::Dim, &line);
    screen.line(&line)
}

fn status(screen: &Screen<'_>, head: &Head) -> String {
    let status = screen.style.paint(tone_of(head.status()), head.status());
    let Ok(label) = &head.label else { return status };
    let start = started(&head.entry);
    match label.ended {
        Some(ended) => format!("{status} after {}", text::span(ended.micros_since(start))),
        None => {
            let last = cloacina_engine::core::time::Timestamp(head.entry.last.0);
            format!("{status}, last event after {}", text::span(last.micros_since(start)))
        }
    }
}
