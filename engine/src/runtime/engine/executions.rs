//! Waiting for executions, and their outcomes, standings and listing.

use std::sync::Arc;
use std::time::Duration;

use cloacina_store::log::{AppendError, ListingKey, ReadError, StreamFilter};
use cloacina_store::record::StreamKind;
use crossbeam_channel::SendError;

use super::Engine;
use crate::core::event::ExecutionId;
use crate::core::standing::{ExecutionStatus, Standing};
use crate::core::state::Execution;
use crate::runtime::completion::Waiter;
use crate::runtime::errors::{EngineError, WaitError};
use crate::runtime::fault::LogFault;
use crate::runtime::handle::TaskHandle;
use crate::runtime::ids::{ForeignId, execution_of, stream_of};
use crate::runtime::message::{Attached, Message};
use crate::runtime::outcome::{Listed, Outcome, listed, outcome};
use crate::runtime::rebuild::{RebuildError, rebuild};
use crate::runtime::streams::LISTING_PAGE;

impl Engine {
    /// Waits for the end of an execution. Inside a synchronous task, a wait without `timeout` is a [`Engine::wait_in`].
    ///
    /// # Errors
    /// See [`WaitError`]; the execution keeps running.
    pub fn wait(&self, execution: ExecutionId, timeout: Option<Duration>) -> Result<Arc<Outcome>, WaitError> {
        if timeout.is_none()
            && let Some(attempt) = TaskHandle::of_this_thread()
        {
            return self.wait_in(&attempt, execution);
        }
        let wait = self.waits.of(execution, |waiter| self.when_done(execution, waiter));
        match timeout {
            None => wait.forever(),
            Some(waited) => wait.within(waited).unwrap_or(Err(WaitError::TimedOut { execution, waited })),
        }
    }

    /// Calls `done` once, when an execution has ended: immediately on this thread if it has, otherwise on one of the
    /// engine's threads. So `done` must not block.
    pub fn when_done(&self, execution: ExecutionId, done: Waiter) {
        let mut once = CalledOnce { execution, waiter: Some(done) };
        let done: Waiter = Box::new(move |end| once.call(end));
        if let Some(live) = self.completions.find(execution) {
            return live.wait(done);
        }
        self.attach(execution, done);
    }

    /// Lets the scheduler call `done` if the execution runs; otherwise takes its end from the log.
    fn attach(&self, execution: ExecutionId, mut done: Waiter) {
        let mut unfinished_at = None;
        loop {
            let (reply, answer) = crossbeam_channel::bounded(1);
            if let Err(SendError(unsent)) = self.messages.send(Message::Wait { execution, waiter: done, reply }) {
                // The scheduler is gone. The log may still be readable and has the executions that ended before.
                if let Message::Wait { waiter, .. } = unsent {
                    waiter(Self::logged_end(rebuild(&*self.log, execution), execution, None));
                }
                return;
            }
            let failed = match answer.recv() {
                Ok(Attached::NotLive(waiter, failed)) => {
                    done = waiter;
                    failed
                }
                Ok(Attached::Blocked(standing, done)) => return done(Err(WaitError::Blocked { execution, standing })),
                // If the scheduler dropped the callback, `CalledOnce` called it.
                Ok(Attached::Waiting) | Err(_) => return,
            };
            let rebuilt = rebuild(&*self.log, execution);
            match &rebuilt {
                // It was retried after the scheduler answered, and runs now.
                Ok(state)
                    if !state.status().is_final() && failed.is_none() && unfinished_at != Some(state.next_seq()) =>
                {
                    unfinished_at = Some(state.next_seq());
                }
                _ => return done(Self::logged_end(rebuilt, execution, failed)),
            }
        }
    }

    /// Returns the end of an execution that does not run here, as the log has it.
    fn logged_end(
        rebuilt: Result<Execution, RebuildError>,
        execution: ExecutionId,
        failed: Option<AppendError>,
    ) -> Result<Arc<Outcome>, WaitError> {
        match rebuilt {
            Ok(state) if state.status().is_final() => Ok(Arc::new(outcome(&state))),
            Ok(_) => Err(match failed {
                Some(error) => WaitError::Log(error.into()),
                None => WaitError::ShutDown(execution),
            }),
            Err(RebuildError::Read(ReadError::NoStream(_)) | RebuildError::Empty(_)) => {
                Err(WaitError::NotFound(execution))
            }
            Err(RebuildError::Foreign(foreign)) => Err(foreign.into()),
            Err(RebuildError::Read(ReadError::Gone)) => Err(WaitError::ShutDown(execution)),
            Err(error) => Err(WaitError::Log(error.into())),
        }
    }

