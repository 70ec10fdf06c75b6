//! Decisions: what a command makes of a schedule.

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

/// Knows when an expression is met.
pub trait Calendar {
    /// The first time after `time` that it fires for, `None` if there is none.
    fn next_after(&self, time: Timestamp) -> Option<Timestamp>;
}

impl<F: Fn(Timestamp) -> Option<Timestamp>> Calendar for F {
    fn next_after(&self, time: Timestamp) -> Option<Timestamp> {
        self(time)
    }
}

/// What is asked of a schedule.
#[derive(Clone, Debug)]
pub enum Command {
    /// Have another expression and time zone; the calendar is theirs.
    Update {
        /// The expression.
        expression: Arc<str>,
        /// The time zone.
        timezone: Arc<str>,
    },
    /// Fire again. Nothing happens if it does.
    Enable(Request),
    /// Fire no more. Nothing happens if it does not.
    Disable(Request),
    /// Fire no more, for ever.
    Delete(Request),
    /// Fire for what is due by now, and skip what is not to be caught up with.
    Fire(CatchupLimits),
    /// Skip what is due by now: the schedule is about to be changed, and cannot fire.
    Skip,
}

/// How much of what is due is fired for.
#[derive(Clone, Copy, Debug)]
pub struct CatchupLimits {
    /// Whether somebody was there when the first of it became due: it is only late then, and fires in any case.
    pub attended: bool,
    /// How many missed fires are caught up with at most, where the schedule is to catch up.
    pub limit: u32,
}

/// What a command makes: events to append, and executions to start in the same batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// The executions, in the order of their times.
    pub fires: Vec<Fire>,
}

/// An execution to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// Its id.
    pub execution: ExecutionId,
    /// The time that is fired for.
    pub scheduled: Timestamp,
}

/// A command that the schedule cannot take. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It was deleted.
    #[error("the schedule was deleted")]
    Deleted,
    /// The state is not one for it.
    #[error("{0}")]
    Impossible(String),
}

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self::Impossible(format!("{} {}", illegal.event, illegal.what))
    }
}

/// The execution of a fire. It follows from the schedule and the time, so that no fire can ever start two: a UUIDv7 of
/// that time, whose other bits are a hash of both.
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

/// Begins a schedule. When it fires first follows from `now` and the calendar; what `created` says of that is not looked
/// at.
///
/// # Errors
/// [`Rejection::Impossible`] if it would never fire.
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

/// Decides on a command, and folds what it decides.
///
/// # Errors
/// [`Rejection`]; the state is as it was.
pub fn decide(
    state: &mut Schedule,
    command: Command,
    calendar: &dyn Calendar,
    now: Timestamp,
) -> Result<Decision, Rejection> {
    if state.is_deleted() {
        return Err(Rejection::Deleted);
    }
    // Schedules go by the clock on the wall, which may be behind the last event.
    let time = now.max(state.last());
    let mut decider = Decider { state, calendar, now, time, decision: Decision::default() };
    decider.handle(command)?;
    Ok(decider.decision)
}

struct Decider<'a> {
    state: &'a mut Schedule,
    calendar: &'a dyn Calendar,
    /// What is due by then is due.
    now: Timestamp,
    /// When it is decided.
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
                // What is due stays due, where nothing changes.
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

    /// Skips what is due by now, if anything is.
    fn skip(&mut self, why: SkipCause) -> Result<(), Rejection> {
        let Some(first) = self.state.next().filter(|due| *due <= self.now) else { return Ok(()) };
        let next = self.calendar.next_after(self.now);
        self.emit(ScheduleEvent::Skipped(ScheduleSkipped { first, until: self.now, why, next }))
    }
}

fn never_fires(expression: &str, timezone: &str) -> Rejection {
    Rejection::Impossible(format!("'{expression}' in {timezone} never fires"))
}

/// What the listing shows of a schedule.
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
