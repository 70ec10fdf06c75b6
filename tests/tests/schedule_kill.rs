//! Kill tests for schedules: real processes on a real log are killed while their schedules fire, again and again.
//!
//! The schedules catch up with every missed fire. So in the end there is exactly one fire for each second since their
//! creation, by any process; each fire has its execution, which has ended; and no execution exists without a fire.

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::{Cause, ExecutionId};
use cloacina_engine::core::schedule::{ScheduleEvent, ScheduleId};
use cloacina_engine::core::state::Status;
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::core::{codec, schedule};
use cloacina_engine::runtime::outcome::{execution_of, rebuild};
use cloacina_engine::runtime::schedules::rebuild_schedule;
use cloacina_store::log::{LogReader, StreamFilter};
use cloacina_store::open_reader;
use cloacina_store::record::{StreamId, StreamKind};
use cloacina_tests::GUARD;
use cloacina_tests::process::Victim;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Kills per log.
const KILLS: usize = 30;

fn begin(directory: &Path, mode: &str) -> Victim {
    Victim::begin(env!("CARGO_BIN_EXE_schedule_victim"), directory, mode)
}

fn assert_no_errors(output: &[String]) {
    assert!(output.iter().all(|line| line == "open" || line == "done"), "a victim printed: {output:?}");
}

/// One round: a victim starts, and is killed at a random moment.
fn kill_one(directory: &Path, random: &mut StdRng) {
    let victim = begin(directory, &random.random::<u32>().to_string());
    let mut output = Vec::new();
    if random.random_bool(0.3) {
        // Kill it while it opens and catches up.
        thread::sleep(Duration::from_micros(random.random_range(0..60_000)));
    } else {
        output.push(victim.lines.recv_timeout(GUARD).expect("the victim opens its log"));
        thread::sleep(Duration::from_micros(random.random_range(0..150_000)));
    }
    assert_no_errors(&victim.kill(output));
}

/// Kills victims on one log, lets the last one finish, and returns the number of fires.
fn kill_repeatedly(seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut directory = tempfile::tempdir().unwrap();
    // Keep the directory if a check fails.
    directory.disable_cleanup(true);
    println!("seed {seed}: {}", directory.path().display());
    (0..KILLS).for_each(|_| kill_one(directory.path(), &mut random));
    let mut last = begin(directory.path(), "finish");
    let mut output = Vec::new();
    while output.last().is_none_or(|line| line != "done") {
        let line = last.lines.recv_timeout(GUARD);
        output.push(line.unwrap_or_else(|_| panic!("the last victim does not finish; it printed {output:?}")));
    }
    assert!(last.process.wait().unwrap().success());
    assert_no_errors(&output);
    let fires = check(directory.path());
    directory.disable_cleanup(false);
    println!("seed {seed}: {KILLS} kills, {fires} fires");
    fires
}

fn streams(log: &dyn LogReader, kind: StreamKind) -> BTreeSet<ExecutionId> {
    let all = StreamFilter { kind: Some(kind), open_only: false, before: None, limit: 1_000_000 };
    log.streams(&all).unwrap().iter().map(|entry| execution_of(entry.stream)).collect()
}

fn check(directory: &Path) -> usize {
    let path = directory.join("log");
    let verified = cloacina_store::verify(&path).unwrap();
    assert!(verified.findings.is_empty(), "{:?}", verified.findings);
    let log = open_reader(&path).unwrap();
    let schedules = streams(&*log, StreamKind::Schedule);
    assert_eq!(schedules.len(), 2);
    let executions = streams(&*log, StreamKind::Execution);
    let mut fired = BTreeSet::new();
    for id in schedules {
        let mine = check_schedule(&*log, ScheduleId(id.0));
        assert!(mine.iter().all(|execution| fired.insert(*execution)), "an execution of two fires");
    }
    assert_eq!(fired, executions, "each fire has its execution, and each execution its fire");
    fired.len()
}

/// Checks that there is one fire for each scheduled time: none twice, none missing.
fn check_schedule(log: &dyn LogReader, id: ScheduleId) -> Vec<ExecutionId> {
    let state = rebuild_schedule(log, id).unwrap();
    let period = if &**state.expression() == "* * * * * *" { 1_000_000 } else { 3_000_000 };
    let records = log.read(StreamId::from_bytes(id.0), 0, 1_000_000).unwrap();
    let mut next = None;
    let mut executions = Vec::new();
    for record in &records {
        match codec::decode_schedule_event(record.body.bytes().unwrap()).unwrap() {
            ScheduleEvent::Created(created) => next = created.next,
            ScheduleEvent::Fired(fired) => {
                assert_eq!(Some(fired.scheduled), next, "{id}: not the next scheduled time");
                assert_eq!(fired.execution, schedule::execution_of_fire(id, fired.scheduled));
                next = next.map(|time| Timestamp(time.0 + period));
                executions.push(fired.execution);
                let execution = rebuild(log, fired.execution).unwrap();
                assert_eq!(execution.status(), Status::Completed);
                assert_eq!(*execution.cause(), Cause::Schedule { schedule: id.0, scheduled: fired.scheduled });
            }
            other => panic!("{id}: {other:?}"),
        }
    }
    assert_eq!(state.next(), next);
    executions
}

#[test]
fn after_any_number_of_kills_no_fire_is_doubled_or_lost() {
    let seed: u64 = std::env::var("KILL_SEED").map_or(20_261_124, |seed| seed.parse().unwrap());
    let logs: Vec<_> = (0..4).map(|log| thread::spawn(move || kill_repeatedly(seed + log))).collect();
    let fires: usize = logs.into_iter().map(|log| log.join().unwrap()).sum();
    println!("{} kills, {fires} fires", 4 * KILLS);
    assert!(fires > 8 * KILLS, "only {fires} fires: the test is too gentle");
}
