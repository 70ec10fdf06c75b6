//! The first two lines of every view: which execution, how it stands, and where this was read.

use std::io;

use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;

use cloacina_store::log::LogReader;

use super::found::Found;
use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::doctor::ahead_of_clock;
use crate::ids::short;
use crate::reading::started;
use crate::source::Head;
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

/// Writes the header of a view that says below it how the execution stands.
///
/// # Errors
/// Whatever writing gives.
pub fn write_without_standing(screen: &mut Screen<'_>, found: &Found, head: &Head, chain: ChainWord) -> io::Result<()> {
    let mut first = vec![
        ("execution …", Tone::Plain, short(head.id), Tone::Strong),
        ("", Tone::Plain, text::clean(head.workflow()), Tone::Strong),
    ];
    if let Ok(label) = &head.label {
        first.push(("v", Tone::Plain, label.definition.version()[..6].to_owned(), Tone::Plain));
    }
    first.push((head.status(), tone_of(head.status()), after(head), Tone::Plain));
    let mut second = vec![("", Tone::Plain, text::count(head.entry.records, "event"), Tone::Plain)];
    match chain {
        ChainWord::Ok => second.push(("chain ", Tone::Plain, "ok".to_owned(), Tone::Plain)),
        ChainWord::Broken => second.push(("chain ", Tone::Bad, "broken".to_owned(), Tone::Bad)),
        ChainWord::Unread => {}
    }
    if let Some(durability) = head.durability {
        second.push(("durability ", Tone::Plain, words::durability(durability), Tone::Plain));
    }
    let width =
        |parts: &[Part<'_>]| parts.iter().map(|(a, _, b, _)| text::width(a) + text::width(b) + 2).sum::<usize>();
    if width(&first) + width(&second) <= screen.width + 2 {
        first.append(&mut second);
    }
    line(screen, "", &first)?;
    if !second.is_empty() {
        line(screen, "  ", &second)?;
    }
    read_from(screen, &found.log.path.display().to_string())?;
    warn_if_ahead(screen, &*found.log.reader)?;
    screen.line("")
}

/// Says so if the log ends ahead of the clock. One that cannot be read says so elsewhere.
///
/// # Errors
/// Whatever writing gives.
pub fn warn_if_ahead(screen: &mut Screen<'_>, reader: &dyn LogReader) -> io::Result<()> {
    match ahead_of_clock(reader, screen.now) {
        Ok(Some(ahead)) => screen.paragraph(0, Tone::Warning, &ahead),
        _ => Ok(()),
    }
}

/// Writes the header, and why the execution does not go on by itself, where that is so.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, found: &Found, head: &Head, chain: ChainWord) -> io::Result<()> {
    write_without_standing(screen, found, head, chain)?;
    if standing(screen, head)? { screen.line("") } else { Ok(()) }
}

/// Writes why an execution does not go on by itself, and what to do. Returns whether there was anything to say.
///
/// # Errors
/// Whatever writing gives.
pub fn standing(screen: &mut Screen<'_>, head: &Head) -> io::Result<bool> {
    let Some(reason) = standing_line(screen, head.status(), &head.standing) else { return Ok(false) };
    screen.paragraph(0, tone_of(head.status()), &reason)?;
    if let Some(next) = &head.standing.next {
        screen.paragraph(0, Tone::Plain, &format!("next: {}", text::clean(next)))?;
    }
    Ok(true)
}

/// Why an execution stands as it does, in a line: `Blocked: workflow 'etl' is not registered …`.
#[must_use]
pub fn standing_line(screen: &Screen<'_>, status: &str, standing: &Standing) -> Option<String> {
    let reason = text::clean(standing.reason.as_deref()?);
    let until = standing.until.map(|until| format!(", until {}", screen.date(until))).unwrap_or_default();
    Some(format!("{status}: {reason}{until}"))
}

/// Writes the header of two executions.
///
/// # Errors
/// Whatever writing gives.
pub fn write_two(
    screen: &mut Screen<'_>,
    (a, head_a): (&Found, &Head),
    (b, head_b): (&Found, &Head),
) -> io::Result<()> {
    for (name, head) in [("A", head_a), ("B", head_b)] {
        let mut parts = vec![
            (name, Tone::Strong, String::new(), Tone::Plain),
            ("execution …", Tone::Plain, short(head.id), Tone::Strong),
            ("", Tone::Plain, text::clean(head.workflow()), Tone::Strong),
        ];
        if let Ok(label) = &head.label {
            parts.push(("v", Tone::Plain, label.definition.version()[..6].to_owned(), Tone::Plain));
        }
        parts.push((head.status(), tone_of(head.status()), after(head), Tone::Plain));
        parts.push(("", Tone::Plain, text::count(head.entry.records, "event"), Tone::Plain));
        line(screen, "", &parts)?;
    }
    let (from, also) = (a.log.path.display().to_string(), b.log.path.display().to_string());
    read_from(screen, &if from == also { from } else { format!("{from} and {also}") })?;
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

/// Two words, each with its tone.
type Part<'a> = (&'a str, Tone, String, Tone);

fn line(screen: &mut Screen<'_>, indent: &str, parts: &[Part<'_>]) -> io::Result<()> {
    let style = screen.style;
    let painted = parts.iter().map(|(one, tone, other, other_tone)| {
        format!("{}{}", style.paint(*tone, one), style.paint(*other_tone, other))
    });
    let painted = painted.collect::<Vec<_>>().join("  ");
    screen.line(&format!("{indent}{painted}"))
}

/// How long it took, or takes by now.
fn after(head: &Head) -> String {
    let (start, last) = (started(&head.entry), Timestamp(head.entry.last.0));
    let took = text::span(last.micros_since(start));
    match head.ended() {
        Some(_) => format!(" after {took}"),
        None => format!(", last event after {took}"),
    }
}
