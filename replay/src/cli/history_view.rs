//! `replay ID`: what happened, one row per task, followed by the reason of the outcome.

use std::collections::BTreeSet;
use std::io;

use cloacina_engine::core::event::{Request, Seq, TaskId};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::{Execution, Status, TaskState};
use cloacina_engine::core::time::Timestamp;

use super::columns::{Cell, Column, Table};
use super::screen::Screen;
use super::style::Tone;
use super::target::Target;
use super::text;
use super::{header, notes};
use crate::reading::started;
use crate::source::Head;
use crate::story::{Change, Outcome, Row, Story, TaskRow, What};
use crate::words;

/// How many task names are shown in one line.
const MAX_NAMES: usize = 12;
/// The largest width of a reason in the row; a longer one becomes a note below it.
const MAX_REASON_WIDTH: usize = 44;

/// Writes the table, and the notes below it.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, target: &Target, head: &Head, story: &Story, values: bool) -> io::Result<()> {
    let view = HistoryView {
        start: started(&head.entry),
        head,
        story,
        target,
        values,
        root: story.first_failure().filter(|_| is_failed(story)),
    };
    view.table(screen).write(screen)?;
    view.unfinished(screen)?;
    view.tolerated(screen)?;
    view.failure(screen)
}

/// Returns whether the execution failed because of a task.
fn is_failed(story: &Story) -> bool {
    let state = story.state.as_ref().filter(|state| state.status() == Status::Failed);
    state.is_some_and(|state| state.root_failures().is_some())
}

fn task_rows(story: &Story) -> impl Iterator<Item = &TaskRow> {
    story.rows.iter().filter_map(|row| match &row.what {
        What::Task(row) => Some(row),
        _ => None,
    })
}

struct HistoryView<'a> {
    start: Timestamp,
    head: &'a Head,
    story: &'a Story,
    target: &'a Target,
    values: bool,
    root: Option<&'a TaskRow>,
}

