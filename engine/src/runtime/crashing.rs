//! A log under which an engine dies at a moment that a test chooses, as if its process had been killed there.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cloacina_store::keeper::{Change, ChangeError, Changed, Keeper};
use cloacina_store::log::{Acknowledge, AppendError, Batch, EventLog, LogReader};
use cloacina_store::record::{StreamId, StreamKind};

use super::ids::execution_of;
use super::lock::lock;
use crate::core::event::{ExecutionId, Seq};

/// Wraps a log. Once a chosen event is durable, nothing that the engine decides reaches the log any more, and nobody hears
/// of what was decided: the log is left as a process leaves it that is killed at that moment. Events that were decided
/// together are in the log together, so those of the same batch are there, too.
///
/// The engine takes it for a log that has failed. Shut it down, open another on the same log, and see what the recovery
/// makes of it.
#[derive(Clone)]
pub struct CrashingLog {
    inner: Arc<dyn EventLog>,
    shared: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    armed: Option<Seq>,
    crashed: Option<(ExecutionId, Seq)>,
    /// Whether the batch at which it crashed is durable.
    done: bool,
}

impl CrashingLog {
    /// A log that works as the other one does, until a crash is asked for.
    #[must_use]
    pub fn new(inner: Arc<dyn EventLog>) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// From now on, the first execution whose event `seq` is written takes the engine down.
    pub fn crash_after(&self, seq: Seq) {
        lock(&self.shared.0).armed = Some(seq);
    }

    /// Where it crashed: the execution, and its last event in the log. Waits for that, but not longer than `time`.
    #[must_use]
    pub fn crashed(&self, time: Duration) -> Option<(ExecutionId, Seq)> {
        let waited = self.shared.1.wait_timeout_while(lock(&self.shared.0), time, |state| !state.done);
        let (state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.crashed.filter(|_| state.done)
    }

    /// Whether this batch is the last one that reaches the log; `Err` if it comes too late for that.
    fn takes(&self, batch: &Batch) -> Result<bool, AppendError> {
        let mut state = lock(&self.shared.0);
        if let Some((execution, seq)) = state.crashed {
            return Err(gone(execution, seq));
        }
        let Some(armed) = state.armed else { return Ok(false) };
        let last = |frame: &cloacina_store::log::Frame| frame.expected_seq + frame.bodies.len() as u64;
        let hit = batch
            .frames
            .iter()
            .find(|frame| frame.kind == StreamKind::Execution && (frame.expected_seq..last(frame)).contains(&armed));
        if let Some(frame) = hit {
            state.crashed = Some((execution_of(frame.stream), last(frame) - 1));
        }
        Ok(hit.is_some())
    }
}

fn gone(execution: ExecutionId, seq: Seq) -> AppendError {
    AppendError::Failed(format!("a test had the engine crash after event {seq} of execution {execution}"))
}

impl EventLog for CrashingLog {
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge) {
        match self.takes(&batch) {
            Err(error) => acknowledge(Err(error)),
            Ok(false) => self.inner.append_then(batch, acknowledge),
            Ok(true) => {
                let shared = self.shared.clone();
                self.inner.append_then(
                    batch,
                    Box::new(move |appended| {
                        let mut state = lock(&shared.0);
                        state.done = true;
                        let crashed = state.crashed;
                        drop(state);
                        shared.1.notify_all();
                        let never_told = appended.and_then(|told| match crashed {
                            Some((execution, seq)) => Err(gone(execution, seq)),
                            None => Ok(told),
                        });
                        acknowledge(never_told);
                    }),
                );
            }
        }
    }

    fn post(&self, stream: StreamId, notice: Option<Arc<[u8]>>) {
        self.inner.post(stream, notice);
    }

    fn flushes(&self) -> u64 {
        self.inner.flushes()
    }

    fn close(&self) -> Result<(), AppendError> {
        self.inner.close()
    }
}

impl Keeper for CrashingLog {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        self.inner.change(change)
    }
}

impl LogReader for CrashingLog {
    cloacina_store::read_through!(self => self.inner);
}
