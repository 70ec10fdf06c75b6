//! A slow model of an execution, written from the design document. It computes everything from the list of all events
//! and keeps no state.

use std::collections::{BTreeMap, BTreeSet};

use cloacina_engine::core::context::Context;
use cloacina_engine::core::definition::{Condition, Definition, Operator, TaskDefinition, Timeout, TriggerRule};
use cloacina_engine::core::event::{Event, ExecutionOptions, Origin, Seen, Seq, Settled};
use cloacina_engine::core::fold::Recorded;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::{Execution, Status, TaskState};
use cloacina_engine::core::time::{Millis, Timestamp};
use serde_json::Value;

use super::term::{TermArena, Terms};

pub struct Model<'a> {
    pub definition: &'a Definition,
    pub events: &'a [&'a Recorded],
    /// The time of the last `TimerFired`.
    pub ticked: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Pending,
    Running(Timestamp),
    Deferred(Timestamp),
    Waiting(Timestamp),
    Settled(Settled),
    Cancelled,
}

/// Why a task is skipped.
#[derive(Debug, Default, PartialEq)]
pub struct Why {
    pub tasks: BTreeSet<(String, Settled)>,
    pub keys: BTreeSet<String>,
    pub failure: bool,
}

fn is_failure(how: Settled) -> bool {
    how == Settled::Failed || how == Settled::SkippedByFailure
}

impl<'a> Model<'a> {
    fn task(&self, id: &str) -> &TaskDefinition {
        self.definition.tasks.iter().find(|task| &*task.id == id).unwrap()
    }

    fn options(&self) -> ExecutionOptions {
        let options = self.events.iter().rev().find_map(|recorded| match &recorded.event {
            Event::ExecutionStarted(started) => Some(started.options),
            Event::ExecutionRetried(retried) => Some(retried.options),
            _ => None,
        });
        options.unwrap()
    }

    fn end(&self) -> Option<&Event> {
        self.events.last().map(|last| &last.event).filter(|event| {
            matches!(event, Event::ExecutionCompleted(_) | Event::ExecutionFailed(_) | Event::ExecutionCancelled(_))
        })
    }

    pub fn status(&self) -> Status {
        match self.end() {
            Some(Event::ExecutionCompleted(_)) => return Status::Completed,
            Some(Event::ExecutionFailed(_)) => return Status::Failed,
            Some(_) => return Status::Cancelled,
            None => {}
        }
        let switch = self.events.iter().rev().find_map(|recorded| match recorded.event {
            Event::ExecutionPaused(_) => Some(Status::Paused),
            Event::ExecutionUnpaused(_) | Event::ExecutionRetried(_) => Some(Status::Running),
            _ => None,
        });
        switch.unwrap_or(Status::Running)
    }

    pub fn state(&self, task: &str) -> State {
        let mut state = State::Pending;
        for (at, recorded) in self.events.iter().enumerate() {
            state = match &recorded.event {
                Event::ExecutionRetried(_) if self.until(at).runs_again(task) => State::Pending,
                Event::TaskStarted(body) if &*body.task == task => State::Running(recorded.time),
                Event::TaskDeferred(body) if &*body.task == task => State::Deferred(recorded.time),
                Event::TaskResumed(body) if &*body.task == task => State::Running(recorded.time),
                Event::TaskCompleted(body) if &*body.task == task => State::Settled(Settled::Completed),
                Event::TaskFailed(body) if &*body.task == task => match body.retry_at {
                    Some(due) => State::Waiting(due),
                    None => State::Settled(Settled::Failed),
                },
                Event::TaskSkipped(body) if &*body.task == task => State::Settled(match body.why.failure {
                    true => Settled::SkippedByFailure,
                    false => Settled::Skipped,
                }),
                Event::TaskAbandoned(body) if &*body.task == task => State::Pending,
                _ => state,
            };
        }
        match state {
            State::Settled(_) => state,
            _ if self.end().is_some() => State::Cancelled,
            _ => state,
        }
    }

