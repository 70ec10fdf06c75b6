//! Settling: a virtual clock advances only when the engine is idle.

use std::collections::HashSet;
use std::time::Instant;

use super::Scheduler;
use crate::core::event::{Attempt, ExecutionId, TaskId};
use crate::runtime::clock::{PATIENCE, Settled};
use crate::runtime::message::{Message, Reply};

impl Scheduler {
    /// Replies once the engine is idle.
    pub(super) fn settle(&mut self, reply: Reply<Settled>) {
        self.settling.waiting.push(reply);
        self.settling.until = Instant::now().checked_add(PATIENCE);
    }

    /// At the end of a turn: replies to waiting requests if the engine is idle.
    pub(super) fn answer_if_settled(&mut self) {
        if self.settling.waiting.is_empty() {
            return;
        }
        self.expire_attempts();
        if self.is_busy() {
            return;
        }
        let next = self.timers.first().map(|(due, _)| *due);
        for reply in std::mem::take(&mut self.settling.waiting) {
            let _asker_may_be_gone = reply.send(Settled { next });
        }
    }

    fn running_everywhere(&self) -> impl Iterator<Item = (ExecutionId, TaskId, Attempt)> {
        self.live.iter().flat_map(|(id, live)| {
            live.state
                .running()
                .map(|task| (*id, live.state.graph().name(task).clone(), live.state.task(task).attempts()))
        })
    }

    /// After the deadline, attempts that still run are no longer waited for, now or later.
    fn expire_attempts(&mut self) {
        let running: HashSet<_> = self.running_everywhere().collect();
        self.settling.expired.retain(|attempt| running.contains(attempt));
        if self.settling.until.is_some_and(|until| Instant::now() >= until) {
            self.settling.expired.extend(running);
            self.settling.until = None;
        }
    }

    /// Whether anything is under way: an attempt, a batch, or an end that is not yet reported.
    fn is_busy(&mut self) -> bool {
        if self.failed.is_some() {
            return false;
        }
        let runs = self.running_everywhere().any(|attempt| !self.settling.expired.contains(&attempt));
        let mut waits = false;
        for (id, live) in &self.live {
            // A finished execution counts until its end was reported, which has the same deadline as an attempt.
            waits |= live.state.status().is_final() && self.settling.until.is_some();
            if !live.durable.is_complete() {
                waits = true;
                if self.settling.watched.insert(*id) {
                    let (own, id) = (self.services.own.clone(), *id);
                    live.durable.wait(Box::new(move |_| drop(own.send(Message::Durable(Some(id))))));
                }
            }
        }
        let sources: Vec<_> = self
            .schedules
            .values()
            .map(|live| &live.outbox)
            .chain(self.triggers.values().map(|live| &live.outbox))
            .collect();
        for durable in sources.into_iter().filter_map(|outbox| outbox.waits_for()) {
            waits = true;
            // Registers again on each call; a completed promise is filtered out by `waits_for`.
            let own = self.services.own.clone();
            durable.wait(Box::new(move |_| drop(own.send(Message::Durable(None)))));
        }
        runs || waits || (self.is_polling() && self.settling.until.is_some())
    }
}
