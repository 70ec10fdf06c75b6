//! Decisions: turns commands to a schedule into events.

use std::sync::Arc;

use super::event::{
    Catchup, ScheduleCreated, ScheduleEnabled, ScheduleEvent, ScheduleFired, ScheduleId, ScheduleSkipped,
    ScheduleUpdated, SkipCause,
};
use super::fold::{Recorded, Schedule, fold};
use crate::core::digest::sha256;
use crate::core::envelope::IllegalEvent;
use crate::core::event::{ExecutionId, Request};
use crate::core::label::ScheduleLabel;
use crate::core::time::Timestamp;

/// Computes the fire times of a cron expression.
pub trait Calendar {
    /// Returns the first fire time after `time`; `None` if there is none.
    fn next_after(&self, time: Timestamp) -> Option<Timestamp>;
}

impl<F: Fn(Timestamp) -> Option<Timestamp>> Calendar for F {
    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self(time)
    }
}

/// A command to a schedule.
#[derive(Clone, Debug)]
pub enum Command {
    /// Change the expression and the time zone. The calendar must belong to the new ones.
    Update {
        /// The expression.
        expression: Arc<str>,
        /// The time zone.
        timezone: Arc<str>,
    },
    /// Start to fire again. Has no effect if it is enabled.
    Enable(Request),
    /// Stop firing. Has no effect if it is disabled.
    Disable(Request),
    /// Stop firing for good.
    Delete(Request),
    /// Fire for the times that are due, and skip those beyond the catch-up limit.
    Fire(CatchupLimits),
    /// Skip the times that are due, because the schedule is about to be changed and cannot fire.
    Skip,
}

/// How many of the due times to fire for.
#[derive(Clone, Copy, Debug)]
pub struct CatchupLimits {
    /// Whether an engine was running when the first of them became due. Then it is only late, and fires in any case.
    pub attended: bool,
    /// The maximum number of missed fires to catch up on, for [`Catchup::RunAll`].
    pub limit: u32,
}

/// The result of a command: events to append, and executions to start in the same batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// The executions to start, in the order of their times.
    pub fires: Vec<Fire>,
}

/// An execution to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// Its id.
    pub execution: ExecutionId,
    /// The time that it is scheduled for.
    pub scheduled: Timestamp,
}

/// Why a command was rejected. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It was deleted.
    #[error("the schedule was deleted")]
    Deleted,
    /// The current state does not allow the command.
    #[error("{0}")]
    Impossible(String),
}

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self::Impossible(format!("{} {}", illegal.event, illegal.what))
    }
}

/// Returns the id of the execution that a fire starts: a UUIDv7 of the scheduled time whose other bits are a hash of
/// the schedule and that time. Being deterministic, it ensures that a fire cannot start two executions.
#[must_use]
pub fn execution_of_fire(schedule: ScheduleId, scheduled: Timestamp) -> ExecutionId {
    let hash = sha256(&[schedule.0.as_slice(), &scheduled.0.to_be_bytes()].concat());
    let millis = u64::try_from(scheduled.0 / 1_000).unwrap_or(0).to_be_bytes();
    let mut id = [0; 16];
    id[..6].copy_from_slice(&millis[2..]);
    id[6..].copy_from_slice(&hash[..10]);
    id[6] = 0x70 | (id[6] & 0x0f);
    id[8] = 0x80 | (id[8] & 0x3f);
    ExecutionId(id)
}

/// Creates a schedule. The calendar and `now` determine the first fire time; `created.next` is ignored.
///
/// # Errors
/// [`Rejection::Impossible`] if the schedule would never fire.
pub fn create(
    id: ScheduleId,
    created: ScheduleCreated,
    calendar: &dyn Calendar,
    now: Timestamp,
) -> Result<(Schedule, Decision), Rejection> {
    let next = calendar.next_after(now);
    if next.is_none() {
        return Err(never_fires(&created.expression, &created.timezone));
    }
    let recorded = Recorded { seq: 0, time: now, event: ScheduleEvent::Created(ScheduleCreated { next, ..created }) };
    let state = fold(None, id, &recorded)?;
    Ok((state, Decision { events: vec![recorded], fires: Vec::new() }))
}