    /// Returns the model of the events before the one at this index.
    fn until(&self, at: usize) -> Self {
        Model { events: &self.events[..at], ..*self }
    }

    /// Returns whether a retry at this moment puts a task back: it has not ended, or its failure was not handled.
    pub fn runs_again(&self, task: &str) -> bool {
        match self.state(task) {
            State::Settled(how) if is_failure(how) => {
                let mut downstream =
                    self.definition.tasks.iter().filter(|other| self.upstream(other).contains(task)).peekable();
                downstream.peek().is_none() || downstream.any(|down| self.runs_again(&down.id))
            }
            State::Settled(_) => false,
            _ => true,
        }
    }

    /// Returns the model of the moment when a task last started or was skipped, if no retry has put it back since: later
    /// events do not change what it sees.
    fn when_decided(&self, task: &str) -> Self {
        let decided = self.events.iter().rposition(|recorded| match &recorded.event {
            Event::TaskStarted(body) => &*body.task == task,
            Event::TaskSkipped(body) => &*body.task == task,
            _ => false,
        });
        let retried = self.events.iter().enumerate().rposition(|(at, recorded)| {
            matches!(recorded.event, Event::ExecutionRetried(_)) && self.until(at).runs_again(task)
        });
        match decided {
            Some(at) if retried.is_none_or(|retried| retried < at) => self.until(at + 1),
            _ => self.until(self.events.len()),
        }
    }

    fn settled(&self, task: &str) -> Option<Settled> {
        match self.state(task) {
            State::Settled(how) => Some(how),
            _ => None,
        }
    }

    fn upstream(&self, task: &TaskDefinition) -> BTreeSet<String> {
        fn names(condition: &Condition, all: &mut BTreeSet<String>) {
            match condition {
                Condition::All(parts) | Condition::Any(parts) | Condition::None(parts) => {
                    parts.iter().for_each(|part| names(part, all));
                }
                Condition::TaskSuccess(task) | Condition::TaskFailed(task) | Condition::TaskSkipped(task) => {
                    all.insert(task.to_string());
                }
                Condition::Always | Condition::ContextValue { .. } => {}
            }
        }
        let mut all: BTreeSet<String> = task.dependencies.iter().map(ToString::to_string).collect();
        if let TriggerRule::When(condition) = &task.rule {
            names(condition, &mut all);
        }
        all
    }

    fn has_unsettled_upstream(&self, task: &TaskDefinition) -> bool {
        self.upstream(task).iter().any(|up| self.settled(up).is_none())
    }

    /// Returns the tasks that wait for a retry or a slot, or are still to be skipped.
    fn unblocked(&self) -> impl Iterator<Item = (&TaskDefinition, State)> {
        let states = self.definition.tasks.iter().map(|task| (task, self.state(&task.id)));
        states.filter(|(task, state)| {
            matches!(state, State::Pending | State::Waiting(_)) && !self.has_unsettled_upstream(task)
        })
    }

    pub fn ready(&self, arena: &mut TermArena) -> BTreeSet<String> {
        let Event::ExecutionStarted(started) = &self.events[0].event else { panic!("no start") };
        let inputs = self.writes(&Origin::Input, Seq::MAX).len();
        if self.status() != Status::Running || inputs < started.inputs as usize {
            return BTreeSet::new();
        }
        let unblocked: Vec<_> = self.unblocked().collect();
        let may_start = unblocked.into_iter().filter(|(task, state)| match state {
            State::Waiting(due) => *due <= self.ticked,
            _ => self.why_skipped(arena, task).is_none(),
        });
        may_start.map(|(task, _)| task.id.to_string()).collect()
    }

