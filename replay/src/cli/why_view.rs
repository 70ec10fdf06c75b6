//! `replay ID why KEY`: a value, who wrote it, and what that task had read, each further back a step to the right.

use std::io;

use cloacina_engine::core::time::Timestamp;

use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::why::{How, Step, Write};

/// How far to the right steps go at most.
const DEEPEST: usize = 12;

/// Writes the steps.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, steps: &[Step], start: Timestamp) -> io::Result<()> {
    for (place, step) in steps.iter().enumerate() {
        let indent = step.depth.min(DEEPEST) * 4;
        let far = if step.depth > DEEPEST { format!("({} back) ", step.depth) } else { String::new() };
        let key = format!("{far}{}", screen.style.paint(Tone::Strong, &text::clean(&step.key)));
        let value = match &step.write {
            None => " was not there".to_owned(),
            Some(Write { value: None, .. }) => " was removed".to_owned(),
            Some(Write { value: Some(value), .. }) => {
                let used = indent + text::width(&step.key) + far.len() + 3;
                format!(" = {}", text::value(value, screen.width.saturating_sub(used).max(20)).0)
            }
        };
        screen.line(&format!("{}{key}{value}", " ".repeat(indent)))?;
        if let Some(write) = &step.write {
            screen.paragraph(indent + 2, Tone::Plain, &written(screen, write, start))?;
            if let Some(before) = &write.before {
                let columns = screen.width.saturating_sub(indent + 10).max(20);
                screen.paragraph(indent + 2, Tone::Dim, &format!("before: {}", text::value(before, columns).0))?;
            }
        }
        if let Some((tone, mark)) = mark(step.how) {
            screen.paragraph(indent + 2, tone, mark)?;
        }
        if let Some(reads) = reads(step, steps.get(place + 1)) {
            screen.paragraph(indent + 2, Tone::Dim, reads)?;
        }
    }
    Ok(())
}

fn written(screen: &Screen<'_>, write: &Write, start: Timestamp) -> String {
    let at = screen.moment(write.time, start);
    match &write.writer {
        None => format!("input at {at} (seq {})", write.seq),
        Some((task, attempt)) => {
            format!("written by {}, attempt {attempt}, at {at} (seq {})", text::clean(task), write.seq)
        }
    }
}

fn mark(how: How) -> Option<(Tone, &'static str)> {
    match how {
        How::Asked | How::Read | How::NotThere => None,
        How::Undeclared => Some((Tone::Warning, "undeclared: the reader does not depend on the task that wrote it")),
        How::Merged { collided: Some(true) } => {
            Some((Tone::Warning, "collision: merged with other writes of this key, and both could not be had"))
        }
        How::Dropped => {
            Some((Tone::Warning, "collision: it was dropped, for another write of this key that did not see it"))
        }
        How::Merged { .. } => Some((Tone::Plain, "merged with other writes of this key")),
    }
}

/// What the writer had read, in a word: what it was stands below.
fn reads(step: &Step, next: Option<&Step>) -> Option<&'static str> {
    let write = step.write.as_ref()?;
    write.writer.as_ref()?;
    if step.told_before {
        return Some("told above");
    }
    // Steps are depth first: what this one's writer had read comes next.
    match (write.read_all, next.is_some_and(|next| next.depth > step.depth)) {
        (true, false) => Some("it had taken the whole context"),
        (true, true) => Some("it had taken the whole context, and read:"),
        (false, true) => Some("it had read:"),
        (false, false) => Some("it had read nothing"),
    }
}
