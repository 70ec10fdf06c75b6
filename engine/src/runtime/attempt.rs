//! Which attempt, and the news that it counts no more.

use std::sync::Arc;

use crate::core::event::{Attempt as AttemptNumber, ExecutionId, TaskId};

/// Which attempt runs.
#[derive(Clone, Debug)]
pub struct AttemptInfo {
    /// The execution.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The task.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: AttemptNumber,
}

/// An attempt: its execution, its task, and its number from 1.
pub(crate) type AttemptKey = (ExecutionId, TaskId, AttemptNumber);

/// An attempt that counts no more: it has ended, timed out, its execution was cancelled, or its engine was shut down.
/// Whatever it does from now on is ignored; it should end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "attempt {attempt} at task '{task}' of execution {execution} counts no more: it has ended, timed out, its \
     execution was cancelled, or its engine was shut down"
)]
pub struct AttemptOver {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// Takes a slot that an attempt asked for, or the news that it needs none any more. Called once, on one of the engine's
/// threads: hand over, do not work. Dropped uncalled, the engine is gone.
pub type SlotWaiter = Box<dyn FnOnce(Result<(), AttemptOver>) + Send>;

/// The number of a wait for an execution. Later waits have greater ones.
pub type WaitTicket = u64;

/// What the thread or coroutine of a running attempt does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptActivity {
    /// It goes on only after one of these waits has ended.
    WaitsFor(Vec<WaitTicket>),
    /// It waits without a limit for a lock, an event or a queue. Who wakes it is not known.
    WaitsForLock,
    /// It has been in the same place since the first time it was looked at. It may compute, sleep, read or wait.
    Unmoved,
}
