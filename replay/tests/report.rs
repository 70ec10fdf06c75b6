//! The report: its state at every moment is that of the fold, and its content never runs as code.

use std::collections::BTreeMap;

use crate::common::{self, Log, Recorder, error, histories, id, json, replay, task};
use cloacina_engine::core::context::{Source, values};
use cloacina_engine::core::definition::{TaskDefinition, TriggerRule};
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::retry::RetryPolicy;
use cloacina_engine::core::state::{Execution, TaskState};
use cloacina_replay::history::History;
use cloacina_replay::json::facts::StateJson;
use cloacina_replay::moment::At;
use cloacina_replay::reading::stream_of;
use cloacina_replay::report::document::write_documents;
use cloacina_replay::report::frames::Framer;
use cloacina_replay::report::write_report;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

const ALL: [u32; 9] = [
    histories::COMPLETED,
    histories::TUTORIAL,
    histories::FAILED,
    histories::RECOVERED,
    histories::BRANCHES,
    histories::COLLISION,
    histories::RUNNING,
    histories::CANCELLED,
    histories::FAILED_UNDECLARED,
];

/// The state of a page: the sum of the frames so far.
#[derive(Default)]
struct Sum {
    status: Value,
    tasks: BTreeMap<String, Value>,
    context: BTreeMap<String, Value>,
}

impl Sum {
    fn add(&mut self, frame: &Value) {
        if frame["status"].is_string() {
            self.status = frame["status"].clone();
        }
        let members = |name: &str| frame[name].as_object().cloned().unwrap_or_default();
        if frame["definition"].is_string() {
            self.tasks.retain(|task, _| members("tasks").contains_key(task));
        }
        self.tasks.extend(members("tasks"));
        for (key, seen) in members("context") {
            match seen {
                Value::Null => self.context.remove(&key),
                seen => self.context.insert(key, seen),
            };
        }
    }

    /// The text of every value of the context.
    fn values(&self, history: &History) -> BTreeMap<String, String> {
        let text = |seen: &Value| match seen.as_u64() {
            Some(seq) => written(history, usize::try_from(seq).unwrap()),
            None => seen["value"].to_string(),
        };
        self.context.iter().map(|(key, seen)| (key.clone(), text(seen))).collect()
    }
}

fn written(history: &History, seq: usize) -> String {
    match history.entries[seq].event.as_ref().unwrap() {
        cloacina_engine::core::event::Event::ContextWritten(write) => {
            serde_json::from_str::<Value>(write.value.as_str()).unwrap().to_string()
        }
        other => panic!("{other:?} writes nothing"),
    }
}

/// The two documents of a report: `history` and `report`.
fn documents(log: &Log, id: ExecutionId) -> (String, Value) {
    let (mut history, mut report) = (Vec::new(), Vec::new());
    write_documents(&*log.0, id, "./log", &mut history, &mut report).unwrap();
    (String::from_utf8(history).unwrap(), serde_json::from_slice(&report).unwrap())
}

/// Compares the tasks and the context with those of the folded state.
fn check(sum: &Sum, state: &Execution, history: &History) {
    let says = serde_json::to_value(StateJson::new(state).unwrap()).unwrap();
    assert_eq!(sum.status, says["status"], "seq {}", says["seq"]);
    let ready: Vec<&Value> = says["ready"].as_array().unwrap().iter().collect();
    let tasks: BTreeMap<String, Value> = says["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| {
            let is_ready = ready.contains(&&task["task"]);
            (task["task"].as_str().unwrap().to_owned(), serde_json::json!([task["state"], task["attempts"], is_ready]))
        })
        .collect();
    assert_eq!(sum.tasks, tasks, "seq {}", says["seq"]);
    let context = state.context();
    let texts: BTreeMap<String, String> = values(&context)
        .map(|(key, value)| (key.to_string(), serde_json::from_str::<Value>(value.as_str()).unwrap().to_string()))
        .collect();
    assert_eq!(sum.values(history), texts, "seq {}", says["seq"]);
    for (key, seen) in &sum.context {
        let version = context.get(key).unwrap();
        match (seen.as_u64(), version.source()) {
            (Some(seq), Source::Write { seq: other, .. }) => assert_eq!(seq, *other, "seq {} {key}", says["seq"]),
            (None, Source::Merge { collision }) => {
                assert_eq!(seen["collided"], *collision, "seq {} {key}", says["seq"]);
                assert_eq!(seen["writes"], serde_json::json!(version.writes()), "seq {} {key}", says["seq"]);
            }
            (seen, source) => panic!("seq {} {key}: {seen:?} is not {source:?}", says["seq"]),
        }
    }
}

