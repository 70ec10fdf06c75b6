//! Groups events into the rows of a [`Story`].

use std::collections::HashMap;
use std::sync::Arc;

use cloacina_engine::core::context::Collision;
use cloacina_engine::core::definition::{Changes, Definition};
use cloacina_engine::core::event::{
    Attempt, Event, ExecutionId, ExecutionRetried, Key, Read, Reads, Seen, Seq, TaskId,
};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::{Execution, Status, TaskState};
use cloacina_engine::core::time::Timestamp;

use super::{AttemptRow, Change, NamedCollision, Outcome, Row, Story, TaskRow, Undeclared, What};
use crate::fold::Folder;
use crate::moment::writer;
use crate::reading::{Definitions, Entry, HistoryError};

/// Groups events into a [`Story`].
///
/// Events that cannot be folded are included: they matter most to someone who examines a damaged log. From the first
/// one on, the story has only what the events themselves contain.
pub fn tell<D: Definitions>(
    id: ExecutionId,
    definitions: D,
    entries: impl Iterator<Item = Result<Entry, HistoryError>>,
) -> Story {
    let mut builder = StoryBuilder {
        events: 0,
        trouble: None,
        folder: Some(Folder::new(id, definitions)),
        others: Vec::new(),
        tasks: Vec::new(),
        places: HashMap::new(),
        writers: Vec::new(),
        before: None,
        removed: Vec::new(),
        retried: HashMap::new(),
    };
    for entry in entries {
        match entry {
            Ok(entry) => builder.add(&entry),
            Err(trouble) => {
                builder.trouble.get_or_insert(trouble);
            }
        }
    }
    builder.finish()
}

struct StoryBuilder<D> {
    events: u64,
    trouble: Option<HistoryError>,
    /// Folds the events; `None` after one that could not be folded.
    folder: Option<Folder<D>>,
    /// The rows that are not about tasks.
    others: Vec<Row>,
    tasks: Vec<TaskEvents>,
    /// The index of each task in `tasks`.
    places: HashMap<TaskId, usize>,
    /// The writer of each write, by ascending `seq`.
    writers: Vec<(Seq, Option<TaskId>)>,
    /// The definition before the present event.
    before: Option<Arc<Definition>>,
    /// The tasks that are no longer in the definition, each with the event that removed it.
    removed: Vec<(TaskId, Seq)>,
    /// The tasks that a retry of the execution put back and that have not started since, each with the retry.
    retried: HashMap<TaskId, Seq>,
}

/// The row of a task under construction.
struct TaskEvents {
    first: Seq,
    last: Seq,
    time: Timestamp,
    row: TaskRow,
}

impl<D: Definitions> StoryBuilder<D> {
    fn add(&mut self, entry: &Entry) {
        self.events += 1;
        self.before = self.state().map(|state| state.definition().clone());
        if let Some(folder) = &mut self.folder
            && let Err(trouble) = folder.step(entry)
        {
            self.trouble.get_or_insert(trouble);
            self.folder = None;
        }
        match &entry.event {
            Some(event) => self.event(entry, event),
            None => self.push(entry, What::Erased),
        }
    }

    fn event(&mut self, entry: &Entry, event: &Event) {
        match event {
            Event::ExecutionStarted(started) => {
                let (cause, environment) = (started.cause.clone(), started.environment.clone());
                self.push(entry, What::Started { cause, environment, input: Vec::new() });
            }
            Event::ContextWritten(write) => self.change(entry, writer(&write.origin), &write.key, Some(&write.value)),
            Event::ContextRemoved(removal) => self.change(entry, writer(&removal.origin), &removal.key, None),
            Event::TaskStarted(started) => self.attempt_started(entry, &started.task, started.attempt, started.worker),
            Event::TaskCompleted(done) => self.attempt_ended(entry, &done.task, Outcome::Completed, Some(&done.reads)),
            Event::TaskFailed(failed) => {
                let outcome = Outcome::Failed { error: failed.error.clone(), retry_at: failed.retry_at };
                self.attempt_ended(entry, &failed.task, outcome, Some(&failed.reads));
            }
            Event::TaskAbandoned(abandoned) => {
                self.attempt_ended(entry, &abandoned.task, Outcome::Abandoned(abandoned.why), None);
            }
            Event::TaskDeferred(deferred) => self.attempt_goes_on(entry, &deferred.task, Outcome::Deferred),
            Event::TaskResumed(resumed) => self.attempt_goes_on(entry, &resumed.task, Outcome::Running),
            Event::TaskSkipped(skipped) => {
                let asked = self.values_seen(&skipped.task, &skipped.why.keys);
                let row = self.task_row(entry, &skipped.task);
                (row.skipped, row.asked, row.retried) = (Some(skipped.why.clone()), asked, false);
            }
            Event::ExecutionPaused(request) => self.push(entry, What::Paused(request.clone())),
            Event::ExecutionUnpaused(request) => self.push(entry, What::Unpaused(request.clone())),
            Event::CancelRequested(request) => self.push(entry, What::CancelRequested(request.clone())),
            Event::ExecutionRecovered(recovered) => {
                let (environment, changes) = (recovered.environment.clone(), self.changes_of_definition(entry));
                self.push(entry, What::Recovered { environment, changes });
            }
            Event::ExecutionRetried(retried) => self.retried(entry, retried),
            Event::ExecutionCompleted(ended) => self.ended(entry, Status::Completed, &ended.reason),
            Event::ExecutionFailed(ended) => self.ended(entry, Status::Failed, &ended.reason),
            Event::ExecutionCancelled(ended) => self.ended(entry, Status::Cancelled, &ended.reason),
        }
    }

