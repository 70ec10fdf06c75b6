//! What the scheduler owns: live executions, schedules and triggers.

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
    /// Decided in this turn, not yet handed to the log.
    pub(super) events: Vec<Recorded>,
    pub(super) effects: Vec<Effect>,
    /// Answers of this turn, which wait for everything decided so far.
    pub(super) answers: Vec<Answer>,
    /// Whether the last batch that was handed to the log is durable, and so all before it.
    pub(super) durable: Arc<Promise<Durable>>,
    pub(super) in_runnable: bool,
    /// Its entry in the queue of timers.
    pub(super) timer: Option<Timestamp>,
}

/// A schedule that is not deleted.
pub(super) struct LiveSchedule {
    pub(super) state: Schedule,
    /// When its expression is met; `None` if this version cannot read it any more.
    pub(super) calendar: Option<CronExpression>,
    /// Whether this engine has seen to it that everything due until now was fired for.
    pub(super) attended: bool,
    pub(super) outbox: Outbox,
    pub(super) alarm: Option<Timestamp>,
}

impl LiveSchedule {
    /// A schedule that nobody has looked after yet.
    pub(super) fn found(state: Schedule) -> Self {
        let calendar = CronExpression::parse(state.expression(), state.timezone());
        let calendar =
            calendar.map_err(|error| tracing::error!(schedule = %state.id(), %error, "the schedule stands still"));
        Self { state, calendar: calendar.ok(), attended: false, outbox: Outbox::default(), alarm: None }
    }
}

/// A trigger that the log knows.
pub(super) struct LiveTrigger {
    pub(super) state: TriggerState,
    /// What is polled, if this process has it.
    pub(super) polled: Option<Arc<Trigger>>,
    /// Whether a poll is under way.
    pub(super) polling: bool,
    pub(super) last_poll: Option<Timestamp>,
    /// Its executions that may run, with the digest of the context that they began with.
    pub(super) running: BTreeMap<ExecutionId, [u8; 32]>,
    pub(super) outbox: Outbox,
    pub(super) alarm: Option<Timestamp>,
}

impl LiveTrigger {
    /// A trigger that nobody polls yet.
    pub(super) fn found(state: TriggerState) -> Self {
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

/// The triggers that a log was found to hold, with those of their executions that are unfinished.
pub(super) fn live_triggers(
    found: BTreeMap<TriggerId, TriggerState>,
    unfinished: &BTreeMap<ExecutionId, Unfinished>,
) -> BTreeMap<TriggerId, LiveTrigger> {
    let found = found.into_iter().map(|(id, state)| (id, LiveTrigger::found(state)));
    let mut triggers: BTreeMap<_, _> = found.collect();
    for (execution, unfinished) in unfinished {
        if let Unfinished::Whole(state) = unfinished
            && let Cause::Trigger { name } = state.cause()
            && let Some(trigger) = triggers.get_mut(&TriggerId::of(name))
        {
            trigger.running.insert(*execution, digest(&state.input()));
        }
    }
    triggers
}
