//! Stalls: all slots are taken, none has changed hands for a while, and a thread that an attempt may be waiting for
//! waits for an execution that needs a slot. The executor is asked what its attempts do. If that proves a deadlock, a
//! wait is refused; if a deadlock is likely but not certain, a warning is logged.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::Scheduler;
use super::slots::slot_of;
use super::waiters::Stall;
use crate::core::event::ExecutionId;
use crate::core::standing::Standing;
use crate::runtime::attempt::{AttemptActivity, AttemptKey};
use crate::runtime::message::Activity;

/// Time until the first check of what the attempts do. It doubles for each later check, up to `LONGEST_INTERVAL`.
const FIRST_CHECK: Duration = Duration::from_millis(100);
const LONGEST_INTERVAL: Duration = Duration::from_secs(2);

/// Time that every attempt must have waited for a lock, or been in one place, before a warning.
const LOCKED: Duration = Duration::from_secs(5);
const UNMOVED: Duration = Duration::from_secs(30);

/// Maximum number of tasks named in the warning.
const NAMED: usize = 4;

impl Scheduler {
    /// At the end of a turn: detects a stall, and asks what the attempts do when a check is due.
    pub(super) fn check_for_stall(&mut self) {
        let is_possible = self.stalls.ask_report.is_some()
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
                let next_check = now + FIRST_CHECK;
                self.stalls.current = Some(Stall { changes, since: now, next_check, is_warned_about: false });
                return;
            }
        };
        let is_due = self.stalls.until().is_some_and(|due| due <= now);
        let is_starved = is_due && !self.starved().is_empty();
        if let (Some(stall), true) = (&mut self.stalls.current, is_due) {
            stall.next_check = now + now.duration_since(since).clamp(FIRST_CHECK, LONGEST_INTERVAL);
        }
        if let (Some(ask_report), true) = (&self.stalls.ask_report, is_starved) {
            ask_report();
        }
    }

    /// Handles a report of what the attempts do.
    pub(super) fn handle_report(&mut self, report: &[Activity]) {
        self.refuse_deadlocked_wait(report);
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
        let standing = Standing::no_slot(self.services.config.max_concurrent_tasks, &named(holders), waited.as_secs());
        let others = match starved.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        tracing::warn!("execution {first}{others}: {}", standing.advice().unwrap_or_default());
        for execution in starved {
            self.set_stalled(execution, &standing);
        }
    }

    fn set_stalled(&self, execution: ExecutionId, standing: &Standing) {
        if self.live.get(&execution).is_some_and(|live| live.state.running().next().is_none()) {
            self.services.standings.set(execution, Some(standing.clone()));
        }
    }
}

/// Whether a deadlock is likely: no holder of a slot seems to make progress.
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

    /// Many tasks sleep or read for a minute; few wait that long for a lock.
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
