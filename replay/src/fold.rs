//! Folds a stream with the engine's own fold, event by event.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::fold::{EventRef, fold_in_place};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::state::Execution;

use crate::reading::{Definitions, Entry, HistoryError};

/// Folds the events of one execution.
pub struct Folder<D> {
    id: ExecutionId,
    definitions: D,
    graphs: BTreeMap<Fingerprint, Arc<Graph>>,
    state: Option<Execution>,
}

impl<D: Definitions> Folder<D> {
    /// Starts before the first event.
    #[must_use]
    pub fn new(id: ExecutionId, definitions: D) -> Self {
        Self { id, definitions, graphs: BTreeMap::new(), state: None }
    }

    /// Continues from a state.
    #[must_use]
    pub fn resume(id: ExecutionId, definitions: D, state: Execution) -> Self {
        let graphs = BTreeMap::from([(state.fingerprint(), state.graph().clone())]);
        Self { id, definitions, graphs, state: Some(state) }
    }

    /// Folds one event. After an error there is no state.
    ///
    /// # Errors
    /// [`HistoryError::Impossible`], [`HistoryError::Erased`] or [`HistoryError::Definition`].
    pub fn step(&mut self, entry: &Entry) -> Result<&Execution, HistoryError> {
        let Some(event) = &entry.event else {
            self.state = None;
            return Err(HistoryError::Erased { id: self.id, seq: entry.seq });
        };
        if let Some(fingerprint) = event.definition()
            && !self.graphs.contains_key(&fingerprint)
        {
            let graph = self.definitions.load(fingerprint).inspect_err(|_| self.state = None)?;
            self.graphs.insert(fingerprint, graph);
        }
        let happened = EventRef { seq: entry.seq, time: entry.time, event };
        let id = self.id;
        fold_in_place(&mut self.state, id, happened, &self.graphs)
            .map_err(|illegal| HistoryError::Impossible { id, illegal })
    }

    /// Returns the state after the last folded event.
    #[must_use]
    pub fn state(&self) -> Option<&Execution> {
        self.state.as_ref()
    }

    /// Returns the state after the last folded event, and the graphs of the definitions that the events named.
    #[must_use]
    pub fn finish(self) -> (Option<Execution>, BTreeMap<Fingerprint, Arc<Graph>>) {
        (self.state, self.graphs)
    }
}

/// States with at least this many events are dropped on another thread.
const LARGE: u64 = 10_000;

/// Drops a state without making the caller wait: a large one is dropped on a thread of its own, which takes 0.2 s for a
/// million events.
pub fn let_go(state: Execution) {
    if state.next_seq() < LARGE {
        return;
    }
    let thread = std::thread::Builder::new().name("replay-drop-state".to_owned());
    // Without a thread, the failed `spawn` drops the closure and so the state here.
    drop(thread.spawn(move || drop(state)));
}
