//! The victim of the kill tests: a process that runs workflows until it is killed, and prints what the engine reports.
//!
//! `victim LOG SIDE_EFFECTS SEED` resumes unfinished executions, then starts new ones until it is killed;
//! `victim LOG SIDE_EFFECTS finish` resumes unfinished executions, waits for them, and ends. Both retry executions that
//! fail. It prints lines: `open`, `started ID`, `failed ID`, `ended ID STATUS CONTEXT`, `done`, and `ERROR …`, which must never
//! happen.

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::runtime::engine::{Engine, ExecutionStatus, StartRequest};
use cloacina_engine::runtime::workflow::Registry;
use cloacina_store::Options;
use cloacina_tests::victim::{SideEffects, WORKFLOWS, config, input, result, retry, workflows};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Prints a line with one write, so that a reader sees all of it or nothing. Ends the process if nobody reads any more,
/// because the test has ended.
fn say(line: impl Display) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(1);
    }
}

fn wait(engine: &Engine, execution: ExecutionId) {
    loop {
        match engine.wait(execution, None) {
            Ok(outcome) if outcome.status == ExecutionStatus::Failed => {
                say(format_args!("failed {execution}"));
                if let Err(error) = retry(engine, execution) {
                    return say(format_args!("ERROR retrying {execution}: {error}"));
                }
            }
            Ok(outcome) => return say(format_args!("ended {execution} {}", result(&outcome))),
            Err(error) => return say(format_args!("ERROR waiting for {execution}: {error}")),
        }
    }
}

fn start_until_killed(engine: &Engine, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    loop {
        let workflow = WORKFLOWS[random.random_range(0..WORKFLOWS.len())];
        let input = input(random.random_range(0..10));
        let request = StartRequest { input, ..StartRequest::new(workflow) };
        match engine.start(request) {
            Ok(execution) => {
                say(format_args!("started {execution}"));
                if random.random_bool(0.7) {
                    wait(engine, execution);
                }
            }
            Err(error) => return say(format_args!("ERROR starting {workflow}: {error}")),
        }
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("victim LOG SIDE_EFFECTS SEED|finish");
    let (log, effects, seed) = (next(), next(), next());
    let log = match cloacina_store::open(Path::new(&log), &Options::default()) {
        Ok(log) => Arc::new(log),
        Err(error) => return say(format_args!("ERROR opening: {error}")),
    };
    let registry = Arc::new(Registry::default());
    workflows(&SideEffects::in_file(Path::new(&effects))).into_iter().for_each(|workflow| {
        registry.register(workflow);
    });
    let engine = match Engine::open(log, registry, config()) {
        Ok(engine) => Arc::new(engine),
        Err(error) => return say(format_args!("ERROR opening the engine: {error}")),
    };
    say("open");
    let Ok(seed) = seed.parse::<u64>() else {
        engine.recovered().iter().for_each(|execution| wait(&engine, *execution));
        match engine.executions(Some(ExecutionStatus::Failed), None, usize::MAX, None) {
            Ok(failed) => failed.iter().for_each(|failed| wait(&engine, failed.execution)),
            Err(error) => say(format_args!("ERROR listing: {error}")),
        }
        if let Err(error) = engine.shutdown(Duration::from_secs(10)) {
            say(format_args!("ERROR shutting down: {error}"));
        }
        return say("done");
    };
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let engine = engine.clone();
            thread::spawn(move || start_until_killed(&engine, seed.wrapping_mul(4).wrapping_add(caller)))
        })
        .collect();
    callers.into_iter().for_each(|caller| drop(caller.join()));
}
