//! The histories that the tests use.

use cloacina_engine::core::decide::Command;
use cloacina_engine::core::definition::{Condition, Operator, TriggerRule};
use cloacina_engine::core::event::{ExecutionId, Request, TaskError};
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::core::time::Millis;

use super::{Log, Recorder, error, id, json, task};

pub const COMPLETED: u32 = 0x9f3a_c101;
pub const TUTORIAL: u32 = 0x9f3a_c102;
pub const FAILED: u32 = 0x51b0_0003;
pub const RECOVERED: u32 = 0x51b0_0004;
pub const BRANCHES: u32 = 0x51b0_0005;
pub const COLLISION: u32 = 0x51b0_0006;
pub const RUNNING: u32 = 0x51b0_0007;
pub const CANCELLED: u32 = 0x51b0_0008;
pub const FAILED_UNDECLARED: u32 = 0x51b0_0009;

/// A log with all of them.
pub fn all() -> Log {
    let log = Log::default();
    all_into(&log);
    log
}

/// Adds all of them to a log.
pub fn all_into(log: &Log) {
    completed(log, id(COMPLETED));
    tutorial(log, id(TUTORIAL));
    failed(log, id(FAILED));
    recovered(log, id(RECOVERED));
    branches(log, id(BRANCHES));
    collision(log, id(COLLISION));
    running(log, id(RUNNING));
    cancelled(log, id(CANCELLED));
    failed_undeclared(log, id(FAILED_UNDECLARED));
}

fn set(key: &'static str, value: &'static str) -> impl FnOnce(&mut TaskContext) -> Result<(), TaskError> {
    move |context| {
        context.set(key, json(value));
        Ok(())
    }
}

/// Reads `from`, and writes `to`.
fn derive(
    from: &'static str,
    to: &'static str,
    value: &'static str,
) -> impl FnOnce(&mut TaskContext) -> Result<(), TaskError> {
    move |context| {
        context.get(from).unwrap();
        context.set(to, json(value));
        Ok(())
    }
}

