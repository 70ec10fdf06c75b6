//! Where the engine leaves what Python has to do.
//!
//! Python functions run on threads that Python made: a thread that runs one has no Rust below it, so the interpreter can
//! end at any time, and whatever a program expects of a Python thread holds. The engine's threads never ask for the GIL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::runtime::task::{Notice, Results, RunningAttempt, Task, TaskBody, TaskResult};
use cloacina_engine::runtime::trigger::{RunningPoll, Trigger, TriggerBody};
use cloacina_engine::runtime::work_queue::{Woken, WorkQueue};
use pyo3::prelude::*;

use crate::callbacks::{Notices, Untold};
use crate::executor::Attempt;
use crate::exit::{is_exiting, without_gil};
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

impl Message {
    /// Whether it is done soon, and without a wait that lets other threads of Python's run.
    fn is_short(&self) -> bool {
        match self {
            Self::Run(task, _) => task.get().is_short(),
            // Our own code, which never blocks.
            Self::Call(_) => true,
            Self::Poll(..) | Self::Look(_) | Self::Tell(_) => false,
        }
    }
}

/// The end of an inbox that the engine has. It never waits.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

struct Shared {
    queue: WorkQueue<Message>,
    /// Results of short attempts that go to the engine together.
    results: Mutex<Results>,
    untold: Untold,
}

/// So many results go to the engine at once at most: it has something to do while the next attempts run.
const RESULTS: usize = 16;

impl Shared {
    fn send_results(&self) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).send();
    }
}

impl Outlet {
    /// Leaves a message. In a closed inbox nobody reads it: an attempt fails then, and its engine is shut down anyway.
    pub fn send(&self, message: Message) {
        self.0.queue.push(message);
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
        if self.0.untold.keep(task, notice) {
            self.send(Message::Tell(execution));
        }
    }

    /// Ends an attempt. While its thread goes on to the next one, the engine hears of several at once.
    pub fn finish(&self, running: RunningAttempt, context: TaskContext, result: TaskResult) {
        let mut results = self.0.results.lock().unwrap_or_else(PoisonError::into_inner);
        running.finish_into(context, result, &mut results);
        // Whoever looks after the queue sends them if the next attempt takes long. It needs this lock for that.
        if results.len() >= RESULTS || !self.0.queue.has_next_item() {
            results.send();
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
pub struct Inbox(Outlet);

impl Inbox {
    /// The end that messages are put in at.
    pub fn outlet(&self) -> Outlet {
        self.0.clone()
    }

    /// The next message; waits for it without the GIL. A message is taken only by a thread that has the GIL: one that has
    /// to wait for it leaves what there is to the thread that runs.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        let shared = &*self.0.0;
        if shared.queue.is_closed() {
            shared.send_results();
            return Ok(self.last_call());
        }
        let mut next = shared.queue.take(Message::is_short);
        loop {
            if !next.as_ref().is_some_and(Message::is_short) {
                shared.send_results();
            }
            if next.is_some() {
                return Ok(next);
            }
            next = match without_gil(py, || shared.queue.wait(|| shared.send_results()))? {
                Woken::ItemAvailable => shared.queue.take_woken(Message::is_short),
                Woken::Closed => return Ok(self.last_call()),
            };
        }
    }

    /// The next call that is left in a closed inbox: somebody waits for it. Attempts are dropped: their engine is shut
    /// down, and who resumes them will run them again. So are polls.
    fn last_call(&self) -> Option<Message> {
        std::iter::from_fn(|| self.0.0.queue.take(Message::is_short))
            .find(|message| matches!(message, Message::Call(_) | Message::Tell(_)))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.0.queue.close();
        // Nobody else can: an outlet may outlive it.
        while self.last_call().is_some() {}
    }
}

#[pymethods]
impl Inbox {
    #[new]
    fn new() -> Self {
        let shared = Shared { queue: WorkQueue::default(), results: Mutex::default(), untold: Untold::default() };
        Self(Outlet(Arc::new(shared)))
    }

    /// Waits for the next thing to do: an Attempt, a Poll, Notices, or something to call. None once the inbox is closed and no call is
    /// left in it.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if is_exiting() {
            return Ok(None);
        }
        let message = self.next(py)?;
        match message {
            None => Ok(None),
            Some(Message::Call(call)) => Ok(Some(call.into_bound(py))),
            Some(Message::Look(look)) => Ok(Some(look.bind(py).clone())),
            Some(Message::Tell(execution)) => {
                let notices = Notices::new(self.0.0.untold.clone(), execution);
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
        self.0.0.queue.waiting()
    }

    /// Lets every thread in take() go, now and later.
    fn close(&self) {
        self.0.0.queue.close();
    }
}