    /// Adds a retry, which puts tasks back.
    fn retried(&mut self, entry: &Entry, retried: &ExecutionRetried) {
        if let Some(state) = self.folder.as_ref().and_then(Folder::state) {
            for TaskEvents { row, .. } in &mut self.tasks {
                let Some(task) = state.graph().find(&row.task) else { continue };
                if state.task(task).state() == TaskState::Pending {
                    (row.retried, row.cancelled, row.skipped) = (true, false, None);
                    row.asked.clear();
                    self.retried.insert(row.task.clone(), entry.seq);
                }
            }
        }
        let changes = self.changes_of_definition(entry);
        let (request, environment) = (retried.request.clone(), retried.environment.clone());
        self.push(entry, What::Retried { request, environment, changes });
    }

    /// Returns the changes of the definition by this event, in words.
    fn changes_of_definition(&mut self, entry: &Entry) -> Vec<String> {
        let after = self.state().map(|state| state.definition().clone());
        let changes = match (&self.before, &after) {
            (Some(before), Some(after)) if before != after => Changes::between(before, after),
            _ => Changes::default(),
        };
        self.removed.retain(|(task, _)| !changes.added.contains(task));
        self.removed.extend(changes.removed.iter().map(|task| (task.clone(), entry.seq)));
        changes.words()
    }

    fn push(&mut self, entry: &Entry, what: What) {
        self.others.push(Row { first: entry.seq, last: entry.seq, time: entry.time, what });
    }

    fn state(&self) -> Option<&Execution> {
        self.folder.as_ref().and_then(Folder::state)
    }

    /// Returns the row of a task, extended to include this event.
    fn task_row(&mut self, entry: &Entry, task: &TaskId) -> &mut TaskRow {
        let place = *self.places.entry(task.clone()).or_insert_with(|| {
            let row = TaskRow::new(task.clone());
            self.tasks.push(TaskEvents { first: entry.seq, last: entry.seq, time: entry.time, row });
            self.tasks.len() - 1
        });
        let events = &mut self.tasks[place];
        events.last = entry.seq;
        &mut events.row
    }

    /// Returns the values of some keys that a skipped task saw: a skipped task passes on the context that it saw.
    fn values_seen(&self, task: &TaskId, keys: &[Key]) -> Vec<(Key, Option<Json>)> {
        let saw = self.state().and_then(|state| state.gives(state.graph().find(task)?));
        let value = |key: &Key| saw.as_ref().and_then(|saw| saw.get(key)?.value().cloned());
        keys.iter().filter(|_| saw.is_some()).map(|key| (key.clone(), value(key))).collect()
    }

    fn change(&mut self, entry: &Entry, writer: Option<&TaskId>, key: &Key, value: Option<&Json>) {
        self.writers.push((entry.seq, writer.cloned()));
        let replaces = self.state().is_some_and(|state| {
            let task = writer.and_then(|task| state.graph().find(task));
            let seen = task.and_then(|task| state.view(task).declared.get(key).cloned());
            seen.is_some_and(|version| version.value().is_some())
        });
        let change = Change { seq: entry.seq, key: key.clone(), value: value.cloned(), replaces };
        match writer {
            Some(task) => {
                if let Some(attempt) = self.task_row(entry, task).attempts.last_mut() {
                    attempt.writes.push(change);
                }
            }
            None => {
                if let Some(Row { what: What::Started { input, .. }, last, .. }) = self.others.first_mut() {
                    *last = entry.seq;
                    input.push(change);
                }
            }
        }
    }