impl HistoryView<'_> {
    fn table(&self, screen: &Screen<'_>) -> Table {
        let columns = vec![
            Column::right("seq"),
            Column::left(screen.moments()),
            Column::shrinking("task", 14),
            Column::shrinking("what", 20),
            Column::left("took").optional(),
            Column::shrinking(self.context_heading(), 14).optional(),
        ];
        let mut table = Table::new(columns, 2);
        for row in &self.story.rows {
            let (task, what, took, changes) = self.cells(screen, row);
            table.row(vec![
                Cell::new(range(row.first, row.last)),
                Cell::new(screen.moment(row.time, self.start)),
                task,
                what,
                Cell::new(took.map(text::span).unwrap_or_default()),
                Cell::list(changes.iter().map(change).collect()),
            ]);
            self.notes(screen, &mut table, row);
        }
        table
    }

    /// Returns the heading of the context column. It explains the signs unless all changes are new keys.
    fn context_heading(&self) -> &'static str {
        let changes = task_rows(self.story).flat_map(TaskRow::effective_writes);
        if changes.into_iter().any(|change| change.replaces || change.value.is_none()) {
            "context: + new, ~ changed, - removed"
        } else {
            "context"
        }
    }

    fn cells<'r>(&self, screen: &Screen<'_>, row: &'r Row) -> (Cell, Cell, Option<u64>, &'r [Change]) {
        let plain = |text: String| (Cell::new("-").tone(Tone::Dim), Cell::new(text), None, &[][..]);
        match &row.what {
            What::Started { cause, input, .. } => {
                let (task, what, took, _) = plain(format!("started by {}", text::clean(&words::cause(cause))));
                (task, what, took, input)
            }
            What::Task(task) => {
                let (what, tone) = self.outcome(screen, task);
                (Cell::new(text::clean(&task.task)), Cell::new(what).tone(tone), task.took(), task.effective_writes())
            }
            What::Paused(request) => plain(format!("paused by {}", text::clean(&request.by))),
            What::Unpaused(request) => plain(format!("unpaused by {}", text::clean(&request.by))),
            What::CancelRequested(request) => plain(format!("cancel requested by {}", text::clean(&request.by))),
            What::Recovered { environment, .. } => {
                let host = text::clean(&environment.host);
                plain(format!("recovered by pid {} on {host}", environment.pid))
            }
            What::Retried { request, .. } => plain(format!("retried by {}", text::clean(&request.by))),
            What::Ended { status, .. } => {
                let (task, _, took, changes) = plain(String::new());
                let tone = super::style::tone_of(status.name());
                (task, Cell::new(status.name().to_lowercase()).tone(tone), took, changes)
            }
            What::Erased => plain("the body of this event was erased".to_owned()),
        }
    }

    fn outcome(&self, screen: &Screen<'_>, row: &TaskRow) -> (String, Tone) {
        if let Some(why) = &row.skipped {
            let how = words::skipped(why);
            let reason = format!("{how}: {}", text::clean(&words::skip(why)));
            let fits = text::width(&reason) <= MAX_REASON_WIDTH;
            return (if fits { reason } else { how.to_owned() }, Tone::Dim);
        }
        let Some(last) = row.attempts.last() else {
            let what = match (row.retried, row.cancelled) {
                (true, _) => "runs again",
                (false, true) => "did not run, the execution ended first",
                (false, false) => "",
            };
            return (what.to_owned(), Tone::Plain);
        };
        let attempt = if last.number > 1 { format!(", attempt {}", last.number) } else { String::new() };
        match &last.outcome {
            _ if row.retried => (format!("runs again, after attempt {}", last.number), Tone::Plain),
            Outcome::Running => (format!("running{attempt}"), Tone::Strong),
            Outcome::Deferred => (format!("deferred{attempt}; waits without a slot"), Tone::Warning),
            Outcome::Left => (format!("not running{attempt}: no process runs it now"), Tone::Warning),
            Outcome::Completed => (format!("completed{attempt}"), Tone::Good),
            Outcome::Cancelled => (format!("stopped{attempt}, the execution ended first"), Tone::Warning),
            _ if row.cancelled => (format!("not finished{attempt}, the execution ended first"), Tone::Warning),
            Outcome::Failed { retry_at: Some(due), .. } => {
                let due = screen.moment(*due, self.start);
                (format!("failed{attempt}; next attempt at {due}"), Tone::Warning)
            }
            Outcome::Failed { error, .. } => (format!("failed: {}{attempt}", text::clean(&error.kind)), Tone::Bad),
            Outcome::Abandoned(_) => (format!("abandoned{attempt}; will run again"), Tone::Warning),
        }
    }

    fn notes(&self, screen: &Screen<'_>, table: &mut Table, row: &Row) {
        match &row.what {
            What::Task(task) => {
                let shown_below = self.root.is_some_and(|root| root.task == task.task);
                if let Some(why) = &task.skipped {
                    let (how, why) = (words::skipped(why), text::clean(&words::skip(why)));
                    if text::width(how) + text::width(": ") + text::width(&why) > MAX_REASON_WIDTH {
                        table.note(Tone::Plain, why);
                    }
                }
                let columns = screen.width.saturating_sub(30).max(30);
                notes::asked(task, columns).for_each(|asked| table.note(Tone::Plain, asked));
                notes::task(table, task, shown_below);
            }
            What::Paused(request) | What::Unpaused(request) | What::CancelRequested(request) => {
                reason(table, request);
            }
            What::Retried { request, changes, .. } => {
                reason(table, request);
                changes.iter().for_each(|change| table.note(Tone::Warning, text::clean(change)));
            }
            What::Ended { collisions, .. } => notes::collisions(table, collisions),
            What::Recovered { changes, .. } => {
                changes.iter().for_each(|change| table.note(Tone::Warning, text::clean(change)));
            }
            What::Started { .. } | What::Erased => {}
        }
        if self.values {
            let columns = screen.width.saturating_sub(30).max(30);
            notes::values(table, row, self.target, columns);
        }
    }

    /// Writes which tasks of an unfinished execution are ready and which are waiting.
    fn unfinished(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let Some(state) = self.story.state.as_ref().filter(|state| !state.status().is_final()) else { return Ok(()) };
        let ready: Vec<_> = state.ready().map(|task| state.graph().name(task)).collect();
        let waiting: Vec<_> = waiting(state).collect();
        let standing = &self.head.standing;
        if !ready.is_empty() || !waiting.is_empty() || standing.reason.is_some() {
            screen.line("")?;
        }
        header::standing(screen, self.head)?;
        let ready_label = if standing.status.is_orphaned() { "will run first" } else { "ready, without a slot yet" };
        for (label, names) in [(ready_label, ready), ("waiting", waiting)] {
            if !names.is_empty() {
                screen.paragraph(
                    0,
                    Tone::Plain,
                    &format!("{label}: {}", text::clean(&words::names(names, MAX_NAMES))),
                )?;
            }
        }
        Ok(())
    }

    /// Writes why an execution completed although a task failed.
    fn tolerated(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let Some(state) = self.story.state.as_ref().filter(|state| state.status() == Status::Completed) else {
            return Ok(());
        };
        for row in task_rows(self.story) {
            let Some(failed) = state.graph().find(&row.task) else { continue };
            if !matches!(state.task(failed).state(), TaskState::Failed) {
                continue;
            }
            let ran = ran_after(state, failed);
            let named: Vec<&TaskId> = ran.iter().map(|task| state.graph().name(*task)).collect();
            let rules: BTreeSet<&str> = ran.iter().map(|task| state.task_definition(*task).rule.name()).collect();
            let rules: Vec<&str> = rules.into_iter().collect();
            let line = format!(
                "{} failed, but the execution completed because {} ran after it (rule: {})",
                text::clean(&row.task),
                text::clean(&words::names(named, MAX_NAMES)),
                rules.join(", "),
            );
            screen.line("")?;
            screen.paragraph(0, Tone::Warning, &line)?;
        }
        Ok(())
    }

    /// Writes why a failed execution failed.
    fn failure(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let Some(root) = self.root else { return self.reason(screen) };
        screen.line("")?;
        notes::failure(screen, root, self.story.state.as_ref())?;
        let failures = self.story.failures();
        let others: Vec<_> = failures.iter().map(|row| &row.task).filter(|task| **task != root.task).collect();
        if !others.is_empty() {
            let names = text::clean(&words::names(others, MAX_NAMES));
            screen.paragraph(0, Tone::Plain, &format!("also failed: {names}"))?;
        }
        Ok(())
    }

    /// Writes the reason in the last event, for an end that no task's failure caused.
    fn reason(&self, screen: &mut Screen<'_>) -> io::Result<()> {
        let reason = match self.story.end().map(|row| &row.what) {
            Some(What::Ended { reason, .. }) if !reason.is_empty() => reason,
            _ => return Ok(()),
        };
        screen.line("")?;
        screen.paragraph(0, Tone::Plain, &text::clean(reason))
    }
}

