//! Measures the engine and its log relative to the sync time of the disk: latency, throughput, acknowledgements, fold speed.
//!
//! `engine [DIRECTORY]` measures on the disk of that directory; the default is the working directory.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cloacina_engine::core::codec::{decode_event, encode_event};
use cloacina_engine::core::decide::{Command, Start, decide, start};
use cloacina_engine::core::event::{Cause, Environment, ExecutionId, ExecutionOptions, Reads};
use cloacina_engine::core::fold::{Recorded, fold};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::task_context::Write;
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::engine::{Engine, EngineConfig, StartRequest};
use cloacina_engine::runtime::task::Task;
use cloacina_engine::runtime::workflow::{Registry, Workflow};
use cloacina_store::log::{Batch, EventLog, Frame, Listing};
use cloacina_store::record::{StreamId, StreamKind, Timestamp as StoreTime};
use cloacina_store::{Options, SledLog, open};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

const SYNCS: usize = 400;

fn main() -> Outcome {
    let directory = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let place = tempfile::tempdir_in(directory)?;
    let disk = sync_time(place.path())?;
    println!("fdatasync of 256 bytes: p50 {:.3} ms", millis(disk));
    println!();
    println!("workflows of Rust tasks that do nothing                  p50         x fdatasync");
    latency(place.path(), "1 task", &[&[]], 400)?;
    latency(place.path(), "15 tasks (the tutorial's shape)", &FIFTEEN, 200)?;
    latency(place.path(), "chain of 100", &borrowed(&chain(100)), 30)?;
    latency(place.path(), "fan-out and fan-in of 100", &borrowed(&fan(100)), 30)?;
    throughput(place.path(), 20_000, 64)?;
    println!();
    println!("the log: decisions of 4 events of 200 bytes, each acknowledged when durable");
    for in_flight in [1, 16, 256] {
        acknowledgements(place.path(), in_flight)?;
    }
    println!();
    fold_speed(100_000)
}

/// The median time of one fdatasync after an append of 256 bytes.
fn sync_time(directory: &Path) -> Outcome<Duration> {
    let path = directory.join("sync-probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[7; 256])?;
        let began = Instant::now();
        file.sync_data()?;
        times.push(began.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(median(&mut times))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The dependencies of each task, as indices.
const FIFTEEN: [&[usize]; 15] =
    [&[], &[0], &[0], &[1, 2], &[0], &[4], &[4], &[4], &[4], &[5, 6, 7, 8], &[9], &[10], &[11], &[12], &[13]];

fn chain(length: usize) -> Vec<Vec<usize>> {
    (0..length).map(|at| at.checked_sub(1).into_iter().collect()).collect()
}

fn fan(width: usize) -> Vec<Vec<usize>> {
    let inner = (0..width).map(|_| vec![0]);
    std::iter::once(Vec::new()).chain(inner).chain([(1..=width).collect()]).collect()
}

fn borrowed(edges: &[Vec<usize>]) -> Vec<&[usize]> {
    edges.iter().map(Vec::as_slice).collect()
}

fn engine_with(directory: &Path, edges: &[&[usize]]) -> Outcome<Engine> {
    let tasks = edges.iter().enumerate().map(|(at, dependencies)| {
        let names: Vec<String> = dependencies.iter().map(|up| format!("t{up}")).collect();
        Task::new(format!("t{at}"), |_| Ok(())).after(names.iter().map(String::as_str))
    });
    let registry = Arc::new(Registry::default());
    registry.register(Workflow::new("bench", tasks)?);
    Ok(Engine::open(Arc::new(new_log(directory)?), registry, EngineConfig::default())?)
}

fn new_log(directory: &Path) -> Outcome<SledLog> {
    // Each log has its own directory, which is removed with the parent.
    let path = tempfile::tempdir_in(directory)?.keep();
    Ok(open(&path.join("log"), &Options::default())?)
}

fn execute(engine: &Engine) -> Outcome {
    let execution = engine.start(StartRequest::new("bench"))?;
    engine.wait(execution, None)?;
    Ok(())
}

fn latency(directory: &Path, label: &str, edges: &[&[usize]], times: usize) -> Outcome {
    let engine = engine_with(directory, edges)?;
    let before = sync_time(directory)?;
    for _ in 0..times / 10 {
        execute(&engine)?;
    }
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        execute(&engine)?;
        taken.push(began.elapsed());
    }
    let disk = (before + sync_time(directory)?) / 2;
    let taken = median(&mut taken);
    println!("  {label:<48} {:>8.3} ms {:>10.1}", millis(taken), taken.as_secs_f64() / disk.as_secs_f64());
    Ok(engine.shutdown(Duration::ZERO)?)
}

fn throughput(directory: &Path, count: usize, in_flight: usize) -> Outcome {
    let engine = engine_with(directory, &borrowed(&chain(3)))?;
    let began = Instant::now();
    thread::scope(|scope| {
        let callers: Vec<_> =
            (0..in_flight).map(|_| scope.spawn(|| (0..count / in_flight).try_for_each(|_| execute(&engine)))).collect();
        callers.into_iter().try_for_each(|caller| caller.join().unwrap_or_else(|_| Err("a caller panicked".into())))
    })?;
    let done = count / in_flight * in_flight;
    println!("  3-task workflows, {in_flight} in flight: {:.0} a second", per_second(done, began.elapsed()));
    Ok(engine.shutdown(Duration::ZERO)?)
}

fn per_second(count: usize, time: Duration) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / time.as_secs_f64()
}

/// Appends to many streams; each appends its next decision once the previous one is durable.
fn acknowledgements(directory: &Path, in_flight: usize) -> Outcome {
    let log = new_log(directory)?;
    let decisions = (in_flight * 400).clamp(1_000, 60_000);
    let (done, ends) = crossbeam_channel::unbounded();
    let append = |stream: usize, seq: u64| {
        let done = done.clone();
        let acknowledge = Box::new(move |result: Result<_, _>| {
            // The receiver outlives every append.
            let _ = done.send((stream, seq, result.is_ok()));
        });
        let batch = Batch { definitions: Vec::new(), frames: vec![frame(stream, seq)] };
        log.append_then(batch, acknowledge);
    };
    let before = sync_time(directory)?;
    let began = Instant::now();
    (0..in_flight).for_each(|stream| append(stream, 0));
    for finished in 1..=decisions {
        let (stream, seq, fine) = ends.recv()?;
        if !fine {
            return Err("an append failed".into());
        }
        if finished + in_flight <= decisions {
            append(stream, seq + 4);
        }
    }
    let taken = began.elapsed();
    let disk = (before + sync_time(directory)?) / 2;
    let each = taken.as_secs_f64() * f64::from(u32::try_from(in_flight)?) / f64::from(u32::try_from(decisions)?);
    println!(
        "  {in_flight:>4} in flight: {:>8.0} events a second, {:.3} ms an acknowledgement ({:.1} x fdatasync), {:.2} flushes a decision",
        per_second(decisions * 4, taken),
        each * 1e3,
        each / disk.as_secs_f64(),
        log.flushes() as f64 / f64::from(u32::try_from(decisions)?),
    );
    Ok(log.close()?)
}

fn frame(stream: usize, seq: u64) -> Frame {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(stream as u64 + 1).to_be_bytes());
    Frame {
        stream: StreamId::from_bytes(id),
        kind: StreamKind::Execution,
        expected_seq: seq,
        time: StoreTime(0),
        bodies: vec![vec![7; 200]; 4],
        listing: Listing::Keep,
    }
}

