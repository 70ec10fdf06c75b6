//! Frames: the changes of each event to the states of tasks and to the context, computed by the engine's own fold. A
//! page applies frames from the first event on to show the state after any event, and folds nothing itself.

use std::collections::BTreeMap;

use cloacina_engine::core::context::{Source, Version, VersionRef};
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{Event, ExecutionId, Key, Origin, Seq, TaskId};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::state::{Execution, TaskState};
use serde::Serialize;
use serde_json::value::RawValue;

use super::contexts::{Changes, Contexts};
use crate::fold::Folder;
use crate::json::values::raw;
use crate::moment::{task_of, writer};
use crate::reading::{Definitions, Entry, HistoryError};

/// The changes of one event.
#[derive(Debug, Default, Serialize)]
pub struct Frame {
    seq: Seq,
    /// The execution's status, if it has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// The definition from here on, if it has changed. Then `tasks` has all tasks, and any others are removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<String>,
    /// The tasks whose state has changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tasks: BTreeMap<String, TaskFrame>,
    /// The keys of the context whose version has changed.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    context: BTreeMap<String, VersionFrame>,
    /// For a write or a removal: the version that the writer could see before.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<VersionFrame>,
}

/// A task: its state, the number of started attempts, and whether it is ready to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskFrame(&'static str, u32, bool);

/// A version of a key.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum VersionFrame {
    /// The value that this event wrote.
    Write(Seq),
    /// The result of merging several writes.
    Merged {
        /// The value.
        value: Box<RawValue>,
        /// The merged writes.
        writes: Vec<Seq>,
        /// Whether the writes collided.
        collided: bool,
        /// Whether one of the writes was erased, and so the value.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        erased: bool,
    },
    /// There is no value.
    Gone(()),
}

impl VersionFrame {
    fn new(version: &Version) -> serde_json::Result<Self> {
        Ok(match (version.value(), version.source()) {
            (None, _) => Self::Gone(()),
            (Some(_), Source::Write { seq, .. }) => Self::Write(*seq),
            (Some(value), Source::Merge { collision }) => {
                let (writes, erased) = (version.writes(), value.is_erased());
                Self::Merged { value: raw(value)?, writes, collided: *collision, erased }
            }
        })
    }

    fn maybe(version: Option<&VersionRef>) -> serde_json::Result<Self> {
        version.map_or(Ok(Self::Gone(())), |version| Self::new(version))
    }
}

/// Computes a [`Frame`] for each event, in order.
pub struct Framer<D> {
    folder: Option<Folder<D>>,
    contexts: Option<Contexts>,
    status: Option<&'static str>,
    definition: Option<Fingerprint>,
    tasks: Vec<TaskFrame>,
}

impl<D: Definitions> Framer<D> {
    /// Starts before the first event.
    #[must_use]
    pub fn new(id: ExecutionId, definitions: D) -> Self {
        let folder = Some(Folder::new(id, definitions));
        Self { folder, contexts: None, status: None, definition: None, tasks: Vec::new() }
    }

    /// Returns the state after the last event; `None` after one that could not be folded.
    #[must_use]
    pub fn state(&self) -> Option<&Execution> {
        self.folder.as_ref().and_then(Folder::state)
    }

    /// Folds one event. Returns no more frames after one that cannot be folded.
    ///
    /// # Errors
    /// As [`Folder::step`]; later calls return `None`.
    pub fn step(&mut self, entry: &Entry) -> Result<Option<Frame>, HistoryError> {
        let Some(mut folder) = self.folder.take() else { return Ok(None) };
        let state = folder.step(entry)?;
        let frame = self.frame(state, entry).map_err(|error| wrong(entry, state.id(), &error))?;
        self.folder = Some(folder);
        Ok(Some(frame))
    }

    fn frame(&mut self, state: &Execution, entry: &Entry) -> serde_json::Result<Frame> {
        let mut frame = Frame { seq: entry.seq, ..Frame::default() };
        let (status, definition) = (state.status().name(), state.fingerprint());
        frame.status = (self.status.replace(status) != Some(status)).then_some(status);
        if self.definition.replace(definition) != Some(definition) {
            frame.definition = Some(definition.to_string());
            self.tasks.clear();
        }
        let event = entry.event.as_ref();
        self.task_frames(state, event, &mut frame.tasks);
        for (key, version) in self.changes(state, event) {
            frame.context.insert(key.to_string(), VersionFrame::maybe(version.as_ref())?);
        }
        if let Some((task, key)) = event.and_then(written_by_task)
            && let Some(task) = state.graph().find(task)
        {
            frame.before = Some(VersionFrame::maybe(state.view(task).declared.get(key))?);
        }
        Ok(frame)
    }

