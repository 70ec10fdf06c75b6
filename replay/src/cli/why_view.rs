//! `replay ID why KEY`: a value, its writer, and what that task read, each step back indented further.

use std::io;

use cloacina_engine::core::time::Timestamp;

use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::why::{How, Step, Write};

/// The largest indentation, in steps.
const MAX_INDENT: usize = 12;

/// Writes the steps.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, steps: &[Step], start: Timestamp) -> io::Result<()> {
    for (place, step) in steps.iter().enumerate() {
        let indent = step.depth.min(MAX_INDENT) * 4;
        let distance = if step.depth > MAX_INDENT { format!("({} steps back) ", step.depth) } else { String::new() };
        let key = format!("{distance}{}", screen.style.paint(Tone::Strong, &text::clean(&step.key)));
        let value = match &step.write {
            None => " was not set".to_owned(),
            Some(Write { value: None, .. }) => " was removed".to_owned(),
            Some(Write { value: Some(value), .. }) => {
                let used = indent + text::width(&step.key) + distance.len() + 3;
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
        How::Asked | How::Read | How::NotSet => None,
        How::Undeclared => Some((Tone::Warning, "undeclared: the reader does not depend on the task that wrote it")),
        How::Merged { collided: Some(true) } => {
            Some((Tone::Warning, "collision: merged with other writes of this key, which conflicted"))
        }
        How::Dropped => Some((
            Tone::Warning,
            "collision: dropped in favour of another write of this key, which did not see this one",
        )),
        How::Merged { .. } => Some((Tone::Plain, "merged with other writes of this key")),
    }
}

/// Introduces what the writer had read, which is listed below it.
fn reads(step: &Step, next: Option<&Step>) -> Option<&'static str> {
    let write = step.write.as_ref()?;
    write.writer.as_ref()?;
    if step.told_before {
        return Some("shown above");
    }
    // Steps are in depth-first order: what the writer of this one had read comes next.
    match (write.read_all, next.is_some_and(|next| next.depth > step.depth)) {
        (true, false) => Some("it had read the whole context"),
        (true, true) => Some("it had read the whole context, and these keys:"),
        (false, true) => Some("it had read:"),
        (false, false) => Some("it had read nothing"),
    }
}
