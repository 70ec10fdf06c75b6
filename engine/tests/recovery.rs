//! Recovery in another process: running attempts are abandoned and run again, completed tasks stay completed.

use crate::support::story::{options, request};
use crate::support::{self, Story, TaskBuilder, fingerprint, json, skipped, task, workflow};
use cloacina_engine::core::decide::{Command, Rejection};
use cloacina_engine::core::definition::TriggerRule;
use cloacina_engine::core::event::{Environment, ExecutionOptions, Reads};
use cloacina_engine::core::graph::difference;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::Status;
use cloacina_engine::core::time::Millis;

#[test]
fn what_ran_is_abandoned_and_runs_again_and_what_was_done_stays_done() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").after(["b"])]);
    let mut story = Story::of(&graph);
    story.runs("a", [("n", json!(1))]).starts("b").skip_lines();
    story.crashes().assert_new_lines(["recovered", "b#1 abandoned: ProcessDied"]).assert_ready(["b"]);
    assert_eq!((story.state.recoveries(), story.state.environment().pid), (1, 2));
    story.starts("b").assert_sees("b", json!({"n": 1})).completes("b", []).runs("c", []);
    story.assert_new_lines(["b#2 starts", "b#2 completes", "c#1 starts", "c#1 completes", "completed"]);
}

#[test]
fn the_result_of_an_attempt_from_before_counts_no_more() {
    let graph = workflow([task("a")]);
    let mut story = Story::of(&graph);
    story.starts("a");
    let late = story.ends("a", vec![], Reads::default(), Ok(()));
    story.crashes();
    assert!(matches!(story.attempt(late.clone()), Err(Rejection::Stale(_))));
    story.starts("a");
    assert!(matches!(story.attempt(late), Err(Rejection::Stale(_))));
}

#[test]
fn a_task_that_kills_its_process_fails_after_so_many_recoveries() {
    let graph = workflow([task("a").tried(5), task("b").after(["a"])]);
    let mut story = Story::with(&graph, [], ExecutionOptions { max_recoveries: 2, ..options() });
    for _ in 0..2 {
        story.starts("a").crashes().assert_ready(["a"]);
    }
    story.starts("a").skip_lines().crashes().assert_status(Status::Failed);
    let lines = story.new_lines();
    assert_eq!(lines[1..3], ["a#3 fails", "b skipped by failure: none_failed [a Failed]"]);
    let reason = story.reason();
    assert!(reason.contains("ProcessDied: its process died while it ran, 3 times (hint: find out"), "{reason}");
}

/// Regression: after an abandoned attempt, the last of three allowed failures was reported as "attempt 4 of 3".
#[test]
fn an_abandoned_attempt_takes_none_of_the_allowed_failures() {
    let graph = workflow([task("a").tried(3)]);
    let mut story = Story::of(&graph);
    story.starts("a").crashes();
    story.fails("a").wait(1_000).fails("a").wait(1_000).assert_ready(["a"]).fails("a").assert_status(Status::Failed);
    assert_eq!(story.reason(), "task 'a' failed, attempt 4 of 4: ValueError: no");
}