/// Applies the frames of an execution, and compares with the fold after each.
fn check_all(log: &Log, id: ExecutionId) {
    let history = History::open(&*log.0, id).unwrap();
    let (_, report) = documents(log, id);
    let frames = report["frames"].as_array().unwrap();
    assert_eq!(frames.len(), history.entries.len());
    let mut sum = Sum::default();
    for (seq, frame) in (0..).zip(frames) {
        assert_eq!(frame["seq"], seq);
        sum.add(frame);
        check(&sum, &history.state(At::Seq(seq)).unwrap(), &history);
    }
}

#[test]
fn the_frames_add_up_to_the_state_after_every_event() {
    let log = histories::all();
    for end in ALL {
        check_all(&log, id(end));
    }
}

#[test]
fn frames_go_on_with_another_graph_after_a_recovery() {
    let log = Log::default();
    let id = id(7);
    let mut run = Recorder::start(&log, id, "w", vec![task("a", &[]), task("gone", &["a"])], &[("in", "1")]);
    run.run("a", 5, |context| {
        context.set("rows", json("3"));
        Ok(())
    });
    run.begin("gone", 0).wait(10);
    run.recover_with(vec![task("new", &[]), task("a", &["new"]), task("b", &["a", "new"])]);
    run.run("new", 5, |context| {
        context.set("rows", json("4"));
        Ok(())
    });
    run.run("b", 5, |context| {
        context.set("done", json("true"));
        Ok(())
    });
    check_all(&log, id);
    let (_, report) = documents(&log, id);
    assert_eq!(report["layouts"].as_array().unwrap().len(), 2);
}

#[test]
fn the_history_in_it_is_the_one_that_json_gives() {
    let log = histories::all();
    for end in ALL {
        let (history, _) = documents(&log, id(end));
        let printed = replay(&log, &format!("{} --json", id(end))).out;
        assert_eq!(history.replace("\"./log\"", "\"./tutorial_04.db\""), printed);
    }
}

#[test]
fn a_page_holds_the_documents_as_text_that_is_never_run() {
    let log = Log::default();
    let evil = "</script><script>alert(1)</script><!--";
    let mut run = Recorder::start(&log, id(1), evil, vec![task(evil, &[])], &[(evil, &format!("{evil:?}"))]);
    run.run(evil, 1, |_| Err(error(evil, evil)));
    let mut page = Vec::new();
    write_report(&mut page, &*log.0, id(1), evil).unwrap();
    let page = String::from_utf8(page).unwrap();
    assert_eq!(page.matches("<script").count(), 3, "two documents and the program");
    assert_eq!(page.matches("</script>").count(), 3);
    let history = page.split_once("id=\"history\">").unwrap().1.split_once("</script>").unwrap().0;
    let back = History::from_json(&history.replace("\\u003c", "<")).unwrap();
    assert_eq!(back.entries, History::open(&*log.0, id(1)).unwrap().entries);
}

#[test]
fn an_execution_that_cannot_be_read_to_its_end_is_shown_as_far_as_it_can() {
    let log = common::Altered(histories::all(), |mut records| {
        records.retain(|record| record.seq != 9);
        records
    });
    let (mut history, mut report) = (Vec::new(), Vec::new());
    write_documents(&log, id(histories::COMPLETED), "./log", &mut history, &mut report).unwrap();
    let (history, report): (Value, Value) =
        (serde_json::from_slice(&history).unwrap(), serde_json::from_slice(&report).unwrap());
    assert!(history["trouble"].is_string());
    assert_eq!(report["frames"].as_array().unwrap().len(), 9);
    assert_eq!(report["verification"]["ok"], false);
}

