//! The inbox: work that the engine queues for Python's threads.
//!
//! Python functions run on threads that Python created, with no Rust frames below them: the interpreter can end at any
//! time, and programs can rely on everything that Python threads provide. The engine's threads never request the GIL.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::runtime::task::{Notice, Results, RunningAttempt, Task, TaskBody, TaskResult};
use cloacina_engine::runtime::trigger::{RunningPoll, Trigger, TriggerBody};
use cloacina_engine::runtime::work_queue::{Woken, WorkQueue};
use pyo3::prelude::*;

use crate::callbacks::{Notices, PendingNotices};
use crate::executor::Attempt;
use crate::exit::{is_exiting, without_gil};
use crate::task::{SharedSpec, TaskSpec};
use crate::trigger::{Poll, TriggerSpec};

/// A piece of work for a Python thread.
pub enum InboxMessage {
    /// Run an attempt.
    Run(SharedSpec, Box<RunningAttempt>),
    /// Poll a trigger.
    Poll(Arc<Py<TriggerSpec>>, Box<RunningPoll>),
    /// Call a Python callable without arguments.
    Call(Py<PyAny>),
    /// Call the function that reports what the attempts do.
    ReportActivity(Arc<Py<PyAny>>),
    /// Call the callbacks of an execution's tasks.
    RunCallbacks(ExecutionId),
}

impl InboxMessage {
    /// Whether it is done soon, and without a wait that releases the GIL.
    fn is_short(&self) -> bool {
        match self {
            Self::Run(task, _) => task.get().is_short(),
            // Code of this package, which never blocks.
            Self::Call(_) => true,
            Self::Poll(..) | Self::ReportActivity(_) | Self::RunCallbacks(_) => false,
        }
    }
}

/// The engine's end of an inbox. It never blocks.
#[derive(Clone)]
pub struct InboxSender(Arc<Shared>);

struct Shared {
    queue: WorkQueue<InboxMessage>,
    /// Results of short attempts, sent to the engine in a batch.
    results: Mutex<Results>,
    pending_notices: PendingNotices,
}

/// Maximum size of a batch of results. Bounded so that the engine works while further attempts run.
const RESULTS: usize = 16;

impl Shared {
    fn send_results(&self) {
        self.results.lock().unwrap_or_else(PoisonError::into_inner).send();
    }
}

impl InboxSender {
    /// Queues a message. A closed inbox drops it: an attempt in it fails, and its engine is shut down anyway.
    pub fn send(&self, message: InboxMessage) {
        self.0.queue.push(message);
    }

    /// Creates a task whose attempts and notices are queued here.
    pub fn task(&self, spec: Py<TaskSpec>) -> Task {
        let has_callbacks = !spec.get().callbacks().is_empty();
        let spec: SharedSpec = Arc::new(spec);
        let (runs, to) = (spec.clone(), self.clone());
        let body = move |running: RunningAttempt| to.send(InboxMessage::Run(runs.clone(), Box::new(running)));
        let task = spec.get().with_body(TaskBody::Detached(Arc::new(body)));
        if !has_callbacks {
            return task;
        }
        let to = self.clone();
        task.observe(move |notice| to.notify(spec.clone(), notice))
    }

    /// Creates a trigger whose polls are queued here.
    pub fn trigger(&self, spec: Py<TriggerSpec>) -> PyResult<Trigger> {
        let (to, spec) = (self.clone(), Arc::new(spec));
        let polls = spec.clone();
        let body = move |poll| to.send(InboxMessage::Poll(polls.clone(), Box::new(poll)));
        spec.get().with_body(TriggerBody::Detached(Arc::new(body)))
    }

    /// Queues the notice of an attempt's end.
    pub fn notify(&self, task: SharedSpec, notice: Notice) {
        let execution = notice.info.execution;
        if self.0.pending_notices.push(task, notice) {
            self.send(InboxMessage::RunCallbacks(execution));
        }
    }

