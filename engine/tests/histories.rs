//! Whole histories: given events, when a command, then events.

use crate::support::story::{options, request};
use crate::support::{self, Story, TaskBuilder, error, json, task, workflow};
use cloacina_engine::core::decide::{Command, Effect, Rejection};
use cloacina_engine::core::definition::TriggerRule;
use cloacina_engine::core::event::{ExecutionOptions, Reads};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::retry::{Backoff, Jitter, RetryCondition, RetryPolicy};
use cloacina_engine::core::state::Status;
use cloacina_engine::core::time::Millis;

#[test]
fn a_chain_from_input_to_end() {
    let graph = workflow([task("extract"), task("load").after(["extract"])]);
    let mut story = Story::from_input(&graph, [("day", json!("monday"))]);
    story.assert_new_lines(["started with 1 inputs", "day=\"monday\""]).assert_ready(["extract"]);
    story.starts("extract").assert_ready([]).completes("extract", [("rows", json!(3))]).assert_ready(["load"]);
    story.assert_new_lines(["extract#1 starts", "rows=3", "extract#1 completes"]);
    story.runs("load", []).assert_new_lines(["load#1 starts", "load#1 completes", "completed"]);
    story.assert_status(Status::Completed).assert_context(json!({"day": "monday", "rows": 3}));
    assert!(story.effects.iter().any(|effect| matches!(effect, Effect::Answer)));
    assert_eq!(story.state.next_timer(), None);
}

#[test]
fn a_diamond_waits_for_both_sides() {
    let graph =
        workflow([task("a"), task("b").after(["a"]), task("c").after(["a"]), task("d").after(["b", "c"]), task("e")]);
    let mut story = Story::of(&graph);
    story.assert_ready(["a", "e"]).runs("a", []).assert_ready(["b", "c", "e"]);
    story.starts("c").starts("b").completes("c", []).assert_ready(["e"]);
    story.completes("b", []).assert_ready(["d", "e"]).runs("d", []).assert_status(Status::Running);
    story.runs("e", []).assert_status(Status::Completed);
}

#[test]
fn a_failed_attempt_is_tried_again_when_it_is_due() {
    let graph = workflow([task("a").tried(3)]);
    let mut story = Story::of(&graph);
    story.later(5).fails("a").assert_new_lines(["started with 0 inputs", "a#1 starts", "a#1 fails, again at 1005 ms"]);
    story.assert_task("a", "WaitingRetry").assert_ready([]).wait(999).assert_ready([]).wait(1).assert_ready(["a"]);
    story.fails("a").wait(1_000).fails("a");
    story.assert_new_lines([
        "a#2 starts",
        "a#2 fails, again at 2005 ms",
        "a#3 starts",
        "a#3 fails",
        "failed: task 'a' failed, attempt 3 of 3: ValueError: no",
    ]);
}

/// Regression: a task could be started before its retry was due.
#[test]
fn a_retry_that_is_not_due_cannot_start() {
    let graph = workflow([task("a").tried(2)]);
    let mut story = Story::of(&graph);
    story.fails("a");
    let early = Command::StartTask { task: story.index("a"), worker: 0 };
    assert!(matches!(story.attempt(early), Err(Rejection::Impossible(_))));
    story.wait(1_000).starts("a");
}

#[test]
fn waits_grow_and_are_varied_but_never_longer_than_the_longest() {
    let policy = RetryPolicy {
        backoff: Backoff::Exponential { base: 2.0, multiplier: 1.0 },
        initial_delay: Millis(1_000),
        max_delay: Millis(3_000),
        jitter: true,
        ..RetryPolicy::default()
    };
    let waits = |jitter| [1, 2, 3, 4].map(|failures| policy.delay_with(failures, Jitter(jitter)).0);
    assert_eq!(waits(500), [1_000, 2_000, 3_000, 3_000]);
    assert_eq!(waits(0), [750, 1_500, 2_250, 2_250]);
    // Regression: jitter made delays up to a quarter longer than the longest.
    assert_eq!(waits(1_000), [1_250, 2_500, 3_000, 3_000]);
    let strange = RetryPolicy { backoff: Backoff::Linear { multiplier: f64::NAN }, ..policy.clone() };
    assert!(strange.delay(u32::MAX).0 <= 3_000);
    let strange = RetryPolicy { backoff: Backoff::Exponential { base: f64::INFINITY, multiplier: -1.0 }, ..policy };
    assert!(strange.delay(7).0 <= 3_000);
}

