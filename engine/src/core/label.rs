//! Labels: what the listing of a log shows for each stream.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::digest::Fingerprint;
use super::event::Cause;
use super::schedule::Catchup;
use super::time::Timestamp;
use super::trigger::TriggerDefined;

/// The label of an execution. It is stored beside the stream, so that listing reads no events.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
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
