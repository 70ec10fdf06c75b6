//! The header of every view: the execution, its status, and the log that it was read from.

use std::io;

use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;

use cloacina_store::log::LogReader;

use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::target::Target;
use super::text;
use crate::doctor::ahead_of_clock;
use crate::ids::short;
use crate::reading::started;
use crate::source::Head;
use crate::words;

/// The state of the hash chain, as the header shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainStatus {
    /// All records were read, and each one matches its hash and the record before it.
    Ok,
    /// A record does not match.
    Broken,
    /// Not all records were read.
    Unread,
}

/// Writes the header of a view that shows the standing of the execution elsewhere.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write_without_standing(
    screen: &mut Screen<'_>,
    target: &Target,
    head: &Head,
    chain: ChainStatus,
) -> io::Result<()> {
    let mut first = vec![
        ("execution …", Tone::Plain, short(head.id), Tone::Strong),
        ("", Tone::Plain, text::clean(head.workflow()), Tone::Strong),
    ];
    if let Ok(label) = &head.label {
        first.push(("v", Tone::Plain, label.definition.version()[..6].to_owned(), Tone::Plain));
    }
    first.push((head.status(), tone_of(head.status()), duration(head), Tone::Plain));
    let mut second = vec![("", Tone::Plain, text::count(head.entry.records, "event"), Tone::Plain)];
    match chain {
        ChainStatus::Ok => second.push(("chain ", Tone::Plain, "ok".to_owned(), Tone::Plain)),
        ChainStatus::Broken => second.push(("chain ", Tone::Bad, "broken".to_owned(), Tone::Bad)),
        ChainStatus::Unread => {}
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
    read_from(screen, &target.log.path.display().to_string())?;
    warn_if_ahead(screen, &*target.log.reader)?;
    screen.line("")
}

/// Warns if the last event of the log lies in the future. Errors of reading are reported elsewhere.
///
/// # Errors
/// Errors from writing to the screen.
pub fn warn_if_ahead(screen: &mut Screen<'_>, reader: &dyn LogReader) -> io::Result<()> {
    match ahead_of_clock(reader, screen.now) {
        Ok(Some(ahead)) => screen.paragraph(0, Tone::Warning, &ahead),
        _ => Ok(()),
    }
}

/// Writes the header, and why the execution does not continue by itself, if it does not.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, target: &Target, head: &Head, chain: ChainStatus) -> io::Result<()> {
    write_without_standing(screen, target, head, chain)?;
    if standing(screen, head)? { screen.line("") } else { Ok(()) }
}

/// Writes why an execution does not continue by itself, and what to do about it. Returns whether it wrote anything.
///
/// # Errors
/// Errors from writing to the screen.
pub fn standing(screen: &mut Screen<'_>, head: &Head) -> io::Result<bool> {
    let Some(reason) = standing_line(screen, head.status(), &head.standing) else { return Ok(false) };
    screen.paragraph(0, tone_of(head.status()), &reason)?;
    if let Some(next) = &head.standing.next {
        screen.paragraph(0, Tone::Plain, &format!("next: {}", text::clean(next)))?;
    }
    Ok(true)
}

/// Formats the reason of a standing as one line: `Blocked: workflow 'etl' is not registered …`.
#[must_use]
pub fn standing_line(screen: &Screen<'_>, status: &str, standing: &Standing) -> Option<String> {
    let reason = text::clean(standing.reason.as_deref()?);
    let until = standing.until.map(|until| format!(", until {}", screen.date(until))).unwrap_or_default();
    Some(format!("{status}: {reason}{until}"))
}

/// Writes the header of two executions.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write_two(
    screen: &mut Screen<'_>,
    (a, head_a): (&Target, &Head),
    (b, head_b): (&Target, &Head),
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
        parts.push((head.status(), tone_of(head.status()), duration(head), Tone::Plain));
        parts.push(("", Tone::Plain, text::count(head.entry.records, "event"), Tone::Plain));
        line(screen, "", &parts)?;
    }
    let (log_a, log_b) = (a.log.path.display().to_string(), b.log.path.display().to_string());
    read_from(screen, &if log_a == log_b { log_a } else { format!("{log_a} and {log_b}") })?;
    screen.line("")
}

/// Writes which log was read.
///
/// # Errors
/// Errors from writing to the screen.
pub fn read_from(screen: &mut Screen<'_>, location: &str) -> io::Result<()> {
    let line = format!("read from {}; read-only, no task code is run", text::clean(location));
    let line = screen.style.paint(Tone::Dim, &line);
    screen.line(&line)
}

/// Two texts, each with its tone.
type Part<'a> = (&'a str, Tone, String, Tone);

fn line(screen: &mut Screen<'_>, indent: &str, parts: &[Part<'_>]) -> io::Result<()> {
    let style = screen.style;
    let painted = parts.iter().map(|(one, tone, other, other_tone)| {
        format!("{}{}", style.paint(*tone, one), style.paint(*other_tone, other))
    });
    let painted = painted.collect::<Vec<_>>().join("  ");
    screen.line(&format!("{indent}{painted}"))
}

/// Returns how long the execution took, or when its last event was.
fn duration(head: &Head) -> String {
    let (start, last) = (started(&head.entry), Timestamp(head.entry.last.0));
    let took = text::span(last.micros_since(start));
    match head.ended() {
        Some(_) => format!(" after {took}"),
        None => format!(", last event after {took}"),
    }
}
