//! Kill tests: real processes on a real log are killed in the middle of their work, again and again.
//!
//! After every kill the next process resumes the unfinished executions, and is killed too, sometimes during recovery. Those
//! that fail are retried, so kills hit retries as well. The last process runs to its end. Then: everything acknowledged is there unchanged, every execution ended like an undisturbed
//! run, no task ran before its start was in the log or after its completion was, and the chain verifies.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::runtime::engine::{ExecutionStatus, StartRequest};
use cloacina_engine::runtime::outcome::{execution_of, outcome, rebuild};
use cloacina_store::log::{LogReader, StreamFilter};
use cloacina_store::open_reader;
use cloacina_store::record::StreamKind;
use cloacina_tests::GUARD;
use cloacina_tests::history::{event_names, history};
use cloacina_tests::process::Victim;
use cloacina_tests::victim::{SideEffects, WORKFLOWS, config, input, result, retry, workflows};
use cloacina_tests::world::{World, call, end_of};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Kills per log.
const KILLS: usize = 60;

fn begin(directory: &Path, mode: &str) -> Victim {
    Victim::begin(env!("CARGO_BIN_EXE_victim"), directory, mode)
}

/// The acknowledgements that victims printed.
#[derive(Default)]
struct Acknowledged {
    started: BTreeSet<ExecutionId>,
    failed: BTreeSet<ExecutionId>,
    ended: BTreeMap<ExecutionId, String>,
}

impl Acknowledged {
    fn collect(&mut self, output: &[String]) {
        for line in output {
            assert!(!line.starts_with("ERROR"), "a victim printed: {line}");
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("started"), Some(id), None) => drop(self.started.insert(id.parse().unwrap())),
                (Some("failed"), Some(id), None) => drop(self.failed.insert(id.parse().unwrap())),
                (Some("ended"), Some(id), Some(result)) => {
                    let before = self.ended.insert(id.parse().unwrap(), result.to_owned());
                    assert!(
                        before.is_none_or(|before| before == result),
                        "{id} ended twice with different results: {line}"
                    );
                }
                (Some("open" | "done"), None, None) => {}
                _ => panic!("a victim printed: {line}"),
            }
        }
    }
}

/// One round: a victim starts, and is killed at a random moment.
fn kill_one(directory: &Path, random: &mut StdRng) -> Vec<String> {
    let victim = begin(directory, &random.random::<u32>().to_string());
    let mut output = Vec::new();
    if random.random_bool(0.3) {
        // Kill it while it opens and recovers.
        thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
    } else {
        output.push(victim.lines.recv_timeout(GUARD).expect("the victim opens its log"));
        thread::sleep(Duration::from_micros(random.random_range(0..150_000)));
    }
    victim.kill(output)
}

fn unfinished(log: &dyn LogReader) -> usize {
    let open = StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: 100_000 };
    log.streams(&open).unwrap().len()
}

/// Kills victims on one log, and lets the last one finish. Returns how many kills left unfinished executions.
fn kill_repeatedly(seed: u64) -> usize {
    let mut directory = tempfile::tempdir().unwrap();
    println!("seed {seed}, in {} (kept if it fails)", directory.path().display());
    directory.disable_cleanup(true);
    let mut random = StdRng::seed_from_u64(seed);
    let mut acknowledged = Acknowledged::default();
    let mut interrupted = 0;
    for _ in 0..KILLS {
        acknowledged.collect(&kill_one(directory.path(), &mut random));
        // Now and then read the log right after a kill; it must be readable then, too.
        match open_reader(&directory.path().join("log")) {
            Ok(log) => interrupted += usize::from(unfinished(&*log) > 0),
            Err(error) => assert!(acknowledged.started.is_empty(), "{error}"),
        }
    }
    let mut last = begin(directory.path(), "finish");
    let mut output = Vec::new();
    while output.last().is_none_or(|line| line != "done") {
        let line = last.lines.recv_timeout(GUARD);
        output.push(line.unwrap_or_else(|_| panic!("the last victim does not finish; it printed {output:?}")));
    }
    assert!(last.process.wait().unwrap().success());
    acknowledged.collect(&output);
    check(directory.path(), &acknowledged);
    directory.disable_cleanup(false);
    println!(
        "seed {seed}: {KILLS} kills, {interrupted} left unfinished executions; {} starts and {} results were acknowledged",
        acknowledged.started.len(),
        acknowledged.ended.len()
    );
    interrupted
}

