//! A story: one execution, driven command by command. After every command, the fold of its events is compared with the
//! state that decided them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::decide::{Command, Decision, Effect, Rejection, Start, decide, start};
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{Cause, Environment, ExecutionOptions, Reads, Request, TaskError};
use cloacina_engine::core::fold::Recorded;
use cloacina_engine::core::graph::{Graph, TaskIndex};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::{Execution, Status};
use cloacina_engine::core::task_context::{TaskContext, Write};
use cloacina_engine::core::time::Timestamp;
use serde_json::Value;

use super::observe::{Observation, assert_same, folded};
use super::{ID, at, describe, error, fingerprint, object};

pub struct Story {
    pub state: Execution,
    pub events: Vec<Recorded>,
    pub effects: Vec<Effect>,
    pub now: Timestamp,
    pub jitter: Jitter,
    graphs: BTreeMap<Fingerprint, Arc<Graph>>,
    lines_taken: usize,
}

pub fn options() -> ExecutionOptions {
    ExecutionOptions { timeout: None, task_timeout: None, ..ExecutionOptions::default() }
}

impl Story {
    pub fn of(graph: &Arc<Graph>) -> Self {
        Self::with(graph, [], options())
    }

    pub fn from_input<const N: usize>(graph: &Arc<Graph>, input: [(&str, Value); N]) -> Self {
        Self::with(graph, input, options())
    }

    pub fn with<const N: usize>(graph: &Arc<Graph>, input: [(&str, Value); N], options: ExecutionOptions) -> Self {
        let command = Start {
            id: ID,
            graph: graph.clone(),
            fingerprint: fingerprint(graph),
            cause: Cause::Call,
            environment: Environment { pid: 1, ..Environment::default() },
            options,
            input: input.into_iter().map(|(key, value)| (key.into(), Json::from(value))).collect(),
        };
        let (state, decision) = start(command, at(0)).unwrap();
        let mut story = Self {
            state,
            events: Vec::new(),
            effects: Vec::new(),
            now: at(0),
            jitter: Jitter::NONE,
            graphs: super::library([graph]),
            lines_taken: 0,
        };
        story.record(decision);
        story
    }

    /// Runs a command, and checks that the fold of the events agrees, or that a rejection changed nothing.
    pub fn attempt(&mut self, command: Command) -> Result<(), Rejection> {
        let before = Observation::of(&self.state);
        match decide(&mut self.state, command, self.now) {
            Ok(decision) => {
                self.record(decision);
                Ok(())
            }
            Err(rejection) => {
                assert_eq!(Observation::of(&self.state), before, "a rejected command has changed the state");
                Err(rejection)
            }
        }
    }

    pub fn command(&mut self, command: Command) -> &mut Self {
        let description = format!("{command:?}");
        self.attempt(command).unwrap_or_else(|rejection| panic!("{description}: {rejection}"));
        self
    }

    fn record(&mut self, decision: Decision) {
        self.events.extend(decision.events);
        self.effects = decision.effects;
        assert_same(&self.state, &folded(&self.events, &self.graphs), self.now);
    }

    pub fn index(&self, task: &str) -> TaskIndex {
        self.state.graph().find(task).unwrap()
    }

    pub fn later(&mut self, millis: i64) -> &mut Self {
        self.now = Timestamp(self.now.0 + millis * 1_000);
        self
    }

    /// Advances the clock and fires the timers that are due.
    pub fn wait(&mut self, millis: i64) -> &mut Self {
        let jitter = self.jitter;
        self.later(millis).command(Command::TimerFired { jitter })
    }

    pub fn starts(&mut self, task: &str) -> &mut Self {
        let task = self.index(task);
        self.command(Command::StartTask { task, worker: 0 })
    }

    /// Defers the attempt: it waits without a slot.
    pub fn defers(&mut self, task: &str) -> &mut Self {
        let attempt = self.state.task(self.index(task)).attempts();
        self.command(Command::Defer { task: task.into(), attempt })
    }

    /// Resumes the deferred attempt in a slot.
    pub fn resumes(&mut self, task: &str) -> &mut Self {
        let attempt = self.state.task(self.index(task)).attempts();
        self.command(Command::Resume { task: task.into(), attempt, worker: 1 })
    }

    pub fn ends(&self, task: &str, writes: Vec<Write>, reads: Reads, result: Result<(), TaskError>) -> Command {
        let attempt = self.state.task(self.index(task)).attempts();
        Command::AttemptFinished { task: task.into(), attempt, writes, reads, result, jitter: self.jitter }
    }

