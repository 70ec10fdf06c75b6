//! The handle of a running attempt: its identity, and waits without holding a slot.

use std::cell::RefCell;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::Sender;

use super::attempt::{AttemptInfo, AttemptKey};
pub use super::attempt::{AttemptOver, SlotWaiter};
use super::lock::lock;
use super::message::{Message, SlotRequest};

/// The handle of a running attempt.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::time::Duration;
/// use cloacina_engine::core::event::TaskError;
/// use cloacina_engine::runtime::task::Task;
///
/// let looked = Arc::new(AtomicUsize::new(0));
/// let wait = Task::with_handle("wait", move |_context, handle| {
///     let arrived = || looked.fetch_add(1, Ordering::SeqCst) == 3;
///     handle.defer_until(arrived, Duration::from_millis(10)).map_err(|over| TaskError {
///         kind: "AttemptOver".into(),
///         message: over.to_string().into(),
///         ..TaskError::default()
///     })
/// });
/// ```
#[derive(Clone)]
pub struct TaskHandle {
    info: AttemptInfo,
    stop_token: StopToken,
    holds_slot: Arc<AtomicBool>,
    scheduler: Sender<Message>,
}

thread_local! {
    static ON_THIS_THREAD: RefCell<Option<TaskHandle>> = const { RefCell::new(None) };
}

impl TaskHandle {
    pub(crate) fn new(info: AttemptInfo, scheduler: Sender<Message>) -> Self {
        Self { info, stop_token: StopToken::default(), holds_slot: Arc::new(AtomicBool::new(true)), scheduler }
    }

    /// The attempt's identity.
    #[must_use]
    pub fn info(&self) -> &AttemptInfo {
        &self.info
    }

    /// The attempt that runs on this thread, if it is a function on one of the engine's worker threads.
    #[must_use]
    pub fn of_this_thread() -> Option<Self> {
        ON_THIS_THREAD.with_borrow(Clone::clone)
    }

