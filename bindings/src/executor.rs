//! The way of an attempt from the engine to a thread of Python's, and back.
//!
//! Python functions run on threads that Python made: a thread that runs one has no Rust below it, so the interpreter can
//! end at any time, and whatever a program expects of a Python thread holds. The engine's threads never ask for the GIL:
//! they leave what there is to do in an [`Inbox`].

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cloacina_engine::core::event::{ExecutionId, TaskError};
use cloacina_engine::runtime::task::{AttemptInfo, Notice, RunningAttempt};
use cloacina_engine::runtime::trigger::RunningPoll;
use crossbeam_channel::{Receiver, Sender, select, unbounded};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::callbacks::{Callbacks, Notices, Untold};
use crate::context::Context;
use crate::exit::sleep_on_if_exiting;
use crate::json::type_name;
use crate::task::Callable;
use crate::trigger::{Poll, Polling};

/// What a thread of Python's is asked to do.
pub enum Message {
    /// Run an attempt.
    Run(Arc<Callable>, Box<RunningAttempt>),
    /// Poll a trigger.
    Poll(Arc<Polling>, Box<RunningPoll>),
    /// Call something without arguments.
    Call(Py<PyAny>),
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

    /// Leaves word of how an attempt ended.
    pub fn tell(&self, callbacks: Arc<Callbacks>, notice: Notice) {
        let execution = notice.info.execution;
        if self.untold.keep(callbacks, notice) {
            self.send(Message::Tell(execution));
        }
    }
}

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
        self.receiver.try_iter().find(|message| !matches!(message, Message::Run(..) | Message::Poll(..)))
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
        let message = py.detach(|| {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let message = select! {
                recv(self.receiver) -> message => message.ok(),
                recv(self.closed) -> _ => self.last_call(),
            };
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            sleep_on_if_exiting();
            message
        });
        match message {
            None => Ok(None),
            Some(Message::Call(call)) => Ok(Some(call.into_bound(py))),
            Some(Message::Tell(execution)) => {
                let notices = Notices::new(self.outlet.untold.clone(), execution);
                Ok(Some(Bound::new(py, notices)?.into_any()))
            }
            Some(Message::Poll(polling, running)) => Ok(Some(Bound::new(py, Poll::new(polling, *running))?.into_any())),
            Some(Message::Run(callable, running)) => {
                let attempt = Attempt::new(py, callable, *running, self.outlet())?;
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
    callable: Arc<Callable>,
    info: AttemptInfo,
    context: Py<Context>,
    running: Mutex<Option<RunningAttempt>>,
    inbox: Outlet,
}

impl Attempt {
    fn new(py: Python<'_>, callable: Arc<Callable>, mut running: RunningAttempt, inbox: Outlet) -> PyResult<Self> {
        let context = Py::new(py, Context::of(std::mem::take(&mut running.context)))?;
        Ok(Self { callable, info: running.info.clone(), context, running: Mutex::new(Some(running)), inbox })
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
        self.callable.function.clone_ref(py)
    }

    /// How many arguments it takes: nothing, the context, or the context and a handle.
    #[getter]
    fn parameters(&self) -> u8 {
        self.callable.parameters
    }

    /// Whether it is a coroutine function.
    #[getter]
    fn is_async(&self) -> bool {
        self.callable.is_async
    }

    /// What it sees.
    #[getter]
    fn context(&self, py: Python<'_>) -> Py<Context> {
        self.context.clone_ref(py)
    }

    /// The execution's id.
    #[getter]
    fn execution_id(&self) -> String {
        self.info.execution.to_string()
    }

    /// The workflow's name.
    #[getter]
    fn workflow(&self) -> &str {
        &self.info.workflow
    }

    /// The task's id.
    #[getter]
    fn task_id(&self) -> &str {
        &self.info.task
    }

    /// The number of the attempt, from 1.
    #[getter]
    fn attempt(&self) -> u32 {
        self.info.attempt
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
        let context = self.context.get();
        if let Ok(other) = returned.cast::<Context>() {
            if !other.is(&self.context) {
                context.become_like(other.get());
            }
        } else if let Ok(values) = returned.cast::<PyDict>() {
            context.set_all(values)?;
        } else if !returned.is_none() {
            return Err(PyTypeError::new_err(format!(
                "task '{}' returned a value of type {}; a task returns the context, None, another Context, or a dict of \
                 the keys to set",
                self.info.task,
                type_name(returned)
            )));
        }
        self.finish(Ok(()));
        Ok(())
    }

    /// Ends the attempt with an error, as `cloaca._failure.describe` describes it.
    fn fail(&self, described: &Bound<'_, PyAny>) -> PyResult<()> {
        self.finish(Err(task_error(described)?));
        Ok(())
    }

    fn __repr__(&self) -> String {
        format!(
            "Attempt(task_id='{}', attempt={}, execution_id='{}')",
            self.info.task, self.info.attempt, self.info.execution
        )
    }
}

/// The engine's error for (kind, message, traceback, lineage, transient, hint).
pub fn task_error(described: &Bound<'_, PyAny>) -> PyResult<TaskError> {
    type Parts = (String, String, Option<String>, Vec<String>, bool, Option<String>);
    let (kind, message, traceback, lineage, transient, hint): Parts = described.extract()?;
    Ok(TaskError {
        kind: kind.into(),
        message: message.into(),
        traceback: traceback.map(Into::into),
        lineage: lineage.into_iter().map(Into::into).collect(),
        transient,
        hint: hint.map(Into::into),
    })
}
