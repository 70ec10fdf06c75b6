//! A simulated runtime without threads, clock or disk: it starts, finishes and loses attempts on command, and keeps the
//! batches that a log would store.

use std::collections::{BTreeMap, BTreeSet};

use cloacina_engine::core::context::View;
use cloacina_engine::core::decide::{Command, Decision, Effect, Rejection, Start, decide, start};
use cloacina_engine::core::event::{Attempt, Cause, Environment, ExecutionOptions};
use cloacina_engine::core::fold::Recorded;
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::{Execution, TaskState};
use cloacina_engine::core::time::Timestamp;
use serde_json::Value;

use super::plan::Plan;
use super::{ID, at, fingerprint, library, object, observe, story};

#[derive(Clone)]
pub struct Simulation<'a> {
    plan: &'a Plan,
    pub state: Execution,
    /// The appended batches.
    pub log: Vec<Vec<Recorded>>,
    /// The running attempts, including those that timed out and will report late.
    running: BTreeMap<(TaskIndex, Attempt), View>,
    /// The attempts that were deferred before.
    waited: BTreeSet<(TaskIndex, Attempt)>,
    pub now: Timestamp,
    pub ticked: Timestamp,
    pub slots: usize,
    /// Whether no attempt fails any more, except by timeout.
    pub is_healed: bool,
    process: u32,
}

/// A possible next step.
#[derive(Clone, Copy, Debug)]
enum Next {
    Start(TaskIndex),
    Finish(TaskIndex, Attempt),
    Defer(TaskIndex, Attempt),
    Resume(TaskIndex, Attempt),
    Tick,
}

impl<'a> Simulation<'a> {
    pub fn begin(plan: &'a Plan, options: ExecutionOptions, slots: usize) -> Self {
        let command = Start {
            id: ID,
            graph: plan.graph.clone(),
            fingerprint: fingerprint(&plan.graph),
            cause: Cause::Call,
            environment: Environment::default(),
            options,
            input: plan.input.iter().map(|(key, value)| (key.as_str().into(), Json::from(value))).collect(),
        };
        let (state, decision) = start(command, at(0)).unwrap();
        Self {
            plan,
            state,
            log: vec![decision.events],
            running: BTreeMap::new(),
            waited: BTreeSet::new(),
            now: at(0),
            ticked: at(0),
            slots,
            is_healed: false,
            process: 0,
        }
    }

    pub fn options() -> ExecutionOptions {
        ExecutionOptions { max_recoveries: 1_000, ..story::options() }
    }

    pub fn is_over(&self) -> bool {
        self.state.status().is_final()
    }

    pub fn events(&self) -> Vec<&Recorded> {
        self.log.iter().flatten().collect()
    }

    /// Performs one of the possible next steps. Returns `false` if there is none.
    pub fn step(&mut self, choice: u16) -> bool {
        let live: Vec<(TaskIndex, Attempt)> =
            self.running.keys().copied().filter(|(task, attempt)| self.is_live(*task, *attempt)).collect();
        let (deferred, live): (Vec<_>, Vec<_>) = live.into_iter().partition(|(task, _)| self.is_deferred(*task));
        let mut next: Vec<Next> = Vec::new();
        if live.len() < self.slots {
            next.extend(self.state.ready().map(Next::Start));
            next.extend(deferred.iter().map(|(task, attempt)| Next::Resume(*task, *attempt)));
        }
        next.extend(self.running.keys().map(|(task, attempt)| Next::Finish(*task, *attempt)));
        if !self.is_over() && self.state.next_timer().is_some() {
            next.push(Next::Tick);
        }
        // Each attempt is deferred at most once, so that the simulation ends.
        let fresh = live.iter().filter(|attempt| !self.waited.contains(attempt));
        next.extend(fresh.map(|(task, attempt)| Next::Defer(*task, *attempt)));
        if next.is_empty() {
            return false;
        }
        match next[usize::from(choice) % next.len()] {
            Next::Start(task) => {
                self.command(Command::StartTask { task, worker: live.len() as u32 }).unwrap();
            }
            Next::Defer(task, attempt) => {
                self.waited.insert((task, attempt));
                let task = self.state.graph().name(task).clone();
                self.command(Command::Defer { task, attempt }).unwrap();
            }
            Next::Resume(task, attempt) => {
                let task = self.state.graph().name(task).clone();
                self.command(Command::Resume { task, attempt, worker: live.len() as u32 }).unwrap();
            }
            Next::Finish(task, attempt) => self.finish(task, attempt),
            Next::Tick => {
                let due = self.state.next_timer().unwrap().0;
                self.now = self.now.max(due);
                self.tick();
            }
        }
        true
    }