/// Decides on a command, and folds the resulting events into the state.
///
/// # Errors
/// [`Rejection`]; the state is unchanged.
pub fn decide(
    state: &mut Schedule,
    command: Command,
    calendar: &dyn Calendar,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if state.is_deleted() {
        return Err(Rejection::Deleted);
    }
    // Schedules use the wall clock, which may be behind the time of the last event.
    let time = now.max(state.last());
    let mut decider = Decider { state, calendar, now, time, decision: Decision::default() };
    decider.handle(command)?;
    Ok(decider.decision)
}

struct Decider<'a> {
    state: &'a mut Schedule,
    calendar: &'a dyn Calendar,
    /// The wall clock, which decides what is due.
    now: Timestamp,
    /// The time of the new events.
    time: Timestamp,
    decision: Decision,
}

impl Decider<'_> {
    fn emit(&mut self, event: ScheduleEvent) -> Result<(), Rejection> {
        let recorded = Recorded { seq: self.state.next_seq(), time: self.time, event };
        self.state.apply(&recorded)?;
        self.decision.events.push(recorded);
        Ok(())
    }

    fn handle(&mut self, command: Command) -> Result<(), Rejection> {
        match command {
            Command::Update { expression, timezone } => {
                let is_same = expression == *self.state.expression() && timezone == *self.state.timezone();
                // If nothing changes, a time that is due stays due.
                let due = self.state.next().filter(|due| is_same && *due <= self.now);
                let next = due.or_else(|| self.calendar.next_after(self.now));
                if next.is_none() {
                    return Err(never_fires(&expression, &timezone));
                }
                self.emit(ScheduleEvent::Updated(ScheduleUpdated { expression, timezone, next }))
            }
            Command::Enable(_) if self.state.is_enabled() => Ok(()),
            Command::Enable(request) => {
                let next = self.calendar.next_after(self.now);
                self.emit(ScheduleEvent::Enabled(ScheduleEnabled { request, next }))
            }
            Command::Disable(_) if !self.state.is_enabled() => Ok(()),
            Command::Disable(request) => self.emit(ScheduleEvent::Disabled(request)),
            Command::Delete(request) => self.emit(ScheduleEvent::Deleted(request)),
            Command::Fire(limits) => self.fire(limits),
            Command::Skip => self.skip(SkipCause::CouldNotFire),
        }
    }

    fn fire(&mut self, limits: CatchupLimits) -> Result<(), Rejection> {
        let caught_up = match self.state.catchup() {
            Catchup::Skip => 0,
            Catchup::RunAll => limits.limit,
        };
        let allowed = u64::from(caught_up) + u64::from(limits.attended);
        for _ in 0..allowed {
            let Some(scheduled) = self.state.next().filter(|due| *due <= self.now) else { return Ok(()) };
            let execution = execution_of_fire(self.state.id(), scheduled);
            let next = self.calendar.next_after(scheduled);
            self.emit(ScheduleEvent::Fired(ScheduleFired { scheduled, execution, next }))?;
            self.decision.fires.push(Fire { execution, scheduled });
        }
        self.skip(match self.state.catchup() {
            Catchup::Skip => SkipCause::Missed,
            Catchup::RunAll => SkipCause::LimitReached { limit: limits.limit },
        })
    }

    /// Skips all times that are due, if any.
    fn skip(&mut self, why: SkipCause) -> Result<(), Rejection> {
        let Some(first) = self.state.next().filter(|due| *due <= self.now) else { return Ok(()) };
        let next = self.calendar.next_after(self.now);
        self.emit(ScheduleEvent::Skipped(ScheduleSkipped { first, until: self.now, why, next }))
    }
}

fn never_fires(expression: &str, timezone: &str) -> Rejection {
    Rejection::Impossible(format!("'{expression}' in {timezone} never fires"))
}

/// Returns the label of a schedule for the listing.
#[must_use]
pub fn label(state: &Schedule) -> ScheduleLabel {
    ScheduleLabel {
        workflow: state.workflow().clone(),
        expression: state.expression().clone(),
        timezone: state.timezone().clone(),
        catchup: state.catchup(),
        enabled: state.is_enabled(),
        next: state.next(),
        last_run: state.last_run(),
        created: state.created(),
        updated: state.updated(),
    }
}