pub fn completed(log: &Log, id: ExecutionId) {
    let tasks = vec![task("extract", &[]), task("transform", &["extract"]), task("load", &["transform"])];
    let mut run = Recorder::start(log, id, "etl", tasks, &[("request_id", "42")]);
    run.run("extract", 410, derive("request_id", "rows", r#"[{"id": 12345678901234567890, "price": 1.10}]"#))
        .run("transform", 20, derive("rows", "rows", r#"[{"id": 12345678901234567890, "price": 1.10, "net": 1e2}]"#))
        .run("load", 900, derive("rows", "loaded", "1"));
}

pub fn dataset() -> String {
    let customers: Vec<String> = (1..=100)
        .map(|number| format!(r#"{{"id":{number},"name":"Customer_{number}","segment":"premium"}}"#))
        .collect();
    format!(r#"{{"customers":[{}],"total_records":100}}"#, customers.join(","))
}

/// The tutorial's workflow, in which `distribute_workload` reads `dataset` without declaring the dependency.
pub fn tutorial(log: &Log, id: ExecutionId) {
    let tasks = vec![
        task("prepare_dataset", &[]),
        task("analyze_premium_customers", &["prepare_dataset"]),
        task("distribute_workload", &[]),
        task("process_batch_1", &["distribute_workload"]),
    ];
    let mut run = Recorder::start(log, id, "complex_customer_analysis", tasks, &[]);
    run.begin("prepare_dataset", 0).begin("distribute_workload", 1).wait(2);
    run.finish("distribute_workload", |context| {
        context.get("dataset").unwrap();
        Err(error("TypeError", "'NoneType' object is not subscriptable"))
    });
    run.wait(400).finish("prepare_dataset", |context| {
        context.set("dataset", json(&dataset()));
        context.set("preparation_complete", json("true"));
        Ok(())
    });
    run.run("analyze_premium_customers", 15, derive("dataset", "premium_analysis", r#"{"count": 31}"#)).wait(585);
    run.run("distribute_workload", 12, derive("dataset", "processing_batches", r#"{"batch_1": [1, 2, 3]}"#));
    run.run("process_batch_1", 30, derive("processing_batches", "batch_1_result", r#"{"sum": 6}"#));
}

pub fn failed(log: &Log, id: ExecutionId) {
    let mut load = task("load", &["extract"]);
    let backoff = Backoff::Fixed;
    load.retry = RetryPolicy { backoff, initial_delay: Millis(300), jitter: false, ..RetryPolicy::default() };
    let tasks = vec![task("extract", &[]), load, task("report", &["load"]), task("notify", &["report"])];
    let mut run = Recorder::start(log, id, "nightly", tasks, &[("day", "\"2026-11-23\"")]);
    run.run("extract", 120, derive("day", "rows", "[1, 2, 3]"));
    for attempt in 1..=3 {
        run.run("load", 900, |context| {
            context.get("rows").unwrap();
            context.set("progress", json(&attempt.to_string()));
            Err(error("TimeoutError", "no answer from db01"))
        });
        run.wait(300);
    }
}

pub fn recovered(log: &Log, id: ExecutionId) {
    let tasks = vec![task("extract", &[]), task("load", &["extract"])];
    let mut run = Recorder::start(log, id, "nightly", tasks, &[]);
    run.run("extract", 120, set("rows", "3")).begin("load", 2).wait(45_000).recover();
    run.wait(1).run("load", 800, derive("rows", "loaded", "3"));
}

pub fn branches(log: &Log, id: ExecutionId) {
    let mut large = task("large", &["count"]);
    large.rule = TriggerRule::When(Condition::ContextValue {
        key: "rows".into(),
        operator: Operator::GreaterThan,
        value: Some(json("1000")),
    });
    let mut cleanup = task("cleanup", &["risky"]);
    cleanup.rule = TriggerRule::AllDone;
    let mut risky = task("risky", &["count"]);
    risky.retry = RetryPolicy::never();
    let tasks = vec![
        task("count", &[]),
        large,
        task("small", &["count"]),
        risky,
        cleanup,
        task("merge", &["large", "small", "cleanup"]),
    ];
    let mut run = Recorder::start(log, id, "branches", tasks, &[]);
    run.run("count", 5, set("rows", "12"));
    run.run("small", 7, derive("rows", "size", "\"small\""));
    run.run("risky", 3, |_| Err(error("ValueError", "bad row\nat line 7 \u{1b}[31m")));
    run.run("cleanup", 1, |_| Ok(())).run("merge", 2, derive("size", "done", "true"));
}

pub fn collision(log: &Log, id: ExecutionId) {
    let tasks =
        vec![task("start", &[]), task("left", &["start"]), task("right", &["start"]), task("join", &["left", "right"])];
    let mut run = Recorder::start(log, id, "collision", tasks, &[]);
    run.run("start", 1, set("total", "0")).begin("left", 0).begin("right", 1).wait(10);
    run.finish("right", derive("total", "total", "7")).wait(5).finish("left", derive("total", "total", "5"));
    run.run("join", 1, derive("total", "sum", "7"));
}

pub fn running(log: &Log, id: ExecutionId) {
    let tasks = vec![
        task("extract", &[]),
        task("check", &["extract"]),
        task("flaky", &["extract"]),
        task("load", &["check", "flaky"]),
        task("report", &["load"]),
    ];
    let mut run = Recorder::start(log, id, "nightly", tasks, &[]);
    run.run("extract", 120, set("rows", "3")).begin("flaky", 0).wait(10);
    run.finish("flaky", |_| Err(error("ConnectionError", "reset by peer"))).begin("check", 1);
}

pub fn cancelled(log: &Log, id: ExecutionId) {
    let tasks = vec![task("extract", &[]), task("load", &["extract"])];
    let mut run = Recorder::start(log, id, "nightly", tasks, &[]);
    let request = |reason: &str| Request { by: "anna".into(), reason: Some(reason.into()) };
    run.command(Command::Pause(request("the database is being moved"))).wait(90_000);
    run.command(Command::Unpause(Request { by: "anna".into(), reason: None }));
    run.begin("extract", 0).wait(2_000).command(Command::Cancel(request("wrong day")));
}

/// A task without a declared dependency fails, because the key that it reads does not exist yet.
pub fn failed_undeclared(log: &Log, id: ExecutionId) {
    let mut distribute = task("distribute_workload", &[]);
    distribute.retry = RetryPolicy::never();
    let mut run = Recorder::start(log, id, "customers", vec![task("prepare_dataset", &[]), distribute], &[]);
    run.begin("prepare_dataset", 0).begin("distribute_workload", 1).wait(2);
    run.finish("distribute_workload", |context| {
        context.get("dataset").unwrap();
        Err(error("TypeError", "'NoneType' object is not subscriptable"))
    });
    run.wait(400).finish("prepare_dataset", set("dataset", "null"));
}
