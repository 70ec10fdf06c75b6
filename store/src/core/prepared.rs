//! Appends, prepared on the caller's thread: commitments to the bodies, and the encoded frames without their
//! positions. The writer thread only completes them.

use rand::RngCore;

use crate::bytes::Malformed;
use crate::layout::frame::Content;
use crate::log::{Batch, Definition, Frame};
use crate::record::{StreamId, StreamKind, Timestamp};
use crate::seal::SALT_LENGTH;

/// A prepared [`Batch`].
pub(crate) struct PreparedBatch {
    pub(crate) definitions: Vec<Definition>,
    pub(crate) frames: Vec<PreparedFrame>,
}

/// A prepared [`Frame`].
pub(crate) struct PreparedFrame {
    pub(crate) stream: StreamId,
    pub(crate) kind: StreamKind,
    pub(crate) expected_seq: u64,
    pub(crate) time: Timestamp,
    /// The encoded frame, or the reason why its batch will be rejected.
    pub(crate) content: Result<Content, Malformed>,
}

impl From<Batch> for PreparedBatch {
    fn from(batch: Batch) -> Self {
        Self { definitions: batch.definitions, frames: batch.frames.into_iter().map(PreparedFrame::from).collect() }
    }
}

impl From<Frame> for PreparedFrame {
    fn from(frame: Frame) -> Self {
        let Frame { stream, kind, expected_seq, time, bodies, listing } = frame;
        let mut random = rand::rng();
        let salt = || {
            let mut salt = [0; SALT_LENGTH];
            random.fill_bytes(&mut salt);
            salt
        };
        Self { stream, kind, expected_seq, time, content: Content::new(&bodies, &listing, salt) }
    }
}

impl PreparedBatch {
    /// The total size of the frames in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.frames.iter().filter_map(|frame| frame.content.as_ref().ok()).map(Content::length).sum()
    }
}
