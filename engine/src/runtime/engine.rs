//! The engine: the runtime's public entry point.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cloacina_store::log::{EventLog, ReadError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::{Clock, Follower, Settled, TimeSource, warn_if_ahead};
use super::completion::Completions;
use super::erasing::{EraseError, erase};
use super::fault::LogFault;
use super::ids::new_execution_id;
use super::lock::lock;
use super::message::{Control, Message};
use super::scheduler::{OpenStreams, Scheduler, Services};
use super::standings::Standings;
use super::unfinished::load_unfinished;
use super::waits::Waits;
use super::workers::Workers;
use super::workflow::Registry;
use crate::core::erasure::What;
use crate::core::event::ExecutionId;
use crate::core::time::Timestamp;

mod execute;
mod executions;
mod nested;
mod retry;
mod schedules;
mod triggers;

pub use super::attempt::{AttemptActivity, WaitTicket};
pub use super::config::{EngineConfig, StartRequest};
pub use super::errors::{EngineError, ExecuteError, StartError, StartManyError, WaitError};
pub use super::ids::ForeignId;
pub use super::outcome::{Listed, Outcome, TaskOutcome};
pub use crate::core::standing::{ExecutionStatus, Standing};
pub use execute::Executing;
pub use nested::{NestedWaitGuard, PendingWait, wait_ticket};

