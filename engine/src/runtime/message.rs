//! What the scheduler is told, by whom it is asked, and what it answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina_store::log::AppendError;
use cloacina_store::record::{StreamId, StreamKind};
use crossbeam_channel::Sender;

use super::attempt::{AttemptActivity, AttemptKey, SlotWaiter, WaitTicket};
use super::clock::Settled;
use super::completion::Waiter;
use super::config::StartRequest;
use super::cron::CronExpression;
use super::errors::{EngineError, StartError, StartManyError, WaitError};
use super::outcome::Outcome;
use super::schedules::ScheduleError;
use super::trigger::PollResult;
use super::triggers::TriggerError;
use crate::core::event::{Attempt, ExecutionId, Reads, TaskError, TaskId};
use crate::core::schedule::{self, ScheduleCreated, ScheduleId};
use crate::core::standing::Standing;
use crate::core::task_context::Write;
use crate::core::time::Timestamp;
use crate::core::trigger::{self, TriggerId};

/// What the scheduler is told.
pub(crate) enum Message {
    /// Start an execution. The answer comes when its start is durable.
    Start { request: StartRequest, id: ExecutionId, reply: Reply<Result<ExecutionId, StartError>> },
    /// Start an execution, and wait for its end.
    Execute { request: StartRequest, id: ExecutionId, then: Box<dyn FnOnce(Executed) + Send> },
    /// Start executions together. The answer comes when all starts are durable.
    StartMany { starts: Vec<(ExecutionId, StartRequest)>, reply: Reply<Result<(), StartManyError>> },
    /// Wait for the end of an execution, if it is live.
    Wait { execution: ExecutionId, waiter: Waiter, reply: Reply<Attached> },
    /// Attempts have ended.
    Finished(Vec<Finished>),
    /// Somebody waits for an execution, without a limit.
    WaitBegins { ticket: WaitTicket, wait: NestedWait },
    /// It does no more.
    WaitEnds { ticket: WaitTicket },
    /// What is called when the slots seem to stall.
    OnStall(Box<dyn Fn() + Send>),
    /// What the running attempts do.
    Activities(Vec<Activity>),
    /// An attempt asks something about its slot.
    Slot { attempt: AttemptKey, request: SlotRequest },
    /// The time of an attempt counts from now on, or not yet.
    Counts { attempt: AttemptKey, counts: bool },
    /// A workflow was registered.
    Registered,
    /// Somebody asks something of an execution.
    Control { execution: ExecutionId, control: Control, reply: Reply<Result<(), EngineError>> },
    /// Somebody asks how a live execution stands. The answer comes when all that it tells is durable.
    Peek { execution: ExecutionId, reply: Reply<Option<Box<Outcome>>> },
    /// The end of an execution is durable.
    Over(ExecutionId),
    /// The log refused a batch of an execution and goes on: the execution is lost to this engine, and no other.
    Refused { execution: ExecutionId, error: AppendError },
    /// The log has failed.
    LogFailed(AppendError),
    /// Something is asked of the schedules.
    Schedules(Box<ScheduleRequest>),
    /// Something is asked of the triggers, or told of them.
    Triggers(TriggerRequest),
    /// The log refused a batch of a schedule or a trigger and goes on: it is lost to this engine.
    SourceRefused { source: Source, error: AppendError },
    /// Say when nothing moves any more: a virtual clock wants to move on.
    Settle { reply: Reply<Settled> },
    /// The last batch of an execution (or of something else) is durable, and a virtual clock waits for that.
    Durable(Option<ExecutionId>),
    /// Stop, after at most this long.
    Shutdown { grace: Duration, reply: Reply<Result<(), EngineError>> },
}

/// What is asked of schedules. The answer comes when what was decided is durable.
pub(crate) enum ScheduleRequest {
    Create {
        id: ScheduleId,
        created: Box<ScheduleCreated>,
        calendar: CronExpression,
        reply: Reply<Result<ScheduleId, ScheduleError>>,
    },
    Change {
        id: ScheduleId,
        command: schedule::Command,
        /// Of the new expression, if it gets one.
        calendar: Option<CronExpression>,
        reply: Reply<Result<(), ScheduleError>>,
    },
}

/// What is asked of triggers, and told of them.
pub(crate) enum TriggerRequest {
    /// A poll has ended.
    Polled { id: TriggerId, result: PollResult },
    /// The answer comes when what was decided is durable.
    Change { name: Arc<str>, command: trigger::Command, reply: Reply<Result<(), TriggerError>> },
    /// Answered once everything that was decided on any trigger is durable.
    AllDurable { reply: Reply<Result<(), TriggerError>> },
    /// When this engine polled each trigger last.
    LastPolls { reply: Reply<BTreeMap<TriggerId, Timestamp>> },
}

/// A stream that starts executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Schedule(ScheduleId),
    Trigger(TriggerId),
}

impl Source {
    pub(crate) fn stream(self) -> StreamId {
        match self {
            Self::Schedule(id) => StreamId::from_bytes(id.0),
            Self::Trigger(id) => StreamId::from_bytes(id.0),
        }
    }

    pub(crate) fn kind(self) -> StreamKind {
        match self {
            Self::Schedule(_) => StreamKind::Schedule,
            Self::Trigger(_) => StreamKind::Trigger,
        }
    }
}

pub(crate) type Reply<T> = Sender<T>;

/// An attempt that has ended.
pub(crate) struct Finished {
    pub(crate) execution: ExecutionId,
    pub(crate) task: TaskId,
    pub(crate) attempt: Attempt,
    pub(crate) writes: Vec<Write>,
    pub(crate) reads: Reads,
    pub(crate) result: Result<(), TaskError>,
}

/// What a running attempt does.
pub(crate) type Activity = (AttemptKey, AttemptActivity);

/// A wait for an execution, without a limit.
pub(crate) struct NestedWait {
    /// The attempt that waits; `None` if that is not known, or none does.
    pub(crate) attempt: Option<AttemptKey>,
    pub(crate) execution: ExecutionId,
    /// Called, at most once, if it cannot end.
    pub(crate) refuse: Box<dyn FnOnce(WaitError) + Send>,
}

/// What an attempt asks about its slot.
pub(crate) enum SlotRequest {
    /// It does not need it for now.
    GiveBack,
    /// It needs one again.
    Take(SlotWaiter),
}

/// What is asked of an execution.
pub(crate) enum Control {
    Cancel(Option<String>),
    Pause(Option<String>),
    Unpause,
    Resume,
}

/// What came of an execution that was to start and end.
pub(crate) enum Executed {
    Refused(StartError),
    Ended(Result<Arc<Outcome>, WaitError>),
    /// It exists and is not live: the log knows more.
    NotLive,
}

/// Whether a wait could be attached to a live execution.
pub(crate) enum Attached {
    /// The waiter will be called.
    Waiting,
    /// The execution is held; the waiter comes back.
    Blocked(Box<Standing>, Waiter),
    /// It does not run here: it is over, or not in this log, or the log has failed, for this reason. The waiter comes
    /// back.
    NotLive(Waiter, Option<AppendError>),
}
