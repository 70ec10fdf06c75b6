//! Retries of a failed or cancelled execution: exactly what failed runs again, and what was done stays done.

use std::collections::BTreeSet;

use crate::support::plan::{Plan, plans};
use crate::support::simulate::Simulation;
use crate::support::story::{options, request};
use crate::support::{Story, TaskBuilder, cases, fingerprint, json, skipped, task, workflow};
use cloacina_engine::core::decide::{Command, Rejection};
use cloacina_engine::core::definition::TriggerRule;
use cloacina_engine::core::event::{Event, ExecutionOptions, Reads};
use cloacina_engine::core::state::{Status, TaskState};
use cloacina_engine::core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn what_failed_and_what_it_kept_from_running_runs_again_and_what_was_done_stays_done() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").after(["b"]), task("d").after(["a"])]);
    let mut story = Story::of(&graph);
    story.runs("a", [("n", json!(1))]).runs("d", [("m", json!(2))]).fails("b").assert_status(Status::Failed);
    story.assert_task("c", "Skipped").skip_lines();
    story.retries().assert_new_lines(["retried by ann"]).assert_status(Status::Running).assert_ready(["b"]);
    story.assert_task("a", "Completed").assert_task("d", "Completed").assert_task("c", "Pending");
    assert_eq!((story.state.retries(), story.state.recoveries(), story.state.environment().pid), (1, 0, 2));
    assert_eq!(story.reason(), "");
    story.starts("b").assert_sees("b", json!({"n": 1})).completes("b", [("x", json!(3))]).runs("c", []);
    story.assert_new_lines(["b#2 starts", "x=3", "b#2 completes", "c#1 starts", "c#1 completes", "completed"]);
    story.assert_context(json!({"m": 2, "n": 1, "x": 3}));
}

#[test]
fn attempts_go_on_counting_and_the_retry_policy_begins_again() {
    let graph = workflow([task("a").tried(2)]);
    let mut story = Story::of(&graph);
    story.fails("a").wait(1_000).fails("a").assert_status(Status::Failed).retries().skip_lines();
    assert_eq!(story.state.task(story.index("a")).failures(), 0);
    story.fails("a").assert_task("a", "WaitingRetry").wait(1_000).fails("a").assert_status(Status::Failed);
    let lines = story.new_lines();
    assert_eq!([&*lines[0], &*lines[2], &*lines[3]], ["a#3 starts", "a#4 starts", "a#4 fails"]);
    assert_eq!(story.reason(), "task 'a' failed, attempt 4 of 4: ValueError: no");
}