/// A task of a random workflow: its dependencies (a bit for each task before it), its writes, and its outcome.
type Random = (u16, Vec<(u8, u8)>, u8);

fn random_tasks(tasks: &[Random]) -> Vec<TaskDefinition> {
    let names: Vec<String> = (0..tasks.len()).map(|at| format!("t{at}")).collect();
    let make = |(at, (before, _, ends)): (usize, &Random)| {
        let dependencies: Vec<&str> = (0..at).filter(|up| before & (1 << up) != 0).map(|up| &*names[up]).collect();
        let mut made = task(&names[at], &dependencies);
        made.retry = RetryPolicy::never();
        if ends % 3 == 0 {
            made.rule = TriggerRule::AllDone;
        }
        made
    };
    tasks.iter().enumerate().map(make).collect()
}

/// Runs a random workflow in a random order: each choice starts a ready task, or ends a running one. A failed execution is
/// retried.
fn run_random(log: &Log, id: ExecutionId, tasks: &[Random], choices: &[u8]) {
    let input = [("k0", "{\"input\": 1}"), ("k1", "[]")];
    let mut run = Recorder::start(log, id, "random", random_tasks(tasks), &input);
    for choice in choices {
        if run.state.status().is_retriable() {
            run.wait(1).retry();
        }
        let names = |is: fn(TaskState) -> bool| -> Vec<String> {
            let graph = run.state.graph().clone();
            let those = graph.tasks().filter(|task| is(run.state.task(*task).state()));
            those.map(|task| graph.name(task).to_string()).collect()
        };
        let running = names(|state| matches!(state, TaskState::Running { .. }));
        let ready: Vec<String> = run.state.ready().map(|task| run.state.graph().name(task).to_string()).collect();
        let open: Vec<(bool, &String)> =
            ready.iter().map(|name| (true, name)).chain(running.iter().map(|name| (false, name))).collect();
        let Some((starts, name)) = open.get(usize::from(*choice) % open.len().max(1)) else { break };
        run.wait(1);
        if *starts {
            run.begin(name, 0);
            continue;
        }
        let at: usize = name[1..].parse().unwrap();
        let (_, writes, ends) = &tasks[at];
        run.finish(name, |context| {
            for (key, value) in writes {
                let key = format!("k{}", key % 3);
                context.get(&key).unwrap();
                match value % 5 {
                    0 => drop(context.remove(&key)),
                    1 => context.set(key, json(&format!("{{\"{at}\": {value}}}"))),
                    2 => context.set(key, json("[1, 2]")),
                    other => context.set(key, json(&other.to_string())),
                }
            }
            if ends % 7 == 0 { Err(error("ValueError", "as it was chosen")) } else { Ok(()) }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_frames_add_up_whatever_the_graph_and_the_order(
        tasks in vec((any::<u16>(), vec((any::<u8>(), any::<u8>()), 0..3), 1_u8..50), 1..10),
        choices in vec(any::<u8>(), 0..40),
    ) {
        let log = Log::default();
        run_random(&log, id(3), &tasks, &choices);
        check_all(&log, id(3));
    }
}

#[test]
fn no_frame_follows_an_event_that_cannot_be_folded() {
    let log = histories::all();
    let history = History::open(&*log.0, id(histories::COMPLETED)).unwrap();
    let mut framer = Framer::new(history.id(), history.graphs.clone());
    assert!(framer.step(&history.entries[0]).unwrap().is_some());
    assert!(framer.step(&history.entries[7]).is_err());
    assert!(framer.step(&history.entries[1]).unwrap().is_none());
    assert_eq!(stream_of(history.id()).as_bytes(), &history.id().0);
}