    fn attempt_started(&mut self, entry: &Entry, task: &TaskId, number: Attempt, worker: u32) {
        let collisions = match self.state() {
            Some(state) if number == 1 => {
                let slot = state.graph().find(task).map(|task| state.task(task).collisions());
                slot.unwrap_or_default().iter().map(|collision| self.named_collision(collision)).collect()
            }
            _ => Vec::new(),
        };
        let after_retry = self.retried.remove(task);
        let row = self.task_row(entry, task);
        row.collisions.extend(collisions);
        row.retried = false;
        row.attempts.push(AttemptRow {
            number,
            started: entry.seq,
            after_retry,
            since: entry.time,
            worker,
            ended: None,
            outcome: Outcome::Running,
            reads: Reads::default(),
            writes: Vec::new(),
            undeclared: Vec::new(),
            hint: None,
        });
    }

    fn attempt_goes_on(&mut self, entry: &Entry, task: &TaskId, how: Outcome) {
        if let Some(attempt) = self.task_row(entry, task).attempts.last_mut() {
            attempt.outcome = how;
        }
    }

    fn attempt_ended(&mut self, entry: &Entry, task: &TaskId, outcome: Outcome, reads: Option<&Reads>) {
        let undeclared = reads.map(|reads| self.undeclared(reads)).unwrap_or_default();
        let Some(attempt) = self.task_row(entry, task).attempts.last_mut() else { return };
        attempt.ended = Some(entry.time);
        if let Outcome::Failed { error, .. } = &outcome {
            attempt.hint = error.hint.as_ref().map(ToString::to_string);
        }
        attempt.outcome = outcome;
        attempt.reads = reads.cloned().unwrap_or_default();
        attempt.undeclared = undeclared;
    }

    fn ended(&mut self, entry: &Entry, status: Status, reason: &str) {
        for TaskEvents { row, .. } in &mut self.tasks {
            row.cancelled |= std::mem::take(&mut row.retried);
            let Some(attempt) = row.attempts.last_mut() else { continue };
            match attempt.outcome {
                Outcome::Running | Outcome::Deferred => {
                    attempt.outcome = Outcome::Cancelled;
                    attempt.ended = Some(entry.time);
                    row.cancelled = true;
                }
                Outcome::Failed { retry_at: Some(_), .. } | Outcome::Abandoned(_) => row.cancelled = true,
                _ => {}
            }
        }
        let collisions = self.state().map(final_collisions).unwrap_or_default();
        let collisions = collisions.iter().map(|collision| self.named_collision(collision)).collect();
        self.push(entry, What::Ended { status, reason: reason.to_owned(), collisions });
    }

    fn undeclared(&self, reads: &Reads) -> Vec<Undeclared> {
        let seen = reads.keys.iter().filter_map(|read| match read.seen {
            Seen::Undeclared(seq) => Some((read.key.clone(), seq)),
            _ => None,
        });
        seen.map(|(key, seq)| Undeclared { key, seq, writer: self.writer_of(seq) }).collect()
    }

    fn named_collision(&self, collision: &Collision) -> NamedCollision {
        let writes = collision.writes.iter().map(|seq| (*seq, self.writer_of(*seq))).collect();
        NamedCollision { key: collision.key.clone(), writes, taken: collision.taken.clone() }
    }

    fn writer_of(&self, seq: Seq) -> Option<TaskId> {
        let at = self.writers.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.writers[at].1.clone()
    }

    /// Builds the story. Adds hints, which need the final state.
    fn finish(self) -> Story {
        let state = self.folder.and_then(|folder| folder.finish().0);
        let mut rows = self.others;
        for TaskEvents { first, last, time, mut row } in self.tasks {
            if let Some(state) = &state {
                add_hints(state, &mut row);
            }
            rows.push(Row { first, last, time, what: What::Task(row) });
        }
        rows.sort_by_key(|row| row.first);
        Story { rows, events: self.events, state, trouble: self.trouble, removed: self.removed, is_orphaned: false }
    }
}

/// Adds hints about missing dependencies. Missing keys count only for a failed attempt: otherwise they may be optional.
fn add_hints(state: &Execution, row: &mut TaskRow) {
    for attempt in row.attempts.iter_mut().filter(|attempt| attempt.hint.is_none()) {
        let failed = matches!(attempt.outcome, Outcome::Failed { .. });
        let counts = |read: &&Read| failed || matches!(read.seen, Seen::Undeclared(_));
        let keys = attempt.reads.keys.iter().filter(counts).cloned().collect();
        attempt.hint = state.hint(&row.task, &Reads { keys, all: false });
    }
}

/// Returns the collisions at the join of the graph's leaves in the final context, if all leaves are settled.
fn final_collisions(state: &Execution) -> Vec<Collision> {
    let settled = |task: &TaskIndex| state.task(*task).state().settled().is_some();
    if state.graph().leaves().iter().all(settled) { state.collisions_at_the_end() } else { Vec::new() }
}
