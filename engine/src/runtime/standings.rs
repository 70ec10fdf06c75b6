//! The standings of unfinished executions beyond their events: whether they are held or wait. The log passes them to
//! its readers as notices.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use cloacina_store::log::EventLog;

use super::ids::stream_of;
use super::lock::lock;
use crate::core::codec::encode_standing;
use crate::core::event::ExecutionId;
use crate::core::standing::Standing;

/// The standing of each execution where it differs from what its events say. Shared between threads.
#[derive(Clone)]
pub(crate) struct Standings {
    log: Arc<dyn EventLog>,
    known: Arc<Mutex<BTreeMap<ExecutionId, Standing>>>,
}

impl Standings {
    pub(crate) fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, known: Arc::default() }
    }

    /// The standing of an execution, if it differs from what its events say.
    pub(crate) fn get(&self, id: ExecutionId) -> Option<Standing> {
        lock(&self.known).get(&id).cloned()
    }

    /// The standing of an execution that this engine holds.
    pub(crate) fn held(&self, id: ExecutionId) -> Option<Standing> {
        self.get(id).filter(|standing| standing.status.is_orphaned())
    }

    /// Sets or clears the standing of an execution. Returns whether it changed.
    pub(crate) fn set(&self, id: ExecutionId, standing: Option<Standing>) -> bool {
        let mut known = lock(&self.known);
        if known.get(&id) == standing.as_ref() {
            return false;
        }
        self.log.post(stream_of(id), standing.as_ref().map(|standing| encode_standing(standing).into()));
        match standing {
            Some(standing) => drop(known.insert(id, standing)),
            None => drop(known.remove(&id)),
        }
        true
    }
}
