//! Rebuilds an execution by folding its stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::{Erasure, LogReader, ReadError};
use cloacina_store::record::{Body, Hash};

use super::ids::{ForeignId, stream_of};
use crate::core::codec::{self, DecodeError};
use crate::core::definition::Fingerprint;
use crate::core::erasure::attributed;
use crate::core::event::{Event, ExecutionId, Seq};
use crate::core::fold::{Graphs, IllegalEvent, Recorded, fold};
use crate::core::graph::Graph;
use crate::core::json;
use crate::core::standing::Standing;
use crate::core::state::Execution;
use crate::core::time::Timestamp;

/// Why an execution cannot be rebuilt from a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A body cannot be decoded.
    #[error("execution {execution}, seq {seq}: {error}")]
    Decode {
        /// The execution.
        execution: ExecutionId,
        /// The record.
        seq: u64,
        /// Why.
        error: DecodeError,
    },
    /// A body was erased, so the state after it is unknown.
    #[error("execution {execution}: the body at seq {seq} was erased; the execution can be shown, but not resumed")]
    Erased {
        /// The execution.
        execution: ExecutionId,
        /// The record.
        seq: u64,
    },
    /// An event is illegal in the state before it.
    #[error("execution {execution}: {error}")]
    Illegal {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        error: IllegalEvent,
    },
    /// The stream is empty.
    #[error("execution {0} has no events")]
    Empty(ExecutionId),
    /// The stream is not that of an execution.
    #[error(transparent)]
    Foreign(#[from] ForeignId),
}

impl RebuildError {
    /// The standing of an unfinished execution that cannot be rebuilt.
    #[must_use]
    pub fn standing(&self, id: ExecutionId) -> Standing {
        let what = self.to_string();
        match self {
            Self::Decode { error: DecodeError::Newer { .. }, .. } => {
                Standing::unreadable(&what, "open the log with the version that wrote it, or a newer one")
            }
            Self::Erased { .. } => Standing::unreadable(&what, "run the workflow again under another id"),
            Self::Read(error) if !error.is_damage() => Standing::unreadable(&what, "fix the cause and reopen the log"),
            Self::Read(_) | Self::Decode { .. } | Self::Illegal { .. } | Self::Empty(_) | Self::Foreign(_) => {
                Standing::damaged(id, &what)
            }
        }
    }
}

/// Number of records per read.
const PAGE: usize = 1_024;

/// Rebuilds an execution: reads its stream and folds it.
///
/// # Errors
/// [`RebuildError`] if the stream is missing, incomplete, or not the history of an execution.
pub fn rebuild(log: &dyn LogReader, execution: ExecutionId) -> Result<Execution, RebuildError> {
    let graphs = LogGraphs { log };
    let mut state = None;
    visit(log, execution, |recorded| {
        let folded = fold(state.take(), execution, &recorded, &graphs);
        state = Some(folded.map_err(|error| RebuildError::Illegal { execution, error })?);
        Ok(())
    })?;
    state.ok_or(RebuildError::Empty(execution))
}

/// Returns the events of an execution with their `seq`.
pub(super) fn events(log: &dyn LogReader, execution: ExecutionId) -> Result<Vec<(Seq, Event)>, RebuildError> {
    let mut events = Vec::new();
    visit(log, execution, |Recorded { seq, event, .. }| {
        events.push((seq, event));
        Ok(())
    })?;
    Ok(events)
}

/// Visits the events of an execution, page by page.
fn visit(
    log: &dyn LogReader,
    execution: ExecutionId,
    mut take: impl FnMut(Recorded) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    let mut erasures: Option<BTreeMap<u64, Erasure>> = None;
    let mut next = 0;
    loop {
        let page = log.read(stream_of(execution), next, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        for record in page {
            ForeignId::check(execution, record.kind)?;
            let seq = record.seq;
            let erasure = match record.body {
                Body::Erased { .. } => erasure_of(log, &mut erasures, execution, seq)?,
                Body::Present { .. } => None,
            };
            let bytes = record.body.bytes().or(erasure.as_ref().map(|erasure| &erasure.note[..]));
            let bytes = bytes.ok_or(RebuildError::Erased { execution, seq })?;
            let mut event =
                codec::decode_event(bytes).map_err(|error| RebuildError::Decode { execution, seq, error })?;
            if let Some(Erasure { by, reason, time, .. }) = erasure {
                event = attributed(event, &json::Erasure::new(by, reason, Timestamp(time.0)));
            }
            take(Recorded { seq, time: Timestamp(record.time.0), event })?;
            next = seq + 1;
        }
    }
}

/// Returns the log's record of an erasure, see [`crate::core::erasure`]. Reads them all on first use.
fn erasure_of(
    log: &dyn LogReader,
    erasures: &mut Option<BTreeMap<u64, Erasure>>,
    execution: ExecutionId,
    seq: u64,
) -> Result<Option<Erasure>, ReadError> {
    let known = match erasures {
        Some(known) => known,
        None => {
            let found = log.erasures(stream_of(execution))?;
            erasures.insert(found.into_iter().map(|erasure| (erasure.seq, erasure)).collect())
        }
    };
    Ok(known.get(&seq).cloned())
}

/// The graphs of the definitions in a log.
pub struct LogGraphs<'a> {
    /// The log.
    pub log: &'a dyn LogReader,
}

impl Graphs for LogGraphs<'_> {
    fn graph(&self, fingerprint: Fingerprint) -> Option<Arc<Graph>> {
        let bytes = self.log.definition(Hash(fingerprint.0)).ok()??;
        let definition = codec::decode_definition(&bytes).ok()?;
        Graph::new(Arc::new(definition)).ok().map(Arc::new)
    }
}
