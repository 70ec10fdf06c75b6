//! Shutdown, and failures of the log: of a single batch, or of the log as a whole.

use std::time::{Duration, Instant};

use cloacina_store::log::AppendError;

use super::live::Live;
use super::slots::slot_of;
use super::waiters::Stopping;
use super::{Alarm, Scheduler};
use crate::core::decide::Command;
use crate::core::event::{Attempt, ExecutionId, TaskId};
use crate::core::standing::Standing;
use crate::runtime::errors::{EngineError, WaitError};
use crate::runtime::ids::stream_of;
use crate::runtime::message::{Reply, Source};
use crate::runtime::unfinished::Unfinished;

impl Scheduler {
    /// Begins to stop. If it is stopping already, the shorter grace applies.
    pub(super) fn begin_stop(&mut self, grace: Duration, reply: Reply<Result<(), EngineError>>) {
        let until = Instant::now().checked_add(grace);
        let stopping = self.stopping.get_or_insert(Stopping { until, replies: Vec::new() });
        stopping.until = [stopping.until, until].into_iter().flatten().min();
        stopping.replies.push(reply);
        self.disarm_all();
    }

    /// The log has failed: reports the error to every waiter, and accepts no more work.
    pub(super) fn log_failed(&mut self, error: AppendError) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(%error, "the log failed; the engine accepts no more work");
        self.failed = Some(error.clone());
        for (id, live) in self.live.drain() {
            self.completions.0.remove(id);
            live.completion.complete(Err(WaitError::Log(error.clone().into())));
            live.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
        }
        let sources: Vec<Source> = std::mem::take(&mut self.sources_to_answer);
        for source in sources {
            if let Some(outbox) = self.outbox(source) {
                outbox.fail(&error);
            }
        }
        self.dirty.clear();
        self.dirty_sources.clear();
        self.to_answer.clear();
        self.runnable.clear();
        self.timers.clear();
        self.slots.close();
    }

    /// The log rejected a batch of an execution, whose state is now ahead of its history: drops the live state, and
    /// holds the execution as the log has it.
    pub(super) fn refused(&mut self, execution: ExecutionId, error: &AppendError) {
        let Some(live) = self.forget_live(execution) else { return };
        tracing::error!(%execution, %error, "the log rejected events of this execution; the engine stops running it");
        live.timer.map(|due| self.timers.remove(&(due, Alarm::Execution(execution))));
        for task in live.state.running() {
            let slot = live.state.task(task);
            let attempt = (execution, live.state.graph().name(task).clone(), slot.attempts());
            if let Some(slot) = slot_of(&live.state, &attempt) {
                self.slots.leave(&attempt, slot);
            }
            self.services.workers.stop(execution, live.state.graph().name(task), slot.attempts());
        }
        live.completion.complete(Err(WaitError::Log(error.clone().into())));
        live.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
        if self.services.log.stream(stream_of(execution)).is_ok_and(|entry| entry.open) {
            let standing = Standing::refused(&error.to_string());
            self.services.standings.set(execution, Some(standing.clone()));
            self.held.insert(execution, Unfinished::Unreadable(Box::new(standing)));
        }
    }

    pub(super) fn is_done_stopping(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        self.failed.is_some()
            || stopping.until.is_some_and(|until| Instant::now() >= until)
            || (!self.is_polling() && self.live.values().all(|live| self.is_idle(live)))
    }

    /// Whether no attempt of it runs, except deferred ones, which wait for an unknown time.
    pub(super) fn is_idle(&self, live: &Live) -> bool {
        running_attempts(live).into_iter().all(|(task, attempt)| {
            let attempt = (live.state.id(), task, attempt);
            slot_of(&live.state, &attempt) == Some(None) && !self.slots.is_wanted_by(&attempt)
        })
    }

    /// Abandons what still runs, waits until everything is durable, and closes the log.
    pub(super) fn stop(mut self) {
        let ids: Vec<ExecutionId> = self.live.keys().copied().collect();
        for execution in ids {
            let running: Vec<(TaskId, Attempt)> = self.live.get(&execution).map(running_attempts).unwrap_or_default();
            if running.is_empty() || self.decide(execution, Command::Shutdown).is_err() {
                continue;
            }
            for (task, attempt) in running {
                self.services.workers.stop(execution, &task, attempt);
            }
        }
        self.append_dirty();
        self.services.workers.close();
        // Closing waits for earlier appends. A failed log is closed, too.
        let closed = self.services.log.close().map_err(|error| EngineError::Log(error.into()));
        let closed = match &self.failed {
            Some(error) => Err(EngineError::Log(error.clone().into())),
            None => closed,
        };
        // Finished executions were answered, or will be when the last notice that delays the answer is dropped.
        for (id, live) in self.live.drain().filter(|(_, live)| !live.state.status().is_final()) {
            live.completion.complete(Err(WaitError::ShutDown(id)));
        }
        for reply in self.stopping.into_iter().flat_map(|stopping| stopping.replies) {
            let _asker_may_be_gone = reply.send(closed.clone());
        }
    }
}

fn running_attempts(live: &Live) -> Vec<(TaskId, Attempt)> {
    let graph = live.state.graph();
    live.state.running().map(|task| (graph.name(task).clone(), live.state.task(task).attempts())).collect()
}
