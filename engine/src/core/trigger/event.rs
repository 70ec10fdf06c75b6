//! The events of a trigger.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::core::context::digest_of;
use crate::core::digest::sha256;
use crate::core::event::{ExecutionId, Key, Request};
use crate::core::json::Json;
use crate::core::time::Millis;

/// The id of a trigger's stream: a UUIDv8 derived from the trigger's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct TriggerId(pub [u8; 16]);

impl TriggerId {
    /// Returns the id of the trigger with this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let hash = sha256(&[b"trigger:", name.as_bytes()].concat());
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        id[6] = 0x80 | (id[6] & 0x0f);
        id[8] = 0x80 | (id[8] & 0x3f);
        Self(id)
    }
}

impl fmt::Display for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for TriggerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One event of a trigger.
#[derive(Clone, Debug, PartialEq)]
pub enum TriggerEvent {
    /// The first event of every trigger, and one for each change of its definition.
    Defined(TriggerDefined),
    /// It is polled again.
    Enabled(Request),
    /// It is not polled until it is enabled again.
    Disabled(Request),
    /// It fired, and started an execution.
    Fired(TriggerFired),
    /// It fired without starting an execution.
    Dropped(TriggerDropped),
}

/// A trigger, as the program defines it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TriggerDefined {
    /// Its name.
    pub name: Arc<str>,
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// How often it is polled.
    pub pace: Pace,
    /// Whether a fire starts an execution while another one with the same context runs.
    pub allow_concurrent: bool,
}

/// How often a trigger is polled.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Pace {
    /// This long after the previous poll.
    Interval(Millis),
    /// At the times of a cron expression.
    Cron {
        /// The expression.
        expression: Arc<str>,
        /// The IANA time zone of the expression.
        timezone: Arc<str>,
    },
}

/// A trigger fired.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TriggerFired {
    /// The execution that was started in the same batch.
    pub execution: ExecutionId,
    /// The digest of the context that it fired with: see [`context_digest`].
    pub context: [u8; 32],
}

/// A trigger fired without starting an execution.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct TriggerDropped {
    /// The digest of the context that it fired with.
    pub context: [u8; 32],
    /// The reason.
    pub why: DropCause,
}

/// Why a fire started nothing.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DropCause {
    /// This execution of the trigger is running with the same context.
    SameContextRuns(ExecutionId),
    /// The execution was rejected.
    Refused(Arc<str>),
}

/// Returns the SHA-256 of a context, as [`crate::core::context::digest`] defines it.
#[must_use]
pub fn context_digest(context: &[(Key, Json)]) -> [u8; 32] {
    let sorted: BTreeMap<&Key, &Json> = context.iter().map(|(key, value)| (key, value)).collect();
    digest_of(sorted)
}
