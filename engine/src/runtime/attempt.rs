//! The identity of an attempt, its activity, and the error after its end.

use std::sync::Arc;

use crate::core::event::{Attempt as AttemptNumber, ExecutionId, TaskId};

/// Identifies an attempt.
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

/// Identifies an attempt: execution, task, and number from 1.
pub(crate) type AttemptKey = (ExecutionId, TaskId, AttemptNumber);

/// The attempt is over: it has ended or timed out, its execution was cancelled, or its engine was shut down. Its result
/// is ignored; its function should return.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "attempt {attempt} of task '{task}' in execution {execution} is over: it has ended or timed out, its execution was \
     cancelled, or its engine was shut down"
)]
pub struct AttemptOver {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: TaskId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// Called once, when an attempt gets the slot it requested or is over. Runs on one of the engine's threads and must not
/// block. Dropped without a call if the engine is gone.
pub type SlotWaiter = Box<dyn FnOnce(Result<(), AttemptOver>) + Send>;

/// The number of a wait for an execution. Later waits have greater ones.
pub type WaitTicket = u64;

/// What the thread or coroutine of a running attempt is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptActivity {
    /// It waits for one of these waits to end.
    WaitsFor(Vec<WaitTicket>),
    /// It waits without a timeout for a lock, an event or a queue; who will wake it is unknown.
    WaitsForLock,
    /// It has been at the same place in its code since the first check. It may compute, sleep, read or wait.
    Unmoved,
}
