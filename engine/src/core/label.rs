//! Labels: what the listing of a log shows for each stream.

use std::sync::Arc;

use bincode::de::Decoder;
use bincode::enc::Encoder;
use bincode::error::{DecodeError, EncodeError};
use bincode::{BorrowDecode, Decode, Encode};

use super::digest::Fingerprint;
use super::event::Cause;
use super::schedule::Catchup;
use super::time::Timestamp;
use super::trigger::TriggerDefined;

/// The label of an execution. It is stored beside the stream, so that listing reads no events.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// Its status.
    pub status: LabelStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The fingerprint of its definition.
    pub definition: Fingerprint,
    /// What started it.
    pub cause: Cause,
    /// How often it was recovered.
    pub recoveries: u32,
    /// How often it was retried. [`encode_label`](super::codec::encode_label) stores it after the other fields, and only
    /// if it is not 0.
    pub retries: u32,
}

impl Encode for Label {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        let Self { workflow, status, started, ended, definition, cause, recoveries, retries: _ } = self;
        (workflow, status, started, ended, definition, cause, recoveries).encode(encoder)
    }
}

impl<Context> Decode<Context> for Label {
    fn decode<D: Decoder<Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let (workflow, status, started, ended, definition, cause, recoveries) = Decode::decode(decoder)?;
        Ok(Self { workflow, status, started, ended, definition, cause, recoveries, retries: 0 })
    }
}

impl<'de, Context> BorrowDecode<'de, Context> for Label {
    fn borrow_decode<D: bincode::de::BorrowDecoder<'de, Context = Context>>(
        decoder: &mut D,
    ) -> Result<Self, DecodeError> {
        Self::decode(decoder)
    }
}

/// The status of an execution in the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LabelStatus {
    /// Unfinished.
    Running,
    /// Unfinished and paused.
    Paused,
    /// Ended without a failure at the end of the graph.
    Completed,
    /// Ended with a failure at the end of the graph, or timed out.
    Failed,
    /// Ended by cancellation.
    Cancelled,
}

/// The label of a schedule.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleLabel {
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// Its cron expression.
    pub expression: Arc<str>,
    /// The time zone of the expression.
    pub timezone: Arc<str>,
    /// How missed fires are handled.
    pub catchup: Catchup,
    /// Whether it is enabled.
    pub enabled: bool,
    /// When it fires next, if it does.
    pub next: Option<Timestamp>,
    /// When it fired last.
    pub last_run: Option<Timestamp>,
    /// When it was created.
    pub created: Timestamp,
    /// When it was last changed.
    pub updated: Timestamp,
}

/// The label of a trigger.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TriggerLabel {
    /// Its definition.
    pub definition: TriggerDefined,
    /// Whether it is polled.
    pub enabled: bool,
}
