//! Waits for executions without a timeout, and the attempts they belong to. While every slot is held by an attempt that
//! waits like this, none of the awaited executions gets a slot.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender};

use super::Engine;
use crate::core::event::ExecutionId;
use crate::runtime::attempt::{AttemptActivity, WaitTicket};
use crate::runtime::errors::WaitError;
use crate::runtime::handle::TaskHandle;
use crate::runtime::message::{Message, NestedWait};
use crate::runtime::outcome::Outcome;

/// Returns a number for a wait that begins later; see [`Executing::counted_as`](super::Executing::counted_as).
pub fn wait_ticket() -> WaitTicket {
    static TICKETS: AtomicU64 = AtomicU64::new(0);
    TICKETS.fetch_add(1, Ordering::Relaxed)
}

/// A registered wait for an execution; see [`Engine::watch`].
pub struct NestedWaitGuard {
    ticket: WaitTicket,
    messages: Sender<Message>,
}

impl NestedWaitGuard {
    /// Its number.
    #[must_use]
    pub fn ticket(&self) -> WaitTicket {
        self.ticket
    }
}

impl Drop for NestedWaitGuard {
    fn drop(&mut self) {
        // If the scheduler is gone, no wait is registered.
        let _ = self.messages.send(Message::WaitEnds { ticket: self.ticket });
    }
}

/// A wait that has begun; see [`Engine::begin_wait`].
pub struct PendingWait {
    guard: NestedWaitGuard,
    execution: ExecutionId,
    end: Receiver<Result<Arc<Outcome>, WaitError>>,
}

impl PendingWait {
    /// Its number.
    #[must_use]
    pub fn ticket(&self) -> WaitTicket {
        self.guard.ticket
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// As [`Engine::wait_in`].
    pub fn end(&self) -> Result<Arc<Outcome>, WaitError> {
        self.end.recv().unwrap_or(Err(WaitError::ShutDown(self.execution)))
    }
}

impl Engine {
    /// Waits inside an attempt for the end of an execution. The attempt keeps its slot.
    ///
    /// # Errors
    /// [`WaitError::NoSlotLeft`], immediately, when this wait would deadlock: every slot is held by an attempt that
    /// waits for an execution, and that execution needs a slot. See [`WaitError`] for the others; the execution keeps
    /// running.
    pub fn wait_in(&self, attempt: &TaskHandle, execution: ExecutionId) -> Result<Arc<Outcome>, WaitError> {
        self.begin_wait(Some(attempt), execution).end()
    }

    /// Begins a wait of an attempt, as [`Engine::wait_in`] does, or of a thread that an attempt may or may not wait
    /// for. The latter is refused only if a report ([`Engine::report_activity`]) proves a deadlock.
    pub fn begin_wait(&self, attempt: Option<&TaskHandle>, execution: ExecutionId) -> PendingWait {
        let (ended, end) = crossbeam_channel::bounded(2);
        let refused = ended.clone();
        let guard = self.watch(attempt, execution, move |why| drop(refused.try_send(Err(why))));
        self.when_done(execution, Box::new(move |outcome| drop(ended.try_send(outcome))));
        PendingWait { guard, execution, end }
    }

    /// Registers, while the guard lives, that an attempt (or a thread, as in [`Engine::begin_wait`]) waits for an
    /// execution. `refuse` is called on a deadlock: at most once, on one of the engine's threads. For executors that
    /// wait in their own way. A wait by an attempt of another engine is ignored: it holds none of this engine's slots.
    pub fn watch(
        &self,
        attempt: Option<&TaskHandle>,
        execution: ExecutionId,
        refuse: impl FnOnce(WaitError) + Send + 'static,
    ) -> NestedWaitGuard {
        self.watch_as(wait_ticket(), attempt, execution, refuse)
    }

    pub(super) fn watch_as(
        &self,
        ticket: WaitTicket,
        attempt: Option<&TaskHandle>,
        execution: ExecutionId,
        refuse: impl FnOnce(WaitError) + Send + 'static,
    ) -> NestedWaitGuard {
        if attempt.is_none_or(|attempt| attempt.belongs_to(&self.messages)) {
            let wait = NestedWait { attempt: attempt.map(TaskHandle::key), execution, refuse: Box::new(refuse) };
            // Without a scheduler there are no slots.
            let _ = self.messages.send(Message::WaitBegins { ticket, wait });
        }
        NestedWaitGuard { ticket, messages: self.messages.clone() }
    }

    /// Sets the callback for a possible stall: all slots have been taken for a while, none has changed hands, and a
    /// thread that is no attempt waits for an execution that needs a slot. It runs on the scheduler's thread and must
    /// not block; answer with [`Engine::report_activity`].
    pub fn on_stall(&self, ask_report: impl Fn() + Send + 'static) {
        // Without a scheduler nothing stalls.
        let _ = self.messages.send(Message::OnStall(Box::new(ask_report)));
    }

    /// Reports what the running attempts do. Ignores attempts of other engines and waits that have ended. If every slot
    /// is held by an attempt that can never go on, the newest wait is refused with [`WaitError::NoSlotLeft`].
    pub fn report_activity(&self, report: impl IntoIterator<Item = (TaskHandle, AttemptActivity)>) {
        let own = report.into_iter().filter(|(attempt, _)| attempt.belongs_to(&self.messages));
        let report = own.map(|(attempt, activity)| (attempt.key(), activity)).collect();
        let _ = self.messages.send(Message::Activities(report));
    }
}