#[test]
fn deaths_of_its_process_count_anew() {
    let graph = workflow([task("a")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { max_recoveries: 1, ..options() });
    story.starts("a").crashes().starts("a").crashes().assert_status(Status::Failed);
    story.retries().starts("a").crashes().assert_ready(["a"]).runs("a", []).assert_status(Status::Completed);
}

#[test]
fn a_cancelled_execution_goes_on_with_what_had_not_ended() {
    let graph = workflow([task("a"), task("b").tried(2), task("c"), task("d").after(["a", "b", "c"])]);
    let mut story = Story::of(&graph);
    story.runs("a", [("n", json!(1))]).fails("b").starts("c").command(Command::Cancel(request("ops", None)));
    story.assert_status(Status::Cancelled).assert_task("b", "Cancelled");
    story.retries().assert_ready(["b", "c"]).runs("b", []).runs("c", []).runs("d", []).assert_status(Status::Completed);
    story.assert_context(json!({"n": 1}));
}

#[test]
fn an_execution_that_timed_out_has_a_new_timeout() {
    let graph = workflow([task("a"), task("b").after(["a"])]);
    let mut story = Story::with(&graph, [], ExecutionOptions { timeout: Some(Millis(1_000)), ..options() });
    story.runs("a", []).starts("b").wait(1_000).assert_status(Status::Failed).later(86_400_000);
    story.retries().starts("b").wait(999).assert_status(Status::Running).wait(1).assert_status(Status::Failed);
    let graph = story.state.graph().clone();
    let Command::Retry { request, environment, definition, .. } = story.retry_command(&graph) else { panic!() };
    let options = ExecutionOptions { timeout: Some(Millis(5_000)), task_timeout: Some(Millis(4_000)), ..options() };
    story.command(Command::Retry { request, environment, options, definition }).starts("b");
    story.wait(3_999).assert_task("b", "Running").wait(1).assert_task("b", "Failed");
}

#[test]
fn a_paused_execution_that_was_cancelled_is_not_paused_after_a_retry() {
    let mut story = Story::of(&workflow([task("a")]));
    story.command(Command::Pause(request("ops", None))).command(Command::Cancel(request("ops", None)));
    story.retries().assert_ready(["a"]);
}

#[test]
fn a_task_that_ran_because_of_a_failure_never_runs_again_and_keeps_its_writes() {
    let tell = task("tell").after(["load"]).rule(TriggerRule::OneFailed);
    let graph = workflow([task("load"), task("use").after(["load"]), tell]);
    let mut story = Story::of(&graph);
    story.fails("load").runs("tell", [("told", json!("ann"))]).assert_status(Status::Failed);
    story.retries().assert_ready(["load"]).runs("load", [("rows", json!(3))]).assert_ready(["use"]).runs("use", []);
    story.assert_status(Status::Completed).assert_task("tell", "Completed");
    story.assert_context(json!({"rows": 3, "told": "ann"}));
}

#[test]
fn a_failure_that_was_handled_stays_as_it_is() {
    let default = task("default").after(["fetch"]).rule(TriggerRule::OneFailed);
    let merge = task("merge").after(["fetch", "default"]).rule(TriggerRule::AllDone);
    let graph = workflow([task("fetch"), default, merge, task("upload").after(["merge"])]);
    let mut story = Story::of(&graph);
    story.fails("fetch").runs("default", [("rates", json!(1))]).runs("merge", []).fails("upload");
    story.assert_status(Status::Failed).retries().assert_ready(["upload"]).assert_task("fetch", "Failed");
    story.starts("upload").assert_sees("upload", json!({"rates": 1})).completes("upload", []);
    story.assert_status(Status::Completed);
}

#[test]
fn a_handler_that_failed_waits_for_the_failed_task_again() {
    let graph = || workflow([task("a"), task("h").after(["a"]).rule(TriggerRule::OneFailed)]);
    let mut story = Story::of(&graph());
    story.fails("a").fails("h").retries().assert_ready(["a"]).skip_lines().runs("a", []);
    let lines = story.new_lines();
    assert_eq!(lines[2..], ["h skipped: one_failed [a Completed]", "completed"]);
    let mut story = Story::of(&graph());
    story.fails("a").fails("h").retries().fails("a").runs("h", []).assert_status(Status::Completed);
}

#[test]
fn a_task_that_its_own_rule_skipped_stays_skipped() {
    let never = task("never").after(["a"]).rule(TriggerRule::AllFailed);
    let graph = workflow([task("a"), never, task("b").after(["a"]), task("c").after(["never"])]);
    let mut story = Story::of(&graph);
    story.runs("a", []).assert_task("never", "Skipped").fails("b").runs("c", []).assert_status(Status::Failed);
    story.retries().assert_task("never", "Skipped").assert_ready(["b"]).runs("b", []).assert_status(Status::Completed);
}

#[test]
fn it_goes_on_by_the_new_graph_and_records_its_fingerprint() {
    let old = workflow([task("a"), task("b").after(["a"]), task("c").after(["b"])]);
    let new = workflow([task("a"), task("fix"), task("b").after(["a", "fix"]), task("d").after(["b"])]);
    let mut story = Story::of(&old);
    story.runs("a", [("n", json!(1))]).fails("b").retries_with(&new).assert_ready(["fix"]);
    assert_eq!(story.state.fingerprint(), fingerprint(&new));
    story.runs("fix", [("m", json!(2))]).starts("b").assert_sees("b", json!({"m": 2, "n": 1}));
    story.completes("b", []).runs("d", []).assert_status(Status::Completed).assert_context(json!({"m": 2, "n": 1}));
}

#[test]
fn without_the_task_that_failed_it_is_complete_at_once() {
    let old = workflow([task("a"), task("b").after(["a"])]);
    let mut story = Story::of(&old);
    story.runs("a", []).fails("b").skip_lines().retries_with(&workflow([task("a")]));
    story.assert_new_lines(["retried by ann", "completed"]).assert_status(Status::Completed);
}

#[test]
fn with_another_graph_a_skipped_task_below_a_failure_is_decided_again() {
    let old = workflow([task("a"), task("b"), task("s").after(["a"]).rule(TriggerRule::AllFailed)]);
    let new = workflow([task("a"), task("b"), task("s").after(["a", "b"]).rule(TriggerRule::OneFailed)]);
    let mut story = Story::of(&old);
    story.runs("a", []).fails("b").assert_task("s", "Skipped").retries_with(&new);
    story.assert_task("s", "Pending").assert_ready(["b"]).fails("b").runs("s", []).assert_status(Status::Completed);
}

#[test]
fn only_a_failed_or_cancelled_execution_can_be_retried() {
    let graph = workflow([task("a")]);
    let mut story = Story::of(&graph);
    let retry = story.retry_command(&graph);
    let refused = story.attempt(retry.clone()).unwrap_err();
    assert_eq!(refused.to_string(), "ExecutionRetried comes while the execution is Running");
    story.runs("a", []);
    assert_eq!(story.attempt(retry), Err(Rejection::Ended("Completed")));
}

#[test]
fn the_result_of_an_attempt_from_before_counts_no_more() {
    let graph = workflow([task("a")]);
    let mut story = Story::of(&graph);
    story.starts("a");
    let late = story.ends("a", vec![], Reads::default(), Ok(()));
    story.command(Command::Cancel(request("ops", None))).retries();
    assert!(matches!(story.attempt(late.clone()), Err(Rejection::Stale(_))));
    story.starts("a");
    assert!(matches!(story.attempt(late), Err(Rejection::Stale(_))));
}

#[test]
fn a_retry_can_fail_and_be_retried_and_survives_a_crash_at_any_moment() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").when(skipped("b"))]);
    let mut story = Story::of(&graph);
    story.runs("a", []).fails("b").assert_status(Status::Failed).retries().crashes().assert_ready(["b"]);
    story.starts("b").crashes().fails("b").assert_status(Status::Failed);
    story.retries().crashes().runs("b", []).assert_task("c", "Skipped").assert_status(Status::Completed);
    assert_eq!((story.state.retries(), story.state.recoveries()), (2, 3));
}

