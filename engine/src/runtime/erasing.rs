//! Erasing the contents of events of a finished execution.

use cloacina_store::keeper::{Change, ChangeError, Erase, MAX_ERASED};
use cloacina_store::log::{EventLog, LogReader, ReadError};

use super::ids::stream_of;
use super::rebuild::{RebuildError, events};
use crate::core::codec::encode_event;
use crate::core::erasure::{NothingToErase, What, plan};
use crate::core::event::ExecutionId;

/// Why nothing was erased.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EraseError {
    /// The execution cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RebuildError),
    /// There is nothing to erase, or the execution is not finished.
    #[error("execution {execution}: {why}")]
    Nothing {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: NothingToErase,
    },
    /// The log failed or rejected the change.
    #[error("execution {execution}: {error}")]
    Log {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        error: ChangeError,
    },
}

/// Erases the contents of events of a finished execution. Returns how many events this call erased. See
/// [`Engine::erase`](super::engine::Engine::erase).
pub(super) fn erase(
    log: &dyn EventLog,
    execution: ExecutionId,
    what: &[What],
    reason: &str,
    by: &str,
) -> Result<u64, EraseError> {
    let reader: &dyn LogReader = log;
    let known = events(reader, execution)?;
    if known.is_empty() {
        return Err(RebuildError::Read(ReadError::NoStream(stream_of(execution))).into());
    }
    let erased = plan(&known, what).map_err(|why| EraseError::Nothing { execution, why })?;
    let records: Vec<(u64, Vec<u8>)> = erased.iter().map(|(seq, event)| (*seq, encode_event(event))).collect();
    let mut count = 0;
    for part in records.chunks(MAX_ERASED) {
        let (reason, by) = (reason.to_owned(), by.to_owned());
        let erase = Erase { stream: stream_of(execution), records: part.to_vec(), reason, by };
        let changed = log.change(Change::Erase(erase)).map_err(|error| EraseError::Log { execution, error })?;
        count += changed.records;
    }
    Ok(count)
}