    /// Ends an attempt. The engine gets the results in batches while the thread has more short attempts.
    pub fn finish(&self, running: RunningAttempt, context: TaskContext, result: TaskResult) {
        let mut results = self.0.results.lock().unwrap_or_else(PoisonError::into_inner);
        running.finish_into(context, result, &mut results);
        // The queue's watcher sends them if the next attempt takes long. It needs this lock for that.
        if results.len() >= RESULTS || !self.0.queue.has_next_item() {
            results.send();
        }
    }
}

/// Queues a call in the inbox when it is dropped. So a callback that owns it queues the call even if never invoked.
pub struct CallOnDrop {
    call: Option<Py<PyAny>>,
    inbox: InboxSender,
}

impl CallOnDrop {
    /// Queues `call` when this is dropped.
    pub fn new(call: Py<PyAny>, inbox: InboxSender) -> Self {
        Self { call: Some(call), inbox }
    }
}

impl Drop for CallOnDrop {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.inbox.send(InboxMessage::Call(call));
        }
    }
}

/// A wait without a timeout repeats waits of a year.
pub const LONG: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Work that the engine queues for Python's threads.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct Inbox(InboxSender);

impl Inbox {
    /// The end that messages are sent from.
    pub fn sender(&self) -> InboxSender {
        self.0.clone()
    }

    /// Takes the next message; waits for one without the GIL. Messages are taken only with the GIL held, so that a
    /// thread that waits for the GIL leaves them to the one that runs.
    fn next(&self, py: Python<'_>) -> PyResult<Option<InboxMessage>> {
        let shared = &*self.0.0;
        if shared.queue.is_closed() {
            shared.send_results();
            return Ok(self.next_call());
        }
        let mut next = shared.queue.take(InboxMessage::is_short);
        loop {
            if !next.as_ref().is_some_and(InboxMessage::is_short) {
                shared.send_results();
            }
            if next.is_some() {
                return Ok(next);
            }
            next = match without_gil(py, || shared.queue.wait(|| shared.send_results()))? {
                Woken::ItemAvailable => shared.queue.take_woken(InboxMessage::is_short),
                Woken::Closed => return Ok(self.next_call()),
            };
        }
    }

    /// The next call in a closed inbox, which a thread may wait for. Drops attempts and polls: their engine is shut
    /// down, and recovery runs the attempts again.
    fn next_call(&self) -> Option<InboxMessage> {
        std::iter::from_fn(|| self.0.0.queue.take(InboxMessage::is_short))
            .find(|message| matches!(message, InboxMessage::Call(_) | InboxMessage::RunCallbacks(_)))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.0.0.queue.close();
        // Drop what is queued: the engine's end may keep the queue alive.
        while self.next_call().is_some() {}
    }
}

#[pymethods]
impl Inbox {
    #[new]
    fn new() -> Self {
        let shared = Shared {
            queue: WorkQueue::default(),
            results: Mutex::default(),
            pending_notices: PendingNotices::default(),
        };
        Self(InboxSender(Arc::new(shared)))
    }

    /// Waits for the next work: an Attempt, a Poll, Notices, or a callable. None once the inbox is closed and has no
    /// calls.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if is_exiting() {
            return Ok(None);
        }
        let message = self.next(py)?;
        match message {
            None => Ok(None),
            Some(InboxMessage::Call(call)) => Ok(Some(call.into_bound(py))),
            Some(InboxMessage::ReportActivity(look)) => Ok(Some(look.bind(py).clone())),
            Some(InboxMessage::RunCallbacks(execution)) => {
                let notices = Notices::new(self.0.0.pending_notices.clone(), execution);
                Ok(Some(Bound::new(py, notices)?.into_any()))
            }
            Some(InboxMessage::Poll(trigger, running)) => {
                let poll = Poll::new(trigger.clone_ref(py), *running);
                Ok(Some(Bound::new(py, poll)?.into_any()))
            }
            Some(InboxMessage::Run(spec, running)) => {
                let attempt = Attempt::new(py, spec.clone_ref(py), *running, self.sender())?;
                Ok(Some(Bound::new(py, attempt)?.into_any()))
            }
        }
    }

    /// Number of threads that wait in take().
    #[getter]
    fn waiting(&self) -> usize {
        self.0.0.queue.waiting()
    }

    /// Closes the inbox: take() returns, now and later.
    fn close(&self) {
        self.0.0.queue.close();
    }
}
