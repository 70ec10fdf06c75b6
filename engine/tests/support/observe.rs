//! The observable state of an execution, to compare two of them.

use std::collections::BTreeMap;

use cloacina_engine::core::context::{Collision, Context, VersionRef, digest};
use cloacina_engine::core::decide::{Command, Decision, decide};
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{ExecutionOptions, Key, Seen, Seq};
use cloacina_engine::core::fold::{Graphs, Recorded, fold};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::{Execution, Failure, Status, TaskState, Timer};
use cloacina_engine::core::time::{Millis, Timestamp};

/// A context: each key with its value (`None`: removed), what a read of it would record, and the writes in it.
pub type ContextSummary = BTreeMap<String, (Option<Json>, Seen, Vec<Seq>)>;

#[derive(Debug, PartialEq)]
pub struct Observation {
    status: Status,
    reason: String,
    next_seq: Seq,
    started: Timestamp,
    last: Timestamp,
    fingerprint: Fingerprint,
    recoveries: u32,
    retries: u32,
    options: ExecutionOptions,
    pid: u32,
    tasks: Vec<TaskObservation>,
    ready: Vec<u32>,
    running: Vec<u32>,
    next_timer: Option<(Timestamp, Timer)>,
    input: ContextSummary,
    context: ContextSummary,
    digest: [u8; 32],
}

#[derive(Debug, PartialEq)]
struct TaskObservation {
    name: String,
    state: TaskState,
    attempts: u32,
    failures: u32,
    deaths: u32,
    failure: Option<Failure>,
    skipped: Option<String>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    collisions: Vec<Collision>,
    gives: Option<ContextSummary>,
    /// Only if the task has started.
    declared: Option<ContextSummary>,
    latest: Option<ContextSummary>,
}

pub fn summary(context: &Context) -> ContextSummary {
    summarize(context.iter())
}

fn summarize<'a>(versions: impl Iterator<Item = (&'a Key, &'a VersionRef)>) -> ContextSummary {
    versions
        .map(|(key, version)| (key.to_string(), (version.value().cloned(), version.seen(), version.writes())))
        .collect()
}

impl Observation {
    pub fn of(state: &Execution) -> Self {
        let context = state.context();
        Self {
            status: state.status(),
            reason: state.reason().to_string(),
            next_seq: state.next_seq(),
            started: state.started(),
            last: state.last(),
            fingerprint: state.fingerprint(),
            recoveries: state.recoveries(),
            retries: state.retries(),
            options: *state.options(),
            pid: state.environment().pid,
            tasks: state.graph().tasks().map(|task| TaskObservation::of(state, task)).collect(),
            ready: state.ready().map(|task| task.0).collect(),
            running: state.running().map(|task| task.0).collect(),
            next_timer: state.next_timer(),
            input: summary(&state.input()),
            digest: digest(&context),
            context: summary(&context),
        }
    }
}

impl TaskObservation {
    fn of(state: &Execution, task: cloacina_engine::core::graph::TaskIndex) -> Self {
        let slot = state.task(task);
        let view = slot.started().map(|_| state.view(task));
        Self {
            name: state.graph().name(task).to_string(),
            state: slot.state(),
            attempts: slot.attempts(),
            failures: slot.failures(),
            deaths: slot.deaths(),
            failure: slot.failure().cloned(),
            skipped: slot.skipped().map(|why| format!("{why:?}")),
            started: slot.started(),
            ended: slot.ended(),
            collisions: slot.collisions().to_vec(),
            gives: state.gives(task).as_ref().map(summary),
            declared: view.as_ref().map(|view| summary(&view.declared)),
            latest: view.as_ref().map(|view| summarize(view.latest.all_latest())),
        }
    }
}

/// Checks that two states are equal and will fire the same timers, now and at any later time.
///
/// A retry becomes due without an event, so a state that was just folded learns of it only by the next `TimerFired`.
/// States are therefore compared after one.
pub fn assert_same(left: &Execution, right: &Execution, now: Timestamp) {
    let (mut left, mut right) = (left.clone(), right.clone());
    for later in [now, now.after(Millis(1_500)), now.after(Millis(1 << 40))] {
        let fired = [tick(&mut left, later), tick(&mut right, later)].map(|decision| decision.events);
        assert_eq!(fired[0], fired[1]);
        assert_eq!(Observation::of(&left), Observation::of(&right));
    }
}

pub fn tick(state: &mut Execution, now: Timestamp) -> Decision {
    if state.status().is_final() {
        return Decision::default();
    }
    decide(state, Command::TimerFired { jitter: Jitter::NONE }, now).unwrap()
}

/// Folds a whole stream.
pub fn folded<'a>(events: impl IntoIterator<Item = &'a Recorded>, graphs: &dyn Graphs) -> Execution {
    let mut state = None;
    for recorded in events {
        state = Some(fold(state, super::ID, recorded, graphs).unwrap());
    }
    state.unwrap()
}