    /// Returns the tasks that are to be skipped. After a decision there are none.
    pub fn to_skip(&self, arena: &mut TermArena) -> Vec<String> {
        if self.status().is_final() {
            return Vec::new();
        }
        let pending: Vec<_> = self.unblocked().filter(|(_, state)| *state == State::Pending).collect();
        let skip = pending.into_iter().filter(|(task, _)| self.why_skipped(arena, task).is_some());
        skip.map(|(task, _)| task.id.to_string()).collect()
    }

    pub fn next_timer(&self) -> Option<Timestamp> {
        if self.end().is_some() {
            return None;
        }
        let mut timers = Vec::new();
        for task in &self.definition.tasks {
            match self.state(&task.id) {
                State::Waiting(due) if due > self.ticked => timers.push(due),
                State::Running(_) => {
                    let limit = match task.timeout {
                        Timeout::Inherited => self.options().task_timeout,
                        Timeout::After(limit) => Some(limit),
                        Timeout::Off => None,
                    };
                    let begins = |event: &Event| matches!(event, Event::TaskStarted(body) if body.task == task.id);
                    let counts = |model: &Model<'_>| matches!(model.state(&task.id), State::Running(_));
                    timers.extend(limit.map(|limit| self.due(limit, begins, counts)));
                }
                _ => {}
            }
        }
        if !self.all_deferred() {
            let begins = |event: &Event| event.definition().is_some();
            let counts = |model: &Model<'_>| !model.all_deferred();
            timers.extend(self.options().timeout.map(|limit| self.due(limit, begins, counts)));
        }
        timers.into_iter().min()
    }

    /// Returns whether there are attempts in progress and all of them are deferred.
    fn all_deferred(&self) -> bool {
        let states: Vec<State> = self.definition.tasks.iter().map(|task| self.state(&task.id)).collect();
        let runs = states.iter().any(|state| matches!(state, State::Running(_)));
        !runs && states.iter().any(|state| matches!(state, State::Deferred(_)))
    }

