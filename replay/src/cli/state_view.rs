//! `replay ID --at MOMENT`: the state of every task after that event, the tasks that are ready, what each waiting task
//! waits for, and the whole context.

use std::io;

use cloacina_engine::core::context::values;
use cloacina_engine::core::event::TaskId;
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::{Execution, TaskState};

use super::columns::{Cell, Column, Table};
use super::screen::Screen;
use super::style::{Tone, tone_of};
use super::target::{Target, quoted};
use super::text;
use crate::moment::task_of;
use crate::reading::Entry;
use crate::words;

/// How many task names are shown in one line.
const MAX_NAMES: usize = 6;

/// Writes the state after event `entry`.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, target: &Target, state: &Execution, entry: &Entry) -> io::Result<()> {
    let what = entry.event.as_ref().map_or("", |event| event.name());
    let task = entry.event.as_ref().and_then(task_of).map(|task| format!(" {}", text::clean(task)));
    let moment = screen.moment(entry.time, state.started());
    let status = screen.style.paint(tone_of(state.status().name()), state.status().name());
    let title = format!("after seq {} at {moment} ({what}{}): {status}", entry.seq, task.unwrap_or_default());
    screen.paragraph(0, Tone::Plain, &title)?;
    screen.line("")?;
    tasks(screen, state).write(screen)?;
    screen.line("")?;
    context(screen, target, state, entry.seq)
}

fn tasks(screen: &Screen<'_>, state: &Execution) -> Table {
    let columns = vec![
        Column::shrinking("task", 16),
        Column::left("state"),
        Column::right("attempts"),
        Column::shrinking("what", 20),
    ];
    let mut table = Table::new(columns, 0);
    let ready: std::collections::BTreeSet<TaskIndex> = state.ready().collect();
    for task in state.graph().tasks() {
        let slot = state.task(task);
        let name = slot.state().name();
        table.row(vec![
            Cell::new(text::clean(state.graph().name(task))),
            Cell::new(name).tone(tone_of(name)),
            Cell::new(slot.attempts().to_string()),
            Cell::new(detail(screen, state, task, ready.contains(&task))),
        ]);
    }
    table
}

/// Returns the details of a task, beside its state.
fn detail(screen: &Screen<'_>, state: &Execution, task: TaskIndex, ready: bool) -> String {
    let slot = state.task(task);
    let moment = |time| screen.moment(time, state.started());
    match slot.state() {
        TaskState::Pending if ready => "ready: waits for a slot".to_owned(),
        TaskState::Pending => {
            let open = waits_for(state, task);
            if open.is_empty() {
                return "waits for the execution to continue".to_owned();
            }
            format!("waits for {}", text::clean(&words::names(open, MAX_NAMES)))
        }
        TaskState::Running { since, worker } => format!("since {}, worker {worker}", moment(since)),
        TaskState::Deferred { since } => format!("waits without a slot since {}", moment(since)),
        TaskState::WaitingRetry { due } => {
            let kind = slot.failure().map(|failure| text::clean(&failure.error.kind)).unwrap_or_default();
            format!("{kind}; next attempt at {}", moment(due))
        }
        TaskState::Completed => slot.ended().map(|ended| format!("at {}", moment(ended))).unwrap_or_default(),
        TaskState::Failed => slot.failure().map(|failure| super::notes::error_text(&failure.error)).unwrap_or_default(),
        TaskState::Skipped { by_failure } => {
            let why = slot.skipped().map(|why| text::clean(&words::skip(why))).unwrap_or_default();
            if by_failure { format!("by failure: {why}") } else { why }
        }
        TaskState::Cancelled => "the execution ended first".to_owned(),
    }
}

/// Returns the upstream tasks that are not settled.
pub fn waits_for(state: &Execution, task: TaskIndex) -> Vec<&TaskId> {
    let upstream = state.graph().upstream(task).iter();
    upstream.filter(|up| state.task(**up).state().settled().is_none()).map(|up| state.graph().name(*up)).collect()
}

/// Writes the context, each value cut to one line.
fn context(screen: &mut Screen<'_>, target: &Target, state: &Execution, seq: u64) -> io::Result<()> {
    let context = state.context();
    let count = values(&context).count();
    screen.line(&format!("context: {}", text::count(count as u64, "key")))?;
    let widest = values(&context).map(|(key, _)| text::width(&text::clean(key))).max().unwrap_or(0).min(32);
    let mut cut_key = None;
    for (key, value) in values(&context) {
        let columns = screen.width.saturating_sub(widest + 4).max(20);
        let (shown, was_cut) = text::value(value, columns);
        if was_cut && cut_key.is_none() {
            cut_key = Some(key.clone());
        }
        let line = format!("  {}  {shown}", text::pad(&text::cut(&text::clean(key), widest), widest));
        screen.line(&line)?;
    }
    if let Some(key) = cut_key {
        let full = target.command(&format!("context {} --at {seq}", quoted(&key)));
        let line = screen.style.paint(Tone::Dim, &format!("  full value: {full}"));
        screen.line(&line)?;
    }
    Ok(())
}