/// An engine: one scheduler over one log. [`Engine::shutdown`] closes it; so does dropping it.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use cloacina_engine::core::json::Json;
/// use cloacina_engine::runtime::engine::{Engine, EngineConfig, ExecutionStatus, StartRequest};
/// use cloacina_engine::runtime::task::Task;
/// use cloacina_engine::runtime::workflow::{Registry, Workflow};
///
/// let registry = Arc::new(Registry::default());
/// registry.register(Workflow::new(
///     "greeting",
///     [
///         Task::new("name", |context| {
///             context.set("name", Json::from(serde_json::json!("world")));
///             Ok(())
///         }),
///         Task::new_async("greet", |mut context| async move {
///             let name = context.get("name").ok().flatten().map(|name| name.value());
///             let greeting = format!("hello {}", name.as_ref().and_then(|name| name.as_str()).unwrap_or("?"));
///             context.set("greeting", Json::from(serde_json::json!(greeting)));
///             (context, Ok(()))
///         })
///         .after(["name"]),
///     ],
/// )?);
///
/// let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
/// let engine = Engine::open(log, registry, EngineConfig::default())?;
/// let execution = engine.start(StartRequest::new("greeting"))?;
/// let outcome = engine.wait(execution, Some(Duration::from_secs(10)))?;
/// assert_eq!(outcome.status, ExecutionStatus::Completed);
/// assert_eq!(outcome.context["greeting"].as_str(), "\"hello world\"");
/// engine.shutdown(Duration::ZERO)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    log: Arc<dyn EventLog>,
    messages: Sender<Message>,
    standings: Standings,
    completions: Completions,
    recovered: Vec<ExecutionId>,
    config: EngineConfig,
    registry: Arc<Registry>,
    waits: Waits,
    scheduler: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Opens an engine on a log. Resumes each unfinished execution as soon as its workflow is registered.
    ///
    /// # Errors
    /// [`EngineError::Log`] if the log's index cannot be read. An execution whose own history is damaged is held, with
    /// the reason; the others run.
    pub fn open(log: Arc<dyn EventLog>, registry: Arc<Registry>, config: EngineConfig) -> Result<Self, EngineError> {
        let failed = |error: ReadError| EngineError::Log(error.into());
        let unfinished = load_unfinished(&*log).map_err(failed)?;
        let schedules = super::schedules::load(&*log).map_err(failed)?;
        let triggers = super::triggers::load(&*log).map_err(failed)?;
        let head = log.head().map_err(failed)?;
        if matches!(config.time, TimeSource::Wall) {
            warn_if_ahead(&log.location(), Timestamp(head.time.0));
        }
        let recovered: Vec<ExecutionId> = unfinished.keys().copied().collect();
        let (messages, receiver) = crossbeam_channel::unbounded();
        let (standings, completions) = (Standings::new(log.clone()), Completions::default());
        let services = Services {
            log: log.clone(),
            registry: registry.clone(),
            environment: config.environment(),
            clock: Clock::from(&config.time, Timestamp(head.time.0)),
            workers: Arc::new(Workers::new(config.max_concurrent_tasks.max(1))),
            messages: receiver,
            own: messages.clone(),
            standings: standings.clone(),
            completions: completions.clone(),
            config: config.clone(),
        };
        let to_scheduler = messages.clone();
        registry.subscribe(Box::new(move || to_scheduler.send(Message::Registered).is_ok()));
        let scheduler = thread::Builder::new()
            .name("cloacina-scheduler".into())
            .spawn(move || Scheduler::new(services, OpenStreams { unfinished, schedules, triggers }).run())
            .map_err(|error| EngineError::Log(LogFault::Thread(error.kind())))?;
        let scheduler = Mutex::new(Some(scheduler));
        if let TimeSource::Virtual(clock) = &config.time {
            clock.follow(Arc::new(ToScheduler(messages.clone())));
        }
        let waits = Waits::default();
        let engine = Self { log, messages, standings, completions, recovered, config, registry, waits, scheduler };
        engine.sync_with_scheduler();
        Ok(engine)
    }

    /// Starts an execution, or attaches to the existing one with that id; if the request says so, retries that one if
    /// it has failed. Returns its id once its start is durable.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was created.
    pub fn start(&self, request: StartRequest) -> Result<ExecutionId, StartError> {
        self.check_values(&request)?;
        self.retry_if_failed(&request)?;
        let id = request.execution.unwrap_or_else(new_execution_id);
        self.ask(|reply| Message::Start { request, id, reply }).unwrap_or(Err(StartError::ShutDown))
    }

    /// Starts many executions atomically, in one batch of the log and so at the cost of one flush. Attaches to those
    /// whose ids exist; before that, retries those that have failed, one by one, if their requests say so. Returns the
    /// ids, in the order of the requests, once all starts are durable.
    ///
    /// # Errors
    /// [`StartManyError`] for the first request that fails; nothing was created.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use cloacina_engine::core::json::Json;
    /// # use cloacina_engine::runtime::engine::{Engine, EngineConfig, ExecutionStatus, StartRequest};
    /// # use cloacina_engine::runtime::task::Task;
    /// # use cloacina_engine::runtime::workflow::{Registry, Workflow};
    /// # let registry = Arc::new(Registry::default());
    /// # registry.register(Workflow::new("etl", [Task::new("load", |_| Ok(()))])?);
    /// # let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
    /// # let engine = Engine::open(log, registry, EngineConfig::default())?;
    /// let requests = ["monday", "tuesday"].map(|day| StartRequest {
    ///     input: vec![("day".into(), Json::from(serde_json::json!(day)))],
    ///     ..StartRequest::new("etl")
    /// });
    /// let executions = engine.start_many(requests.into())?;
    /// for execution in executions {
    ///     assert_eq!(engine.wait(execution, None)?.status, ExecutionStatus::Completed);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start_many(&self, requests: Vec<StartRequest>) -> Result<Vec<ExecutionId>, StartManyError> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        for (at, request) in requests.iter().enumerate() {
            self.check_values(request).map_err(|why| StartManyError { at, why })?;
        }
        for (at, request) in requests.iter().enumerate() {
            self.retry_if_failed(request).map_err(|why| StartManyError { at, why })?;
        }
        let starts: Vec<_> =
            requests.into_iter().map(|request| (request.execution.unwrap_or_else(new_execution_id), request)).collect();
        let ids = starts.iter().map(|(id, _)| *id).collect();
        let shut_down = StartManyError { at: 0, why: StartError::ShutDown };
        self.ask(|reply| Message::StartMany { starts, reply }).unwrap_or(Err(shut_down)).map(|()| ids)
    }

    fn check_values(&self, request: &StartRequest) -> Result<(), StartError> {
        let limit = self.config.max_value_bytes;
        match request.input.iter().find(|(_, value)| value.as_str().len() > limit) {
            None => Ok(()),
            Some((key, value)) => {
                Err(StartError::ValueTooLarge { key: key.clone(), bytes: value.as_str().len(), limit })
            }
        }
    }

    /// Cancels an execution: stops running attempts or ignores their results, and starts no more.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn cancel(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        self.control(execution, Control::Cancel(reason))
    }

    /// Pauses an execution: it starts no more attempts. Running attempts continue.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pause(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        self.control(execution, Control::Pause(reason))
    }

    /// Unpauses an execution.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn unpause(&self, execution: ExecutionId) -> Result<(), EngineError> {
        self.control(execution, Control::Unpause)
    }

    /// Resumes a held execution with the workflow that is registered now.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn resume(&self, execution: ExecutionId) -> Result<(), EngineError> {
        self.control(execution, Control::Resume)
    }

    fn control(&self, execution: ExecutionId, control: Control) -> Result<(), EngineError> {
        self.ask(|reply| Message::Control { execution, control, reply }).unwrap_or(Err(EngineError::ShutDown))
    }

    /// The executions that were unfinished when the log was opened, oldest first.
    #[must_use]
    pub fn recovered(&self) -> &[ExecutionId] {
        &self.recovered
    }

    /// The registry of its workflows.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The log that it writes to.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    /// Permanently erases the contents of events of a finished execution. Returns how many events were erased by this
    /// call. The events and their hashes stay; the log records who erased them and why. An [`Outcome`] returned earlier
    /// still holds the values. See [`crate::core::erasure`] for what can be erased.
    ///
    /// # Errors
    /// [`EraseError`]; nothing was erased.
    pub fn erase(&self, execution: ExecutionId, what: &[What], reason: &str, by: &str) -> Result<u64, EraseError> {
        erase(&*self.log, execution, what, reason, by)
    }

    /// Stops the engine: takes no new work, gives running attempts `grace` to finish, abandons the others, and closes
    /// the log. A second call, from any thread, waits for the same end; the grace that ends first counts.
    ///
    /// # Errors
    /// [`EngineError::Log`] if the last events could not be made durable.
    pub fn shutdown(&self, grace: Duration) -> Result<(), EngineError> {
        self.begin_shutdown(grace).wait()
    }

    /// Begins [`Engine::shutdown`] without waiting for its end.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use cloacina_engine::runtime::engine::{Engine, EngineConfig};
    /// # let log = Arc::new(cloacina_store::MemoryLog::open(&cloacina_store::MemoryDisk::default())?);
    /// # let engine = Engine::open(log, Arc::default(), EngineConfig::default())?;
    /// let ending = engine.begin_shutdown(Duration::from_secs(5));
    /// while ending.within(Duration::from_millis(50)).is_none() {
    ///     // To stop at once after all: engine.begin_shutdown(Duration::ZERO);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn begin_shutdown(&self, grace: Duration) -> Ending<'_> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        // If the scheduler is gone, the reply is dropped, which ends the wait.
        let _ = self.messages.send(Message::Shutdown { grace, reply });
        Ending { engine: self, answer }
    }

    /// Waits until the scheduler has handled all earlier messages. After opening: until it knows which executions are
    /// held.
    fn sync_with_scheduler(&self) {
        let nobody = ExecutionId([0; 16]);
        let _ = self.ask(|reply| Message::Peek { execution: nobody, reply });
    }

    /// Sends a request to the scheduler and waits for the reply; `None` if the scheduler is gone.
    fn ask<T>(&self, message: impl FnOnce(Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.messages.send(message(reply)).ok()?;
        answer.recv().ok()
    }
}

