//! A log for tests that simulates a killed process at a chosen event.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cloacina_store::keeper::{Change, ChangeError, Changed, Keeper};
use cloacina_store::log::{Acknowledge, AppendError, Batch, EventLog, LogReader};
use cloacina_store::record::{StreamId, StreamKind};

use super::ids::execution_of;
use super::lock::lock;
use crate::core::event::{ExecutionId, Seq};

/// Wraps a log. Once a chosen event is durable, no further batch reaches the log, and none is acknowledged: the log is
/// left as if the process had been killed at that moment. The other events of the same batch are in the log, too.
///
/// To the engine, the log has failed. Shut it down, open another engine on the inner log, and check the recovery.
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
    /// Wraps a log. It behaves like `inner` until [`CrashingLog::crash_after`] takes effect.
    #[must_use]
    pub fn new(inner: Arc<dyn EventLog>) -> Self {
        Self { inner, shared: Arc::default() }
    }

    /// Crashes the engine as soon as any execution writes its event `seq`.
    pub fn crash_after(&self, seq: Seq) {
        lock(&self.shared.0).armed = Some(seq);
    }

    /// Waits up to `time` for the crash. Returns the execution and its last event in the log.
    #[must_use]
    pub fn crashed(&self, time: Duration) -> Option<(ExecutionId, Seq)> {
        let waited = self.shared.1.wait_timeout_while(lock(&self.shared.0), time, |state| !state.done);
        let (state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.crashed.filter(|_| state.done)
    }

    /// Whether this batch is the last one that reaches the log; `Err` for every batch after it.
    fn is_last_batch(&self, batch: &Batch) -> Result<bool, AppendError> {
        let mut state = lock(&self.shared.0);
        if let Some((execution, seq)) = state.crashed {
            return Err(crash_error(execution, seq));
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

fn crash_error(execution: ExecutionId, seq: Seq) -> AppendError {
    AppendError::Failed(format!("simulated crash after event {seq} of execution {execution}"))
}

impl EventLog for CrashingLog {
    fn append_then(&self, batch: Batch, acknowledge: Acknowledge) {
        match self.is_last_batch(&batch) {
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
                        let result = appended.and_then(|appended| match crashed {
                            Some((execution, seq)) => Err(crash_error(execution, seq)),
                            None => Ok(appended),
                        });
                        acknowledge(result);
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