    /// Returns when a timeout is reached. It counts from the last event that begins it, and only while `counts` holds.
    fn due(&self, limit: Millis, begins: impl Fn(&Event) -> bool, counts: impl Fn(&Model<'_>) -> bool) -> Timestamp {
        let first = self.events.iter().rposition(|recorded| begins(&recorded.event)).unwrap();
        let mut used = 0;
        for at in first + 1..self.events.len() {
            let before = Model { events: &self.events[..at], ..*self };
            if counts(&before) {
                used += self.events[at].time.micros_since(self.events[at - 1].time);
            }
        }
        self.events.last().unwrap().time.after(limit).before(used)
    }

    /// Returns how the execution ends, if every task is settled.
    pub fn verdict(&self) -> Option<Status> {
        let settled: Option<BTreeMap<&str, Settled>> =
            self.definition.tasks.iter().map(|task| Some((&*task.id, self.settled(&task.id)?))).collect();
        let settled = settled?;
        let ends = settled
            .iter()
            .filter(|(id, _)| !self.definition.tasks.iter().any(|other| self.upstream(other).contains(**id)));
        let failed = ends.into_iter().any(|(_, how)| is_failure(*how));
        Some(if failed { Status::Failed } else { Status::Completed })
    }

    // Contexts.

    fn writes(&self, origin: &Origin, until: Seq) -> Vec<(Seq, String, Option<Json>)> {
        let before = self.events.iter().filter(|recorded| recorded.seq < until);
        before
            .filter_map(|recorded| match &recorded.event {
                Event::ContextWritten(body) if body.origin == *origin => {
                    Some((recorded.seq, body.key.to_string(), Some(body.value.clone())))
                }
                Event::ContextRemoved(body) if body.origin == *origin => {
                    Some((recorded.seq, body.key.to_string(), None))
                }
                _ => None,
            })
            .collect()
    }

    pub fn input(&self, arena: &mut TermArena) -> Terms {
        let mut input = Terms::new();
        for (seq, key, value) in self.writes(&Origin::Input, Seq::MAX) {
            let term = arena.write(seq, None, value.as_ref(), input.get(&key).copied());
            input.insert(key, term);
        }
        input
    }

    pub fn sees(&self, arena: &mut TermArena, task: &str) -> Terms {
        let dependencies = self.task(task).dependencies.clone();
        if dependencies.is_empty() {
            return self.input(arena);
        }
        // Without a retry, nothing that a task has seen changes later. Looking for it would take too long.
        let was_retried = self.events.iter().any(|recorded| matches!(recorded.event, Event::ExecutionRetried(_)));
        let then = if was_retried { self.when_decided(task) } else { self.until(self.events.len()) };
        let branches: Vec<Terms> = dependencies.iter().map(|up| then.gives(arena, up)).collect();
        arena.join(&branches)
    }

    /// Returns what downstream tasks see through a task: what it saw, and what its completed attempt wrote.
    pub fn gives(&self, arena: &mut TermArena, task: &str) -> Terms {
        let mut gives = self.sees(arena, task);
        let completed = self.events.iter().find_map(|recorded| match &recorded.event {
            Event::TaskCompleted(body) if &*body.task == task => Some((recorded.seq, body.attempt)),
            _ => None,
        });
        if let Some((seq, attempt)) = completed {
            let origin = Origin::Task { task: task.into(), attempt };
            for (seq, key, value) in self.writes(&origin, seq) {
                let term = arena.write(seq, Some(task.to_owned()), value.as_ref(), gives.get(&key).copied());
                gives.insert(key, term);
            }
        }
        gives
    }

    /// Returns what a task that depends on every leaf would see. For an unsettled task, `gives` returns what it sees.
    pub fn context(&self, arena: &mut TermArena) -> Terms {
        let tasks = &self.definition.tasks;
        let leaves = tasks.iter().filter(|task| !tasks.iter().any(|other| other.dependencies.contains(&task.id)));
        let branches: Vec<Terms> = leaves.map(|leaf| self.gives(arena, &leaf.id)).collect();
        arena.join(&branches)
    }

    /// Returns the last effective write to each key at the start of the last attempt at a task. Empty once the task has
    /// completed without undeclared reads.
    pub fn latest(&self, task: &str) -> BTreeMap<String, Seq> {
        let mut latest = BTreeMap::new();
        let completed = self.events.iter().find_map(|recorded| match &recorded.event {
            Event::TaskCompleted(body) if &*body.task == task => Some(&body.reads.keys),
            _ => None,
        });
        if completed.is_some_and(|reads| !reads.iter().any(|read| matches!(read.seen, Seen::Undeclared(_)))) {
            return latest;
        }
        let started = self
            .events
            .iter()
            .rposition(|recorded| matches!(&recorded.event, Event::TaskStarted(body) if &*body.task == task));
        for recorded in &self.events[..started.unwrap_or(0)] {
            if let Event::TaskCompleted(body) = &recorded.event {
                let origin = Origin::Task { task: body.task.clone(), attempt: body.attempt };
                latest.extend(self.writes(&origin, recorded.seq).into_iter().map(|(seq, key, _)| (key, seq)));
            }
        }
        latest
    }

    // Rules.

    /// Returns why a task is skipped whose upstream tasks are all settled; `None` if its rule lets it run.
    pub fn why_skipped(&self, arena: &mut TermArena, task: &TaskDefinition) -> Option<Why> {
        let dependencies: BTreeSet<(String, Settled)> =
            task.dependencies.iter().map(|up| (up.to_string(), self.settled(up).unwrap())).collect();
        let failures = dependencies.iter().filter(|(_, how)| is_failure(*how)).count();
        let successes = dependencies.iter().filter(|(_, how)| *how == Settled::Completed).count();
        let all = dependencies.len();
        let culprits = |of: fn(Settled) -> bool| dependencies.iter().filter(|(_, how)| of(*how)).cloned().collect();
        let (runs, tasks): (bool, BTreeSet<(String, Settled)>) = match &task.rule {
            TriggerRule::NoneFailed => (failures == 0, culprits(is_failure)),
            TriggerRule::AllSuccess => (successes == all, culprits(|how| how != Settled::Completed)),
            TriggerRule::AllDone | TriggerRule::Always => return None,
            TriggerRule::AllFailed => (failures == all, culprits(|how| !is_failure(how))),
            TriggerRule::OneSuccess => (successes > 0 || all == 0, culprits(|_| true)),
            TriggerRule::OneFailed => (failures > 0 || all == 0, culprits(|_| true)),
            TriggerRule::When(condition) => {
                let sees = self.sees(arena, &task.id);
                let mut why = Why::default();
                if self.evaluate(condition, arena, &sees, &mut why) {
                    return None;
                }
                return Some(self.with_failures(task, why));
            }
        };
        (!runs).then(|| self.with_failures(task, Why { tasks, ..Why::default() }))
    }

    /// Adds the failed upstream tasks, which make the skip one by failure, whatever decided the rule.
    fn with_failures(&self, task: &TaskDefinition, mut why: Why) -> Why {
        let ends = self.upstream(task).into_iter().map(|up| (up.clone(), self.settled(&up).unwrap()));
        let failures: Vec<(String, Settled)> = ends.filter(|(_, how)| is_failure(*how)).collect();
        why.failure = !failures.is_empty();
        why.tasks.extend(failures);
        why
    }

    /// Returns whether a condition holds, and adds what decided it to `why`.
    fn evaluate(&self, condition: &Condition, arena: &TermArena, sees: &Terms, why: &mut Why) -> bool {
        let state = |task: &str, wanted: &[Settled], why: &mut Why| {
            let how = self.settled(task).unwrap();
            why.tasks.insert((task.to_owned(), how));
            wanted.contains(&how)
        };
        match condition {
            Condition::Always => true,
            Condition::TaskSuccess(task) => state(task, &[Settled::Completed], why),
            Condition::TaskFailed(task) => state(task, &[Settled::Failed], why),
            Condition::TaskSkipped(task) => state(task, &[Settled::Skipped, Settled::SkippedByFailure], why),
            Condition::ContextValue { key, operator, value } => {
                why.keys.insert(key.to_string());
                let actual = sees.get(&**key).and_then(|term| arena.value(*term));
                compares(actual, *operator, value.as_ref().map(Json::value).as_ref())
            }
            Condition::All(parts) | Condition::Any(parts) | Condition::None(parts) => {
                let mut each = Vec::new();
                for part in parts {
                    let mut why = Why::default();
                    each.push((self.evaluate(part, arena, sees, &mut why), why));
                }
                let any = each.iter().any(|(holds, _)| *holds);
                let all = each.iter().all(|(holds, _)| *holds);
                // The parts that decided: those that are false in a false `all`, those that are true in a true `any`.
                let (verdict, deciding) = match condition {
                    Condition::All(_) => (all, all),
                    Condition::Any(_) => (any, any),
                    _ => (!any, any),
                };
                for (_, part) in each.into_iter().filter(|(holds, _)| *holds == deciding) {
                    why.tasks.extend(part.tasks);
                    why.keys.extend(part.keys);
                }
                verdict
            }
        }
    }
}

fn compares(actual: Option<&Value>, operator: Operator, wanted: Option<&Value>) -> bool {
    let number = |value: Option<&Value>| value.and_then(Value::as_i64);
    let contains = match (actual, wanted) {
        (Some(Value::Array(list)), Some(part)) => list.contains(part),
        (Some(Value::Object(object)), Some(Value::String(key))) => object.contains_key(key),
        _ => false,
    };
    match operator {
        Operator::Exists => actual.is_some(),
        Operator::NotExists => actual.is_none(),
        Operator::Equals => actual.is_some() && actual == wanted,
        Operator::NotEquals => actual.is_none() || actual != wanted,
        Operator::GreaterThan => number(actual).zip(number(wanted)).is_some_and(|(left, right)| left > right),
        Operator::LessThan => number(actual).zip(number(wanted)).is_some_and(|(left, right)| left < right),
        Operator::Contains => contains,
        Operator::NotContains => !contains,
    }
}

// The comparison.

/// Compares the whole model with a folded state.
pub fn assert_agrees(model: &Model<'_>, state: &Execution) {
    let arena = &mut TermArena::default();
    assert_eq!(state.status(), model.status());
    let names = |tasks: Vec<cloacina_engine::core::graph::TaskIndex>| -> BTreeSet<String> {
        tasks.into_iter().map(|task| state.graph().name(task).to_string()).collect()
    };
    assert_eq!(names(state.ready().collect()), model.ready(arena), "the ready set");
    assert_eq!(state.next_timer().map(|(due, _)| due), model.next_timer(), "the next timer");
    for task in state.graph().tasks() {
        let name = state.graph().name(task);
        let slot = state.task(task);
        let expected = match slot.state() {
            TaskState::Pending => State::Pending,
            TaskState::Running { since, .. } => State::Running(since),
            TaskState::Deferred { since } => State::Deferred(since),
            TaskState::WaitingRetry { due } => State::Waiting(due),
            TaskState::Cancelled => State::Cancelled,
            settled => State::Settled(settled.settled().unwrap()),
        };
        assert_eq!(expected, model.state(name), "the state of {name}");
        if slot.started().is_some() {
            let view = state.view(task);
            let sees = model.sees(arena, name);
            assert_terms(&view.declared, &sees, arena, &format!("what {name} sees"));
            let latest: BTreeMap<String, Seq> =
                view.latest.all_latest().map(|(key, version)| (key.to_string(), version.writes()[0])).collect();
            assert_eq!(latest, model.latest(name), "the undeclared keys of {name}");
        }
        if let Some(gives) = state.gives(task) {
            let expected = model.gives(arena, name);
            assert_terms(&gives, &expected, arena, &format!("what {name} gives"));
        }
    }
    let context = model.context(arena);
    assert_terms(&state.context(), &context, arena, "the final context");
}

/// Checks what holds only between decisions.
pub fn assert_decided(model: &Model<'_>) {
    assert_eq!(model.to_skip(&mut TermArena::default()), Vec::<String>::new(), "tasks that should have been skipped");
    if let Some(verdict) = model.verdict() {
        assert_eq!(model.status(), verdict, "every task is settled");
    }
}

/// Checks the recorded reason for a skip.
pub fn assert_skip_reason(before: &Model<'_>, skipped: &cloacina_engine::core::event::TaskSkipped) {
    let why = before.why_skipped(&mut TermArena::default(), before.task(&skipped.task)).expect("the task should run");
    let recorded = Why {
        tasks: skipped.why.tasks.iter().map(|(task, how)| (task.to_string(), *how)).collect(),
        keys: skipped.why.keys.iter().map(ToString::to_string).collect(),
        failure: skipped.why.failure,
    };
    assert_eq!(recorded, why, "why {} is skipped", skipped.task);
}

fn assert_terms(context: &Context, terms: &Terms, arena: &TermArena, what: &str) {
    if arena.ambiguous {
        return;
    }
    let actual: BTreeMap<String, (Option<Value>, Vec<Seq>)> = context
        .iter()
        .map(|(key, version)| (key.to_string(), (version.value().map(Json::value), version.writes())))
        .collect();
    let expected: BTreeMap<String, (Option<Value>, Vec<Seq>)> = terms
        .iter()
        .map(|(key, term)| (key.clone(), (arena.value(*term).cloned(), arena.sources(*term).into_iter().collect())))
        .collect();
    assert_eq!(actual, expected, "{what}");
}
