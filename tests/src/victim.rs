//! The workflows of the victim of the kill tests, shared by the victim and by the test that knows the expected results.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{ExecutionId, Key, Request};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::runtime::engine::{Engine, EngineConfig, EngineError, Outcome};
use cloacina_engine::runtime::task::{AttemptInfo, Task, TaskResult};
use cloacina_engine::runtime::workflow::Workflow;
use serde_json::{Value, json};

use crate::workflows::{attempts, error, once, read, walk, workflow, write};

/// The names of the workflows.
pub const WORKFLOWS: [&str; 4] = ["chain", "fan", "retries", "shaky"];

/// The configuration of the victim's engine: no limit on how often a task dies with its process.
#[must_use]
pub fn config() -> EngineConfig {
    EngineConfig { max_concurrent_tasks: 8, max_recoveries: u32::MAX, ..EngineConfig::default() }
}

/// The file in which each attempt leaves a side effect: one line, written with one call.
#[derive(Clone)]
pub struct SideEffects(Arc<File>);

impl SideEffects {
    /// Opens the file for appending.
    ///
    /// # Panics
    /// If it cannot be opened.
    #[must_use]
    pub fn in_file(path: &Path) -> Self {
        Self(Arc::new(OpenOptions::new().create(true).append(true).open(path).expect("the side effects' file opens")))
    }

    fn leave(&self, info: &AttemptInfo) {
        let line = format!("{} {} {}\n", info.execution, info.task, info.attempt);
        (&*self.0).write_all(line.as_bytes()).expect("the side effect is written");
    }
}

type Body = fn(&mut TaskContext, &AttemptInfo) -> TaskResult;

/// Returns a task that leaves its side effect, sleeps briefly, and then runs `body`.
fn task_with_side_effect(effects: &SideEffects, name: &str, body: Body) -> Task {
    let effects = effects.clone();
    let task = Task::with_handle(name, move |context, handle| {
        let info = handle.info();
        effects.leave(info);
        // Give a kill a chance to hit a running task. The durations differ arbitrarily.
        thread::sleep(Duration::from_micros(u64::from(info.execution.0[15]) * 8));
        body(context, info)
    });
    task.retry(attempts(3, 3))
}

fn append_name(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    let number = read(context, "number")?.as_u64().unwrap_or(0);
    let sum = read(context, "sum")?.as_u64().unwrap_or(0);
    write(context, "sum", json!(sum + number));
    walk(context, &info.task)
}

fn branch(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    write(context, &info.task, json!(format!("written by {}", info.task)));
    walk(context, &info.task)
}

/// Fails the first time, after a write that must not take effect.
fn fail_first(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    if info.attempt == 1 {
        write(context, "draft", json!("of an attempt that failed"));
        return Err(error("stumbled"));
    }
    walk(context, &info.task)
}

/// Fails twice, so that its execution fails and has to be retried.
fn fail_twice(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    match info.attempt {
        1 | 2 => fail_first(context, &AttemptInfo { attempt: 1, ..info.clone() }),
        _ => walk(context, &info.task),
    }
}

/// Continues an execution that has failed.
///
/// # Errors
/// The engine's.
pub fn retry(engine: &Engine, execution: ExecutionId) -> Result<(), EngineError> {
    engine.retry(execution, Request { by: "the victim".into(), reason: None })
}

/// The workflows. An execution of the last one fails, and completes after a retry.
#[must_use]
pub fn workflows(effects: &SideEffects) -> Vec<Workflow> {
    let task = |name: &str, body: Body| task_with_side_effect(effects, name, body);
    let branches = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];
    let fan = std::iter::once(task("top", append_name))
        .chain(branches.iter().map(|name| task(name, branch).after(["top"])))
        .chain([task("end", append_name).after(branches)]);
    vec![
        workflow(
            "chain",
            [
                task("a", append_name),
                task("b", append_name).after(["a"]),
                task("c", append_name).after(["b"]),
                task("d", append_name).after(["c"]),
            ],
        ),
        workflow("fan", fan),
        workflow(
            "retries",
            [
                task("first", fail_first),
                task("second", fail_first).after(["first"]),
                task("beside", append_name),
                task("last", append_name).after(["second", "beside"]),
            ],
        ),
        workflow(
            "shaky",
            [
                task("before", append_name),
                task("doubtful", fail_twice).after(["before"]).retry(once()),
                task("beside", branch).after(["before"]),
                task("after", append_name).after(["doubtful", "beside"]),
            ],
        ),
    ]
}

/// The input of the victim's executions. It has every key that their tasks read, so that no read depends on timing.
#[must_use]
pub fn input(number: u64) -> Vec<(Key, Json)> {
    let values = [("number", json!(number)), ("path", json!([])), ("sum", json!(0))];
    values.map(|(key, value)| (key.into(), Json::from(value))).into()
}

/// Returns a final context as one line.
#[must_use]
pub fn result(outcome: &Outcome) -> String {
    let context: BTreeMap<&str, Value> = outcome.context.iter().map(|(key, value)| (&**key, value.value())).collect();
    format!("{:?} {}", outcome.status, json!(context))
}
