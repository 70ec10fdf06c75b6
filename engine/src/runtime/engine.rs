//! The engine: what a program opens, and what it asks of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use cloacina_store::log::{AppendError, EventLog, ReadError, StreamFilter};
use cloacina_store::record::StreamKind;
use crossbeam_channel::{SendError, Sender};

use super::clock::{Clock, Follower, Settled, TimeSource};
use super::completion::Waiter;
use super::erasing::{EraseError, erase};
use super::fault::LogFault;
use super::message::{Attached, Control, HeldReasons, Message, Unfinished};
use super::outcome::{RebuildError, execution_of, listed, outcome, rebuild, stream_of};
use super::scheduler::{Found, Scheduler, Shell};
use super::waiting::Waits;
use super::workers::Workers;
use super::workflow::Registry;
use crate::core::erasure::What;
use crate::core::event::{Cause, Environment, ExecutionId, Key, TaskError, TaskId};
use crate::core::json::Json;
use crate::core::time::{Millis, Timestamp};

/// How an engine runs.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// How many attempts run at once.
    pub max_concurrent_tasks: usize,
    /// How long an attempt may run whose task does not say.
    pub task_timeout: Option<Millis>,
    /// How long an execution may run.
    pub workflow_timeout: Option<Millis>,
    /// Whether an undeclared read is an error.
    pub strict_context: bool,
    /// How often an attempt at a task may die with its process.
    pub max_recoveries: u32,
    /// No context value may be longer, in bytes of JSON.
    pub max_value_bytes: usize,
    /// Whether unfinished executions are resumed.
    pub recover: bool,
    /// Whether schedules fire.
    pub cron: bool,
    /// How many missed fires of a schedule are caught up with at most.
    pub max_catchup: u32,
    /// The Python version, where Python runs the tasks; recorded in the log.
    pub python: Option<Arc<str>>,
    /// Where it gets the time from.
    pub time: TimeSource,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_concurrent_tasks: 4,
            task_timeout: Some(Millis(300_000)),
            workflow_timeout: Some(Millis(3_600_000)),
            strict_context: false,
            max_recoveries: 3,
            max_value_bytes: 16 << 20,
            recover: true,
            cron: true,
            max_catchup: 100,
            python: None,
            time: TimeSource::Wall,
        }
    }
}

/// What is to be executed.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// The input.
    pub input: Vec<(Key, Json)>,
    /// The id; an execution that has it already is attached to. `None` makes a new one.
    pub execution: Option<ExecutionId>,
    /// What caused it.
    pub cause: Cause,
}

/// The state of an execution, in the words that people are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecutionStatus {
    /// Unfinished, and nobody runs it: its workflow is not registered, or is another one.
    Pending,
    /// It runs.
    Running,
    /// It starts no further attempts until it is unpaused.
    Paused,
    /// Over, without a failure at the end of the graph.
    Completed,
    /// Over, with one.
    Failed,
    /// Over, cancelled.
    Cancelled,
}

/// How an execution ended, or how it stands.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// The final context; while it runs, what a task after all that has been done would see.
    pub context: BTreeMap<Key, Json>,
    /// Why it failed: which task, which attempt, which error, and the hint.
    pub error: Option<String>,
    /// The attempt that made it fail.
    pub failed: Option<(TaskId, u32)>,
    /// Each task, in the order of the definition.
    pub tasks: Vec<TaskOutcome>,
}

/// How a task ended, or how it stands.
#[derive(Clone, Debug)]
pub struct TaskOutcome {
    /// The task.
    pub task: TaskId,
    /// Its state's name: `Pending Running WaitingRetry Completed Failed Skipped Cancelled`.
    pub state: &'static str,
    /// How many attempts were started.
    pub attempts: u32,
    /// The last error.
    pub error: Option<TaskError>,
    /// Why it was skipped.
    pub skipped: Option<String>,
    /// When its first attempt started.
    pub started: Option<Timestamp>,
    /// When it was settled.
    pub ended: Option<Timestamp>,
}

/// An execution in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its id.
    pub execution: ExecutionId,
    /// The workflow's name.
    pub workflow: Arc<str>,
    /// How it stands.
    pub status: ExecutionStatus,
    /// When it started.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// How many events it has.
    pub events: u64,
    /// Why it is not resumed, if it is held: the difference between its workflow and the registered one.
    pub blocked: Option<String>,
}

