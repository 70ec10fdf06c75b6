//! Deferral: attempts that release their slot while they wait, and take one again.

use super::Scheduler;
use super::slots::{attempt_over, slot_of};
use crate::core::decide::Command;
use crate::runtime::attempt::AttemptKey;
use crate::runtime::message::SlotRequest;

impl Scheduler {
    /// Handles an attempt's request to release its slot or to take one again.
    pub(super) fn slot_requested(&mut self, attempt: AttemptKey, request: SlotRequest) {
        let under_way = self.live.get(&attempt.0).and_then(|live| slot_of(&live.state, &attempt));
        if under_way.is_some() {
            self.slots_changed.insert(attempt.0);
        }
        match (under_way, request) {
            (Some(Some(slot)), SlotRequest::GiveBack) => {
                let (execution, task, number) = attempt;
                if self.decide(execution, Command::Defer { task, attempt: number }).is_ok() {
                    self.slots.put(slot);
                }
            }
            (Some(None), SlotRequest::GiveBack) => self.slots.refuse(&attempt),
            (Some(Some(_)), SlotRequest::Take(waiter)) => waiter(Ok(())),
            (Some(None), SlotRequest::Take(waiter)) => self.slots.want(attempt, waiter),
            (None, SlotRequest::Take(waiter)) => waiter(Err(attempt_over(&attempt))),
            (None, SlotRequest::GiveBack) => {}
        }
    }

    /// Resumes deferred attempts while slots are free. They continue once that is durable.
    pub(super) fn resume_deferred(&mut self) {
        while let Some((attempt, slot, waiter)) = self.slots.next_return() {
            let (execution, task, number) = attempt.clone();
            match self.decide(execution, Command::Resume { task, attempt: number, worker: slot }) {
                Ok(()) => self.answer_when_durable(
                    execution,
                    Box::new(move |durable| waiter(durable.map_err(|_| attempt_over(&attempt)))),
                ),
                Err(_) => {
                    self.slots.put(slot);
                    waiter(Err(attempt_over(&attempt)));
                }
            }
        }
    }
}