    /// Runs a function with this attempt as the current one of the thread.
    pub(crate) fn run_as<T>(&self, function: impl FnOnce() -> T) -> T {
        /// Restores the previous attempt, even after a panic.
        struct Restore(Option<TaskHandle>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ON_THIS_THREAD.set(self.0.take());
            }
        }
        let _restore = Restore(ON_THIS_THREAD.replace(Some(self.clone())));
        function()
    }

    pub(crate) fn belongs_to(&self, scheduler: &Sender<Message>) -> bool {
        self.scheduler.same_channel(scheduler)
    }

    pub(crate) fn key(&self) -> AttemptKey {
        (self.info.execution, self.info.task.clone(), self.info.attempt)
    }

    pub(crate) fn stop_token(&self) -> &StopToken {
        &self.stop_token
    }

    /// Whether the attempt holds one of the engine's slots.
    #[must_use]
    pub fn is_slot_held(&self) -> bool {
        self.holds_slot.load(Ordering::SeqCst) && !self.is_over()
    }

    /// Whether the attempt is over: it has ended or timed out, its execution was cancelled, or its engine was shut
    /// down. A thread cannot be stopped from outside: a function that may outlive its timeout should check this between
    /// its steps, and return. Until it does, it runs concurrently with the next attempt.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop_token.is_over()
    }

    /// Waits without a slot until a condition holds, so that other attempts can run. Takes a slot again before it
    /// returns. Checks the condition immediately, and then every `poll`. Meanwhile the attempt is deferred: the wait
    /// does not count towards the timeout, and a crash of the process does not count towards `max_recoveries`.
    ///
    /// # Errors
    /// [`AttemptOver`] as soon as the attempt is over.
    pub fn defer_until(&self, mut condition: impl FnMut() -> bool, poll: Duration) -> Result<(), AttemptOver> {
        self.release_slot();
        while !condition() {
            self.sleep(poll)?;
        }
        self.take_slot()
    }

    /// Async version of [`TaskHandle::defer_until`], for tasks that run on tokio.
    ///
    /// # Errors
    /// As [`TaskHandle::defer_until`].
    pub async fn defer_until_async<F>(
        &self,
        mut condition: impl FnMut() -> F,
        poll: Duration,
    ) -> Result<(), AttemptOver>
    where
        F: Future<Output = bool>,
    {
        self.release_slot();
        while !condition().await {
            tokio::time::sleep(poll).await;
            if self.is_over() {
                return Err(self.over());
            }
        }
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.take_slot_then(Box::new(move |taken| drop(sender.send(taken))));
        receiver.await.unwrap_or_else(|_| Err(self.over()))
    }

    /// Releases the slot for another attempt. For executors that wait in their own way.
    pub fn release_slot(&self) {
        if self.holds_slot.swap(false, Ordering::SeqCst) {
            self.ask(SlotRequest::GiveBack);
        }
    }

    /// Waits for a slot. Deferred attempts have priority over new ones.
    ///
    /// # Errors
    /// [`AttemptOver`] if the attempt is over.
    pub fn take_slot(&self) -> Result<(), AttemptOver> {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        self.take_slot_then(Box::new(move |taken| drop(sender.send(taken))));
        receiver.recv().unwrap_or_else(|_| Err(self.over()))
    }

    /// Requests a slot; calls `then` when the attempt gets it or is over.
    pub fn take_slot_then(&self, then: SlotWaiter) {
        let holds = self.holds_slot.clone();
        self.ask(SlotRequest::Take(Box::new(move |taken| {
            holds.store(taken.is_ok(), Ordering::SeqCst);
            then(taken);
        })));
    }

    /// Sleeps for `time`, or until the attempt is over.
    ///
    /// # Errors
    /// [`AttemptOver`] as soon as it is over.
    pub fn sleep(&self, time: Duration) -> Result<(), AttemptOver> {
        if self.stop_token.is_over_within(time) { Err(self.over()) } else { Ok(()) }
    }

    /// Suspends the attempt's timeout until [`TaskHandle::begin_timeout`]. For executors that have to prepare first,
    /// such as starting a process; they limit the time of that themselves.
    pub fn hold_timeout(&self) {
        self.count(false);
    }

    /// Starts the attempt's timeout now.
    pub fn begin_timeout(&self) {
        self.count(true);
    }

    fn count(&self, counts: bool) {
        // If the scheduler is gone, there is no timeout.
        let _ = self.scheduler.send(Message::Counts { attempt: self.key(), counts });
    }

    fn ask(&self, request: SlotRequest) {
        // If the scheduler is gone, so are its slots; a waiter in the request is dropped.
        let _ = self.scheduler.send(Message::Slot { attempt: self.key(), request });
    }

    /// The error for this attempt once it is over.
    #[must_use]
    pub fn over(&self) -> AttemptOver {
        AttemptOver { execution: self.info.execution, task: self.info.task.clone(), attempt: self.info.attempt }
    }
}

/// Whether an attempt is over, and the executor's callback to stop it: called once, if the attempt times out, its
/// execution is cancelled, or the engine shuts down.
#[derive(Clone, Default)]
pub(crate) struct StopToken(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
enum State {
    /// Not over, and no callback is set.
    #[default]
    Running,
    Stoppable(Box<dyn FnOnce() + Send>),
    Over,
}

impl StopToken {
    /// Sets the callback that stops it. Calls it immediately if the attempt was already stopped.
    pub(crate) fn on_stop(&self, stop: impl FnOnce() + Send + 'static) {
        let mut state = lock(&self.0.0);
        if matches!(*state, State::Over) {
            drop(state);
            stop();
        } else {
            *state = State::Stoppable(Box::new(stop));
        }
    }

    /// Ends it and calls the callback, once.
    pub(crate) fn stop(&self) {
        let before = std::mem::replace(&mut *lock(&self.0.0), State::Over);
        self.0.1.notify_all();
        if let State::Stoppable(stop) = before {
            stop();
        }
    }

    /// Marks it as over without calling the callback: it ended by itself.
    pub(crate) fn close(&self) {
        *lock(&self.0.0) = State::Over;
    }

    fn is_over(&self) -> bool {
        matches!(*lock(&self.0.0), State::Over)
    }

    /// Waits up to `time` for its end. Returns whether it is over.
    fn is_over_within(&self, time: Duration) -> bool {
        let is_running = |state: &mut State| !matches!(*state, State::Over);
        let waited = self.0.1.wait_timeout_while(lock(&self.0.0), time, is_running);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        matches!(*state, State::Over)
    }
}