    fn is_live(&self, task: TaskIndex, attempt: Attempt) -> bool {
        self.state.running().any(|running| running == task) && self.state.task(task).attempts() == attempt
    }

    fn is_deferred(&self, task: TaskIndex) -> bool {
        matches!(self.state.task(task).state(), TaskState::Deferred { .. })
    }

    fn finish(&mut self, task: TaskIndex, attempt: Attempt) {
        let live = self.is_live(task, attempt);
        let view = self.running.remove(&(task, attempt)).unwrap();
        let name = self.state.graph().name(task).clone();
        let failures = if self.is_healed { u32::MAX } else { self.state.task(task).failures() };
        let (writes, reads, result) = self.plan.run(&name, failures, view);
        let jitter = Jitter(u32::from(name.as_bytes()[0]) * 7 % 1_001);
        let outcome =
            self.command(Command::AttemptFinished { task: name, attempt, writes, reads, result, jitter }).map(drop);
        assert_eq!(outcome.is_ok(), live, "only the result of the running attempt is accepted: {outcome:?}");
        assert!(live || matches!(outcome, Err(Rejection::Stale(_))));
    }

    pub fn tick(&mut self) {
        self.ticked = self.now;
        if !self.is_over() {
            self.command(Command::TimerFired { jitter: Jitter::NONE }).unwrap();
        }
    }

    /// Decides on a command, appends its events, and performs its effects.
    pub fn command(&mut self, command: Command) -> Result<(), Rejection> {
        self.now = self.now.max(self.state.last());
        let decision: Decision = decide(&mut self.state, command, self.now)?;
        for effect in decision.effects {
            if let Effect::Run { task, attempt, view } = effect {
                self.running.insert((task, attempt), *view);
            }
        }
        if !decision.events.is_empty() {
            self.log.push(decision.events);
        }
        Ok(())
    }

    /// Retries the execution, which has failed or was cancelled.
    pub fn retry(&mut self) {
        let command = Command::Retry {
            request: story::request("a test", None),
            environment: Environment { pid: self.process, ..Environment::default() },
            options: *self.state.options(),
            definition: (fingerprint(&self.plan.graph), self.plan.graph.clone()),
        };
        self.command(command).unwrap();
        self.tick();
    }

    /// Crashes after this many appends, and recovers in another process.
    pub fn crash_after(&mut self, batches: usize) {
        self.log.truncate(batches);
        let graphs = library([&self.plan.graph]);
        self.state = observe::folded(self.log.iter().flatten(), &graphs);
        self.running.clear();
        self.now = self.now.max(self.state.last());
        self.ticked = self.now;
        if !self.is_over() {
            self.process += 1;
            let environment = Environment { pid: self.process, ..Environment::default() };
            let definition = (fingerprint(&self.plan.graph), self.plan.graph.clone());
            self.command(Command::Recover { environment, definition }).unwrap();
            self.tick();
        }
    }

    /// Runs to the end, guided by the choices as long as there are any.
    pub fn run(&mut self, choices: &[u16]) {
        for choice in choices.iter().copied().chain(std::iter::repeat(0)) {
            if self.is_over() {
                return;
            }
            assert!(self.step(choice), "no step is possible, and the execution has not ended");
        }
    }

    /// Returns the status, the state of each task, and the final context.
    pub fn result(&self) -> (String, BTreeMap<String, String>, Value) {
        let state = &self.state;
        let tasks = state
            .graph()
            .tasks()
            .map(|task| (state.graph().name(task).to_string(), format!("{:?}", state.task(task).state())));
        (state.status().name().to_owned(), tasks.collect(), object(&state.context()))
    }
}
