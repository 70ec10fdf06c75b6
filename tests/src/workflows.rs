//! Tasks and workflows for many tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina_engine::core::event::TaskError;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::{Backoff, RetryCondition, RetryPolicy};
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::core::time::Millis;
use cloacina_engine::runtime::task::{Task, TaskResult};
use cloacina_engine::runtime::workflow::Workflow;
use serde_json::{Value, json};

use crate::sync::Door;

/// Builds a workflow of these tasks.
///
/// # Panics
/// If the workflow is invalid.
#[must_use]
pub fn workflow(name: &str, tasks: impl IntoIterator<Item = Task>) -> Workflow {
    Workflow::new(name, tasks).expect("a valid workflow")
}

/// An error.
#[must_use]
pub fn error(message: &str) -> TaskError {
    TaskError { kind: "Error".into(), message: message.into(), ..TaskError::default() }
}

/// Reads a value in an attempt; `null` if it is missing.
///
/// # Errors
/// If the read is undeclared in a strict context.
pub fn read(context: &mut TaskContext, key: &str) -> Result<Value, TaskError> {
    let found = context.get(key).map_err(|undeclared| error(&undeclared.to_string()))?;
    Ok(found.map_or(Value::Null, |value| value.value()))
}

/// Writes a value.
pub fn write(context: &mut TaskContext, key: &str, value: Value) {
    context.set(key, Json::from(value));
}

/// Returns a task that appends its name to the list `path` of its dependencies.
#[must_use]
pub fn step(name: &'static str) -> Task {
    Task::new(name, move |context| walk(context, name))
}

/// The body of [`step`].
///
/// # Errors
/// As [`read`].
pub fn walk(context: &mut TaskContext, name: &str) -> TaskResult {
    let mut path = read(context, "path")?.as_array().cloned().unwrap_or_default();
    path.push(json!(name));
    write(context, "path", Value::Array(path));
    Ok(())
}

/// Three steps in a row: `a`, `b`, `c`.
#[must_use]
pub fn chain(name: &str) -> Workflow {
    workflow(name, [step("a"), step("b").after(["a"]), step("c").after(["b"])])
}

/// Returns a task that waits at a door, and then writes `done: true`.
#[must_use]
pub fn waiting(name: &'static str, door: &Door) -> Task {
    let door = door.clone();
    Task::new(name, move |context| {
        if !door.pass() {
            return Err(error("the door stayed closed"));
        }
        write(context, "done", json!(true));
        Ok(())
    })
    .retry(once())
}

/// Returns a task that fails `failures` times before it succeeds, and a counter of its runs.
#[must_use]
pub fn failing_task(name: &'static str, failures: usize) -> (Task, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    let task = Task::new(name, move |_| match counted.fetch_add(1, Ordering::SeqCst) {
        run if run < failures => Err(error("stumbled")),
        _ => Ok(()),
    });
    (task, runs)
}

/// A retry policy with a single attempt.
#[must_use]
pub fn once() -> RetryPolicy {
    RetryPolicy { max_attempts: 1, ..RetryPolicy::default() }
}

/// A retry policy with `max_attempts` attempts and a constant delay.
#[must_use]
pub fn attempts(max_attempts: u32, delay: u64) -> RetryPolicy {
    RetryPolicy {
        max_attempts,
        backoff: Backoff::Fixed,
        initial_delay: Millis(delay),
        max_delay: Millis(60_000),
        jitter: false,
        conditions: vec![RetryCondition::All],
    }
}
