//! The way of an attempt from the engine to a thread of Python's, and back.
//!
//! Python functions run on threads that Python made: a thread that runs one has no Rust below it, so the interpreter can
//! end at any time, and whatever a program expects of a Python thread holds. The engine's threads never ask for the GIL:
//! they leave what there is to do in an [`Inbox`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloacina_engine::core::event::{ExecutionId, TaskError};
use cloacina_engine::runtime::handle::TaskHandle;
use cloacina_engine::runtime::task::{Notice, RunningAttempt, Task, TaskBody};
use cloacina_engine::runtime::trigger::{RunningPoll, Trigger, TriggerBody};
use crossbeam_channel::{Receiver, Sender, select, unbounded};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::callbacks::{Notices, Untold};
use crate::context::Context;
use crate::errors;
use crate::exit::{is_exiting, without_gil};
use crate::failure::task_error;
use crate::json::type_name;
use crate::task::{SharedSpec, TaskSpec};
use crate::trigger::{Poll, TriggerSpec};

/// What a thread of Python's is asked to do.
pub enum Message {
    /// Run an attempt.
    Run(SharedSpec, Box<RunningAttempt>),
    /// Poll a trigger.
    Poll(Arc<Py<TriggerSpec>>, Box<RunningPoll>),
    /// Call something without arguments.
    Call(Py<PyAny>),
    /// Look at what the attempts do.
    Look(Arc<Py<PyAny>>),
    /// Call the callbacks of an execution's tasks.
    Tell(ExecutionId),
}

/// The end of an inbox that the engine has. It never waits.
#[derive(Clone)]
pub struct Outlet {
    sender: Sender<Message>,
    untold: Untold,
}

impl Outlet {
    /// Leaves a message. In a closed inbox nobody reads it: an attempt fails then, and its engine is shut down anyway.
    pub fn send(&self, message: Message) {
        let _ = self.sender.send(message);
    }

    /// A task whose attempts are left here, and the notices of how they ended.
    pub fn task(&self, spec: Py<TaskSpec>) -> Task {
        let has_callbacks = !spec.get().callbacks().is_empty();
        let spec: SharedSpec = Arc::new(spec);
        let (runs, to) = (spec.clone(), self.clone());
        let body = move |running: RunningAttempt| to.send(Message::Run(runs.clone(), Box::new(running)));
        let task = spec.get().with_body(TaskBody::Detached(Arc::new(body)));
        if !has_callbacks {
            return task;
        }
        let to = self.clone();
        task.observe(move |notice| to.tell(spec.clone(), notice))
    }

    /// A trigger whose polls are left here.
    pub fn trigger(&self, spec: Py<TriggerSpec>) -> PyResult<Trigger> {
        let (to, spec) = (self.clone(), Arc::new(spec));
        let polls = spec.clone();
        let body = move |poll| to.send(Message::Poll(polls.clone(), Box::new(poll)));
        spec.get().with_body(TriggerBody::Detached(Arc::new(body)))
    }

    /// Leaves word of how an attempt ended.
    pub fn tell(&self, task: SharedSpec, notice: Notice) {
        let execution = notice.info.execution;
        if self.untold.keep(task, notice) {
            self.send(Message::Tell(execution));
        }
    }
}

/// Leaves a call in the inbox when it is dropped: with the callback that it is in, called or not.
pub struct CallOnDrop {
    call: Option<Py<PyAny>>,
    inbox: Outlet,
}

impl CallOnDrop {
    /// A call that is left when this goes.
    pub fn new(call: Py<PyAny>, inbox: Outlet) -> Self {
        Self { call: Some(call), inbox }
    }
}

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.inbox.send(Message::Call(call));
        }
    }
}

/// A wait without an end is one of a year at a time.
pub const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where the engine leaves what Python has to do.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Inbox {
    outlet: Outlet,
    receiver: Receiver<Message>,
    /// Dropped when the inbox is closed: that wakes every reader.
    open: Mutex<Option<Sender<()>>>,
    closed: Receiver<()>,
    waiting: AtomicUsize,
}

