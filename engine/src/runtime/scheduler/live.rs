//! Live executions, schedules and triggers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::outbox::Outbox;
use crate::core::context::digest;
use crate::core::decide::Effect;
use crate::core::event::{Cause, ExecutionId};
use crate::core::fold::Recorded;
use crate::core::schedule::Schedule;
use crate::core::state::Execution;
use crate::core::time::Timestamp;
use crate::core::trigger::{Trigger as TriggerState, TriggerId};
use crate::runtime::completion::{Answer, Completion, Durable, Promise};
use crate::runtime::cron::CronExpression;
use crate::runtime::trigger::Trigger;
use crate::runtime::unfinished::Unfinished;
use crate::runtime::workflow::Workflow;

/// A live execution.
pub(super) struct Live {
    pub(super) state: Execution,
    pub(super) workflow: Arc<Workflow>,
    pub(super) completion: Arc<Completion>,
    /// Events of this turn, not yet handed to the log.
    pub(super) events: Vec<Recorded>,
    pub(super) effects: Vec<Effect>,
    /// Answers of this turn, due once all events so far are durable.
    pub(super) answers: Vec<Answer>,
    /// Completes when the last batch handed to the log is durable, and so all batches before it.
    pub(super) durable: Arc<Promise<Durable>>,
    pub(super) in_runnable: bool,
    /// Its entry in the timer queue.
    pub(super) timer: Option<Timestamp>,
}

/// A schedule that is not deleted.
pub(super) struct LiveSchedule {
    pub(super) state: Schedule,
    /// Its parsed expression; `None` if this version cannot parse it.
    pub(super) calendar: Option<CronExpression>,
    /// Whether this engine has caught up with the fires that are due.
    pub(super) caught_up: bool,
    pub(super) outbox: Outbox,
    pub(super) alarm: Option<Timestamp>,
}

impl LiveSchedule {
    /// A schedule as found in the log, not yet caught up.
    pub(super) fn from_log(state: Schedule) -> Self {
        let calendar = CronExpression::parse(state.expression(), state.timezone());
        let calendar = calendar.map_err(|error| {
            tracing::error!(schedule = %state.id(), %error, "the schedule cannot fire: its expression is invalid");
        });
        Self { state, calendar: calendar.ok(), caught_up: false, outbox: Outbox::default(), alarm: None }
    }
}

/// A trigger that the log knows.
pub(super) struct LiveTrigger {
    pub(super) state: TriggerState,
    /// Its poll function, if it is registered in this process.
    pub(super) polled: Option<Arc<Trigger>>,
    /// Whether a poll is under way.
    pub(super) polling: bool,
    pub(super) last_poll: Option<Timestamp>,
    /// Its unfinished executions, with the digest of their input.
    pub(super) running: BTreeMap<ExecutionId, [u8; 32]>,
    pub(super) outbox: Outbox,
    pub(super) alarm: Option<Timestamp>,
}

impl LiveTrigger {
    /// A trigger as found in the log, not yet polled.
    pub(super) fn from_log(state: TriggerState) -> Self {
        Self {
            state,
            polled: None,
            polling: false,
            last_poll: None,
            running: BTreeMap::new(),
            outbox: Outbox::default(),
            alarm: None,
        }
    }
}

/// The triggers found in the log, with their unfinished executions.
pub(super) fn live_triggers(
    found: BTreeMap<TriggerId, TriggerState>,
    unfinished: &BTreeMap<ExecutionId, Unfinished>,
) -> BTreeMap<TriggerId, LiveTrigger> {
    let found = found.into_iter().map(|(id, state)| (id, LiveTrigger::from_log(state)));
    let mut triggers: BTreeMap<_, _> = found.collect();
    for (execution, unfinished) in unfinished {
        if let Unfinished::Resumable(state) = unfinished
            && let Cause::Trigger { name } = state.cause()
            && let Some(trigger) = triggers.get_mut(&TriggerId::of(name))
        {
            trigger.running.insert(*execution, digest(&state.input()));
        }
    }
    triggers
}
