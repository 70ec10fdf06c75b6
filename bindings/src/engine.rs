//! The engine as a Python object.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cloacina_engine::core::event::{Cause, ExecutionId, Request};
use cloacina_engine::core::time::Millis;
use cloacina_engine::runtime::clock::TimeSource;
use cloacina_engine::runtime::crashing::CrashingLog;
use cloacina_engine::runtime::engine::{
    Engine, EngineConfig, ExecuteError, Executing, Outcome, StartRequest, WaitError, WaitTicket,
};
use cloacina_engine::runtime::workflow::Registry;
use cloacina_store::log::{Durability, EventLog, OpenError};
use cloacina_store::{MemoryDisk, MemoryLog, Options, open};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::clock::PyVirtualClock;
use crate::context::Context;
use crate::executor::Attempt;
use crate::exit::without_gil;
use crate::history::NativeHistory;
use crate::inbox::{CallOnDrop, Inbox, InboxMessage, InboxSender, LONG};
use crate::trigger::TriggerSpec;
use crate::waits::{ActivityArg, CoroutineWait, ThreadWait, lock};
use crate::workflow::NativeWorkflow;
use crate::{errors, outcome};

/// How often the main thread checks for Ctrl-C while it waits. Does not delay results.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// An engine over a log.
#[pyclass(frozen, module = "cloaca._cloaca", name = "NativeEngine")]
pub struct NativeEngine {
    engine: Arc<Engine>,
    /// The id of the process that opened it.
    process: u32,
    registry: Arc<Registry>,
    inbox: InboxSender,
    crashing: Option<CrashingLog>,
}

impl Drop for NativeEngine {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A fork has the engine's memory but not its threads, so a shutdown would hang, and must not close the
            // parent's log.
            std::mem::forget(self.engine.clone());
        }
    }
}

/// The end of an execution, or why it is unknown.
type Ended = Result<Arc<Outcome>, WaitError>;

/// The end of an awaited execution.
#[pyclass(frozen, module = "cloaca._cloaca")]
#[derive(Default)]
pub struct AwaitedEnd(Arc<Mutex<Option<Ended>>>);

#[pymethods]
impl AwaitedEnd {
    /// The outcome; None if it has not ended. Raises the error of a failed wait.
    fn outcome<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let ended = lock(&self.0).clone();
        ended.map(|ended| outcome::outcome(py, &*ended.map_err(|why| errors::wait(py, &why))?)).transpose()
    }
}

impl NativeEngine {
    /// The engine.
    pub fn inner(&self) -> &Arc<Engine> {
        &self.engine
    }
}

/// Parses an execution id.
pub fn parse_id(text: &str) -> PyResult<ExecutionId> {
    text.parse().map_err(|_| {
        PyValueError::new_err(format!(
            "'{text}' is not an execution id; ids look like 01890a5d-ac96-774b-bcce-b302099a8057"
        ))
    })
}

/// Who requests something if nobody is named.
const USER: &str = "user";

fn start_request(
    py: Python<'_>,
    workflow: Arc<str>,
    context: &Context,
    execution_id: Option<&str>,
    retry_failed: bool,
) -> PyResult<StartRequest> {
    Ok(StartRequest {
        workflow,
        input: context.input(py)?,
        execution: execution_id.map(parse_id).transpose()?,
        cause: Cause::Call,
        retry_failed: retry_failed.then(|| Request { by: USER.into(), reason: None }),
    })
}

/// Parses a durability: "sync", "os" or "interval:<ms>".
fn parse_durability(text: &str) -> PyResult<Durability> {
    let interval = text.strip_prefix("interval:").and_then(|millis| millis.parse().ok());
    match (text, interval) {
        ("sync", _) => Ok(Durability::Sync),
        ("os", _) => Ok(Durability::Os),
        (_, Some(millis)) => Ok(Durability::Interval(millis)),
        _ => Err(PyValueError::new_err(format!(
            "durability must be \"sync\", \"os\" or \"interval:<milliseconds>\", not \"{text}\""
        ))),
    }
}