#[test]
fn shutting_down_in_order_does_not_count_against_a_task() {
    let graph = workflow([task("a")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { max_recoveries: 0, ..options() });
    for _ in 0..5 {
        story.starts("a").skip_lines().command(Command::Shutdown).crashes();
        let lines = story.new_lines();
        assert!(lines[0].ends_with("abandoned: Shutdown"), "{lines:?}");
        assert_eq!(lines[1..], ["recovered"]);
    }
    assert_eq!(story.state.task(story.index("a")).deaths(), 0);
    story.starts("a").crashes().assert_status(Status::Failed);
}

#[test]
fn a_wait_for_a_retry_survives_and_limits_start_anew() {
    let graph = workflow([task("a").tried(2), task("b").timeout(3_000)]);
    let mut story = Story::with(&graph, [], ExecutionOptions { timeout: Some(Millis(5_000)), ..options() });
    story.starts("b").fails("a").later(600).crashes();
    story.assert_task("a", "WaitingRetry").wait(0).assert_ready(["b"]).starts("b").wait(400).assert_ready(["a"]);
    // The timeout of the execution counts from its recovery, that of `b` from its new attempt.
    story.runs("a", []).wait(2_599).assert_task("b", "Running").wait(1).assert_task("b", "Failed");
}

#[test]
fn an_execution_that_waited_for_long_has_its_whole_time_again() {
    let graph = workflow([task("a")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { timeout: Some(Millis(1_000)), ..options() });
    story.later(86_400_000).crashes().wait(999).assert_status(Status::Running).wait(1).assert_status(Status::Failed);
}

#[test]
fn it_goes_on_with_other_code_of_the_same_graph() {
    let old = workflow([task("a").code(1), task("b").after(["a"]).code(1)]);
    let new = workflow([task("a").code(2).timeout(9_000), task("b").after(["a"]).code(2)]);
    assert_eq!(difference(old.definition(), new.definition()), None);
    let mut story = Story::of(&old);
    story.runs("a", [("n", json!(1))]).crashes_into(&new);
    assert_eq!(story.state.fingerprint(), fingerprint(&new));
    story.runs("b", []).assert_context(json!({"n": 1})).assert_status(Status::Completed);
}

/// Regression: the timeout of a task was changed while it ran. The timer of the first attempt was armed with the old
/// timeout and removed with the new one, so it stayed. It then ended the second attempt too early, or, if none ran, led
/// to an impossible event that blocked all later timers.
#[test]
fn another_limit_of_the_same_graph_leaves_no_timer_behind() {
    let old = workflow([task("a").timeout(1_000)]);
    let new = workflow([task("a").timeout(60_000)]);
    let mut story = Story::of(&old);
    story.starts("a").later(500).crashes_into(&new);
    assert_eq!(story.state.next_timer(), None);
    story.starts("a").wait(2_000).assert_task("a", "Running").wait(58_000).assert_task("a", "Failed");
}

#[test]
fn with_another_graph_tasks_of_the_same_name_keep_what_happened_to_them() {
    let old = workflow([task("a"), task("b").after(["a"]), task("gone").after(["a"])]);
    let new = workflow([task("new"), task("b").after(["a", "new"]), task("a"), task("c").after(["b"])]);
    let mut story = Story::of(&old);
    story.runs("a", [("n", json!(1))]).starts("gone").crashes_into(&new).assert_ready(["new"]);
    story.runs("new", [("m", json!(2))]).starts("b").assert_sees("b", json!({"m": 2, "n": 1}));
    story.completes("b", []).runs("c", []).assert_status(Status::Completed);
    let text = difference(old.definition(), new.definition()).unwrap();
    assert_eq!(
        text,
        "task 'gone' was removed; task 'c' was added; task 'new' was added; task 'b' depends on [a, new] instead of [a]"
    );
}

/// Regression: a task that was running or waiting for a retry when the graph changed could start before its new
/// dependencies were settled, and did not see their writes.
#[test]
fn with_another_graph_what_was_begun_waits_for_what_it_now_depends_on() {
    let old = workflow([task("a"), task("b").tried(2)]);
    let new = workflow([task("late"), task("a").after(["late"]), task("b").after(["late"]).tried(2)]);
    let mut story = Story::of(&old);
    story.starts("a").fails("b").crashes_into(&new).assert_ready(["late"]);
    story.wait(5_000).assert_ready(["late"]).runs("late", [("n", json!(1))]).assert_ready(["a", "b"]);
    story.starts("a").assert_sees("a", json!({"n": 1})).starts("b").assert_sees("b", json!({"n": 1}));
    story.completes("a", []).fails_by("b", support::error("E", "x"), |_| {}).assert_status(Status::Failed);
    assert_eq!(story.state.task(story.index("b")).failures(), 2);
}

#[test]
fn with_another_graph_rules_are_asked_anew() {
    let old = workflow([task("a"), task("b").after(["a"]), task("other")]);
    let new = workflow([task("a"), task("b").after(["a"]).rule(TriggerRule::AllFailed), task("other")]);
    let mut story = Story::of(&old);
    story.runs("a", []).starts("b").crashes_into(&new).assert_task("b", "Skipped").assert_ready(["other"]);
    // If every task of the new graph is settled, the execution ends.
    let less = workflow([task("a")]);
    let mut story = Story::of(&old);
    story.runs("a", []).starts("b").crashes_into(&less).assert_status(Status::Completed);
}

/// Regression: a task was skipped by failure, and in the new graph it had other dependencies. No failed task could be
/// named as the reason, so the decision was to complete the execution, which the fold rejected. The execution was
/// stuck.
#[test]
fn with_another_graph_a_skip_by_failure_still_ends_the_execution() {
    let old = workflow([task("a"), task("b").after(["a"]), task("c")]);
    let new = workflow([task("b"), task("c")]);
    let mut story = Story::of(&old);
    story.fails("a").assert_task("b", "Skipped").crashes_into(&new).runs("c", []).assert_status(Status::Failed);
    assert_eq!(story.reason(), "task 'b' was skipped because of a failure upstream");
}

#[test]
fn a_recovery_during_a_pause_stays_paused_and_an_ended_execution_is_not_recovered() {
    let graph = workflow([task("a"), task("b").when(skipped("a"))]);
    let mut story = Story::of(&graph);
    story.starts("a").command(Command::Pause(request("ops", None))).crashes().assert_status(Status::Paused);
    story.command(Command::Unpause(request("ops", None))).runs("a", []).assert_status(Status::Completed);
    let again =
        Command::Recover { environment: Environment::default(), definition: (fingerprint(&graph), graph.clone()) };
    assert!(matches!(story.attempt(again), Err(Rejection::Ended("Completed"))));
    assert!(matches!(story.attempt(Command::TimerFired { jitter: Jitter::NONE }), Err(Rejection::Ended(_))));
}

/// Regression: an attempt that waited in `defer_until` failed after its process was restarted four times: "its process
/// died while it ran, 4 times".
#[test]
fn an_attempt_that_dies_while_it_is_deferred_does_not_count_against_its_task() {
    let graph = workflow([task("ask"), task("pay").after(["ask"])]);
    let mut story = Story::with(&graph, [], ExecutionOptions { max_recoveries: 0, ..options() });
    for _ in 0..5 {
        story.starts("ask").defers("ask").skip_lines().crashes();
        story.assert_task("ask", "Pending").assert_ready(["ask"]);
    }
    assert_eq!(story.state.task(story.index("ask")).deaths(), 0);
    story.starts("ask").defers("ask").assert_task("ask", "Deferred").resumes("ask");
    // After the wait, a death of its process counts again.
    story.crashes().assert_status(Status::Failed);
    assert!(story.reason().contains("its process died while it ran, 1 times"), "{}", story.reason());
}

/// Regression: it also timed out after five minutes although it only waited.
#[test]
fn a_deferred_wait_counts_towards_no_timeout() {
    let graph = workflow([task("ask").timeout(1_000), task("other")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { timeout: Some(Millis(5_000)), ..options() });
    story.runs("other", []).starts("ask").later(600).defers("ask");
    assert_eq!(story.state.next_timer(), None, "no timer runs while it waits");
    let day = 86_400_000;
    story.wait(day).assert_task("ask", "Deferred").resumes("ask").wait(399).assert_task("ask", "Running");
    // A second wait, and the rest of its time.
    story.defers("ask").wait(day).resumes("ask").wait(1).assert_task("ask", "Failed").assert_status(Status::Failed);
    assert!(story.reason().contains("the attempt ran longer than 1 s"), "{}", story.reason());
}

#[test]
fn the_time_of_the_execution_stands_still_only_while_all_that_is_under_way_waits() {
    let graph = workflow([task("ask"), task("work")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { timeout: Some(Millis(5_000)), ..options() });
    story.starts("ask").starts("work").later(1_000).defers("ask");
    story.wait(2_000).completes("work", []).wait(60_000).resumes("ask").wait(1_999).assert_status(Status::Running);
    story.wait(1).assert_status(Status::Failed);
    assert!(story.reason().contains("the workflow ran longer than 5 s; not done: ask"), "{}", story.reason());
}

#[test]
fn a_deferred_attempt_can_end_be_cancelled_and_be_given_up() {
    let graph = workflow([task("ask").tried(2), task("next").after(["ask"])]);
    Story::of(&graph).starts("ask").defers("ask").completes("ask", [("ok", json!(true))]).assert_ready(["next"]);
    Story::of(&graph)
        .starts("ask")
        .defers("ask")
        .fails_by("ask", support::error("ValueError", "no"), |_| {})
        .assert_task("ask", "WaitingRetry");
    let mut story = Story::of(&graph);
    story.starts("ask").defers("ask").skip_lines().command(Command::Shutdown);
    story.assert_new_lines(["ask#1 abandoned: Shutdown"]).assert_ready(["ask"]);
    story.starts("ask").defers("ask").command(Command::Cancel(request("ops", None))).assert_status(Status::Cancelled);
    // The result of an ended attempt is ignored.
    let late = Command::Resume { task: "ask".into(), attempt: 1, worker: 0 };
    assert!(matches!(story.attempt(late), Err(Rejection::Ended(_))));
}

#[test]
fn what_runs_cannot_resume_and_what_waits_cannot_be_deferred_again() {
    let graph = workflow([task("ask")]);
    let mut story = Story::of(&graph);
    story.starts("ask");
    let again = |resume: bool| match resume {
        true => Command::Resume { task: "ask".into(), attempt: 1, worker: 0 },
        false => Command::Defer { task: "ask".into(), attempt: 1 },
    };
    assert!(matches!(story.attempt(again(true)), Err(Rejection::Impossible(_))));
    story.defers("ask");
    assert!(matches!(story.attempt(again(false)), Err(Rejection::Impossible(_))));
}