#[test]
fn only_errors_that_the_conditions_take_are_tried_again() {
    let transient = RetryCondition::Transient;
    assert!(transient.holds(&error("TimeoutError", "")));
    assert!(transient.holds(&error("E", "Connection refused")));
    assert!(!transient.holds(&error("ValueError", "no")));
    assert!(RetryCondition::Pattern(vec!["REFUSED".into()]).holds(&error("E", "connection refused")));
    assert!(RetryCondition::Type(vec!["Exception".into()]).holds(&error("E", "")));
    let mut definition = task("a").tried(3);
    definition.retry.conditions = vec![RetryCondition::Never, RetryCondition::Type(vec!["OSError".into()])];
    Story::of(&workflow([definition.clone()])).fails("a").assert_status(Status::Failed);
    let mut story = Story::of(&workflow([definition]));
    story.starts("a").fails_by("a", error("OSError", ""), |_| {}).assert_task("a", "WaitingRetry");
}

#[test]
fn a_late_result_of_an_attempt_that_was_timed_out_counts_no_more() {
    let graph = workflow([task("a").tried(2).timeout(100)]);
    let mut story = Story::of(&graph);
    story.starts("a").wait(99).assert_task("a", "Running").wait(1).assert_task("a", "WaitingRetry");
    assert!(matches!(story.effects[..], [Effect::Stop { task: TaskIndex(0), attempt: 1, worker: Some(0) }]));
    let late = |story: &Story| Command::AttemptFinished {
        task: "a".into(),
        attempt: 1,
        writes: vec![],
        reads: Reads::default(),
        result: Ok(()),
        jitter: story.jitter,
    };
    assert!(matches!(story.attempt(late(&story)), Err(Rejection::Stale(_))));
    story.wait(1_000).starts("a");
    assert!(matches!(story.attempt(late(&story)), Err(Rejection::Stale(_))));
    story.completes("a", []).assert_status(Status::Completed);
    assert!(matches!(story.attempt(late(&story)), Err(Rejection::Stale(_))));
}

#[test]
fn a_task_that_keeps_running_out_of_time_fails_as_a_timeout() {
    let graph = workflow([task("a").timeout(1_500)]);
    let mut story = Story::of(&graph);
    story.starts("a").wait(1_500).assert_status(Status::Failed);
    assert_eq!(story.reason(), "task 'a' failed, attempt 1 of 1: TaskTimeoutError: the attempt ran longer than 1.5 s");
}

#[test]
fn a_task_without_a_limit_of_its_own_takes_the_executions() {
    let graph = workflow([task("a"), task("b").timeout(50)]);
    let limits = ExecutionOptions { task_timeout: Some(Millis(100)), ..options() };
    let mut story = Story::with(&graph, [], limits);
    story.starts("a").starts("b").wait(50).assert_task("b", "Failed").assert_task("a", "Running");
    story.wait(50).assert_task("a", "Failed");
}

#[test]
fn an_execution_that_runs_out_of_time_fails_and_says_what_was_not_done() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c")]);
    let limits = ExecutionOptions { timeout: Some(Millis(60_000)), ..options() };
    let mut story = Story::with(&graph, [], limits);
    story.runs("c", [("c", json!(1))]).starts("a").wait(60_000).assert_status(Status::Failed);
    assert_eq!(story.reason(), "the workflow ran longer than 60 s; not done: a, b");
    assert!(matches!(story.effects[..], [Effect::Stop { .. }, Effect::Answer]));
    story.assert_task("a", "Cancelled").assert_task("b", "Cancelled").assert_task("c", "Completed");
    story.assert_context(json!({"c": 1}));
}

/// Regression: when both timeouts had passed, the timeout of the task settled everything, and then the execution failed
/// with its own timeout and an empty list of tasks that were "not done".
#[test]
fn a_task_that_ends_the_execution_by_running_out_of_time_is_its_reason() {
    let graph = workflow([task("a").timeout(100), task("b").after(["a"])]);
    let limits = ExecutionOptions { timeout: Some(Millis(1_000)), ..options() };
    let mut story = Story::with(&graph, [], limits);
    story.starts("a").wait(5_000).assert_status(Status::Failed).assert_task("b", "Skipped");
    assert!(story.reason().starts_with("task 'a' failed"), "{}", story.reason());
}

