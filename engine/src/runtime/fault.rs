//! Faults of the log, shared by the errors of all operations that use it.

use cloacina_store::log::{AppendError, ReadError};
use cloacina_store::record::StreamId;

use super::rebuild::RebuildError;
use crate::core::codec::DecodeError;
use crate::core::decide::Rejection;
use crate::core::fold::IllegalEvent;

/// Why an operation on the log failed.
///
/// ```
/// use cloacina_engine::runtime::engine::StartError;
/// use cloacina_engine::runtime::fault::LogFault;
/// use cloacina_store::log::AppendError;
///
/// let failed = StartError::Log(LogFault::Append(AppendError::Failed("the disk is full".into())));
/// assert!(failed.to_string().contains("the disk is full"));
/// assert!(matches!(failed, StartError::Log(LogFault::Append(AppendError::Failed(_)))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFault {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It failed, or rejected the batch.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// An execution cannot be rebuilt from it.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// An entry of its listing cannot be read.
    #[error(transparent)]
    Label(#[from] DecodeError),
    /// The core rejected the start of an execution: a bug.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// An event of a schedule or a trigger cannot be read.
    #[error("stream {stream}, seq {seq}: {error}")]
    Decode {
        /// The stream of the schedule or trigger.
        stream: StreamId,
        /// The record.
        seq: u64,
        /// Why.
        error: DecodeError,
    },
    /// An event of a schedule or a trigger was erased, so its state is unknown.
    #[error("stream {stream}, seq {seq}: the body was erased")]
    Erased {
        /// The stream of the schedule or trigger.
        stream: StreamId,
        /// The record.
        seq: u64,
    },
    /// The events of a schedule or a trigger do not follow from each other.
    #[error("stream {stream}: {error}")]
    Illegal {
        /// The stream of the schedule or trigger.
        stream: StreamId,
        /// Why.
        error: IllegalEvent,
    },
    /// The scheduler's thread could not be started.
    #[error("cannot start the scheduler's thread: {0}")]
    Thread(std::io::ErrorKind),
}
