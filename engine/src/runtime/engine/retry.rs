//! Retrying executions that have failed or were cancelled.

use cloacina_store::log::ReadError;

use super::{Engine, EngineError, StartError, StartRequest};
use crate::core::event::{ExecutionId, Request};
use crate::core::state::Execution;
use crate::runtime::fault::LogFault;
use crate::runtime::ids::stream_of;
use crate::runtime::message::{Message, Retried, Retry};
use crate::runtime::outcome::listed;
use crate::runtime::rebuild::{RebuildError, rebuild};

impl Engine {
    /// Continues a failed or cancelled execution from what failed, under the same id, with the workflow that is
    /// registered now. Returns once that is durable. Completed tasks never run again and keep their writes; see
    /// [`crate::core::fold`] for the others. The retry policies of the tasks and the timeout of the execution begin
    /// again; the timeouts are those of this engine's configuration.
    ///
    /// # Errors
    /// [`EngineError::Rejected`] with the reason and the next step: the execution has not failed, it is held, its
    /// values were erased, or its workflow is not registered. See [`EngineError`] for the others. Nothing was changed.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::sync::atomic::{AtomicBool, Ordering};
    /// # use cloacina_engine::core::event::{Request, TaskError};
    /// # use cloacina_engine::runtime::engine::{Engine, EngineConfig, ExecutionStatus, StartRequest};
    /// # use cloacina_engine::runtime::task::Task;
    /// # use cloacina_engine::runtime::workflow::{Registry, Workflow};
    /// # let registry = Arc::new(Registry::default());
    /// # static IS_UP: AtomicBool = AtomicBool::new(false);
    /// # let load = Task::new("load", |_| match IS_UP.load(Ordering::Relaxed) {
    /// #     true => Ok(()),
    /// #     false => Err(TaskError { kind: "Down".into(), ..TaskError::default() }),
    /// # });
    /// # registry.register(Workflow::new("etl", [load])?);
    /// # let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
    /// # let engine = Engine::open(log, registry, EngineConfig::default())?;
    /// let execution = engine.start(StartRequest::new("etl"))?;
    /// assert_eq!(engine.wait(execution, None)?.status, ExecutionStatus::Failed);
    /// # IS_UP.store(true, Ordering::Relaxed);
    /// engine.retry(execution, Request { by: "ann".into(), reason: Some("the server is up again".into()) })?;
    /// assert_eq!(engine.wait(execution, None)?.status, ExecutionStatus::Completed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn retry(&self, execution: ExecutionId, request: Request) -> Result<(), EngineError> {
        self.ask_for_retry(execution, &request, false)
    }

    /// Retries the execution that a request attaches to, if it has failed and the request asks for that.
    pub(super) fn retry_if_failed(&self, request: &StartRequest) -> Result<(), StartError> {
        let (Some(execution), Some(by)) = (request.execution, &request.retry_failed) else { return Ok(()) };
        let entry = match self.log.stream(stream_of(execution)) {
            Ok(entry) => entry,
            // The start tells what is wrong.
            Err(_) => return Ok(()),
        };
        if listed(&entry, None).is_ok_and(|listed| listed.workflow != request.workflow) {
            return Ok(());
        }
        self.ask_for_retry(execution, by, true).map_err(|error| StartError::NotRetried(Box::new(error)))
    }

    fn ask_for_retry(
        &self,
        execution: ExecutionId,
        request: &Request,
        only_if_failed: bool,
    ) -> Result<(), EngineError> {
        let mut history = None;
        loop {
            let retry = Retry { execution, request: request.clone(), only_if_failed, history: history.take() };
            match self.ask(|reply| Message::Retry { retry, reply }).unwrap_or(Err(EngineError::ShutDown))? {
                Retried::Done => {
                    self.waits.renew(execution);
                    return Ok(());
                }
                Retried::NeedsHistory => history = self.history_to_continue(execution)?.map(Box::new),
            }
        }
    }

    /// Returns an execution as the log has it; `None` if its start is not in the log yet.
    fn history_to_continue(&self, execution: ExecutionId) -> Result<Option<Execution>, EngineError> {
        let state = match rebuild(&*self.log, execution) {
            Ok(state) => state,
            Err(RebuildError::Read(ReadError::NoStream(_)) | RebuildError::Empty(_)) => return Ok(None),
            Err(RebuildError::Erased { .. }) => return Err(erased(execution)),
            Err(error) => return Err(EngineError::Log(error.into())),
        };
        match self.log.erasures(stream_of(execution)).map_err(LogFault::from)?.is_empty() {
            true => Ok(Some(state)),
            false => Err(erased(execution)),
        }
    }
}

fn erased(execution: ExecutionId) -> EngineError {
    EngineError::Rejected {
        execution,
        why: "values of its history were erased, and its tasks could read them; start the work again under another id"
            .to_owned(),
    }
}