#[test]
fn a_cancelled_execution_stops_what_runs_and_keeps_what_was_done() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").after(["b"])]);
    let mut story = Story::of(&graph);
    story.runs("a", [("a", json!(1))]).starts("b").skip_lines();
    story.command(Command::Cancel(request("ops", Some("wrong day"))));
    story.assert_new_lines(["cancel requested", "cancelled: cancelled by ops: wrong day"]);
    assert!(matches!(story.effects[..], [Effect::Stop { .. }, Effect::Answer]));
    story.assert_status(Status::Cancelled).assert_task("a", "Completed").assert_task("b", "Cancelled");
    story.assert_context(json!({"a": 1})).assert_ready([]);
    assert!(matches!(story.attempt(Command::Cancel(request("ops", None))), Err(Rejection::Ended("Cancelled"))));
    let late = story.ends("b", vec![], Reads::default(), Ok(()));
    assert!(matches!(story.attempt(late), Err(Rejection::Stale(_))));
}

#[test]
fn a_paused_execution_starts_nothing_and_lets_what_runs_finish() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").tried(2)]);
    let mut story = Story::of(&graph);
    story.starts("a").fails("c").command(Command::Pause(request("ops", None))).assert_status(Status::Paused);
    story.completes("a", []).assert_ready([]).wait(1_000).assert_ready([]);
    let start = Command::StartTask { task: story.index("b"), worker: 0 };
    assert!(matches!(story.attempt(start), Err(Rejection::Impossible(_))));
    assert!(matches!(story.attempt(Command::Pause(request("ops", None))), Err(Rejection::Impossible(_))));
    story.crashes().assert_status(Status::Paused).assert_ready([]).wait(0);
    story.command(Command::Unpause(request("ops", None))).assert_ready(["b", "c"]);
    assert!(matches!(story.attempt(Command::Unpause(request("ops", None))), Err(Rejection::Impossible(_))));
    story.runs("b", []).runs("c", []).assert_status(Status::Completed);
}

#[test]
fn the_last_running_task_ends_a_paused_execution() {
    let mut story = Story::of(&workflow([task("a")]));
    story.starts("a").command(Command::Pause(request("ops", None))).completes("a", []).assert_status(Status::Completed);
}

#[test]
fn the_context_of_an_unfinished_execution_is_what_the_ends_see_so_far() {
    let graph = workflow([
        task("a"),
        task("b").after(["a"]),
        task("c").after(["a"]),
        task("d").after(["b", "c"]),
        task("e").after(["a"]).rule(TriggerRule::AllFailed),
    ]);
    let mut story = Story::from_input(&graph, [("n", json!(0)), ("list", json!([]))]);
    story.assert_context(json!({"list": [], "n": 0}));
    story.runs("a", [("n", json!(1))]).assert_context(json!({"list": [], "n": 1}));
    story.runs("b", [("list", json!(["b"]))]).assert_context(json!({"list": ["b"], "n": 1}));
    // The writes of a running attempt take effect when it completes.
    story.starts("c").assert_context(json!({"list": ["b"], "n": 1}));
    story.completes("c", [("list", json!(["c"]))]).assert_context(json!({"list": ["b", "c"], "n": 1}));
    story.command(Command::Cancel(request("ops", None))).assert_context(json!({"list": ["b", "c"], "n": 1}));
}

#[test]
fn a_task_of_another_graph_is_refused_and_does_not_panic() {
    let mut story = Story::of(&workflow([task("a")]));
    let strange = Command::StartTask { task: TaskIndex(17), worker: 0 };
    assert!(matches!(story.attempt(strange), Err(Rejection::Impossible(_))));
    let strange = Command::AttemptFinished {
        task: "nobody".into(),
        attempt: 1,
        writes: vec![],
        reads: Reads::default(),
        result: Ok(()),
        jitter: Jitter::NONE,
    };
    assert!(matches!(story.attempt(strange), Err(Rejection::Stale(_))));
    let again = Command::StartTask { task: TaskIndex(0), worker: 0 };
    story.starts("a");
    assert!(matches!(story.attempt(again), Err(Rejection::Impossible(_))));
}

#[test]
fn a_clock_that_goes_back_does_not_turn_the_history_around() {
    let graph = workflow([task("a").timeout(1_000)]);
    let mut story = Story::of(&graph);
    story.later(500).starts("a");
    story.now = support::at(100);
    story.completes("a", []).assert_status(Status::Completed);
    assert_eq!(story.state.last(), support::at(500));
}
