//! Cron schedules: their events, their fold, and what is decided about them.
//!
//! A schedule is a stream of its own. When it fires next stands in its events, so that a fold needs no calendar, and no
//! other version of the time zones' rules can change what happened. A fire and the execution that it starts are one
//! decision: the runtime appends both in one batch.

mod decide;
mod event;
mod fold;

pub use decide::{
    Calendar, CatchupLimits, Command, Decision, Fire, Rejection, create, decide, execution_of_fire, label,
};
pub use event::{
    Catchup, ScheduleCreated, ScheduleEnabled, ScheduleEvent, ScheduleFired, ScheduleId, ScheduleSkipped,
    ScheduleUpdated, SkipCause,
};
pub use fold::{Recorded, Schedule, fold};