/// Adds the reason of a request, if one was given.
fn reason(table: &mut Table, request: &Request) {
    if let Some(reason) = &request.reason {
        table.note(Tone::Plain, format!("reason: {}", text::clean(reason)));
    }
}

/// Returns the nearest downstream tasks that ran, looking past skipped ones.
fn ran_after(state: &Execution, task: TaskIndex) -> BTreeSet<TaskIndex> {
    let (mut ran, mut visited, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![task]);
    while let Some(task) = next.pop() {
        for &below in state.graph().downstream(task) {
            match state.task(below).state() {
                TaskState::Skipped { .. } if visited.insert(below) => next.push(below),
                TaskState::Skipped { .. } => {}
                _ => drop(ran.insert(below)),
            }
        }
    }
    ran
}

/// Returns the tasks that wait for other tasks.
fn waiting(state: &Execution) -> impl Iterator<Item = &cloacina_engine::core::event::TaskId> {
    let ready: Vec<_> = state.ready().collect();
    state
        .graph()
        .tasks()
        .filter(move |task| state.task(*task).state() == TaskState::Pending && !ready.contains(task))
        .map(|task| state.graph().name(task))
}

fn range(first: Seq, last: Seq) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Formats a change of the context: `+` a new key, `~` a changed value, `-` a removed key.
#[must_use]
pub fn change(change: &Change) -> String {
    let sign = match (&change.value, change.replaces) {
        (None, _) => '-',
        (Some(_), true) => '~',
        (Some(_), false) => '+',
    };
    format!("{sign} {}{}", text::clean(&change.key), text::size_note(change.value.as_ref()))
}