/// Why an execution could not be started.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// No such workflow.
    #[error("workflow '{name}' is not registered{}", .nearest.as_ref().map(|name| format!("; did you mean '{name}'?")).unwrap_or_default())]
    UnknownWorkflow {
        /// The name.
        name: Arc<str>,
        /// The nearest that is.
        nearest: Option<Arc<str>>,
    },
    /// The execution exists and cannot be resumed by itself.
    #[error(
        "execution {execution} is blocked: {why}; register the workflow that it began with, or resume it on purpose"
    )]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// The execution with that id is one of another workflow.
    #[error("execution {execution} is one of workflow '{workflow}', not of '{asked}'; take another id")]
    OtherWorkflow {
        /// The execution.
        execution: ExecutionId,
        /// The workflow that it belongs to.
        workflow: Arc<str>,
        /// The one that was asked for.
        asked: Arc<str>,
    },
    /// A value is too long.
    #[error("context key '{key}': the value has {bytes} bytes of JSON, more than max_value_bytes ({limit})")]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// Why a wait gave no outcome.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WaitError {
    /// Time ran out; the execution goes on.
    #[error("execution {execution} was still running after {} s; it goes on", .waited.as_secs_f64())]
    TimedOut {
        /// The execution.
        execution: ExecutionId,
        /// How long was waited.
        waited: Duration,
    },
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// It is held.
    #[error(
        "execution {execution} is blocked: {why}; register the workflow that it began with, or resume it on purpose"
    )]
    Blocked {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine was shut down first; the execution is resumed by the next one that opens the log.
    #[error(
        "the engine was shut down before it told the end of execution {0}; the next one on this log does, and resumes it \
        if it is unfinished"
    )]
    ShutDown(ExecutionId),
}

/// Why an engine could not be opened, or a request on an execution failed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// There is no such execution.
    #[error("there is no execution {0} in this log")]
    NotFound(ExecutionId),
    /// The execution cannot take the request in its state.
    #[error("execution {execution}: {why}")]
    Rejected {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        why: String,
    },
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

/// An engine: one scheduler over one log. Closed by [`Engine::shutdown`], or when it is dropped.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use cloacina_engine::core::event::Cause;
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
/// let request = StartRequest { workflow: "greeting".into(), input: vec![], execution: None, cause: Cause::Call };
/// let execution = engine.start(request)?;
/// let outcome = engine.wait(execution, Some(Duration::from_secs(10)))?;
/// assert_eq!(outcome.status, ExecutionStatus::Completed);
/// assert_eq!(outcome.context["greeting"].as_str(), "\"hello world\"");
/// engine.shutdown(Duration::ZERO)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    log: Arc<dyn EventLog>,
    messages: Sender<Message>,
    held_reasons: HeldReasons,
    recovered: Vec<ExecutionId>,
    pub(crate) config: EngineConfig,
    registry: Arc<Registry>,
    waits: Waits,
    scheduler: Mutex<Option<JoinHandle<()>>>,
}

impl Engine {
    /// Takes a log over: resumes what is unfinished and whose workflow is registered, now or later.
    ///
    /// # Errors
    /// [`EngineError::Log`] if the log's index cannot be read. An execution whose own history is damaged does not keep
    /// the others from going on: it is held, with the reason.
    pub fn open(log: Arc<dyn EventLog>, registry: Arc<Registry>, config: EngineConfig) -> Result<Self, EngineError> {
        let failed = |error: ReadError| EngineError::Log(error.into());
        let unfinished = unfinished(&*log).map_err(failed)?;
        let schedules = super::schedules::found(&*log).map_err(failed)?;
        let triggers = super::triggers::found(&*log, &unfinished).map_err(failed)?;
        let head = log.head().map_err(failed)?;
        let recovered: Vec<ExecutionId> = unfinished.keys().copied().collect();
        let (messages, receiver) = crossbeam_channel::unbounded();
        let held_reasons = HeldReasons::default();
        let shell = Shell {
            log: log.clone(),
            registry: registry.clone(),
            environment: environment(&config),
            clock: Clock::from(&config.time, Timestamp(head.time.0)),
            workers: Arc::new(Workers::new(config.max_concurrent_tasks.max(1))),
            messages: receiver,
            own: messages.clone(),
            held_reasons: held_reasons.clone(),
            config: config.clone(),
        };
        let to_scheduler = messages.clone();
        registry.subscribe(Box::new(move || to_scheduler.send(Message::Registered).is_ok()));
        let scheduler = thread::Builder::new()
            .name("cloacina-scheduler".into())
            .spawn(move || Scheduler::new(shell, Found { unfinished, schedules, triggers }).run())
            .map_err(|error| EngineError::Log(LogFault::Thread(error.kind())))?;
        let scheduler = Mutex::new(Some(scheduler));
        if let TimeSource::Virtual(clock) = &config.time {
            clock.follow(Arc::new(ToScheduler(messages.clone())));
        }
        let engine =
            Self { log, messages, held_reasons, recovered, config, registry, waits: Waits::default(), scheduler };
        engine.catch_up();
        Ok(engine)
    }

