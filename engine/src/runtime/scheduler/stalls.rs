//! Stalls: all slots are taken, none has changed hands for a while, and a thread of which nobody knows whether an attempt
//! waits for it waits for an execution that needs one. Whoever runs the attempts is asked what they do. If it follows that
//! none of them can go on, a wait is refused; if that is likely but not certain, it is warned about.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Scheduler;
use super::slots::slot_of;
use super::waiters::Stall;
use crate::core::event::ExecutionId;
use crate::core::standing::Standing;
use crate::runtime::attempt::{AttemptActivity, AttemptKey};
use crate::runtime::message::Activity;

/// The first look at what the attempts do comes after so long, later ones after twice the time, but at least so often.
const FIRST_LOOK: Duration = Duration::from_millis(100);
const LONGEST_BREAK: Duration = Duration::from_secs(2);

/// How long every attempt must have waited for a lock before it is warned about, and how long it must have been in one place.
const LOCKED: Duration = Duration::from_secs(5);
const UNMOVED: Duration = Duration::from_secs(30);

/// How many tasks are named in the warning.
const NAMED: usize = 4;

impl Scheduler {
    /// Ends a turn: notes whether the slots stall, and asks what the attempts do when that is due.
    pub(super) fn look_for_stalls(&mut self) {
        let is_possible = self.stalls.look.is_some()
            && !self.slots.is_any_free()
            && self.stopping.is_none()
            && self.failed.is_none()
            && self.nested.values().any(|wait| wait.attempt.is_none());
        if !is_possible {
            self.stalls.current = None;
            return;
        }
        let (now, changes) = (Instant::now(), self.slots.changes());
        let since = match &self.stalls.current {
            Some(stall) if stall.changes == changes => stall.since,
            _ => {
                let next_look = now + FIRST_LOOK;
                self.stalls.current = Some(Stall { changes, since: now, next_look, is_warned_about: false });
                return;
            }
        };
        let is_due = self.stalls.until().is_some_and(|due| due <= now);
        let is_starved = is_due && !self.starved().is_empty();
        if let (Some(stall), true) = (&mut self.stalls.current, is_due) {
            stall.next_look = now + now.duration_since(since).clamp(FIRST_LOOK, LONGEST_BREAK);
        }
        if let (Some(look), true) = (&self.stalls.look, is_starved) {
            look();
        }
    }

    /// Takes what the attempts do.
    pub(super) fn take_activities(&mut self, report: &[Activity]) {
        self.refuse_hopeless_wait(report);
        let changes = self.slots.changes();
        let Some(stall) = self.stalls.current.as_mut().filter(|stall| stall.changes == changes) else { return };
        let waited = stall.since.elapsed();
        if stall.is_warned_about {
            return;
        }
        let holders = self.slot_holders();
        if is_likely(&holders, report, waited) {
            self.warn_of_stall(&holders, waited);
        }
    }

    fn slot_holders(&self) -> BTreeSet<AttemptKey> {
        let running = self.live.iter().flat_map(|(id, live)| {
            live.state.running().filter_map(|task| {
                let key = (*id, live.state.graph().name(task).clone(), live.state.task(task).attempts());
                slot_of(&live.state, &key).flatten().map(|_| key)
            })
        });
        running.collect()
    }

    fn warn_of_stall(&mut self, holders: &BTreeSet<AttemptKey>, waited: Duration) {
        let starved = self.starved();
        let Some(first) = starved.first() else { return };
        if let Some(stall) = &mut self.stalls.current {
            stall.is_warned_about = true;
        }
        let standing = Standing::no_slot(self.shell.config.max_concurrent_tasks, &named(holders), waited.as_secs());
        let others = match starved.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        tracing::warn!("execution {first}{others}: {}", standing.advice().unwrap_or_default());
        for execution in starved {
            self.note_stall(execution, &standing);
        }
    }

    fn note_stall(&self, execution: ExecutionId, standing: &Standing) {
        if self.live.get(&execution).is_some_and(|live| live.state.running().next().is_none()) {
            self.shell.standings.set(execution, Some(standing.clone()));
        }
    }
}

/// Whether none of those who hold a slot seems to go on.
fn is_likely(holders: &BTreeSet<AttemptKey>, report: &[Activity], waited: Duration) -> bool {
    holders.iter().all(|holder| {
        let activity = report.iter().find(|(attempt, _)| attempt == holder).map(|(_, activity)| activity);
        let patience = match activity {
            Some(AttemptActivity::WaitsFor(_) | AttemptActivity::WaitsForLock) => LOCKED,
            Some(AttemptActivity::Unmoved) => UNMOVED,
            None => return false,
        };
        waited >= patience
    })
}

fn named(holders: &BTreeSet<AttemptKey>) -> String {
    let tasks: BTreeSet<String> = holders.iter().map(|(_, task, _)| format!("'{task}'")).collect();
    let some: Vec<String> = tasks.iter().take(NAMED).cloned().collect();
    let more = if tasks.len() > NAMED { format!(" and {} more", tasks.len() - NAMED) } else { String::new() };
    some.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(task: &str) -> AttemptKey {
        (ExecutionId([1; 16]), task.into(), 1)
    }

    /// A task that sleeps or reads for a minute is the rule; one that waits for a lock so long is not.
    #[test]
    fn the_patience_with_attempts_follows_what_they_do() {
        let holders = BTreeSet::from([attempt("a"), attempt("b")]);
        let (short, long) = (Duration::from_secs(6), Duration::from_secs(31));
        let locked = (attempt("a"), AttemptActivity::WaitsForLock);
        let waits = (attempt("b"), AttemptActivity::WaitsFor(vec![7]));
        let unmoved = (attempt("b"), AttemptActivity::Unmoved);
        assert!(!is_likely(&holders, std::slice::from_ref(&locked), long), "the other one goes on");
        assert!(!is_likely(&holders, &[locked.clone(), waits.clone()], Duration::from_secs(1)));
        assert!(is_likely(&holders, &[locked.clone(), waits], short));
        assert!(!is_likely(&holders, &[locked.clone(), unmoved.clone()], short));
        assert!(is_likely(&holders, &[locked, unmoved], long));
    }

    #[test]
    fn tasks_are_named_once_and_not_all() {
        let holders = ["a", "b", "c", "d", "e"].map(attempt).into();
        assert_eq!(named(&holders), "'a', 'b', 'c', 'd' and 1 more");
    }
}
