//! The victim of the schedules' kill test: a process whose schedules fire until it is killed.
//!
//! `schedule_victim LOG SIDE_EFFECTS SEED` creates the missing schedules, prints `open`, and advances its clock until it is
//! killed. `schedule_victim LOG SIDE_EFFECTS finish` catches up, waits for everything, and prints
//! `done`. It must never print `ERROR …`.

use std::fmt::Display;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::clock::{TimeSource, VirtualClock};
use cloacina_engine::runtime::engine::{Engine, EngineConfig};
use cloacina_engine::runtime::workflow::Registry;
use cloacina_store::Options;
use cloacina_store::log::LogReader;
use cloacina_tests::schedule_victim::{schedules, workflows};
use cloacina_tests::victim::{SideEffects, config};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

fn say(line: impl Display) {
    if std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).is_err() {
        std::process::exit(1);
    }
}

fn run(engine: &Engine, clock: &VirtualClock) -> Result<(), String> {
    let there = engine.schedules().map_err(|error| error.to_string())?;
    for new in schedules() {
        if there.iter().all(|listed| *listed.label.expression != *new.expression) {
            engine.create_schedule(new).map_err(|error| error.to_string())?;
        }
    }
    loop {
        clock.advance(Duration::from_secs(1));
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("schedule_victim LOG SIDE_EFFECTS SEED|finish");
    let (log, effects, seed) = (next(), next(), next());
    let log = match cloacina_store::open(Path::new(&log), &Options::default()) {
        Ok(log) => Arc::new(log),
        Err(error) => return say(format_args!("ERROR opening: {error}")),
    };
    let seed = seed.parse::<u64>().ok();
    // Simulate some downtime.
    let down = seed.map_or(0, |seed| StdRng::seed_from_u64(seed).random_range(0..5_000_000));
    let head = log.head().expect("an open log has a head").time.0;
    let clock = VirtualClock::starting_at(Timestamp(head + down));
    let registry = Arc::new(Registry::default());
    workflows(&SideEffects::in_file(Path::new(&effects))).into_iter().for_each(|workflow| {
        registry.register(workflow);
    });
    let time = TimeSource::Virtual(clock.clone());
    let config = EngineConfig { time, max_catchup: u32::MAX, ..config() };
    let engine = match Engine::open(log, registry, config) {
        Ok(engine) => engine,
        Err(error) => return say(format_args!("ERROR opening the engine: {error}")),
    };
    say("open");
    if seed.is_some() {
        if let Err(error) = run(&engine, &clock) {
            say(format_args!("ERROR {error}"));
        }
        return;
    }
    clock.advance(Duration::ZERO);
    match engine.executions(None, None, usize::MAX, None) {
        Ok(all) => all.iter().for_each(|listed| {
            if let Err(error) = engine.wait(listed.execution, None) {
                say(format_args!("ERROR waiting for {}: {error}", listed.execution));
            }
        }),
        Err(error) => say(format_args!("ERROR listing: {error}")),
    }
    if let Err(error) = engine.shutdown(Duration::from_secs(10)) {
        say(format_args!("ERROR shutting down: {error}"));
    }
    say("done");
}