/// Returns the tasks that are, or come after, one that failed.
fn touched_by_failure(simulation: &Simulation<'_>) -> BTreeSet<String> {
    let (state, graph) = (&simulation.state, simulation.state.graph());
    let mut touched = BTreeSet::new();
    for task in graph.topological_order() {
        let failed = matches!(state.task(*task).state(), TaskState::Failed);
        if failed || graph.upstream(*task).iter().any(|up| touched.contains(&**graph.name(*up))) {
            touched.insert(graph.name(*task).to_string());
        }
    }
    touched
}

fn completed(simulation: &Simulation<'_>) -> BTreeSet<String> {
    let ends = simulation.events().into_iter().filter_map(|recorded| match &recorded.event {
        Event::TaskCompleted(body) => Some(body.task.to_string()),
        _ => None,
    });
    let (all, mut once) = (ends.collect::<Vec<_>>(), BTreeSet::new());
    assert!(all.iter().all(|task| once.insert(task.clone())), "a task completed twice: {all:?}");
    once
}

/// Runs a plan until it fails, and then with a retry after which nothing fails.
fn fail_and_retry<'a>(plan: &'a Plan, before: &[u16], after: &[u16]) -> Option<(Simulation<'a>, Simulation<'a>)> {
    let mut failed = Simulation::begin(plan, Simulation::options(), 2);
    failed.run(before);
    if failed.state.status() != Status::Failed {
        return None;
    }
    let mut retried = failed.clone();
    retried.is_healed = true;
    retried.retry();
    retried.run(after);
    Some((failed, retried))
}

proptest! {
    #![proptest_config(cases(400))]

    /// The result is that of an execution in which nothing failed, unless tasks completed because of a failure or in
    /// spite of it.
    #[test]
    fn a_retry_ends_as_if_nothing_had_failed(
        plan in plans(false),
        before in vec(any::<u16>(), 0..40),
        after in vec(any::<u16>(), 0..40),
    ) {
        let Some((failed, retried)) = fail_and_retry(&plan, &before, &after) else { return Ok(()) };
        let (done, touched) = (completed(&failed), touched_by_failure(&failed));
        prop_assert!(done.is_subset(&completed(&retried)));
        let first = failed.events().len();
        for recorded in &retried.events()[first..] {
            if let Event::TaskStarted(body) = &recorded.event {
                prop_assert!(touched.contains(&*body.task), "{} runs again, and had nothing to do with a failure", body.task);
                prop_assert!(!done.contains(&*body.task), "{} was completed", body.task);
            }
        }
        prop_assert_eq!(retried.state.status(), Status::Completed);
        if done.is_disjoint(&touched) {
            let mut undisturbed = Simulation::begin(&plan, Simulation::options(), 2);
            undisturbed.is_healed = true;
            undisturbed.run(&before);
            prop_assert_eq!(retried.result(), undisturbed.result());
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn a_crash_after_any_append_of_a_retry_changes_nothing(
        plan in plans(false),
        before in vec(any::<u16>(), 0..40),
        after in vec(any::<u16>(), 0..20),
    ) {
        let Some((failed, retried)) = fail_and_retry(&plan, &before, &after) else { return Ok(()) };
        for batches in failed.log.len()..=retried.log.len() {
            let mut crashed = retried.clone();
            crashed.crash_after(batches);
            if batches == failed.log.len() {
                // The retry is not in the log: the execution is what it was before.
                prop_assert_eq!(crashed.result(), failed.result());
                crashed.retry();
            }
            crashed.run(&after);
            prop_assert_eq!(crashed.result(), retried.result());
            prop_assert!(completed(&failed).is_subset(&completed(&crashed)));
        }
    }
}
