//! `replay ID graph`: a text drawing of the task graph, and the critical path.

use std::io;

use cloacina_engine::core::event::{Seq, TaskId};

use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::text;
use crate::graph::rails::{Line, draw, sign};
use crate::graph::{EdgeKind, Picture, Step};
use crate::words;

/// Writes the drawing of a graph, with its critical path if `critical` is set.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, picture: &Picture, critical: bool) -> io::Result<()> {
    let lines = draw(picture).unwrap_or_else(|| without_edges(picture));
    let widest = lines.iter().map(|line| text::width(&line.rails)).max().unwrap_or(0);
    let name_width = picture.nodes.iter().map(|node| text::width(&text::clean(&node.task))).max().unwrap_or(0);
    let name_width = name_width.min(screen.width.saturating_sub(widest + 30).max(12));
    for line in &lines {
        let node = &picture.nodes[line.node];
        let on_path = critical && picture.critical.iter().any(|step| step.task == node.task);
        let name = text::pad(&text::cut(&text::clean(&node.task), name_width), name_width);
        let name = screen.style.paint(if on_path { Tone::Strong } else { Tone::Plain }, &name);
        let mut details = vec![screen.style.paint(tone_of(node.state), node.state)];
        if node.attempts > 1 {
            details.push(text::count(u64::from(node.attempts), "attempt"));
        }
        details.extend(node.took.map(text::span));
        if on_path {
            details.push("critical".to_owned());
        }
        screen.line(&format!("  {}  {name}  {}", text::pad(&line.rails, widest), details.join(", ")))?;
    }
    undeclared(screen, picture)?;
    if critical {
        critical_path(screen, &picture.critical)?;
    }
    Ok(())
}

/// Lists the tasks without edges, where there are too many edges to draw: each task is indented by its level in the
/// graph.
fn without_edges(picture: &Picture) -> Vec<Line> {
    const MAX_INDENT: usize = 12;
    let rails = |level: usize, state| format!("{}{}", "  ".repeat(level.min(MAX_INDENT)), sign(state));
    let lines = picture.nodes.iter().enumerate();
    lines.map(|(index, node)| Line { rails: rails(node.level, node.state), node: index }).collect()
}

/// Lists the tasks that are no longer in the graph.
///
/// # Errors
/// Errors from writing to the screen.
pub fn removed(screen: &mut Screen<'_>, tasks: &[(TaskId, Seq)]) -> io::Result<()> {
    for (number, (task, seq)) in tasks.iter().enumerate() {
        if number == 0 {
            screen.line("")?;
        }
        let line = format!("removed: {} is no longer in the graph since the recovery at seq {seq}", text::clean(task));
        screen.paragraph(0, Tone::Warning, &line)?;
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
        let line = format!("undeclared: {to} reads what {from} writes, but does not depend on it");
        screen.paragraph(0, Tone::Warning, &text::clean(&line))?;
    }
    Ok(())
}

/// Writes the critical path, one task per line.
fn critical_path(screen: &mut Screen<'_>, steps: &[Step]) -> io::Result<()> {
    let total: u64 = steps.iter().map(|step| step.waited + step.took).sum();
    screen.line("")?;
    if steps.is_empty() {
        return screen.line("critical path: no task has started");
    }
    screen.line(&format!("critical path: {}, {}", text::count(steps.len() as u64, "task"), words::span(total)))?;
    let widest = steps.iter().map(|step| text::width(&text::clean(&step.task))).max().unwrap_or(0);
    for step in steps {
        let share = (step.took * 100).checked_div(total).unwrap_or(0);
        let waited = match step.waited {
            0..1_000 => String::new(),
            waited => format!(", after waiting {}", words::span(waited)),
        };
        let name = text::pad(&text::clean(&step.task), widest);
        screen.line(&format!("  {name}  {:>9}  {share:>3} %{waited}", words::span(step.took)))?;
    }
    Ok(())
}
