//! Cron schedules: events, fold and decisions.
//!
//! Each schedule has its own stream. Its events record the next fire time, so that the fold needs no calendar, and a
//! later version of the time zone rules cannot change the past. A fire and the execution that it starts are one
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
