//! The events of a schedule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::core::event::{ExecutionId, Key, Request};
use crate::core::json::Json;
use crate::core::time::Timestamp;

/// The id of a schedule and of its stream: the 16 bytes of a UUIDv7.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct ScheduleId(pub [u8; 16]);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ScheduleId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Uuid>().map(|id| Self(id.into_bytes()))
    }
}

/// One event of a schedule.
#[derive(Clone, Debug, PartialEq)]
pub enum ScheduleEvent {
    /// The first event of every schedule.
    Created(ScheduleCreated),
    /// Its expression or time zone changed.
    Updated(ScheduleUpdated),
    /// It fires again.
    Enabled(ScheduleEnabled),
    /// It does not fire until it is enabled again.
    Disabled(Request),
    /// It never fires again. Its history is kept.
    Deleted(Request),
    /// It fired, and started an execution.
    Fired(ScheduleFired),
    /// It did not fire for some of its times.
    Skipped(ScheduleSkipped),
}

/// A schedule was created.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleCreated {
    /// An optional name, to tell schedules of the same workflow apart.
    pub name: Option<Arc<str>>,
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// A cron expression of 5 or 6 fields, or a shortcut such as `@daily`.
    pub expression: Arc<str>,
    /// The IANA time zone of the expression.
    pub timezone: Arc<str>,
    /// How missed fires are handled.
    pub catchup: Catchup,
    /// The input of its executions, in addition to the values that describe the fire.
    pub input: Vec<(Key, Json)>,
    /// The first fire time; `None` if it never fires.
    pub next: Option<Timestamp>,
}

/// How fires are handled that were missed because no engine was running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Catchup {
    /// They are skipped.
    #[default]
    Skip,
    /// They run late, oldest first, up to a limit.
    RunAll,
}

impl Catchup {
    /// Returns its name: `skip` or `run_all`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunAll => "run_all",
        }
    }
}

/// The expression or time zone of a schedule changed.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleUpdated {
    /// The expression.
    pub expression: Arc<str>,
    /// The time zone.
    pub timezone: Arc<str>,
    /// The next fire time.
    pub next: Option<Timestamp>,
}

/// A schedule fires again. It does not catch up on the time while it was disabled.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleEnabled {
    /// Who requested it.
    pub request: Request,
    /// The next fire time.
    pub next: Option<Timestamp>,
}

/// A schedule fired.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleFired {
    /// The scheduled time. The event's own time may be later.
    pub scheduled: Timestamp,
    /// The execution that was started in the same batch.
    pub execution: ExecutionId,
    /// The next fire time.
    pub next: Option<Timestamp>,
}

/// A schedule did not fire for some of its times.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleSkipped {
    /// The first skipped time.
    pub first: Timestamp,
    /// The end of the skipped range: it did not fire between `first` and this time.
    pub until: Timestamp,
    /// The reason.
    pub why: SkipCause,
    /// The next fire time.
    pub next: Option<Timestamp>,
}

/// Why fires were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SkipCause {
    /// No engine was running, and the schedule does not catch up.
    Missed,
    /// More times were due than the catch-up limit allows.
    LimitReached {
        /// The limit.
        limit: u32,
    },
    /// The schedule was changed while it could not fire, because its workflow was not registered or the runner does not
    /// run schedules.
    CouldNotFire,
}
