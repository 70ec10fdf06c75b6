//! Starting an execution and waiting for its end in one request.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::{Engine, ExecuteError, NestedWaitGuard, Outcome, StartError, StartRequest, WaitError, WaitTicket};
use crate::core::event::ExecutionId;
use crate::runtime::ids::new_execution_id;
use crate::runtime::message::{Executed, Message};

/// An execution that was started by [`Engine::execute`].
pub struct Executing<'a> {
    engine: &'a Engine,
    execution: ExecutionId,
    ended: Sender<Executed>,
    end: Receiver<Executed>,
    /// Registers the wait as a nested one, while it lives.
    counted: Option<NestedWaitGuard>,
}

impl Engine {
    /// Starts an execution, or attaches to the existing one with that id, to wait for its end: [`Engine::start`] and
    /// [`Engine::wait`] without waiting for the start in between.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use cloacina_engine::runtime::engine::{Engine, EngineConfig, ExecutionStatus, StartRequest};
    /// # use cloacina_engine::runtime::task::Task;
    /// # use cloacina_engine::runtime::workflow::{Registry, Workflow};
    /// # let registry = Arc::new(Registry::default());
    /// # registry.register(Workflow::new("etl", [Task::new("load", |_| Ok(()))])?);
    /// # let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
    /// # let engine = Engine::open(log, registry, EngineConfig::default())?;
    /// let ended = engine.execute(StartRequest::new("etl")).within(Duration::from_secs(10)).expect("it is short")?;
    /// assert_eq!(ended.status, ExecutionStatus::Completed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn execute(&self, request: StartRequest) -> Executing<'_> {
        let id = request.execution.unwrap_or_else(new_execution_id);
        // Two: `NotLive` is followed by a second answer.
        let (ended, end) = crossbeam_channel::bounded(2);
        let executing = Executing { engine: self, execution: id, ended: ended.clone(), end, counted: None };
        if let Err(why) = self.check_values(&request).and_then(|()| self.retry_if_failed(&request)) {
            let _ = ended.send(Executed::Refused(why));
            return executing;
        }
        let mut once = AnsweredOnce(Some(ended));
        let then = Box::new(move |executed| once.answer(executed));
        // If the scheduler is gone, the message is dropped, and `AnsweredOnce` answers.
        let _ = self.messages.send(Message::Execute { request, id, then });
        executing
    }
}

impl Executing<'_> {
    /// Its id.
    #[must_use]
    pub fn execution(&self) -> ExecutionId {
        self.execution
    }

    /// Registers this wait, under a number from [`wait_ticket`](super::wait_ticket), as one of a thread that an attempt
    /// may or may not wait for; see [`Engine::begin_wait`].
    #[must_use]
    pub fn counted_as(mut self, ticket: WaitTicket) -> Self {
        let refused = self.ended.clone();
        let refuse = move |why| drop(refused.try_send(Executed::Ended(Err(why))));
        self.counted = Some(self.engine.watch_as(ticket, None, self.execution, refuse));
        self
    }

    /// Waits for the end, up to `time`; `None` after that.
    ///
    /// # Errors
    /// [`ExecuteError`]: it could not be started, or the wait failed.
    pub fn within(&self, time: Duration) -> Option<Result<Arc<Outcome>, ExecuteError>> {
        loop {
            match self.end.recv_timeout(time) {
                Ok(Executed::Refused(why)) => return Some(Err(why.into())),
                Ok(Executed::Ended(end)) => return Some(end.map_err(Into::into)),
                Ok(Executed::NotLive) => {
                    let ended = self.ended.clone();
                    let done = Box::new(move |end| drop(ended.try_send(Executed::Ended(end))));
                    self.engine.when_done(self.execution, done);
                }
                Err(RecvTimeoutError::Timeout) => return None,
                Err(RecvTimeoutError::Disconnected) => return Some(Err(WaitError::ShutDown(self.execution).into())),
            }
        }
    }
}

/// An answer that is also sent when it is dropped, so that one is sent even if the scheduler ends first.
struct AnsweredOnce(Option<Sender<Executed>>);

impl AnsweredOnce {
    fn answer(&mut self, executed: Executed) {
        if let Some(answer) = self.0.take() {
            // The channel has room for two, and the receiver may be gone.
            let _ = answer.try_send(executed);
        }
    }
}

impl Drop for AnsweredOnce {
    fn drop(&mut self) {
        self.answer(Executed::Refused(StartError::ShutDown));
    }
}
