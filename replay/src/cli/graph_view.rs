//! `replay ID graph`: the graph drawn with letters, and the path that decided how long it took.

use std::io;

use cloacina_engine::core::event::{Seq, TaskId};

use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::graph::rails::{Line, draw, sign};
use crate::graph::{EdgeKind, Picture, Step};
use crate::words;

/// Writes the drawing.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, picture: &Picture, critical: bool) -> io::Result<()> {
    let lines = draw(picture).unwrap_or_else(|| plain(picture));
    let widest = lines.iter().map(|line| text::width(&line.rails)).max().unwrap_or(0);
    let names = picture.nodes.iter().map(|node| text::width(&text::clean(&node.task))).max().unwrap_or(0);
    let names = names.min(screen.width.saturating_sub(widest + 30).max(12));
    for line in &lines {
        let node = &picture.nodes[line.node];
        let on_path = critical && picture.critical.iter().any(|step| step.task == node.task);
        let name = text::pad(&text::cut(&text::clean(&node.task), names), names);
        let name = screen.style.paint(if on_path { Tone::Strong } else { Tone::Plain }, &name);
        let mut says = vec![screen.style.paint(tone_of(node.state), node.state)];
        if node.attempts > 1 {
            says.push(text::count(u64::from(node.attempts), "attempt"));
        }
        says.extend(node.took.map(text::span));
        if on_path {
            says.push("critical".to_owned());
        }
        screen.line(&format!("  {}  {name}  {}", text::pad(&line.rails, widest), says.join(", ")))?;
    }
    undeclared(screen, picture)?;
    if critical {
        path(screen, &picture.critical)?;
    }
    Ok(())
}

/// Without rails, where there would be too many: each task with its sign, further to the right the later it can come.
fn plain(picture: &Picture) -> Vec<Line> {
    const DEEPEST: usize = 12;
    let rails = |level: usize, state| format!("{}{}", "  ".repeat(level.min(DEEPEST)), sign(state));
    let lines = picture.nodes.iter().enumerate();
    lines.map(|(node, it)| Line { rails: rails(it.level, it.state), node }).collect()
}

/// Names the tasks that are not in the graph any more.
///
/// # Errors
/// Whatever writing gives.
pub fn removed(screen: &mut Screen<'_>, tasks: &[(TaskId, Seq)]) -> io::Result<()> {
    for (number, (task, seq)) in tasks.iter().enumerate() {
        if number == 0 {
            screen.line("")?;
        }
        let says =
            format!("removed: {} is not in the graph any more since the recovery at seq {seq}", text::clean(task));
        screen.paragraph(0, Tone::Warning, &says)?;
    }
    Ok(())
}

fn undeclared(screen: &mut Screen<'_>, picture: &Picture) -> io::Result<()> {
    let edges = picture.edges.iter().filter(|edge| edge.kind == EdgeKind::Undeclared);
    for (number, edge) in edges.enumerate() {
        if number == 0 {
            screen.line("")?;
        }
        let (from, to) = (&picture.nodes[edge.from].task, &picture.nodes[edge.to].task);
        let says = format!("undeclared: {to} reads what {from} writes, and does not depend on it");
        screen.paragraph(0, Tone::Warning, &text::clean(&says))?;
    }
    Ok(())
}

/// The critical path, a task a line.
fn path(screen: &mut Screen<'_>, steps: &[Step]) -> io::Result<()> {
    let whole: u64 = steps.iter().map(|step| step.waited + step.took).sum();
    screen.line("")?;
    if steps.is_empty() {
        return screen.line("critical path: nothing has started");
    }
    screen.line(&format!("critical path: {}, {}", text::count(steps.len() as u64, "task"), words::span(whole)))?;
    let widest = steps.iter().map(|step| text::width(&text::clean(&step.task))).max().unwrap_or(0);
    for step in steps {
        let share = (step.took * 100).checked_div(whole).unwrap_or(0);
        let waited = match step.waited {
            0..1_000 => String::new(),
            waited => format!(", after waiting {}", words::span(waited)),
        };
        let name = text::pad(&text::clean(&step.task), widest);
        screen.line(&format!("  {name}  {:>9}  {share:>3} %{waited}", words::span(step.took)))?;
    }
    Ok(())
}