/// A shutdown under way; see [`Engine::begin_shutdown`].
pub struct Ending<'a> {
    engine: &'a Engine,
    answer: Receiver<Result<(), EngineError>>,
}

impl Ending<'_> {
    /// Waits for the end, up to `time`; `None` after that.
    #[must_use]
    pub fn within(&self, time: Duration) -> Option<Result<(), EngineError>> {
        match self.answer.recv_timeout(time) {
            Ok(stopped) => Some(self.ended(stopped)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(self.ended(Ok(()))),
        }
    }

    /// Waits for the end.
    fn wait(&self) -> Result<(), EngineError> {
        self.ended(self.answer.recv().unwrap_or(Ok(())))
    }

    fn ended(&self, stopped: Result<(), EngineError>) -> Result<(), EngineError> {
        let scheduler = lock(&self.engine.scheduler).take();
        // The scheduler's own thread has reported its panic, if any; nothing is left to stop.
        let _ = scheduler.map(JoinHandle::join);
        stopped
    }
}

/// The link from a virtual clock to the scheduler.
struct ToScheduler(Sender<Message>);

impl Follower for ToScheduler {
    fn settle(&self) -> Option<Settled> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.0.send(Message::Settle { reply }).ok()?;
        answer.recv().ok()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown(Duration::ZERO) {
            tracing::error!(%error, "the engine did not shut down cleanly");
        }
    }
}
