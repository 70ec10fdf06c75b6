//! Measures how the core scales: large workflows driven through start, `StartTask` and `AttemptFinished`, without a log.
//!
//! Prints the microseconds of processor time per task with ten thousand and a hundred thousand tasks, the ratio of the two,
//! and the peak memory of the process. `scale SHAPE WRITES` measures one row
//! alone (so the peak is its own), and `scale SHAPE WRITES TASKS` another size.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use cloacina_engine::core::codec;
use cloacina_engine::core::decide::{Command, Start, decide, start};
use cloacina_engine::core::definition::{Definition, TaskDefinition};
use cloacina_engine::core::event::{Cause, Environment, ExecutionId, ExecutionOptions, Key, Reads};
use cloacina_engine::core::fold::fold;
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::task_context::Write;
use cloacina_engine::core::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The shape of the graph.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// One task, all others after it, and one after all of them.
    Wide,
    /// A chain.
    Deep,
    /// One to three dependencies among the previous hundred tasks.
    Near,
    /// Each after the previous one and the first.
    Ladder,
    /// A hundred layers, each task after two of the previous layer.
    Layers,
}

/// The keys that the tasks write.
#[derive(Clone, Copy, PartialEq)]
enum Writes {
    Nothing,
    /// A key of its own.
    Own,
    /// The same key as the task next to it.
    Neighbour,
    /// The same key as all others.
    Same,
}

const SHAPES: [(&str, Shape); 5] = [
    ("wide", Shape::Wide),
    ("deep", Shape::Deep),
    ("near", Shape::Near),
    ("ladder", Shape::Ladder),
    ("layers", Shape::Layers),
];
const WRITES: [(&str, Writes); 4] = [
    ("nothing", Writes::Nothing),
    ("own key", Writes::Own),
    ("shared key", Writes::Neighbour),
    ("same key", Writes::Same),
];

/// A deterministic generator of pseudo-random numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % limit.max(1)
    }
}

fn dependencies(shape: Shape, at: usize, count: usize, dice: &mut Dice) -> Vec<usize> {
    let mut dependencies = match shape {
        _ if at == 0 => Vec::new(),
        Shape::Wide if at == count - 1 => (1..at).collect(),
        Shape::Wide => vec![0],
        Shape::Deep => vec![at - 1],
        Shape::Near => (0..=dice.below(3)).map(|_| at - 1 - dice.below(at.min(100))).collect(),
        Shape::Ladder => vec![at - 1, 0],
        Shape::Layers => {
            let (width, layer) = (count / 100, at / (count / 100));
            (0..2).filter(|_| layer > 0).map(|_| (layer - 1) * width + dice.below(width)).collect()
        }
    };
    dependencies.sort_unstable();
    dependencies.dedup();
    dependencies
}

fn workflow(shape: Shape, count: usize) -> Definition {
    let mut dice = Dice(count as u64);
    let tasks = (0..count).map(|at| {
        let mut task = TaskDefinition::new(format!("task{at}"));
        task.dependencies =
            dependencies(shape, at, count, &mut dice).into_iter().map(|up| format!("task{up}").into()).collect();
        task
    });
    Definition { workflow: "scale".into(), tasks: tasks.collect() }
}

/// A clock of the processor time of this single-threaded program, which other load on the machine does not affect.
struct Clock(Duration);

impl Clock {
    fn start() -> Self {
        Self(Self::now())
    }

    fn elapsed(&self) -> Duration {
        Self::now().saturating_sub(self.0)
    }

    fn now() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
    }
}

/// The time to check the definition, to decide everything, and to fold the events again.
struct Measured {
    graph: Duration,
    decide: Duration,
    fold: Duration,
}

fn run(shape: Shape, writes: Writes, count: usize) -> Result<Measured, Box<dyn Error>> {
    let definition = Arc::new(workflow(shape, count));
    let fingerprint = codec::fingerprint(&definition);
    let clock = Clock::start();
    let graph = Arc::new(Graph::new(definition)?);
    let checked = clock.elapsed();

    let id = ExecutionId([1; 16]);
    let options = ExecutionOptions::default();
    let command = Start {
        id,
        graph: graph.clone(),
        fingerprint,
        cause: Cause::Call,
        environment: Environment::default(),
        options,
        input: Vec::new(),
    };
    let clock = Clock::start();
    let (mut state, decision) = start(command, Timestamp(0))?;
    let mut events = decision.events;
    let mut now = 0;
    loop {
        let ready = state.ready().next();
        let Some(task) = ready else { break };
        now += 1;
        let started = decide(&mut state, Command::StartTask { task, worker: 0 }, Timestamp(now))?;
        let name = graph.name(task).clone();
        let key: Option<Key> = match writes {
            Writes::Nothing => None,
            Writes::Own => Some(name.clone()),
            Writes::Neighbour => Some(format!("key{}", task.at() / 2).as_str().into()),
            Writes::Same => Some("total".into()),
        };
        let write = key.map(|key| Write { key, value: Some(Json::from_serializer(now.to_string())) });
        let finished = Command::AttemptFinished {
            task: name,
            attempt: 1,
            writes: write.into_iter().collect(),
            reads: Reads::default(),
            result: Ok(()),
            jitter: Jitter::NONE,
        };
        let finished = decide(&mut state, finished, Timestamp(now))?;
        events.extend(started.events.into_iter().chain(finished.events));
    }
    let decided = clock.elapsed();
    if !state.status().is_final() {
        return Err("the execution is not over".into());
    }
    drop(state);

    let graphs = |_| Some(graph.clone());
    let clock = Clock::start();
    let mut folded = None;
    for recorded in &events {
        folded = Some(fold(folded, id, recorded, &graphs)?);
    }
    Ok(Measured { graph: checked, decide: decided, fold: clock.elapsed() })
}

/// The default number of tasks: fewer where the cost of a join grows with the number of tasks, see the README.
fn tasks(shape: Shape, writes: Writes) -> usize {
    match (shape, writes) {
        (Shape::Near | Shape::Layers, Writes::Neighbour) => 1_000,
        (Shape::Near | Shape::Layers, Writes::Same) => 10_000,
        _ => 100_000,
    }
}

fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes: u64 = line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    format!("{} MiB", kilobytes / 1_024)
}

fn micros(time: Duration, count: usize) -> f64 {
    time.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str, at: usize| arguments.get(at).is_none_or(|argument| argument == name);
    println!("µs per task             tasks      check   decide     fold   decide against a tenth of the tasks");
    for (shape_name, shape) in SHAPES.into_iter().filter(|(name, _)| wanted(name, 0)) {
        for (writes_name, writes) in WRITES.into_iter().filter(|(name, _)| wanted(name, 1)) {
            let count = arguments.get(2).map_or(Ok(tasks(shape, writes)), |count| count.parse())?;
            let small = run(shape, writes, count / 10)?;
            let large = run(shape, writes, count)?;
            let [check, decide, fold] = [large.graph, large.decide, large.fold].map(|time| micros(time, count));
            let growth = decide / micros(small.decide, count / 10);
            println!(
                "{shape_name:<7} {writes_name:<10} {count:>10} {check:>10.2} {decide:>8.2} {fold:>8.2}   {growth:.2}   peak {}",
                peak()
            );
        }
    }
    Ok(())
}