    /// Starts an execution, or attaches to the one that has the id. Returns its id once its start is durable.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was created then.
    pub fn start(&self, request: StartRequest) -> Result<ExecutionId, StartError> {
        let limit = self.config.max_value_bytes;
        if let Some((key, value)) = request.input.iter().find(|(_, value)| value.as_str().len() > limit) {
            return Err(StartError::ValueTooLarge { key: key.clone(), bytes: value.as_str().len(), limit });
        }
        let id = request.execution.unwrap_or_else(new_execution_id);
        self.ask(|reply| Message::Start { request, id, reply }).unwrap_or(Err(StartError::ShutDown))
    }

    /// Waits for the end of an execution.
    ///
    /// # Errors
    /// See [`WaitError`]; the execution goes on.
    pub fn wait(&self, execution: ExecutionId, timeout: Option<Duration>) -> Result<Arc<Outcome>, WaitError> {
        let wait = self.waits.of(execution, |waiter| self.when_done(execution, waiter));
        match timeout {
            None => wait.for_good(),
            Some(waited) => wait.within(waited).unwrap_or(Err(WaitError::TimedOut { execution, waited })),
        }
    }

    /// Calls back, once, when an execution has ended; at once, on this thread, if it has. Otherwise the callback runs on
    /// one of the engine's threads: hand over, do not work.
    pub fn when_done(&self, execution: ExecutionId, done: Waiter) {
        let mut once = CalledOnce { execution, waiter: Some(done) };
        let done: Waiter = Box::new(move |end| once.call(end));
        let (reply, answer) = crossbeam_channel::bounded(1);
        if let Err(SendError(unsent)) = self.messages.send(Message::Wait { execution, waiter: done, reply }) {
            // The scheduler is gone. What had ended by then is in the log, as long as that can be read.
            if let Message::Wait { waiter, .. } = unsent {
                waiter(self.past(execution, None));
            }
            return;
        }
        match answer.recv() {
            Ok(Attached::Waiting) => {}
            Ok(Attached::Blocked(why, done)) => done(Err(WaitError::Blocked { execution, why })),
            Ok(Attached::NotLive(done, failed)) => done(self.past(execution, failed)),
            // The callback went down with the scheduler; being dropped, it has been called.
            Err(_) => {}
        }
    }

    /// The end of an execution that does not run here.
    fn past(&self, execution: ExecutionId, failed: Option<AppendError>) -> Result<Arc<Outcome>, WaitError> {
        match rebuild(&*self.log, execution) {
            Ok(state) if state.status().is_final() => Ok(Arc::new(outcome(&state))),
            Ok(_) => Err(match failed {
                Some(error) => WaitError::Log(error.into()),
                None => WaitError::ShutDown(execution),
            }),
            Err(RebuildError::Read(ReadError::NoStream(_)) | RebuildError::Empty(_)) => {
                Err(WaitError::NotFound(execution))
            }
            Err(RebuildError::Read(ReadError::Gone)) => Err(WaitError::ShutDown(execution)),
            Err(error) => Err(WaitError::Log(error.into())),
        }
    }

    /// How an execution stands.
    ///
    /// # Errors
    /// [`EngineError::NotFound`], or [`EngineError::Log`] if its history cannot be read.
    pub fn outcome(&self, execution: ExecutionId) -> Result<Arc<Outcome>, EngineError> {
        if let Some(Some(live)) = self.ask(|reply| Message::Peek { execution, reply }) {
            return Ok(Arc::new(*live));
        }
        let mut told = match rebuild(&*self.log, execution) {
            Ok(state) => outcome(&state),
            Err(RebuildError::Read(ReadError::NoStream(_)) | RebuildError::Empty(_)) => {
                return Err(EngineError::NotFound(execution));
            }
            Err(error) => return Err(EngineError::Log(error.into())),
        };
        if let Some(why) = lock(&self.held_reasons).get(&execution) {
            told.status = ExecutionStatus::Pending;
            told.error = Some(why.clone());
        }
        Ok(Arc::new(told))
    }