    /// Completes the attempt after `body` used its context.
    pub fn completes_by(&mut self, task: &str, body: impl FnOnce(&mut TaskContext)) -> &mut Self {
        let (writes, reads) = self.context_of(task, body);
        let command = self.ends(task, writes, reads, Ok(()));
        self.command(command)
    }

    pub fn completes<const N: usize>(&mut self, task: &str, writes: [(&str, Value); N]) -> &mut Self {
        self.completes_by(task, |context| {
            writes.into_iter().for_each(|(key, value)| context.set(key, Json::from(value)));
        })
    }

    pub fn runs<const N: usize>(&mut self, task: &str, writes: [(&str, Value); N]) -> &mut Self {
        self.starts(task).completes(task, writes)
    }

    pub fn removes(&mut self, task: &str, key: &str) -> &mut Self {
        self.starts(task).completes_by(task, |context| {
            context.remove(key).unwrap();
        })
    }

    pub fn fails_by(&mut self, task: &str, why: TaskError, body: impl FnOnce(&mut TaskContext)) -> &mut Self {
        let (writes, reads) = self.context_of(task, body);
        let command = self.ends(task, writes, reads, Err(why));
        self.command(command)
    }

    pub fn fails(&mut self, task: &str) -> &mut Self {
        self.starts(task).fails_by(task, error("ValueError", "no"), |_| {})
    }

    fn context_of(&self, task: &str, body: impl FnOnce(&mut TaskContext)) -> (Vec<Write>, Reads) {
        let mut context = TaskContext::new(self.state.view(self.index(task)), self.state.options().strict_context);
        body(&mut context);
        context.finish()
    }

    /// Crashes: everything that is not in the log is lost, and another process recovers the execution.
    pub fn crashes(&mut self) -> &mut Self {
        let graph = self.state.graph().clone();
        self.crashes_into(&graph)
    }

    pub fn crashes_into(&mut self, graph: &Arc<Graph>) -> &mut Self {
        self.graphs.insert(fingerprint(graph), graph.clone());
        self.state = folded(&self.events, &self.graphs);
        let environment = Environment { pid: self.state.environment().pid + 1, ..Environment::default() };
        self.command(Command::Recover { environment, definition: (fingerprint(graph), graph.clone()) })
    }

    /// Retries the execution in another process.
    pub fn retries(&mut self) -> &mut Self {
        let graph = self.state.graph().clone();
        self.retries_with(&graph)
    }

    pub fn retries_with(&mut self, graph: &Arc<Graph>) -> &mut Self {
        let retry = self.retry_command(graph);
        self.command(retry)
    }

    pub fn retry_command(&mut self, graph: &Arc<Graph>) -> Command {
        self.graphs.insert(fingerprint(graph), graph.clone());
        Command::Retry {
            request: request("ann", Some("the server is up")),
            environment: Environment { pid: self.state.environment().pid + 1, ..Environment::default() },
            options: *self.state.options(),
            definition: (fingerprint(graph), graph.clone()),
        }
    }

    /// Returns the lines that were added since the last call.
    pub fn new_lines(&mut self) -> Vec<String> {
        let lines = self.events[self.lines_taken..].iter().map(|recorded| describe(&recorded.event)).collect();
        self.lines_taken = self.events.len();
        lines
    }

    /// Discards the lines so far.
    pub fn skip_lines(&mut self) -> &mut Self {
        self.lines_taken = self.events.len();
        self
    }

    pub fn assert_new_lines<const N: usize>(&mut self, lines: [&str; N]) -> &mut Self {
        assert_eq!(self.new_lines(), lines);
        self
    }

    pub fn ready(&self) -> Vec<String> {
        self.state.ready().map(|task| self.state.graph().name(task).to_string()).collect()
    }

    pub fn assert_ready<const N: usize>(&mut self, tasks: [&str; N]) -> &mut Self {
        assert_eq!(self.ready(), tasks);
        self
    }

    pub fn assert_task(&mut self, task: &str, state: &str) -> &mut Self {
        assert_eq!(self.state.task(self.index(task)).state().name(), state, "of task {task}");
        self
    }

    pub fn assert_status(&mut self, status: Status) -> &mut Self {
        assert_eq!(self.state.status(), status, "{}", self.state.reason());
        self
    }

    pub fn assert_sees(&mut self, task: &str, expected: Value) -> &mut Self {
        assert_eq!(object(&self.state.view(self.index(task)).declared), expected, "what {task} sees");
        self
    }

    pub fn assert_context(&mut self, expected: Value) -> &mut Self {
        assert_eq!(object(&self.state.context()), expected);
        self
    }

    pub fn reason(&self) -> String {
        self.state.reason().to_string()
    }
}

pub fn request(by: &str, reason: Option<&str>) -> Request {
    Request { by: by.into(), reason: reason.map(Into::into) }
}