impl Inbox {
    /// The next call that is left in a closed inbox: somebody waits for it. Attempts are dropped: their engine is shut
    /// down, and who resumes them will run them again. So are polls.
    fn last_call(&self) -> Option<Message> {
        self.receiver.try_iter().find(|message| matches!(message, Message::Call(_) | Message::Tell(_)))
    }

    /// The end that messages are put in at.
    pub fn outlet(&self) -> Outlet {
        self.outlet.clone()
    }
}

#[pymethods]
impl Inbox {
    #[new]
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        let (open, closed) = unbounded();
        let outlet = Outlet { sender, untold: Untold::default() };
        Self { outlet, receiver, open: Mutex::new(Some(open)), closed, waiting: AtomicUsize::new(0) }
    }

    /// Waits for the next thing to do: an Attempt, a Poll, Notices, or something to call. None once the inbox is closed and no call is
    /// left in it.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if is_exiting() {
            return Ok(None);
        }
        let message = without_gil(py, || {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let message = select! {
                recv(self.receiver) -> message => message.ok(),
                recv(self.closed) -> _ => self.last_call(),
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            message
        })?;
        match message {
            None => Ok(None),
            Some(Message::Call(call)) => Ok(Some(call.into_bound(py))),
            Some(Message::Look(look)) => Ok(Some(look.bind(py).clone())),
            Some(Message::Tell(execution)) => {
                let notices = Notices::new(self.outlet.untold.clone(), execution);
                Ok(Some(Bound::new(py, notices)?.into_any()))
            }
            Some(Message::Poll(trigger, running)) => {
                let poll = Poll::new(trigger.clone_ref(py), *running);
                Ok(Some(Bound::new(py, poll)?.into_any()))
            }
            Some(Message::Run(spec, running)) => {
                let attempt = Attempt::new(py, spec.clone_ref(py), *running, self.outlet())?;
                Ok(Some(Bound::new(py, attempt)?.into_any()))
            }
        }
    }

    /// How many threads wait in take().
    #[getter]
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets every thread in take() go, now and later.
    fn close(&self) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// One attempt at a task, to be run by a thread of Python's.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Attempt {
    spec: Py<TaskSpec>,
    handle: TaskHandle,
    context: Py<Context>,
    running: Mutex<Option<RunningAttempt>>,
    inbox: Outlet,
    /// The process that runs it. A fork of that has none of the threads that would answer.
    process: u32,
}

impl Attempt {
    /// What it can ask.
    pub fn handle(&self) -> &TaskHandle {
        &self.handle
    }

    fn new(py: Python<'_>, spec: Py<TaskSpec>, mut running: RunningAttempt, inbox: Outlet) -> PyResult<Self> {
        let context = Py::new(py, Context::of(std::mem::take(&mut running.context)))?;
        let handle = running.handle().clone();
        Ok(Self { spec, handle, context, running: Mutex::new(Some(running)), inbox, process: std::process::id() })
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.process == std::process::id() { Ok(()) } else { Err(errors::over(py, &self.handle.over())) }
    }

    fn finish(&self, result: Result<(), TaskError>) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            running.finish(self.context.get().snapshot(), result);
        }
    }
}

#[pymethods]
impl Attempt {
    /// The task's function.
    #[getter]
    fn function(&self, py: Python<'_>) -> Py<PyAny> {
        self.spec.get().function(py)
    }

    /// How many arguments it takes: nothing, the context, or the context and a handle.
    #[getter]
    fn parameters(&self) -> u8 {
        self.spec.get().parameters()
    }

    /// Whether it runs in a worker process.
    #[getter]
    fn in_process(&self) -> bool {
        self.spec.get().in_process()
    }

    /// Whether it is a coroutine function.
    #[getter]
    fn is_async(&self) -> bool {
        self.spec.get().is_async()
    }

    /// What it sees.
    #[getter]
    fn context(&self, py: Python<'_>) -> Py<Context> {
        self.context.clone_ref(py)
    }

    /// The execution's id.
    #[getter]
    fn execution_id(&self) -> String {
        self.handle.info().execution.to_string()
    }

    /// The workflow's name.
    #[getter]
    fn workflow(&self) -> &str {
        &self.handle.info().workflow
    }

    /// The task's id.
    #[getter]
    fn task_id(&self) -> &str {
        &self.handle.info().task
    }

