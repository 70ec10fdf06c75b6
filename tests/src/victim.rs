//! What the victim of the kill tests runs, for the victim itself and for the test that knows what must come of it.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::Key;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::runtime::engine::{EngineConfig, Outcome};
use cloacina_engine::runtime::task::{AttemptInfo, Task, TaskResult};
use cloacina_engine::runtime::workflow::Workflow;
use serde_json::{Value, json};

use crate::workflows::{attempts, error, read, walk, workflow, write};

/// The names of the workflows.
pub const WORKFLOWS: [&str; 3] = ["chain", "fan", "retries"];

/// How the victim's engine runs: a task may die with its process as often as the test likes.
#[must_use]
pub fn config() -> EngineConfig {
    EngineConfig { max_concurrent_tasks: 8, max_recoveries: u32::MAX, ..EngineConfig::default() }
}

/// Where attempts leave their side effects: one line each, written at once.
#[derive(Clone)]
pub struct SideEffects(Arc<File>);

impl SideEffects {
    /// A file that is appended to.
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

/// A task that leaves its side effect, takes a moment, and then does its work.
fn effective(effects: &SideEffects, name: &str, body: Body) -> Task {
    let effects = effects.clone();
    let task = Task::with_handle(name, move |context, handle| {
        let info = handle.info();
        effects.leave(info);
        // So that a kill finds work going on. The moments differ, and mean nothing.
        thread::sleep(Duration::from_micros(u64::from(info.execution.0[15]) * 8));
        body(context, info)
    });
    task.retry(attempts(3, 3))
}

fn walk_on(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    let number = read(context, "number")?.as_u64().unwrap_or(0);
    let sum = read(context, "sum")?.as_u64().unwrap_or(0);
    write(context, "sum", json!(sum + number));
    walk(context, &info.task)
}

fn branch(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    write(context, &info.task, json!(format!("written by {}", info.task)));
    walk(context, &info.task)
}

/// Fails the first time, and leaves something that must not take effect.
fn stumble(context: &mut TaskContext, info: &AttemptInfo) -> TaskResult {
    if info.attempt == 1 {
        write(context, "draft", json!("of an attempt that failed"));
        return Err(error("stumbled"));
    }
    walk(context, &info.task)
}

/// The workflows.
#[must_use]
pub fn workflows(effects: &SideEffects) -> Vec<Workflow> {
    let task = |name: &str, body: Body| effective(effects, name, body);
    let branches = ["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7"];
    let fan = std::iter::once(task("top", walk_on))
        .chain(branches.iter().map(|name| task(name, branch).after(["top"])))
        .chain([task("end", walk_on).after(branches)]);
    vec![
        workflow(
            "chain",
            [
                task("a", walk_on),
                task("b", walk_on).after(["a"]),
                task("c", walk_on).after(["b"]),
                task("d", walk_on).after(["c"]),
            ],
        ),
        workflow("fan", fan),
        workflow(
            "retries",
            [
                task("first", stumble),
                task("second", stumble).after(["first"]),
                task("beside", walk_on),
                task("last", walk_on).after(["second", "beside"]),
            ],
        ),
    ]
}

/// The input of the victim's executions. Everything that their tasks read is in it, so that no read depends on who was
/// faster.
#[must_use]
pub fn input(number: u64) -> Vec<(Key, Json)> {
    let values = [("number", json!(number)), ("path", json!([])), ("sum", json!(0))];
    values.map(|(key, value)| (key.into(), Json::from(value))).into()
}

/// A final context as one line.
#[must_use]
pub fn result(outcome: &Outcome) -> String {
    let context: BTreeMap<&str, Value> = outcome.context.iter().map(|(key, value)| (&**key, value.value())).collect();
    format!("{:?} {}", outcome.status, json!(context))
}
