//! Execution ids and their streams.

use cloacina_store::record::{StreamId, StreamKind};

use crate::core::event::ExecutionId;

/// The stream of an execution.
#[must_use]
pub fn stream_of(execution: ExecutionId) -> StreamId {
    StreamId::from_bytes(execution.0)
}

/// The execution of a stream.
#[must_use]
pub fn execution_of(stream: StreamId) -> ExecutionId {
    ExecutionId(*stream.as_bytes())
}

/// Returns a new execution id. Later ids are larger.
pub(crate) fn new_execution_id() -> ExecutionId {
    ExecutionId(uuid::Uuid::now_v7().into_bytes())
}

/// An id of a stream that is not an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} is the id of {}, not of an execution; use another id", words(*kind))]
pub struct ForeignId {
    /// The id.
    pub id: ExecutionId,
    /// What it belongs to.
    pub kind: StreamKind,
}

fn words(kind: StreamKind) -> &'static str {
    match kind {
        StreamKind::Log => "the log itself",
        StreamKind::Execution => "an execution",
        StreamKind::Schedule => "a schedule",
        StreamKind::Trigger => "a trigger",
    }
}

impl ForeignId {
    /// Checks that a stream is that of an execution.
    ///
    /// # Errors
    /// [`ForeignId`] if it is not.
    pub fn check(id: ExecutionId, kind: StreamKind) -> Result<(), Self> {
        if kind == StreamKind::Execution { Ok(()) } else { Err(Self { id, kind }) }
    }
}
