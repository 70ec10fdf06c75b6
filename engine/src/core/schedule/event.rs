//! What happens to a schedule.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bincode::{Decode, Encode};
use uuid::Uuid;

use crate::core::event::{ExecutionId, Key, Request};
use crate::core::json::Json;
use crate::core::time::Timestamp;

/// Names a schedule: the sixteen bytes of a UUIDv7, as its stream has them.
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
    /// It has another expression or time zone.
    Updated(ScheduleUpdated),
    /// It fires again.
    Enabled(ScheduleEnabled),
    /// It fires no more, until it is enabled.
    Disabled(Request),
    /// It fires no more, for ever. Its history stays.
    Deleted(Request),
    /// It fired, and started an execution.
    Fired(ScheduleFired),
    /// Times at which it should have fired went by.
    Skipped(ScheduleSkipped),
}

/// A schedule was made.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleCreated {
    /// What its user calls it, to tell it from others of the same workflow.
    pub name: Option<Arc<str>>,
    /// The workflow that it starts.
    pub workflow: Arc<str>,
    /// When it fires: a cron expression of 5 or 6 fields, or a word like `@daily`.
    pub expression: Arc<str>,
    /// The IANA time zone that the expression is read in.
    pub timezone: Arc<str>,
    /// What becomes of fires that nobody was there for.
    pub catchup: Catchup,
    /// The input of the executions, beside what tells them of the fire.
    pub input: Vec<(Key, Json)>,
    /// When it fires first; `None` if never.
    pub next: Option<Timestamp>,
}

/// What becomes of fires that nobody was there for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub enum Catchup {
    /// They are skipped.
    #[default]
    Skip,
    /// They are run late, oldest first, up to a limit.
    RunAll,
}

impl Catchup {
    /// Its name: `skip` or `run_all`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::RunAll => "run_all",
        }
    }
}

/// A schedule has another expression or time zone.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleUpdated {
    /// The expression.
    pub expression: Arc<str>,
    /// The time zone.
    pub timezone: Arc<str>,
    /// When it fires next.
    pub next: Option<Timestamp>,
}

/// A schedule fires again. What it would have fired for meanwhile is not caught up with.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleEnabled {
    /// Who asked for it.
    pub request: Request,
    /// When it fires next.
    pub next: Option<Timestamp>,
}

/// A schedule fired.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleFired {
    /// The time that it fired for; the event's own time may be later.
    pub scheduled: Timestamp,
    /// The execution that was started, by the same batch.
    pub execution: ExecutionId,
    /// When it fires next.
    pub next: Option<Timestamp>,
}

/// Times at which a schedule should have fired went by.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct ScheduleSkipped {
    /// The first of them.
    pub first: Timestamp,
    /// Nothing between the first and this moment was fired for.
    pub until: Timestamp,
    /// Why.
    pub why: SkipCause,
    /// When it fires next.
    pub next: Option<Timestamp>,
}

/// Why fires were skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub enum SkipCause {
    /// Nobody was there to fire in time, and the schedule is not to catch up.
    Missed,
    /// More were due than may be caught up with.
    LimitReached {
        /// How many may.
        limit: u32,
    },
    /// The schedule was changed while it could not fire: its workflow was not registered, or the runner fires no schedules.
    CouldNotFire,
}
