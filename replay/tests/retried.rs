//! An execution that was retried, in every view: the failure, the retry, and what ran again.

use std::fmt::Write as _;

use crate::common::{Log, Recorder, error, id, json, replay, task};
use crate::schema;
use cloacina_engine::core::decide::Command;
use cloacina_engine::core::definition::{TaskDefinition, TriggerRule};
use cloacina_engine::core::event::{Event, Request};
use cloacina_engine::core::retry::RetryPolicy;
use cloacina_replay::history::History;
use cloacina_replay::moment::At;

const ID: u32 = 0x51b0_0010;

/// `tell` handles the failure of `load`.
fn tasks() -> Vec<TaskDefinition> {
    let mut load = task("load", &["extract"]);
    load.retry = RetryPolicy::never();
    let mut tell = task("tell", &["load"]);
    tell.rule = TriggerRule::OneFailed;
    vec![task("extract", &[]), load, task("report", &["load"]), tell]
}

/// Fails, and is retried two hours later.
fn retried(log: &Log) -> Recorder {
    let mut run = Recorder::start(log, id(ID), "nightly", tasks(), &[("day", "1")]);
    run.run("extract", 120, |context| {
        context.get("day").unwrap();
        context.set("rows", json("[1, 2, 3]"));
        Ok(())
    });
    run.run("load", 900, |context| {
        context.get("rows").unwrap();
        context.set("progress", json("1"));
        Err(error("TimeoutError", "no answer from db01"))
    });
    run.run("tell", 5, |context| {
        context.set("told", json("true"));
        Ok(())
    });
    run.wait(7_200_000).retry().wait(2);
    run
}

fn load(run: &mut Recorder) {
    run.run("load", 800, |context| {
        context.get("rows").unwrap();
        context.set("loaded", json("3"));
        Ok(())
    });
}

fn completed(log: &Log) {
    let mut run = retried(log);
    load(&mut run);
    run.run("report", 40, |context| {
        context.get("loaded").unwrap();
        context.set("report", json("\"3 rows\""));
        Ok(())
    });
}

fn told(log: &Log, commands: &[&str]) -> String {
    let mut told = String::new();
    for command in commands {
        let line = command.replace("ID", "51b00010");
        writeln!(told, "$ replay {line}\n{}\n", replay(log, &line)).unwrap();
    }
    told
}

#[test]
fn every_view_of_a_retried_execution() {
    let log = Log::default();
    completed(&log);
    insta::assert_snapshot!(told(
        &log,
        &[
            "list --time utc",
            "ID",
            "ID --values --time utc",
            "ID --full",
            "ID --at 12",
            "ID --at 13",
            "ID context",
            "ID graph --critical-path",
            "ID graph --at 13",
            "ID verify",
            "ID explain load",
            "ID explain report",
            "ID explain tell",
            "ID why report",
            "ID why told",
            "ID export --to chrome",
            "ID export --to openlineage",
        ]
    ));
}

#[test]
fn every_view_while_it_runs_again() {
    let log = Log::default();
    retried(&log);
    insta::assert_snapshot!(told(&log, &["list", "ID", "ID explain load", "ID explain report", "ID graph"]));
}

#[test]
fn what_is_different_from_a_run_that_never_failed() {
    let log = Log::default();
    completed(&log);
    let mut other = Recorder::start(&log, id(ID + 1), "nightly", tasks(), &[("day", "1")]);
    other.run("extract", 120, |context| {
        context.get("day").unwrap();
        context.set("rows", json("[1, 2, 3]"));
        Ok(())
    });
    load(&mut other);
    other.run("report", 40, |context| {
        context.get("loaded").unwrap();
        context.set("report", json("\"3 rows\""));
        Ok(())
    });
    insta::assert_snapshot!(told(&log, &["diff ID 51b00011"]));
}

#[test]
fn a_retry_with_another_graph_says_what_changed() {
    let log = Log::default();
    let mut run = Recorder::start(&log, id(ID), "nightly", tasks(), &[]);
    run.command(Command::Cancel(Request { by: "bob".into(), reason: None })).wait(5);
    run.retry_with(vec![task("extract", &[]), task("load", &["extract"])]);
    let shown = told(&log, &["ID", "ID --full"]);
    assert_eq!(shown.matches("task removed: report, tell").count(), 2, "{shown}");
    run.run("extract", 1, |_| Ok(())).run("load", 1, |_| Ok(()));
    let explained = replay(&log, "51b00010 explain tell");
    assert!(explained.out.contains("no longer in the graph"), "{explained}");
}

#[test]
fn the_moments_before_and_after_the_retry_are_those_of_the_fold() {
    let log = Log::default();
    completed(&log);
    let history = History::open(&*log.0, id(ID)).unwrap();
    let is_retry = |event: &Option<Event>| matches!(event, Some(Event::ExecutionRetried(_)));
    let at = history.entries.iter().find(|entry| is_retry(&entry.event)).unwrap().seq;
    let status = |seq| history.state(At::Seq(seq)).unwrap().status().name();
    assert_eq!([status(at - 1), status(at), status(at + 1)], ["Failed", "Running", "Running"]);
    let story = history.story();
    assert!(story.failures().is_empty() && story.end().is_some());
}

#[test]
fn its_json_is_what_the_schema_says_and_comes_back() {
    for build in [(|log: &Log| drop(retried(log))) as fn(&Log), completed] {
        let log = Log::default();
        build(&log);
        for command in ["--json", "--at 13 --json", "explain load --json", "explain report --json", "verify --json"] {
            let ran = replay(&log, &format!("51b00010 {command}"));
            schema::holds(&ran.out).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        for line in replay(&log, "51b00010 --jsonl").out.lines() {
            schema::holds(line).unwrap_or_else(|error| panic!("{error}"));
        }
        let listed = replay(&log, "list --json").out;
        schema::holds(&listed).unwrap();
        assert!(listed.contains("\"retries\":1") || listed.contains("\"retries\": 1"), "{listed}");
        let history = History::open(&*log.0, id(ID)).unwrap();
        let again = History::from_json(&history.to_json().unwrap()).unwrap();
        assert_eq!(history.entries, again.entries);
        assert_eq!(again.head.label.as_ref().unwrap().retries, 1);
    }
}

/// The history ends with an end, but has another one before it, at which following must not stop.
#[test]
fn following_a_retried_execution_goes_on_to_its_last_end() {
    let log = Log::default();
    completed(&log);
    let ran = replay(&log, "51b00010 --follow");
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("ExecutionRetried") && ran.out.contains("ExecutionCompleted"), "{ran}");
}

#[test]
fn a_retry_that_was_cancelled_ends_what_had_not_run_again() {
    let log = Log::default();
    let mut run = retried(&log);
    run.command(Command::Cancel(Request { by: "bob".into(), reason: None }));
    let shown = replay(&log, "51b00010").out;
    assert!(shown.contains("not finished, the execution ended first"), "{shown}");
    assert!(shown.contains("did not run, the execution ended first"), "{shown}");
    assert!(!shown.contains("runs again"), "{shown}");
}
