//! What the listing shows of each stream.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::digest::Fingerprint;
use super::event::Cause;
use super::schedule::Catchup;
use super::time::Timestamp;
use super::trigger::TriggerDefined;

/// What the listing shows of an execution, kept beside its stream so that listing reads no events.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Label {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: LabelStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The definition that it is executed by.
    pub definition: Fingerprint,
    /// What caused it.
    pub cause: Cause,
    /// How often it was recovered.
    pub recoveries: u32,
}

/// How an execution stands, for the listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum LabelStatus {
    /// Unfinished.
    Running,
    /// Unfinished and paused.
    Paused,
    /// Over, without a failure at the end of the graph.
    Completed,
    /// Over, with one.
    Failed,
    /// Over, cancelled.
    Cancelled,
}

/// What the listing shows of a schedule.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleLabel {
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// Its cron expression.
    pub expression: Arc<str>,
    /// The time zone that the expression is read in.
    pub timezone: Arc<str>,
    /// What becomes of fires that nobody was there for.
    pub catchup: Catchup,
    /// Whether it fires.
    pub enabled: bool,
    /// When it fires next, if it does.
    pub next: Option<Timestamp>,
    /// When it fired last.
    pub last_run: Option<Timestamp>,
    /// When it was made.
    pub created: Timestamp,
    /// When somebody last changed it.
    pub updated: Timestamp,
}

/// What the listing shows of a trigger.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct TriggerLabel {
    /// How it is defined.
    pub definition: TriggerDefined,
    /// Whether it is polled.
    pub enabled: bool,
}