    /// Collects the tasks whose state has changed. Most events affect one task, so only it and its downstream tasks are
    /// checked.
    fn task_frames(&mut self, state: &Execution, event: Option<&Event>, changed: &mut BTreeMap<String, TaskFrame>) {
        let graph = state.graph();
        let touched: Vec<TaskIndex> = match event {
            Some(Event::ContextWritten(write)) if matches!(write.origin, Origin::Task { .. }) => return,
            Some(Event::ContextRemoved(_)) => return,
            _ if self.tasks.is_empty() => graph.tasks().collect(),
            Some(event) => match task_of(event).and_then(|task| graph.find(task)) {
                Some(task) => {
                    let mut touched = graph.downstream(task).to_vec();
                    touched.push(task);
                    touched
                }
                None => graph.tasks().collect(),
            },
            None => return,
        };
        let first = self.tasks.is_empty();
        if first {
            self.tasks = vec![TaskFrame("Pending", 0, false); graph.len()];
        }
        let ready = Ready::of(state, touched.len());
        for task in touched {
            let slot = state.task(task);
            let new = TaskFrame(slot.state().name(), slot.attempts(), ready.has(state, task));
            if first || self.tasks[task.at()] != new {
                changed.insert(graph.name(task).to_string(), new.clone());
                self.tasks[task.at()] = new;
            }
        }
    }

    fn changes(&mut self, state: &Execution, event: Option<&Event>) -> Changes {
        // A retry makes settled tasks pending again, which happens in no other way within a graph.
        let is_retry = matches!(event, Some(Event::ExecutionRetried(_)));
        match self.contexts.take_if(|contexts| is_retry || !contexts.is_for(state)) {
            Some(old) => {
                let (contexts, mut changes) = Contexts::new(state);
                for key in old.context().keys().filter(|key| !contexts.context().contains_key(*key)) {
                    changes.insert(key.clone(), None);
                }
                self.contexts = Some(contexts);
                changes
            }
            None => match &mut self.contexts {
                Some(contexts) => match event {
                    Some(Event::ContextWritten(write)) if write.origin == Origin::Input => {
                        contexts.input_written(state)
                    }
                    Some(Event::ContextWritten(_) | Event::ContextRemoved(_) | Event::TaskStarted(_)) | None => {
                        Changes::new()
                    }
                    Some(event) => match task_of(event).and_then(|task| state.graph().find(task)) {
                        Some(task) => contexts.settled(state, task),
                        None => Changes::new(),
                    },
                },
                none => {
                    let (contexts, changes) = Contexts::new(state);
                    *none = Some(contexts);
                    changes
                }
            },
        }
    }
}

/// The ready tasks: collected in advance if many tasks are to be checked.
struct Ready(Option<std::collections::BTreeSet<TaskIndex>>);

impl Ready {
    fn of(state: &Execution, asked: usize) -> Self {
        const FEW: usize = 4;
        Self((asked > FEW).then(|| state.ready().collect()))
    }

    fn has(&self, state: &Execution, task: TaskIndex) -> bool {
        if !matches!(state.task(task).state(), TaskState::Pending | TaskState::WaitingRetry { .. }) {
            return false;
        }
        match &self.0 {
            Some(ready) => ready.contains(&task),
            None => state.ready().any(|ready| ready == task),
        }
    }
}

fn written_by_task(event: &Event) -> Option<(&TaskId, &Key)> {
    match event {
        Event::ContextWritten(write) => Some((writer(&write.origin)?, &write.key)),
        Event::ContextRemoved(removal) => Some((writer(&removal.origin)?, &removal.key)),
        _ => None,
    }
}

fn wrong(entry: &Entry, id: ExecutionId, error: &serde_json::Error) -> HistoryError {
    HistoryError::Undecodable {
        id,
        seq: entry.seq,
        why: cloacina_engine::core::codec::DecodeError::Broken { what: "a value".to_owned(), why: error.to_string() },
    }
}