    /// Returns the current outcome of an execution.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Log`] if its history cannot be read.
    pub fn outcome(&self, execution: ExecutionId) -> Result<Arc<Outcome>, EngineError> {
        if let Some(Some(live)) = self.ask(|reply| Message::Peek { execution, reply }) {
            return Ok(Arc::new(*live));
        }
        let mut outcome = match rebuild(&*self.log, execution) {
            Ok(state) => outcome(&state),
            Err(RebuildError::Read(ReadError::NoStream(_)) | RebuildError::Empty(_)) => {
                return Err(EngineError::NotFound(execution));
            }
            Err(RebuildError::Foreign(foreign)) => return Err(foreign.into()),
            Err(error) => return Err(EngineError::Log(error.into())),
        };
        if let Some(standing) = self.standings.held(execution) {
            outcome.status = standing.status;
            outcome.error = standing.advice();
        }
        Ok(Arc::new(outcome))
    }

    /// Returns the status of an execution, the reason, and what to do. Reads no events, so unlike [`Engine::outcome`]
    /// it also works for an execution whose history is damaged.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Log`] if the log's index cannot be read.
    pub fn standing(&self, execution: ExecutionId) -> Result<Standing, EngineError> {
        self.sync_with_scheduler();
        let entry = match self.log.stream(stream_of(execution)) {
            Ok(entry) if entry.kind == StreamKind::Execution => entry,
            Ok(_) | Err(ReadError::NoStream(_)) => return Err(EngineError::NotFound(execution)),
            Err(error) => return Err(EngineError::Log(error.into())),
        };
        let listed = listed(&entry, self.standings.get(execution)).map_err(LogFault::from)?;
        Ok(listed.standing)
    }

    /// Lists executions, newest first: at most `limit`, filtered by status and workflow, and only those older than
    /// `before`.
    ///
    /// # Errors
    /// [`EngineError::Log`] if the listing cannot be read.
    pub fn executions(
        &self,
        status: Option<ExecutionStatus>,
        workflow: Option<&str>,
        limit: usize,
        before: Option<ExecutionId>,
    ) -> Result<Vec<Listed>, EngineError> {
        self.sync_with_scheduler();
        let before = before.map(|execution| self.listing_key(execution)).transpose()?;
        let mut found = Vec::new();
        let mut filter = StreamFilter {
            kind: Some(StreamKind::Execution),
            open_only: false,
            before,
            limit: limit.clamp(1, LISTING_PAGE),
        };
        while found.len() < limit {
            let page = self.log.streams(&filter).map_err(LogFault::from)?;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.listing_key());
            for entry in &page {
                let listed = listed(entry, self.standings.get(execution_of(entry.stream))).map_err(LogFault::from)?;
                let wanted = status.is_none_or(|status| listed.standing.status == status)
                    && workflow.is_none_or(|workflow| &*listed.workflow == workflow);
                if wanted && found.len() < limit {
                    found.push(listed);
                }
            }
        }
        Ok(found)
    }

    /// The listing key of an execution.
    fn listing_key(&self, execution: ExecutionId) -> Result<ListingKey, EngineError> {
        match self.log.stream(stream_of(execution)) {
            Ok(entry) => {
                ForeignId::check(execution, entry.kind)?;
                Ok(entry.listing_key())
            }
            Err(ReadError::NoStream(_)) => Err(EngineError::NotFound(execution)),
            Err(error) => Err(LogFault::from(error).into()),
        }
    }
}

/// A callback that is also called when it is dropped, so that it runs even if the scheduler ends first.
struct CalledOnce {
    execution: ExecutionId,
    waiter: Option<Waiter>,
}

impl CalledOnce {
    fn call(&mut self, end: Result<Arc<Outcome>, WaitError>) {
        if let Some(waiter) = self.waiter.take() {
            waiter(end);
        }
    }
}

impl Drop for CalledOnce {
    fn drop(&mut self) {
        self.call(Err(WaitError::ShutDown(self.execution)));
    }
}
