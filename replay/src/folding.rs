//! Folding a stream with the engine's own fold, event by event.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::fold::{Happened, fold_on};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::state::Execution;

use crate::reading::{Definitions, Entry, Trouble};

/// Folds the events of one execution.
pub struct Folder<D> {
    id: ExecutionId,
    definitions: D,
    graphs: BTreeMap<Fingerprint, Arc<Graph>>,
    state: Option<Execution>,
}

impl<D: Definitions> Folder<D> {
    /// Begins before the first event.
    #[must_use]
    pub fn new(id: ExecutionId, definitions: D) -> Self {
        Self { id, definitions, graphs: BTreeMap::new(), state: None }
    }

    /// Goes on from a state.
    #[must_use]
    pub fn resume(id: ExecutionId, definitions: D, state: Execution) -> Self {
        let graphs = BTreeMap::from([(state.fingerprint(), state.graph().clone())]);
        Self { id, definitions, graphs, state: Some(state) }
    }

    /// Folds one event. After an error there is no state any more.
    ///
    /// # Errors
    /// [`Trouble::Impossible`], [`Trouble::Erased`] or [`Trouble::Definition`].
    pub fn step(&mut self, entry: &Entry) -> Result<&Execution, Trouble> {
        let Some(event) = &entry.event else {
            self.state = None;
            return Err(Trouble::Erased { id: self.id, seq: entry.seq });
        };
        if let Some(fingerprint) = event.definition()
            && !self.graphs.contains_key(&fingerprint)
        {
            let graph = self.definitions.load(fingerprint).inspect_err(|_| self.state = None)?;
            self.graphs.insert(fingerprint, graph);
        }
        let happened = Happened { seq: entry.seq, time: entry.time, event };
        let id = self.id;
        fold_on(&mut self.state, id, happened, &self.graphs).map_err(|illegal| Trouble::Impossible { id, illegal })
    }

    /// The state after the last event that was folded.
    #[must_use]
    pub fn state(&self) -> Option<&Execution> {
        self.state.as_ref()
    }

    /// The state after the last event that was folded, and the graphs that the execution went by.
    #[must_use]
    pub fn finish(self) -> (Option<Execution>, BTreeMap<Fingerprint, Arc<Graph>>) {
        (self.state, self.graphs)
    }
}

/// From how many events on a state is let go elsewhere.
const LONG: u64 = 10_000;

/// Lets a state go. That of a million events takes a fifth of a second to take apart: it goes on a thread of its own, so
/// that whoever asked for it does not wait until it is gone.
pub fn let_go(state: Execution) {
    if state.next_seq() < LONG {
        return;
    }
    let thread = std::thread::Builder::new().name("replay-letting-go".to_owned());
    // Where there is no thread to be had, it goes here.
    drop(thread.spawn(move || drop(state)));
}
