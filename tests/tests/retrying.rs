//! Retrying failed and cancelled executions: what failed runs again, also after a crash at any moment of the retry.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cloacina_engine::core::erasure::What;
use cloacina_engine::core::event::{Event, ExecutionId, Request};
use cloacina_engine::runtime::crashing::CrashingLog;
use cloacina_engine::runtime::engine::{
    Engine, EngineError, ExecutionStatus, Outcome, StartError, StartRequest, WaitError,
};
use cloacina_engine::runtime::outcome::{rebuild, stream_of};
use cloacina_engine::runtime::task::{AttemptEnd, Task};
use cloacina_engine::runtime::workflow::Workflow;
use cloacina_store::keeper::{Change, Prune};
use cloacina_tests::GUARD;
use cloacina_tests::gate::GatedLog;
use cloacina_tests::history::{event_names, has_event, history};
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, error, once, step, waiting, walk, workflow};
use cloacina_tests::world::{World, call_as, end_of, id, millis, run, start, task, value};
use serde_json::json;

/// A server that a task needs.
#[derive(Clone, Default)]
struct Server(Arc<AtomicBool>);

impl Server {
    fn comes_up(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn task(&self, name: &'static str) -> Task {
        let server = self.clone();
        Task::new(name, move |context| match server.0.load(Ordering::SeqCst) {
            true => walk(context, name),
            false => Err(error("the server is down")),
        })
        .retry(once())
    }

    /// A chain of `a`, `b`, which needs the server, and `c`.
    fn chain(&self) -> Workflow {
        workflow("work", [step("a"), self.task("b").after(["a"]), step("c").after(["b"])])
    }
}

fn by_ann() -> Request {
    Request { by: "ann".into(), reason: Some("the server is up".into()) }
}

fn or_retry(request: StartRequest) -> StartRequest {
    StartRequest { retry_failed: Some(by_ann()), ..request }
}

fn path(outcome: &Outcome) -> serde_json::Value {
    value(outcome, "path")
}

fn retries(engine: &Engine, execution: ExecutionId) -> usize {
    event_names(&**engine.log(), execution).iter().filter(|name| *name == "ExecutionRetried").count()
}

fn refusal(engine: &Engine, execution: ExecutionId) -> String {
    let refused = engine.retry(execution, by_ann()).unwrap_err();
    assert!(matches!(refused, EngineError::Rejected { .. }), "{refused}");
    let text = refused.to_string();
    text.strip_prefix(&format!("execution {execution}: ")).unwrap().to_owned()
}

#[test]
fn what_failed_runs_again_and_what_was_done_does_not() {
    let server = Server::default();
    let engine = World::of([server.chain()]).open();
    let failed = run(&engine, "work");
    assert_eq!((failed.status, task(&failed, "c")), (ExecutionStatus::Failed, ("Skipped", 0)));
    server.comes_up();
    engine.retry(failed.execution, by_ann()).unwrap();
    let outcome = end_of(&engine, failed.execution);
    assert_eq!(
        (outcome.status, outcome.error.as_deref(), path(&outcome)),
        (ExecutionStatus::Completed, None, json!(["a", "b", "c"]))
    );
    assert_eq!(
        [task(&outcome, "a"), task(&outcome, "b"), task(&outcome, "c")],
        [("Completed", 1), ("Completed", 2), ("Completed", 1)]
    );
    let names = event_names(&**engine.log(), failed.execution);
    let retried = names.iter().position(|name| name == "ExecutionRetried").unwrap();
    assert_eq!(names[retried - 1..=retried + 1], ["ExecutionFailed", "ExecutionRetried", "TaskStarted b 2"]);
    let Event::ExecutionRetried(event) = &history(&**engine.log(), failed.execution)[retried].event else { panic!() };
    assert_eq!(event.request, by_ann());
}

#[test]
fn a_retried_execution_is_listed_as_running_until_it_ends_again() {
    let server = Server::default();
    let door = Door::closed();
    let engine = World::of([workflow("work", [server.task("b"), waiting("wait", &door).after(["b"])])]).open();
    let failed = run(&engine, "work").execution;
    server.comes_up();
    engine.retry(failed, by_ann()).unwrap();
    door.wait_for_arrivals(1);
    let listed = engine.executions(None, None, 10, None).unwrap().remove(0);
    assert_eq!((listed.standing.status, listed.ended), (ExecutionStatus::Running, None));
    assert!(engine.log().stream(stream_of(failed)).unwrap().open);
    assert_eq!(engine.outcome(failed).unwrap().error, None);
    door.open();
    end_of(&engine, failed);
    assert!(!engine.log().stream(stream_of(failed)).unwrap().open);
}

#[test]
fn a_cancelled_execution_continues_with_what_had_not_ended() {
    let door = Door::closed();
    let engine =
        World::of([workflow("work", [step("a"), waiting("wait", &door).after(["a"]), step("c").after(["wait"])])])
            .open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    engine.cancel(execution, None).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Cancelled);
    engine.retry(execution, by_ann()).unwrap();
    door.open();
    let outcome = end_of(&engine, execution);
    assert_eq!(
        (outcome.status, task(&outcome, "a"), task(&outcome, "wait")),
        (ExecutionStatus::Completed, ("Completed", 1), ("Completed", 2))
    );
    assert!(!has_event(&**engine.log(), execution, "TaskCompleted wait 1"));
}

