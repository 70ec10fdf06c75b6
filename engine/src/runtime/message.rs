//! The messages that the scheduler receives, and its replies.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use cloacina_store::log::AppendError;
use cloacina_store::record::{StreamId, StreamKind};
use crossbeam_channel::Sender;

use super::attempt::{AttemptActivity, AttemptKey, SlotWaiter, WaitTicket};
use super::clock::Settled;
use super::completion::{Completion, Waiter};
use super::config::StartRequest;
use super::cron::CronExpression;
use super::errors::{EngineError, StartError, StartManyError, WaitError};
use super::outcome::Outcome;
use super::schedules::ScheduleError;
use super::trigger::PollResult;
use super::triggers::TriggerError;
use crate::core::event::{Attempt, ExecutionId, Reads, Request, TaskError, TaskId};
use crate::core::schedule::{self, ScheduleCreated, ScheduleId};
use crate::core::standing::Standing;
use crate::core::state::Execution;
use crate::core::task_context::Write;
use crate::core::time::Timestamp;
use crate::core::trigger::{self, TriggerId};

/// A message to the scheduler.
pub(crate) enum Message {
    /// Start an execution. The reply is sent once its start is durable.
    Start { request: StartRequest, id: ExecutionId, reply: Reply<Result<ExecutionId, StartError>> },
    /// Start an execution, and wait for its end.
    Execute { request: StartRequest, id: ExecutionId, then: Box<dyn FnOnce(Executed) + Send> },
    /// Start executions together. The reply is sent once all starts are durable.
    StartMany { starts: Vec<(ExecutionId, StartRequest)>, reply: Reply<Result<(), StartManyError>> },
    /// Wait for the end of an execution, if it is live.
    Wait { execution: ExecutionId, waiter: Waiter, reply: Reply<Attached> },
    /// Attempts have ended.
    Finished(Vec<Finished>),
    /// A wait for an execution, without a timeout, began.
    WaitBegins { ticket: WaitTicket, wait: NestedWait },
    /// That wait ended.
    WaitEnds { ticket: WaitTicket },
    /// Sets the callback for a possible stall of the slots.
    OnStall(Box<dyn Fn() + Send>),
    /// A report of what the running attempts do.
    Activities(Vec<Activity>),
    /// An attempt releases its slot or requests one.
    Slot { attempt: AttemptKey, request: SlotRequest },
    /// The timeout of an attempt starts to count now, or does not count yet.
    Counts { attempt: AttemptKey, counts: bool },
    /// A workflow was registered.
    Registered,
    /// Cancel, pause, unpause or resume an execution.
    Control { execution: ExecutionId, control: Control, reply: Reply<Result<(), EngineError>> },
    /// Retry a failed or cancelled execution. The reply is sent once the retry is durable.
    Retry { retry: Retry, reply: Reply<Result<Retried, EngineError>> },
    /// Get the current outcome of a live execution. The reply is sent once everything in it is durable.
    Peek { execution: ExecutionId, reply: Reply<Option<Box<Outcome>>> },
    /// The end of an execution is durable, and everyone who waited for this completion was answered.
    Over { execution: ExecutionId, completion: Weak<Completion> },
    /// The log rejected a batch of an execution and keeps working: this engine stops running that execution, and no
    /// other.
    Refused { execution: ExecutionId, error: AppendError },
    /// The log has failed.
    LogFailed(AppendError),
    /// Create or change a schedule.
    Schedules(Box<ScheduleRequest>),
    /// A poll of a trigger ended, or a request on triggers.
    Triggers(TriggerRequest),
    /// The log rejected a batch of a schedule or a trigger and keeps working: this engine stops running it.
    SourceRefused { source: Source, error: AppendError },
    /// Reply once the engine is idle: a virtual clock waits to advance.
    Settle { reply: Reply<Settled> },
    /// The last batch of an execution (or of a schedule or trigger) is durable, and a virtual clock waits for that.
    Durable(Option<ExecutionId>),
    /// Stop after at most `grace`.
    Shutdown { grace: Duration, reply: Reply<Result<(), EngineError>> },
}

/// A request on schedules. The reply is sent once the resulting events are durable.
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
        /// The parsed new expression, if it changes.
        calendar: Option<CronExpression>,
        reply: Reply<Result<(), ScheduleError>>,
    },
}

/// A request on triggers, or the result of a poll.
pub(crate) enum TriggerRequest {
    /// A poll has ended.
    Polled { id: TriggerId, result: PollResult },
    /// The reply is sent once the resulting events are durable.
    Change { name: Arc<str>, command: trigger::Command, reply: Reply<Result<(), TriggerError>> },
    /// The reply is sent once all events of all triggers are durable.
    AllDurable { reply: Reply<Result<(), TriggerError>> },
    /// When this engine last polled each trigger.
    LastPolls { reply: Reply<BTreeMap<TriggerId, Timestamp>> },
}

/// A stream that starts executions: a schedule or a trigger.
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

/// What one running attempt does.
pub(crate) type Activity = (AttemptKey, AttemptActivity);

/// A wait for an execution, without a timeout.
pub(crate) struct NestedWait {
    /// The waiting attempt; `None` if unknown, or if the waiter is no attempt.
    pub(crate) attempt: Option<AttemptKey>,
    pub(crate) execution: ExecutionId,
    /// Called at most once, if the wait can never end.
    pub(crate) refuse: Box<dyn FnOnce(WaitError) + Send>,
}

/// A request of an attempt about its slot.
pub(crate) enum SlotRequest {
    /// Release the slot while the attempt waits.
    GiveBack,
    /// Take a slot again.
    Take(SlotWaiter),
}

/// A user's request on an execution.
pub(crate) enum Control {
    Cancel(Option<String>),
    Pause(Option<String>),
    Unpause,
    Resume,
}

/// A request to retry an execution.
pub(crate) struct Retry {
    pub(crate) execution: ExecutionId,
    /// Who requests it, and why.
    pub(crate) request: Request,
    /// Whether to leave alone an execution that has not failed. Otherwise it is an error.
    pub(crate) only_if_failed: bool,
    /// The execution as the log has it: folding a long history is no work for the scheduler's thread.
    pub(crate) history: Option<Box<Execution>>,
}

/// The result of [`Message::Retry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retried {
    /// It runs again, or was left alone.
    Done,
    /// Ask again with the execution as the log has it now.
    NeedsHistory,
}

/// The result of [`Message::Execute`].
pub(crate) enum Executed {
    Refused(StartError),
    Ended(Result<Arc<Outcome>, WaitError>),
    /// It exists and is not live: look it up in the log.
    NotLive,
}

/// The reply to [`Message::Wait`].
pub(crate) enum Attached {
    /// The waiter will be called.
    Waiting,
    /// The execution is held; returns the waiter.
    Blocked(Box<Standing>, Waiter),
    /// It does not run here: it is over, or not in this log, or the log has failed with this error. Returns the waiter.
    NotLive(Waiter, Option<AppendError>),
}