    /// Executions, newest first: at most `limit`, of one status, of one workflow, and older than `before`, as asked.
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
        self.catch_up();
        let mut found = Vec::new();
        let mut filter = StreamFilter {
            kind: Some(StreamKind::Execution),
            open_only: false,
            before: before.map(stream_of),
            limit: limit.clamp(1, LISTING_PAGE),
        };
        while found.len() < limit {
            let page = self.log.streams(&filter).map_err(LogFault::from)?;
            let Some(last) = page.last() else { break };
            filter.before = Some(last.stream);
            let held = lock(&self.held_reasons);
            for entry in &page {
                let why = held.get(&execution_of(entry.stream)).map(String::as_str);
                let listed = listed(entry, why).map_err(LogFault::from)?;
                let wanted = status.is_none_or(|status| listed.status == status)
                    && workflow.is_none_or(|workflow| &*listed.workflow == workflow);
                if wanted && found.len() < limit {
                    found.push(listed);
                }
            }
        }
        Ok(found)
    }

    /// Cancels an execution: what runs is stopped or its result ignored, what has not started never does.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn cancel(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        self.control(execution, Control::Cancel(reason))
    }

    /// Lets an execution start no more attempts; those that run go on.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn pause(&self, execution: ExecutionId, reason: Option<String>) -> Result<(), EngineError> {
        self.control(execution, Control::Pause(reason))
    }

    /// Lets a paused execution go on.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn unpause(&self, execution: ExecutionId) -> Result<(), EngineError> {
        self.control(execution, Control::Unpause)
    }

    /// Resumes a held execution on purpose, with the workflow that is registered now.
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

    /// The registry that it looks workflows up in.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The log that it writes.
    #[must_use]
    pub fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    /// Erases what events of a finished execution say, for good, and returns how many of them did not lose it before. The
    /// events stay, and so does every hash; the log remembers who asked for it and why. An [`Outcome`] that was asked for
    /// before still holds the values. See [`crate::core::erasure`] for what can be erased.
    ///
    /// # Errors
    /// [`EraseError`]; nothing was erased then.
    pub fn erase(&self, execution: ExecutionId, what: &[What], reason: &str, by: &str) -> Result<u64, EraseError> {
        erase(&*self.log, execution, what, reason, by)
    }

    /// Stops: takes nothing new, gives running attempts `grace`, abandons the rest in order, and closes the log. A
    /// second call does nothing.
    ///
    /// # Errors
    /// [`EngineError::Log`] if what was decided last could not be made durable.
    pub fn shutdown(&self, grace: Duration) -> Result<(), EngineError> {
        let Some(scheduler) = lock(&self.scheduler).take() else { return Ok(()) };
        let stopped = self.ask(|reply| Message::Shutdown { grace, reply }).unwrap_or(Ok(()));
        // A panic of the scheduler was reported by its own thread; there is nothing left to stop.
        let _ = scheduler.join();
        stopped
    }

    /// Waits until the scheduler has taken everything that it was told before; first of all, what it holds and why.
    pub(crate) fn catch_up(&self) {
        let nobody = ExecutionId([0; 16]);
        let _ = self.ask(|reply| Message::Peek { execution: nobody, reply });
    }

    /// Asks the scheduler, and waits for its answer; `None` if it is gone.
    pub(crate) fn ask<T>(&self, message: impl FnOnce(Sender<T>) -> Message) -> Option<T> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.messages.send(message(reply)).ok()?;
        answer.recv().ok()
    }
}

/// How a virtual clock asks the scheduler.
struct ToScheduler(Sender<Message>);

impl Follower for ToScheduler {
    fn settle(&self) -> Option<Settled> {
        let (reply, answer) = crossbeam_channel::bounded(1);
        self.0.send(Message::Settle { reply }).ok()?;
        answer.recv().ok()
    }
}

/// A callback that is called even if the scheduler ends before it comes to it.
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

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.shutdown(Duration::ZERO) {
            tracing::error!(%error, "the engine could not be shut down in order");
        }
    }
}

/// Entries of the listing that are read at once.
pub(crate) const LISTING_PAGE: usize = 1_000;

/// The executions that are not finished, each folded, or with the reason why it cannot be.
fn unfinished(log: &dyn EventLog) -> Result<BTreeMap<ExecutionId, Unfinished>, ReadError> {
    let mut found = BTreeMap::new();
    let mut filter =
        StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: LISTING_PAGE };
    loop {
        let page = log.streams(&filter)?;
        let Some(last) = page.last() else { return Ok(found) };
        filter.before = Some(last.stream);
        for entry in page {
            let execution = execution_of(entry.stream);
            let unfinished = match rebuild(log, execution) {
                Ok(state) => Unfinished::Whole(Box::new(state)),
                Err(error) => Unfinished::Broken(error.to_string()),
            };
            found.insert(execution, unfinished);
        }
    }
}

pub(crate) fn new_execution_id() -> ExecutionId {
    ExecutionId(uuid::Uuid::now_v7().into_bytes())
}

fn environment(config: &EngineConfig) -> Environment {
    Environment {
        engine: env!("CARGO_PKG_VERSION").into(),
        host: rustix::system::uname().nodename().to_string_lossy().as_ref().into(),
        pid: std::process::id(),
        python: config.python.clone(),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