/// Folds a chain of tasks that each write a value, from events and from their bytes.
fn fold_speed(tasks: usize) -> Outcome {
    let edges = chain(tasks);
    let definition = edges.iter().enumerate().map(|(at, dependencies)| {
        let names: Vec<String> = dependencies.iter().map(|up| format!("t{up}")).collect();
        Task::new(format!("t{at}"), |_| Ok(())).after(names.iter().map(String::as_str))
    });
    let workflow = Workflow::new("bench", definition)?;
    let graphs = BTreeMap::from([(workflow.fingerprint(), workflow.graph().clone())]);
    let id = ExecutionId([1; 16]);
    let events = chain_events(&workflow, id)?;
    let bytes: Vec<Vec<u8>> = events.iter().map(|recorded| encode_event(&recorded.event)).collect();

    let began = Instant::now();
    let mut state = None;
    for recorded in &events {
        state = Some(fold(state, id, recorded, &graphs)?);
    }
    let folded = began.elapsed();
    drop(state);
    let began = Instant::now();
    let mut state = None;
    for (recorded, bytes) in events.iter().zip(&bytes) {
        let recorded = Recorded { event: decode_event(bytes)?, ..recorded.clone() };
        state = Some(fold(state, id, &recorded, &graphs)?);
    }
    println!(
        "fold of {} events: {:.2} million a second; decoded from bytes and folded: {:.2} million a second",
        events.len(),
        per_second(events.len(), folded) / 1e6,
        per_second(events.len(), began.elapsed()) / 1e6,
    );
    Ok(())
}

fn chain_events(workflow: &Workflow, id: ExecutionId) -> Outcome<Vec<Recorded>> {
    let begin = Start {
        id,
        graph: workflow.graph().clone(),
        fingerprint: workflow.fingerprint(),
        cause: Cause::Call,
        environment: Environment::default(),
        options: ExecutionOptions::default(),
        input: Vec::new(),
    };
    let (mut state, decision) = start(begin, Timestamp(0))?;
    let mut events = decision.events;
    while let Some(task) = { state.ready().next() } {
        let name = workflow.graph().name(task).clone();
        let started = decide(&mut state, Command::StartTask { task, worker: 0 }, Timestamp(1))?;
        let write = Write { key: "rows".into(), value: Some(Json::from_serializer(task.0.to_string())) };
        let finished = Command::AttemptFinished {
            task: name,
            attempt: 1,
            writes: vec![write],
            reads: Reads::default(),
            result: Ok(()),
            jitter: Jitter::NONE,
        };
        let finished = decide(&mut state, finished, Timestamp(1))?;
        events.extend(started.events.into_iter().chain(finished.events));
    }
    Ok(events)
}
