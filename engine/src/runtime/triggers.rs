//! Triggers: listing, errors, and history in the log.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::{EventLog, LogReader, ReadError};
use cloacina_store::record::{StreamId, StreamKind};

use super::fault::LogFault;
use super::schedules::Standing;
use super::streams::{read_page, streams};
use crate::core::codec;
use crate::core::event::ExecutionId;
use crate::core::time::Timestamp;
use crate::core::trigger::{Recorded, Trigger, TriggerDefined, TriggerId, fold};

/// A trigger in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTrigger {
    /// Its definition.
    pub definition: TriggerDefined,
    /// Whether it is enabled.
    pub enabled: bool,
    /// When this engine last polled it.
    pub last_poll: Option<Timestamp>,
    /// Whether its workflow is registered; otherwise it is not polled.
    pub is_registered: bool,
}

/// A fire in a trigger's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTriggerFire {
    /// When it fired.
    pub fired: Timestamp,
    /// The execution that it started.
    pub execution: ExecutionId,
    /// The status of that execution.
    pub standing: Standing,
    /// The digest of the context that it fired with.
    pub context: [u8; 32],
}

/// Why an operation on a trigger failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// There is no such trigger.
    #[error("there is no trigger '{0}' in this log")]
    NotFound(Arc<str>),
    /// The trigger's state does not allow the operation.
    #[error("trigger '{name}': {why}")]
    Rejected {
        /// The trigger.
        name: Arc<str>,
        /// Why.
        why: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

impl From<ReadError> for TriggerError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

/// Number of records per read.
const PAGE: usize = 512;

pub(super) fn read_all(log: &dyn LogReader, id: TriggerId) -> Result<Vec<Recorded>, LogFault> {
    let mut events = Vec::new();
    loop {
        let page = read_page(log, StreamId::from_bytes(id.0), events.len() as u64, PAGE, codec::decode_trigger_event)?;
        if page.is_empty() {
            return Ok(events);
        }
        events.extend(page);
    }
}

fn rebuild(log: &dyn LogReader, id: TriggerId) -> Result<Option<Trigger>, LogFault> {
    let mut state = None;
    for recorded in read_all(log, id)? {
        let folded = fold(state, id, &recorded);
        state = Some(folded.map_err(|error| LogFault::Illegal { stream: StreamId::from_bytes(id.0), error })?);
    }
    Ok(state)
}

/// Loads the triggers of a log, each folded. Logs an error for one that cannot be, and skips it.
pub(super) fn load(log: &dyn EventLog) -> Result<BTreeMap<TriggerId, Trigger>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in streams(log, StreamKind::Trigger, false)? {
        let id = TriggerId(*entry.stream.as_bytes());
        match rebuild(log, id) {
            Ok(Some(state)) => drop(found.insert(id, state)),
            Ok(None) => {}
            Err(error) => tracing::error!(trigger = %id, %error, "a trigger cannot be read; it is not polled"),
        }
    }
    Ok(found)
}
