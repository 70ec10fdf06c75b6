//! Test support: builders for workflows, and stories that run them without a log or a clock.

pub mod model;
pub mod observe;
pub mod plan;
pub mod simulate;
pub mod story;
pub mod term;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::codec;
use cloacina_engine::core::context::{Context, values};
use cloacina_engine::core::definition::{
    Condition, Definition, Fingerprint, Operator, TaskDefinition, Timeout, TriggerRule,
};
use cloacina_engine::core::event::{Event, ExecutionId, TaskError};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::time::{Millis, Timestamp};
use proptest::prelude::ProptestConfig;
use serde_json::Value;

pub use {serde_json::json, story::Story};

/// Returns a configuration with this many cases, unless `PROPTEST_CASES` overrides it.
pub fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(usual),
        max_shrink_iters: 2_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

pub const ID: ExecutionId = ExecutionId([7; 16]);

/// Creates a task with a single attempt.
pub fn task(id: &str) -> TaskDefinition {
    TaskDefinition { retry: RetryPolicy::never(), ..TaskDefinition::new(id) }
}

/// Builder methods for task definitions.
pub trait TaskBuilder: Sized {
    fn after<const N: usize>(self, upstream: [&str; N]) -> Self;
    fn rule(self, rule: TriggerRule) -> Self;
    fn when(self, condition: Condition) -> Self;
    /// Sets the number of attempts, one second apart, without jitter.
    fn tried(self, times: u32) -> Self;
    fn timeout(self, millis: u64) -> Self;
    fn code(self, code: u8) -> Self;
}

impl TaskBuilder for TaskDefinition {
    fn after<const N: usize>(mut self, upstream: [&str; N]) -> Self {
        self.dependencies = upstream.iter().map(|id| (*id).into()).collect();
        self
    }

    fn rule(mut self, rule: TriggerRule) -> Self {
        self.rule = rule;
        self
    }

    fn when(self, condition: Condition) -> Self {
        self.rule(TriggerRule::When(condition))
    }

    fn tried(mut self, times: u32) -> Self {
        self.retry =
            RetryPolicy { max_attempts: times, backoff: Backoff::Fixed, jitter: false, ..RetryPolicy::default() };
        self
    }

    fn timeout(mut self, millis: u64) -> Self {
        self.timeout = Timeout::After(Millis(millis));
        self
    }

    fn code(mut self, code: u8) -> Self {
        self.code = [code; 32];
        self
    }
}

pub fn success(task: &str) -> Condition {
    Condition::TaskSuccess(task.into())
}

pub fn failed(task: &str) -> Condition {
    Condition::TaskFailed(task.into())
}

pub fn skipped(task: &str) -> Condition {
    Condition::TaskSkipped(task.into())
}

pub fn value(key: &str, operator: Operator, value: impl Into<Option<Value>>) -> Condition {
    Condition::ContextValue { key: key.into(), operator, value: value.into().map(Json::from) }
}

/// Creates a valid workflow.
pub fn workflow(tasks: impl IntoIterator<Item = TaskDefinition>) -> Arc<Graph> {
    let definition = Definition { workflow: "flow".into(), tasks: tasks.into_iter().collect() };
    Arc::new(Graph::new(Arc::new(definition)).unwrap())
}

pub fn fingerprint(graph: &Graph) -> Fingerprint {
    codec::fingerprint(graph.definition())
}

/// The definitions in a log.
pub fn library<'a>(graphs: impl IntoIterator<Item = &'a Arc<Graph>>) -> BTreeMap<Fingerprint, Arc<Graph>> {
    graphs.into_iter().map(|graph| (fingerprint(graph), graph.clone())).collect()
}

pub fn at(millis: i64) -> Timestamp {
    Timestamp(millis * 1_000)
}

pub fn error(kind: &str, message: &str) -> TaskError {
    TaskError {
        kind: kind.into(),
        message: message.into(),
        lineage: vec![kind.into(), "Exception".into()],
        ..TaskError::default()
    }
}

/// Returns a context as one JSON object.
pub fn object(context: &Context) -> Value {
    Value::Object(values(context).map(|(key, value)| (key.to_string(), value.value())).collect())
}

/// Describes an event in one line.
pub fn describe(event: &Event) -> String {
    match event {
        Event::ExecutionStarted(body) => format!("started with {} inputs", body.inputs),
        Event::ContextWritten(body) => format!("{}={}", body.key, body.value),
        Event::ContextRemoved(body) => format!("{} removed", body.key),
        Event::TaskStarted(body) => format!("{}#{} starts", body.task, body.attempt),
        Event::TaskCompleted(body) => format!("{}#{} completes", body.task, body.attempt),
        Event::TaskFailed(body) => match body.retry_at {
            Some(due) => format!("{}#{} fails, again at {} ms", body.task, body.attempt, due.0 / 1_000),
            None => format!("{}#{} fails", body.task, body.attempt),
        },
        Event::TaskSkipped(body) => {
            let tasks: Vec<String> = body.why.tasks.iter().map(|(task, how)| format!("{task} {how:?}")).collect();
            let keys: Vec<&str> = body.why.keys.iter().map(|key| &**key).collect();
            let by = if body.why.failure { "skipped by failure" } else { "skipped" };
            format!("{} {by}: {} [{}]", body.task, body.why.rule, [tasks.join(", "), keys.join(", ")].concat())
        }
        Event::TaskAbandoned(body) => format!("{}#{} abandoned: {:?}", body.task, body.attempt, body.why),
        Event::TaskDeferred(body) => format!("{}#{} deferred", body.task, body.attempt),
        Event::TaskResumed(body) => format!("{}#{} resumes", body.task, body.attempt),
        Event::ExecutionPaused(_) => "paused".to_owned(),
        Event::ExecutionUnpaused(_) => "unpaused".to_owned(),
        Event::CancelRequested(_) => "cancel requested".to_owned(),
        Event::ExecutionRecovered(_) => "recovered".to_owned(),
        Event::ExecutionRetried(body) => format!("retried by {}", body.request.by),
        Event::ExecutionCompleted(_) => "completed".to_owned(),
        Event::ExecutionFailed(body) => format!("failed: {}", body.reason),
        Event::ExecutionCancelled(body) => format!("cancelled: {}", body.reason),
    }
}