    /// The number of the attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.handle.info().attempt
    }

    /// Whether it holds a slot.
    #[getter]
    fn is_slot_held(&self) -> bool {
        self.handle.is_slot_held()
    }

    /// Whether it counts no more.
    #[getter]
    fn is_over(&self) -> bool {
        self.handle.is_over()
    }

    /// Gives its slot back: another attempt gets it.
    fn give_slot_back(&self) {
        self.handle.give_slot_back();
    }

    /// Says that its function has not begun yet: its timeout does not count until begin_timeout().
    fn hold_timeout(&self) {
        self.handle.hold_timeout();
    }

    /// Lets its timeout begin now.
    fn begin_timeout(&self) {
        self.handle.begin_timeout();
    }

    /// Waits for a slot.
    fn take_slot(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        let taken = without_gil(py, || self.handle.take_slot())?;
        taken.map_err(|over| errors::over(py, &over))
    }

    /// Has `call` called, by a reader of the inbox, when there is a slot, or when it needs none any more.
    fn take_slot_then(&self, call: Py<PyAny>) {
        let call = CallOnDrop::new(call, self.inbox.clone());
        self.handle.take_slot_then(Box::new(move |_| drop(call)));
    }

    /// Sleeps so many seconds, but no longer than it counts.
    fn sleep(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        self.check_process(py)?;
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(LONG);
        let slept = without_gil(py, || self.handle.sleep(time))?;
        slept.map_err(|over| errors::over(py, &over))
    }

    /// The error of an attempt that counts no more.
    fn over(&self, py: Python<'_>) -> Py<PyAny> {
        errors::over(py, &self.handle.over()).into_value(py).into_any()
    }

    /// Has `cancel` called, by a reader of the inbox, if the attempt times out or its execution is cancelled.
    fn on_cancel(&self, cancel: Py<PyAny>) {
        let inbox = self.inbox.clone();
        if let Some(running) = &*self.running.lock().unwrap_or_else(PoisonError::into_inner) {
            running.on_cancel(move || inbox.send(Message::Call(cancel)));
        }
    }

    /// Ends the attempt with what the function returned. A TypeError or ValueError if it cannot be that; then the attempt
    /// goes on, to be failed.
    fn complete(&self, returned: &Bound<'_, PyAny>) -> PyResult<()> {
        returns(self.context.bind(returned.py()), returned, &self.handle.info().task)?;
        self.finish(Ok(()));
        Ok(())
    }

    /// Does to the context what was done to its likeness in another process.
    fn repeat(&self, deeds: &Bound<'_, PyAny>) -> PyResult<()> {
        self.context.get().repeat(deeds.extract()?);
        Ok(())
    }

    /// Ends the attempt with an error, as `cloaca._failure.describe` describes it.
    fn fail(&self, described: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(Err(task_error(described)?));
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.spec)?;
        visit.call(&self.context)
    }

    fn __repr__(&self) -> String {
        let info = self.handle.info();
        format!("Attempt(task_id='{}', attempt={}, execution_id='{}')", info.task, info.attempt, info.execution)
    }
}

/// Takes over what a task returned into its context. A TypeError or ValueError if a task cannot return that.
pub fn returns(context: &Bound<'_, Context>, returned: &Bound<'_, PyAny>, task: &str) -> PyResult<()> {
    if let Ok(other) = returned.cast::<Context>() {
        if !other.is(context) {
            context.get().become_like(other.get());
        }
    } else if let Ok(values) = returned.cast::<PyDict>() {
        context.get().set_all(values)?;
    } else if !returned.is_none() {
        let kind = type_name(returned);
        let message = match kind.as_str() {
            "coroutine" => format!(
                "task '{task}' returned a coroutine, which nobody awaits: an async function is behind a decorator that is \
                 not. Make the decorator's wrapper `async def`, with `return await function(...)`"
            ),
            _ => format!(
                "task '{task}' returned a value of type {kind}; a task returns the context, None, another Context, or a \
                 dict of the keys to set"
            ),
        };
        return Err(crate::errors::error(returned.py(), "ReturnedTypeError", &message, &[]));
    }
    Ok(())
}