/// The crash may hit the retry itself. Then the log has the failed execution or the retried one, and nothing in between.
#[test]
fn after_a_crash_at_any_event_of_a_retry_completed_tasks_do_not_run_again() {
    let engine = World::of([Server::default().chain()]).open();
    let failed = run(&engine, "work").execution;
    let events = event_names(&**engine.log(), failed).len() as u64;
    // The retry, `b` and `c` with a write each, and the end.
    for seq in events..=events + 7 {
        let server = Server::default();
        let world = World::of([server.chain()]);
        let log = CrashingLog::new(Arc::new(world.log()));
        let engine = world.open_on(Arc::new(log.clone()));
        let execution = run(&engine, "work").execution;
        server.comes_up();
        log.crash_after(seq);
        // The crash may hit the retry itself, which then fails.
        let retried = engine.retry(execution, by_ann());
        let (_, last) = log.crashed(GUARD).expect("it crashed");
        assert!(last >= seq && (retried.is_ok() || last < events + 3), "{retried:?}");
        drop(engine);
        let world = world.in_new_process().with_workflows([server.chain()]);
        let engine = world.open();
        assert!(has_event(&**engine.log(), execution, "ExecutionRetried"), "the event at {seq} is in the log");
        let outcome = end_of(&engine, execution);
        assert_eq!((outcome.status, path(&outcome)), (ExecutionStatus::Completed, json!(["a", "b", "c"])));
        assert_eq!(task(&outcome, "a"), ("Completed", 1));
    }
}

#[test]
fn a_retry_that_is_not_durable_has_not_happened() {
    let server = Server::default();
    let world = World::of([server.chain()]);
    let log = GatedLog::new(world.log());
    let engine = Arc::new(world.open_on(log.clone()));
    let execution = run(&engine, "work").execution;
    server.comes_up();
    log.hold();
    let asking = {
        let engine = engine.clone();
        thread::spawn(move || engine.retry(execution, by_ann()))
    };
    log.wait_for_held(1);
    let after = world.after_kill().with_workflows([server.chain()]).open();
    assert_eq!(end_of(&after, execution).status, ExecutionStatus::Failed);
    assert_eq!(task(&after.outcome(execution).unwrap(), "b"), ("Failed", 1));
    after.retry(execution, by_ann()).unwrap();
    assert_eq!(task(&end_of(&after, execution), "b"), ("Completed", 2));
    log.release();
    asking.join().unwrap().unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

#[test]
fn of_many_who_retry_at_once_one_does() {
    let server = Server::default();
    let door = Door::closed();
    let engine =
        Arc::new(World::of([workflow("work", [server.task("b"), waiting("wait", &door).after(["b"])])]).open());
    let failed = run(&engine, "work").execution;
    server.comes_up();
    let callers: Vec<_> = (0..16)
        .map(|_| {
            let engine = engine.clone();
            thread::spawn(move || engine.retry(failed, by_ann()))
        })
        .collect();
    let answers: Vec<_> = callers.into_iter().map(|caller| caller.join().unwrap()).collect();
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    for refused in answers.into_iter().filter_map(Result::err) {
        assert!(refused.to_string().contains("it is running; wait for its end"), "{refused}");
    }
    assert_eq!(retries(&engine, failed), 1);
    door.open();
    assert_eq!(end_of(&engine, failed).status, ExecutionStatus::Completed);
}

/// The scheduler keeps an execution for a moment after its end is published.
#[test]
fn a_retry_right_after_the_failure_runs_to_its_own_end() {
    let engine = World::of([workflow("work", [Server::default().task("b")])]).open();
    let execution = run(&engine, "work").execution;
    for round in 1..200 {
        engine.retry(execution, by_ann()).unwrap();
        let outcome = end_of(&engine, execution);
        assert_eq!(task(&outcome, "b"), ("Failed", round + 1));
    }
    assert_eq!(retries(&engine, execution), 199);
}

/// Regression: a waiter that found the execution ended read it from the log, where it had been retried meanwhile, and heard
/// that the engine was shut down.
#[test]
fn a_wait_beside_retries_always_hears_an_end() {
    let engine = Arc::new(World::of([workflow("work", [Server::default().task("b")])]).open());
    let execution = run(&engine, "work").execution;
    let is_over = Arc::new(AtomicBool::new(false));
    let waiters: Vec<_> = (0..3)
        .map(|_| {
            let (engine, is_over) = (engine.clone(), is_over.clone());
            thread::spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Failed);
                }
            })
        })
        .collect();
    for _ in 0..300 {
        engine.retry(execution, by_ann()).unwrap();
        end_of(&engine, execution);
    }
    is_over.store(true, Ordering::SeqCst);
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
}