fn check(directory: &Path, acknowledged: &Acknowledged) {
    let path = directory.join("log");
    let verified = cloacina_store::verify(&path).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);

    let log = open_reader(&path).unwrap();
    assert_eq!(unfinished(&*log), 0, "the last victim finishes everything");
    let all = StreamFilter { kind: Some(StreamKind::Execution), open_only: false, before: None, limit: 1_000_000 };
    let executions: BTreeSet<ExecutionId> =
        log.streams(&all).unwrap().iter().map(|entry| execution_of(entry.stream)).collect();
    let lost: Vec<_> = acknowledged.started.difference(&executions).collect();
    assert!(lost.is_empty(), "acknowledged, but not in the log: {lost:?}");

    let mut expected = ExpectedResults::default();
    for execution in &executions {
        let state = rebuild(&*log, *execution).unwrap();
        let reported = result(&outcome(&state));
        let number = outcome(&state).context["number"].value().as_u64().unwrap();
        assert_eq!(
            reported,
            expected.of(state.workflow(), number),
            "{execution} ended differently from an undisturbed run"
        );
        if let Some(acknowledged) = acknowledged.ended.get(execution) {
            assert_eq!(acknowledged, &reported, "{execution}: another result was acknowledged");
        }
    }
    for failed in &acknowledged.failed {
        let names = event_names(&*log, *failed);
        assert!(names.contains(&"ExecutionFailed".to_owned()), "{failed}: an acknowledged failure is gone: {names:?}");
    }
    let unknown: Vec<_> = acknowledged.ended.keys().filter(|id| !executions.contains(id)).collect();
    assert!(unknown.is_empty(), "results of executions that are not in the log: {unknown:?}");
    check_side_effects(&fs::read_to_string(directory.join("effects")).unwrap(), &*log, &executions);
}

/// Compares the side effects with the log: an attempt ran at most once, only after its start was durable, and never after an
/// attempt at the same task had completed.
fn check_side_effects(effects: &str, log: &dyn LogReader, executions: &BTreeSet<ExecutionId>) {
    let mut ran: BTreeSet<(ExecutionId, String, u32)> = BTreeSet::new();
    for line in effects.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [execution, task, attempt] = words[..] else { panic!("a side effect: {line}") };
        let attempt = (execution.parse().unwrap(), task.to_owned(), attempt.parse().unwrap());
        assert!(ran.insert(attempt), "ran twice: {line}");
    }
    let (mut started, mut completed) = (BTreeSet::new(), BTreeMap::new());
    for &execution in executions {
        for past in history(log, execution) {
            match past.event {
                Event::TaskStarted(event) => drop(started.insert((execution, event.task.to_string(), event.attempt))),
                Event::TaskCompleted(event) => {
                    let attempt = (execution, event.task.to_string(), event.attempt);
                    assert!(ran.contains(&attempt), "completed without having run: {attempt:?}");
                    let before = completed.insert((execution, attempt.1), event.attempt);
                    assert_eq!(before, None, "a task completed twice in {execution}");
                }
                _ => {}
            }
        }
    }
    for attempt in &ran {
        assert!(started.contains(attempt), "ran before its start was in the log: {attempt:?}");
        let last = completed[&(attempt.0, attempt.1.clone())];
        assert!(attempt.2 <= last, "ran again after attempt {last} had completed: {attempt:?}");
    }
}

/// The results of the workflows without any kill.
#[derive(Default)]
struct ExpectedResults(BTreeMap<(String, u64), String>);

impl ExpectedResults {
    fn of(&mut self, workflow: &str, number: u64) -> String {
        if self.0.is_empty() {
            let directory = tempfile::tempdir().unwrap();
            let effects = SideEffects::in_file(&directory.path().join("effects"));
            let engine = World { config: config(), ..World::of(workflows(&effects)) }.open();
            let run = |name: &str, number| {
                let request = StartRequest { input: input(number), ..call(name) };
                let execution = engine.start(request).unwrap();
                while end_of(&engine, execution).status == ExecutionStatus::Failed {
                    retry(&engine, execution).unwrap();
                }
                let outcome = end_of(&engine, execution);
                assert_eq!(outcome.status, ExecutionStatus::Completed);
                ((name.to_owned(), number), result(&outcome))
            };
            self.0 = WORKFLOWS
                .iter()
                .flat_map(|name| (0..10).map(move |number| (*name, number)))
                .map(|(name, number)| run(name, number))
                .collect();
        }
        self.0[&(workflow.to_owned(), number)].clone()
    }
}

#[test]
fn after_any_number_of_kills_nothing_acknowledged_is_lost_and_nothing_completed_runs_again() {
    let seed: u64 = std::env::var("KILL_SEED").map_or(20_261_124, |seed| seed.parse().unwrap());
    let logs: Vec<_> = (0..4).map(|log| thread::spawn(move || kill_repeatedly(seed + log))).collect();
    let interrupted: usize = logs.into_iter().map(|log| log.join().unwrap()).sum();
    let kills = 4 * KILLS;
    println!("{kills} kills, {interrupted} in the middle of work");
    assert!(interrupted * 2 > kills, "only {interrupted} of {kills} kills interrupted work: the test is too gentle");
}