fn open_log(
    py: Python<'_>,
    path: Option<PathBuf>,
    durability: Durability,
    clock: Option<&PyVirtualClock>,
) -> PyResult<Arc<dyn EventLog>> {
    let clock = clock.map(|clock| clock.0.for_log());
    let opened = without_gil(py, || -> Result<Arc<dyn EventLog>, OpenError> {
        Ok(match path {
            Some(path) => {
                let log = open(&path, &Options { durability, clock, ..Options::default() })?;
                cloacina_replay::logs::remember_log(&path);
                Arc::new(log)
            }
            None => Arc::new(MemoryLog::open_with(&MemoryDisk::default(), durability)?),
        })
    });
    opened?.map_err(|why| errors::open(py, &why))
}

#[pymethods]
impl NativeEngine {
    /// Opens the log at `path`, or one in memory without a path.
    #[new]
    #[pyo3(signature = (path, inbox, workflows, *, durability, max_concurrent_tasks, task_timeout_ms, workflow_timeout_ms,
        strict_context, max_recoveries, max_value_bytes, recover, cron, max_catchup, python, triggers, clock = None,
        crashable = false))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        path: Option<PathBuf>,
        inbox: &Inbox,
        workflows: Vec<Py<NativeWorkflow>>,
        durability: &str,
        max_concurrent_tasks: usize,
        task_timeout_ms: Option<u64>,
        workflow_timeout_ms: Option<u64>,
        strict_context: bool,
        max_recoveries: u32,
        max_value_bytes: usize,
        recover: bool,
        cron: bool,
        max_catchup: u32,
        python: String,
        triggers: Vec<Py<TriggerSpec>>,
        clock: Option<&PyVirtualClock>,
        crashable: bool,
    ) -> PyResult<Self> {
        let durability = parse_durability(durability)?;
        let config = EngineConfig {
            max_concurrent_tasks,
            task_timeout: task_timeout_ms.map(Millis),
            workflow_timeout: workflow_timeout_ms.map(Millis),
            strict_context,
            max_recoveries,
            max_value_bytes,
            recover,
            cron,
            max_catchup,
            python: Some(python.into()),
            time: clock.map_or(TimeSource::Wall, |clock| TimeSource::Virtual(clock.0.clone())),
        };
        let registry = Arc::new(Registry::default());
        let inbox = inbox.sender();
        for workflow in &workflows {
            registry.register(workflow.get().bound(py, &inbox)?);
        }
        for trigger in &triggers {
            registry.register_trigger(inbox.trigger(trigger.clone_ref(py))?);
        }
        let log = open_log(py, path, durability, clock)?;
        let crashing = crashable.then(|| CrashingLog::new(log.clone()));
        let log = crashing.clone().map_or(log, |crashing| Arc::new(crashing));
        let opened = without_gil(py, || Engine::open(log, registry.clone(), config))?;
        let engine = opened.map_err(|why| errors::engine(py, &why))?;
        let (engine, process) = (Arc::new(engine), std::process::id());
        Ok(Self { engine, process, registry, inbox, crashing })
    }

    /// Registers a workflow, replacing one of the same name.
    fn register(&self, py: Python<'_>, workflow: &NativeWorkflow) -> PyResult<()> {
        let workflow = workflow.bound(py, &self.inbox)?;
        py.detach(|| self.registry.register(workflow));
        Ok(())
    }

    /// Registers a trigger, replacing one of the same name.
    fn register_trigger(&self, py: Python<'_>, trigger: Py<TriggerSpec>) -> PyResult<()> {
        let trigger = self.inbox.trigger(trigger)?;
        py.detach(|| self.registry.register_trigger(trigger));
        Ok(())
    }

    /// Unregisters a trigger.
    fn unregister_trigger(&self, py: Python<'_>, name: &str) -> bool {
        py.detach(|| self.registry.unregister_trigger(name))
    }

    /// Starts an execution and returns its id. Attaches if one with `execution_id` exists, and retries that one if it
    /// has failed and `retry_failed` is set.
    #[pyo3(signature = (workflow, context, execution_id, retry_failed))]
    fn start(
        &self,
        py: Python<'_>,
        workflow: &str,
        context: &Context,
        execution_id: Option<&str>,
        retry_failed: bool,
    ) -> PyResult<String> {
        let request = start_request(py, workflow.into(), context, execution_id, retry_failed)?;
        let started = without_gil(py, || self.engine.start(request))?;
        started.map(|id| id.to_string()).map_err(|why| errors::start(py, &why))
    }

    /// Starts an execution and waits for its end. `ticket` is the number of the wait if the engine has to know it: for
    /// a thread that belongs to no attempt.
    #[pyo3(signature = (workflow, context, execution_id, retry_failed, watch_signals, ticket=None))]
    #[allow(clippy::too_many_arguments)]
    fn execute<'py>(
        &self,
        py: Python<'py>,
        workflow: &str,
        context: &Context,
        execution_id: Option<&str>,
        retry_failed: bool,
        watch_signals: bool,
        ticket: Option<WaitTicket>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut request = Some(start_request(py, workflow.into(), context, execution_id, retry_failed)?);
        let slice = if watch_signals { SIGNAL_CHECK } else { LONG };
        let begin = |request| {
            let executing = self.engine.execute(request);
            match ticket {
                Some(ticket) => executing.counted_as(ticket),
                None => executing,
            }
        };
        let mut executing = None;
        loop {
            let ended = without_gil(py, || {
                executing = executing.take().or_else(|| request.take().map(begin));
                executing.as_ref().and_then(|executing: &Executing<'_>| executing.within(slice))
            })?;
            match ended {
                Some(Ok(ended)) => return outcome::outcome(py, &ended),
                Some(Err(ExecuteError::Start(why))) => return Err(errors::start(py, &why)),
                Some(Err(ExecuteError::Wait(why))) => return Err(errors::wait(py, &why)),
                None => py.check_signals()?,
            }
        }
    }

    /// Starts many executions in one batch of the log, and returns their ids. An id that is None is generated.
    #[pyo3(signature = (workflow, contexts, execution_ids, retry_failed))]
    fn start_many(
        &self,
        py: Python<'_>,
        workflow: &str,
        contexts: Vec<PyRef<'_, Context>>,
        execution_ids: Option<Vec<Option<String>>>,
        retry_failed: bool,
    ) -> PyResult<Vec<String>> {
        let workflow: Arc<str> = workflow.into();
        let mut ids = execution_ids.into_iter().flatten();
        let request = |context: &PyRef<'_, Context>| {
            start_request(py, workflow.clone(), context, ids.next().flatten().as_deref(), retry_failed)
        };
        let requests = contexts.iter().map(request).collect::<PyResult<Vec<_>>>()?;
        let started = without_gil(py, || self.engine.start_many(requests))?;
        let ids = started.map_err(|why| errors::start_many(py, &why))?;
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    /// Waits up to `timeout` seconds for the end of an execution. `watch_signals` lets Ctrl-C through on the main
    /// thread.
    #[pyo3(signature = (execution_id, timeout, watch_signals))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        execution_id: &str,
        timeout: Option<f64>,
        watch_signals: bool,
    ) -> PyResult<Bound<'py, PyDict>> {
        let execution = parse_id(execution_id)?;
        let began = Instant::now();
        let limit = timeout.map(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(LONG));
        let slice = if watch_signals { SIGNAL_CHECK } else { LONG };
        loop {
            let left = limit.map_or(LONG, |limit| limit.saturating_sub(began.elapsed()));
            match without_gil(py, || self.engine.wait(execution, Some(left.min(slice))))? {
                Ok(ended) => return outcome::outcome(py, &ended),
                Err(WaitError::TimedOut { .. }) => py.check_signals()?,
                Err(why) => return Err(errors::wait(py, &why)),
            }
            if let Some(limit) = limit.filter(|limit| began.elapsed() >= *limit) {
                return Err(errors::wait(py, &WaitError::TimedOut { execution, waited: limit }));
            }
        }
    }

    /// Calls `call` on a reader of the inbox when an execution has ended. The returned object has the end then.
    fn notify(&self, py: Python<'_>, execution_id: &str, call: Py<PyAny>) -> PyResult<AwaitedEnd> {
        let execution = parse_id(execution_id)?;
        let call = CallOnDrop::new(call, self.inbox.clone());
        let awaited = AwaitedEnd::default();
        let end = awaited.0.clone();
        let done = Box::new(move |ended| {
            *lock(&end) = Some(ended);
            drop(call);
        });
        without_gil(py, || self.engine.when_done(execution, done))?;
        Ok(awaited)
    }

    /// Begins a wait without a timeout, of an attempt or of a thread that belongs to none.
    #[pyo3(signature = (execution_id, attempt))]
    fn begin_wait(&self, py: Python<'_>, execution_id: &str, attempt: Option<&Attempt>) -> PyResult<ThreadWait> {
        let execution = parse_id(execution_id)?;
        let handle = attempt.map(Attempt::handle);
        Ok(ThreadWait(without_gil(py, || self.engine.begin_wait(handle, execution))?))
    }

    /// Registers that a coroutine waits for an execution, as begin_wait() does for a thread. If the wait can never end,
    /// `call` is called on a reader of the inbox.
    #[pyo3(signature = (execution_id, attempt, call))]
    fn watch(
        &self,
        py: Python<'_>,
        execution_id: &str,
        attempt: Option<&Attempt>,
        call: Py<PyAny>,
    ) -> PyResult<CoroutineWait> {
        let execution = parse_id(execution_id)?;
        let refused = Arc::new(Mutex::new(None));
        let refuse = CoroutineWait::refuse(&refused, CallOnDrop::new(call, self.inbox.clone()));
        let handle = attempt.map(Attempt::handle);
        let guard = without_gil(py, || self.engine.watch(handle, execution, refuse))?;
        Ok(CoroutineWait::new(guard, refused))
    }

    /// Calls `look` on a reader of the inbox on a possible stall: when all attempts may wait for threads that wait for
    /// executions.
    fn on_stall(&self, py: Python<'_>, look: Py<PyAny>) {
        let (look, inbox) = (Arc::new(look), self.inbox.clone());
        let stalled = move || inbox.send(InboxMessage::ReportActivity(look.clone()));
        py.detach(|| self.engine.on_stall(stalled));
    }

    /// Reports what attempts do: the tickets of the waits they wait for, "lock" or "unmoved".
    fn report_activity(&self, py: Python<'_>, report: Vec<(Py<Attempt>, ActivityArg)>) {
        let report: Vec<_> =
            report.into_iter().map(|(attempt, activity)| (attempt.get().handle().clone(), activity.into())).collect();
        py.detach(|| self.engine.report_activity(report));
    }

    /// The current outcome of an execution.
    fn outcome<'py>(&self, py: Python<'py>, execution_id: &str) -> PyResult<Bound<'py, PyDict>> {
        let execution = parse_id(execution_id)?;
        let found = without_gil(py, || self.engine.outcome(execution))?;
        outcome::outcome(py, &*found.map_err(|why| errors::engine(py, &why))?)
    }

    /// The status of an execution, the reason, and what to do. Reads no events.
    fn standing<'py>(&self, py: Python<'py>, execution_id: &str) -> PyResult<Bound<'py, PyDict>> {
        let execution = parse_id(execution_id)?;
        let found = py.detach(|| self.engine.standing(execution));
        outcome::standing(py, &found.map_err(|why| errors::engine(py, &why))?)
    }

    /// Simulates a crash once any execution's event `seq` is durable. For tests.
    fn crash_after(&self, seq: u64) {
        if let Some(log) = &self.crashing {
            log.crash_after(seq);
        }
    }

    /// Waits up to `timeout` seconds for the simulated crash. Returns the execution and its last event.
    fn crashed(&self, py: Python<'_>, timeout: f64) -> Option<(String, u64)> {
        let time = Duration::try_from_secs_f64(timeout).unwrap_or(LONG);
        let crashed = py.detach(|| self.crashing.as_ref()?.crashed(time));
        crashed.map(|(execution, seq)| (execution.to_string(), seq))
    }

    /// The history of an execution.
    fn history(&self, py: Python<'_>, execution_id: &str) -> PyResult<NativeHistory> {
        let execution = parse_id(execution_id)?;
        NativeHistory::read(py, &**self.engine.log(), execution)
    }

    /// Lists executions, newest first.
    #[pyo3(signature = (status, workflow, limit, before))]
    fn executions<'py>(
        &self,
        py: Python<'py>,
        status: Option<&str>,
        workflow: Option<&str>,
        limit: usize,
        before: Option<&str>,
    ) -> PyResult<Bound<'py, PyList>> {
        let status = status.map(outcome::status_named).transpose()?;
        let before = before.map(parse_id).transpose()?;
        let found = without_gil(py, || self.engine.executions(status, workflow, limit, before))?;
        let found = found.map_err(|why| errors::engine(py, &why))?;
        let found = found.iter().map(|one| outcome::listed(py, one)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, found)
    }

    /// Cancels an execution.
    #[pyo3(signature = (execution_id, reason))]
    fn cancel(&self, py: Python<'_>, execution_id: &str, reason: Option<String>) -> PyResult<()> {
        let execution = parse_id(execution_id)?;
        without_gil(py, || self.engine.cancel(execution, reason))?.map_err(|why| errors::engine(py, &why))
    }

    /// Pauses an execution: no more attempts start.
    fn pause(&self, py: Python<'_>, execution_id: &str) -> PyResult<()> {
        let execution = parse_id(execution_id)?;
        without_gil(py, || self.engine.pause(execution, None))?.map_err(|why| errors::engine(py, &why))
    }

    /// Unpauses an execution.
    fn unpause(&self, py: Python<'_>, execution_id: &str) -> PyResult<()> {
        let execution = parse_id(execution_id)?;
        without_gil(py, || self.engine.unpause(execution))?.map_err(|why| errors::engine(py, &why))
    }

    /// Resumes a blocked execution.
    fn resume(&self, py: Python<'_>, execution_id: &str) -> PyResult<()> {
        let execution = parse_id(execution_id)?;
        without_gil(py, || self.engine.resume(execution))?.map_err(|why| errors::engine(py, &why))
    }

    /// Retries a failed or cancelled execution.
    #[pyo3(signature = (execution_id, by, reason))]
    fn retry(&self, py: Python<'_>, execution_id: &str, by: Option<&str>, reason: Option<&str>) -> PyResult<()> {
        let execution = parse_id(execution_id)?;
        let request = Request { by: by.unwrap_or(USER).into(), reason: reason.map(Into::into) };
        without_gil(py, || self.engine.retry(execution, request))?.map_err(|why| errors::engine(py, &why))
    }

    /// The executions that were unfinished when the log was opened, oldest first.
    fn recovered(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.engine.recovered()).iter().map(ToString::to_string).collect()
    }

    /// Gives running attempts `grace` seconds, abandons the others, and closes the log. Releases all Python objects.
    ///
    /// A second call, from any thread or signal handler, waits for the same end. If a signal handler raises, the grace
    /// ends, and the exception is raised once everything is closed.
    fn shutdown(&self, py: Python<'_>, grace: f64) -> PyResult<()> {
        let grace = Duration::try_from_secs_f64(grace.max(0.0)).unwrap_or(LONG);
        let ending = self.engine.begin_shutdown(grace);
        let mut interrupted = None;
        let ended = loop {
            if let Some(ended) = without_gil(py, || ending.within(SIGNAL_CHECK))? {
                break ended;
            }
            if let Err(raised) = py.check_signals() {
                interrupted.get_or_insert(raised);
                drop(self.engine.begin_shutdown(Duration::ZERO));
            }
        };
        self.registry.clear();
        if let (Some(raised), _) | (None, Err(raised)) = (interrupted, ended.map_err(|why| errors::engine(py, &why))) {
            return Err(raised);
        }
        Ok(())
    }
}