/// An observer delays the answer of the failure. The retry does not wait for it, and each end goes to those who waited for it.
#[test]
fn each_end_goes_to_those_who_waited_for_it() {
    let server = Server::default();
    let door = Door::closed();
    let watched = {
        let door = door.clone();
        server.task("b").observe(move |notice| {
            if matches!(notice.end, AttemptEnd::Failed(_)) {
                let door = door.clone();
                thread::spawn(move || {
                    let _held_until_then = notice;
                    assert!(door.pass());
                });
            }
        })
    };
    let engine = Arc::new(World::of([workflow("work", [watched])]).open());
    let execution = start(&engine, "work");
    let first = {
        let engine = engine.clone();
        thread::spawn(move || end_of(&engine, execution).status)
    };
    door.wait_for_arrivals(1);
    while engine.log().stream(stream_of(execution)).unwrap().open {
        thread::yield_now();
    }
    server.comes_up();
    engine.retry(execution, by_ann()).unwrap();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    door.open();
    assert_eq!(first.join().unwrap(), ExecutionStatus::Failed);
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

#[test]
fn it_continues_by_the_workflow_that_is_registered_now() {
    let world = World::of([Server::default().chain()]);
    let execution = run(&world.open(), "work").execution;
    let server = Server::default();
    server.comes_up();
    let fixed =
        || workflow("work", [step("a"), step("fix"), server.task("b").after(["a", "fix"]), step("d").after(["b"])]);
    let fingerprint = fixed().fingerprint();
    let engine = world.in_new_process().with_workflows([fixed()]).open();
    engine.retry(execution, by_ann()).unwrap();
    let outcome = end_of(&engine, execution);
    let tasks: Vec<_> = outcome.tasks.iter().map(|task| (&*task.task, task.state, task.attempts)).collect();
    assert_eq!(tasks, [("a", "Completed", 1), ("fix", "Completed", 1), ("b", "Completed", 2), ("d", "Completed", 1)]);
    assert_eq!(rebuild(&**engine.log(), execution).unwrap().fingerprint(), fingerprint);
}

#[test]
fn the_timeouts_are_those_of_the_engine_that_retries() {
    let door = Door::closed();
    let world = World::of([workflow("work", [waiting("wait", &door)])])
        .with_config(|config| config.task_timeout = Some(millis(20)));
    let execution = run(&world.open(), "work").execution;
    let world = world.in_new_process().with_workflows([workflow("work", [waiting("wait", &door)])]);
    let engine = world.with_config(|config| config.task_timeout = None).open();
    engine.retry(execution, by_ann()).unwrap();
    door.open();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    assert_eq!(rebuild(&**engine.log(), execution).unwrap().options().task_timeout, None);
}

#[test]
fn what_cannot_be_retried_is_refused_with_the_next_step() {
    let (server, door) = (Server::default(), Door::closed());
    let world = World::of([server.chain(), workflow("held", [waiting("wait", &door)]), workflow("quick", [step("a")])]);
    let engine = world.open();
    let unknown = engine.retry(id(9), by_ann()).unwrap_err();
    assert!(matches!(unknown, EngineError::NotFound(_)), "{unknown}");
    let running = start(&engine, "held");
    assert_eq!(
        refusal(&engine, running),
        format!(
            "it is running; wait for its end: runner.get_execution('{running}').result(). Only an execution that has failed or \
             was cancelled can be retried"
        )
    );
    engine.pause(running, None).unwrap();
    assert_eq!(
        refusal(&engine, running),
        format!("it is paused; unpause it: runner.get_execution('{running}').resume()")
    );
    let completed = run(&engine, "quick").execution;
    assert_eq!(
        refusal(&engine, completed),
        "the execution has ended (Completed), so there is nothing to retry; start another one"
    );
    let failed = run(&engine, "work").execution;
    let resumed = engine.resume(failed).unwrap_err().to_string();
    assert_eq!(
        resumed,
        format!(
            "execution {failed}: the execution has ended (Failed); to continue it from what failed, retry it: \
             runner.retry('{failed}')"
        )
    );
    door.open();
    engine.unpause(running).unwrap();
    end_of(&engine, running);
    engine.shutdown(GUARD).unwrap();
    assert!(matches!(engine.retry(failed, by_ann()), Err(EngineError::ShutDown)));

    let engine = world.in_new_process().open();
    assert_eq!(
        refusal(&engine, failed),
        "workflow 'work' is not registered, so its tasks cannot run; register it (import its module) and retry again"
    );
    assert_eq!(retries(&engine, failed), 0);
}

#[test]
fn a_blocked_execution_is_not_retried_but_resumed() {
    let door = Door::closed();
    let world = World::of([workflow("work", [waiting("wait", &door)])]);
    let engine = world.open();
    let execution = start(&engine, "work");
    door.wait_for_arrivals(1);
    let after = world.after_kill();
    door.open();
    let engine = after.with_workflows([workflow("work", [step("other")])]).open();
    let refused = refusal(&engine, execution);
    assert!(refused.starts_with("it is blocked: the graph of workflow 'work' has changed"), "{refused}");
    assert!(refused.contains(&format!("runner.resume('{execution}')")), "{refused}");
}

#[test]
fn an_execution_whose_values_were_erased_or_pruned_is_not_retried() {
    let engine = World::of([Server::default().chain()]).open();
    let [erased, pruned] = [run(&engine, "work").execution, run(&engine, "work").execution];
    engine.erase(erased, &[What::Key("path".to_owned())], "case 311", "ann").unwrap();
    assert_eq!(
        refusal(&engine, erased),
        "values of its history were erased, and its tasks could read them; start the work again under another id"
    );
    let head = engine.log().stream(stream_of(pruned)).unwrap().head;
    let prune =
        Prune { streams: vec![(stream_of(pruned), head)], archive: None, reason: "old".into(), by: "ann".into() };
    engine.log().change(Change::Prune(prune)).unwrap();
    assert_eq!(
        refusal(&engine, pruned),
        "its history was pruned, so nothing is left to continue; start the work again under another id"
    );
}

#[test]
fn an_open_retry_is_neither_erased_nor_pruned() {
    let (server, door) = (Server::default(), Door::closed());
    let engine =
        World::of([workflow("work", [step("a"), server.task("b").after(["a"]), waiting("wait", &door).after(["b"])])])
            .open();
    let execution = run(&engine, "work").execution;
    let head = engine.log().stream(stream_of(execution)).unwrap().head;
    server.comes_up();
    engine.retry(execution, by_ann()).unwrap();
    door.wait_for_arrivals(1);
    assert!(engine.erase(execution, &[What::Key("path".to_owned())], "case 311", "ann").is_err());
    let prune =
        Prune { streams: vec![(stream_of(execution), head)], archive: None, reason: "old".into(), by: "ann".into() };
    assert!(engine.log().change(Change::Prune(prune)).is_err());
    door.open();
    assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
}

#[test]
fn attaching_returns_the_failure_unless_a_retry_is_asked_for() {
    let server = Server::default();
    let engine = World::of([server.chain()]).open();
    let request = || call_as("work", id(1));
    engine.start(or_retry(request())).unwrap();
    assert_eq!(end_of(&engine, id(1)).status, ExecutionStatus::Failed, "a new id starts");
    server.comes_up();
    engine.start(request()).unwrap();
    assert_eq!(end_of(&engine, id(1)).status, ExecutionStatus::Failed);
    let outcome = engine.execute(or_retry(request())).within(GUARD).unwrap().unwrap();
    assert_eq!((outcome.status, task(&outcome, "b")), (ExecutionStatus::Completed, ("Completed", 2)));
    let outcome = engine.execute(or_retry(request())).within(GUARD).unwrap().unwrap();
    assert_eq!((outcome.status, task(&outcome, "b")), (ExecutionStatus::Completed, ("Completed", 2)));
    assert_eq!(retries(&engine, id(1)), 1);
}

#[test]
fn asking_for_a_retry_of_failures_attaches_to_what_has_not_failed() {
    let door = Door::closed();
    let engine = World::of([workflow("work", [waiting("wait", &door)]), workflow("other", [step("a")])]).open();
    let request = || or_retry(call_as("work", id(1)));
    engine.start(request()).unwrap();
    door.wait_for_arrivals(1);
    engine.start(request()).unwrap();
    let other = engine.start(or_retry(call_as("other", id(1)))).unwrap_err();
    assert!(matches!(other, StartError::OtherWorkflow { .. }), "{other}");
    engine.cancel(id(1), None).unwrap();
    engine.start(request()).unwrap();
    assert_eq!(end_of(&engine, id(1)).status, ExecutionStatus::Cancelled, "it was cancelled on purpose");
    assert_eq!((door.arrivals(), retries(&engine, id(1))), (1, 0));
    door.open();
}

#[test]
fn a_failure_of_another_workflow_is_not_retried() {
    let engine = World::of([Server::default().chain(), workflow("other", [step("a")])]).open();
    let failed = run(&engine, "work").execution;
    assert!(matches!(engine.start(or_retry(call_as("other", failed))), Err(StartError::OtherWorkflow { .. })));
    assert_eq!(retries(&engine, failed), 0);
}

#[test]
fn without_its_workflow_a_failure_cannot_be_retried_by_a_start() {
    let world = World::of([Server::default().chain()]);
    let failed = run(&world.open(), "work").execution;
    let refused = world.in_new_process().open().start(or_retry(call_as("work", failed))).unwrap_err();
    assert!(matches!(refused, StartError::NotRetried(_)), "{refused}");
    assert!(refused.to_string().contains("workflow 'work' is not registered"), "{refused}");
}

#[test]
fn many_callers_who_start_the_same_failed_id_retry_it_once() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = runs.clone();
    // Fails in the first of each two runs.
    let shaky = Task::new("shaky", move |_| match counted.fetch_add(1, Ordering::SeqCst) % 2 {
        0 => Err(error("stumbled")),
        _ => Ok(()),
    });
    let engine = Arc::new(World::of([workflow("one", [shaky.retry(once())])]).open());
    for round in 0..50 {
        engine.start(call_as("one", id(round))).unwrap();
        assert_eq!(end_of(&engine, id(round)).status, ExecutionStatus::Failed);
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let engine = engine.clone();
                thread::spawn(move || {
                    let execution = engine.start(or_retry(call_as("one", id(round)))).unwrap();
                    end_of(&engine, execution).status
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| assert_eq!(caller.join().unwrap(), ExecutionStatus::Completed));
        assert_eq!((runs.load(Ordering::SeqCst), retries(&engine, id(round))), (2 * usize::from(round) + 2, 1));
    }
}

#[test]
fn many_starts_retry_the_failed_ones_among_them() {
    let server = Server::default();
    let engine = World::of([server.chain()]).open();
    let requests = |all: std::ops::Range<u8>| all.map(|number| or_retry(call_as("work", id(number)))).collect();
    for execution in engine.start_many(requests(0..3)).unwrap() {
        assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Failed);
    }
    server.comes_up();
    for execution in engine.start_many(requests(0..5)).unwrap() {
        assert_eq!(end_of(&engine, execution).status, ExecutionStatus::Completed);
    }
    assert_eq!((0..5).map(|number| retries(&engine, id(number))).collect::<Vec<_>>(), [1, 1, 1, 0, 0]);
}

#[test]
fn a_retry_policy_begins_again_with_a_retry() {
    let task = Task::new("never", |_| Err(error("no"))).retry(attempts(3, 1));
    let engine = World::of([workflow("work", [task])]).open();
    let failed = run(&engine, "work").execution;
    engine.retry(failed, by_ann()).unwrap();
    assert_eq!(cloacina_tests::world::task(&end_of(&engine, failed), "never"), ("Failed", 6));
}

#[test]
fn a_wait_with_a_timeout_during_a_retry_times_out() {
    let (server, door) = (Server::default(), Door::closed());
    let engine = World::of([workflow("work", [server.task("b"), waiting("wait", &door).after(["b"])])]).open();
    let failed = run(&engine, "work").execution;
    server.comes_up();
    engine.retry(failed, by_ann()).unwrap();
    assert!(matches!(engine.wait(failed, Some(Duration::from_millis(1))), Err(WaitError::TimedOut { .. })));
    door.open();
    assert_eq!(end_of(&engine, failed).status, ExecutionStatus::Completed);
}
