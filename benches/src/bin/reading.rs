//! Measures how fast `replay` reads the past: an execution of a million events, and a log of a hundred thousand executions.
//!
//! `reading [DIRECTORY]` creates both logs in a temporary directory below that one (default: the working directory), and runs the
//! queries of `replay` on them. `reading make DIRECTORY` only creates them; `reading ask LOG` queries an existing log, and `reading
//! ask LOG QUESTION` runs a single query (records, events, at, why or verify). If the program `replay` is beside this one, it also
//! measures the time to the first and to the last line of whole commands.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cloacina_engine::core::codec::{encode_definition, encode_label, fingerprint};
use cloacina_engine::core::decide::{Command, Decision, Start, decide, encode, label, start};
use cloacina_engine::core::definition::{Definition, TaskDefinition};
use cloacina_engine::core::event::{
    Cause, Environment, ExecutionId, ExecutionOptions, Key, Read as KeyRead, Reads, Seen,
};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::task_context::Write;
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::fold::let_go;
use cloacina_replay::history::fold_to;
use cloacina_replay::moment::At;
use cloacina_replay::prefetch::Prefetch;
use cloacina_replay::reading::{Entry, entries, stream_of};
use cloacina_replay::source::{Wanted, head, list};
use cloacina_replay::verify::verify;
use cloacina_replay::why::Facts;
use cloacina_store::checkpoint::sign;
use cloacina_store::keeper::{Change, Keeper as _};
use cloacina_store::log::{Batch, Definition as Stored, Durability, EventLog, Frame, Listing};
use cloacina_store::paging::Records;
use cloacina_store::record::{Hash, StreamId, StreamKind, Timestamp as StoreTime};
use cloacina_store::{Options, open, open_reader};

/// The allocator of the program `replay`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// Five events each: started, three values, completed.
const TASKS: usize = 200_000;
/// The length of each chain of tasks; each chain has three keys of its own.
const CHAIN: usize = 10;
const EXECUTIONS: usize = 100_000;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["make", directory] => make(Path::new(directory)),
        ["ask", log] => query_long(Path::new(log), ""),
        ["ask", log, question] => query_long(Path::new(log), question),
        ref other => {
            let place = tempfile::tempdir_in(other.first().unwrap_or(&"."))?;
            make(place.path())?;
            query_long(&place.path().join("long"), "")?;
            query_many(&place.path().join("many"))
        }
    }
}

fn make(directory: &Path) -> Outcome {
    std::fs::create_dir_all(directory)?;
    let options = Options { durability: Durability::Os, ..Options::default() };
    let log = open(&directory.join("long"), &options)?;
    Run::start(&log, id(1), TASKS)?.finish()?;
    // One checkpoint in the log while the rest is being appended, and one at its end, for the proof that it only grew.
    let checkpoint = sign(&log, &[7; 32], StoreTime(now()?.0))?;
    log.change(Change::Sign(checkpoint.clone()))?;
    std::fs::write(directory.join("checkpoint"), checkpoint.to_text())?;
    let last = sign(&log, &[7; 32], StoreTime(now()?.0))?;
    log.change(Change::Sign(last))?;
    log.close()?;
    let log = open(&directory.join("many"), &options)?;
    for number in 0..EXECUTIONS {
        Run::start(&log, id(u32::try_from(number)?), 1)?.finish()?;
    }
    log.close()?;
    Ok(())
}

/// The time now: the log would raise every time before its own opening to that time.
fn now() -> Outcome<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp(i64::try_from(since.as_micros())?))
}

fn id(number: u32) -> ExecutionId {
    let mut bytes = [0x01, 0x93, 0x5f, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    ExecutionId(bytes)
}

/// A minimal engine without threads: it decides and appends.
struct Run<'a> {
    log: &'a dyn EventLog,
    state: Execution,
    now: Timestamp,
}

impl<'a> Run<'a> {
    fn start(log: &'a dyn EventLog, id: ExecutionId, tasks: usize) -> Outcome<Self> {
        let tasks = (0..tasks).map(|at| {
            let mut task = TaskDefinition::new(format!("task_{at}"));
            if at % CHAIN != 0 {
                task.dependencies = vec![format!("task_{}", at - 1).into()];
            }
            task
        });
        let definition = Definition { workflow: "long".into(), tasks: tasks.collect() };
        let (fingerprint, bytes) = (fingerprint(&definition), encode_definition(&definition));
        let begin = Start {
            id,
            graph: Arc::new(Graph::new(Arc::new(definition))?),
            fingerprint,
            cause: Cause::Call,
            environment: Environment::default(),
            options: ExecutionOptions { timeout: None, ..ExecutionOptions::default() },
            input: vec![("day".into(), Json::from_serializer("\"2026-11-23\""))],
        };
        let now = now()?;
        let (state, decision) = start(begin, now)?;
        let run = Self { log, state, now };
        run.append(&decision, vec![Stored { fingerprint: Hash(fingerprint.0), bytes: bytes.into() }])?;
        Ok(run)
    }

    fn append(&self, decision: &Decision, definitions: Vec<Stored>) -> Outcome {
        let Some(first) = decision.events.first() else { return Ok(()) };
        let bytes = encode_label(&label(&self.state));
        let frame = Frame {
            stream: StreamId::from_bytes(self.state.id().0),
            kind: StreamKind::Execution,
            expected_seq: first.seq,
            time: StoreTime(self.now.0),
            bodies: encode(&decision.events),
            listing: match (first.seq, self.state.status().is_final()) {
                (_, true) => Listing::Closed(bytes),
                (0, false) => Listing::Open(bytes),
                _ => Listing::Keep,
            },
        };
        // A failed append makes the close fail.
        self.log.append_then(Batch { definitions, frames: vec![frame] }, Box::new(drop));
        Ok(())
    }

    fn finish(mut self) -> Outcome {
        let mut last: [u64; 3] = [0; 3];
        while let Some(task) = { self.state.ready().next() } {
            self.now.0 += 100;
            let number = task.at();
            let started = decide(&mut self.state, Command::StartTask { task, worker: 0 }, self.now)?;
            let seq = self.state.next_seq();
            let keys: [Key; 3] = ["rows", "sum", "state"].map(|key| format!("{key}_{}", number / CHAIN).into());
            let reads = keys.iter().zip(last).map(|(key, seq)| KeyRead {
                key: key.clone(),
                seen: if number % CHAIN == 0 { Seen::Nothing } else { Seen::Write(seq) },
            });
            let finished = Command::AttemptFinished {
                task: self.state.graph().name(task).clone(),
                attempt: 1,
                reads: Reads { keys: reads.collect(), all: false },
                writes: keys.iter().map(|key| write(key, number)).collect(),
                result: Ok(()),
                jitter: Jitter::NONE,
            };
            last = [seq, seq + 1, seq + 2];
            let finished = decide(&mut self.state, finished, self.now)?;
            self.append(&started, Vec::new())?;
            self.append(&finished, Vec::new())?;
        }
        Ok(())
    }
}

fn write(key: &Key, number: usize) -> Write {
    let value = format!(r#"{{"number": {number}, "ok": true, "name": "customer_{number}"}}"#);
    Write { key: key.clone(), value: Some(Json::from_serializer(value)) }
}

fn timed<T>(label: &str, count: u64, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let (began, used) = (Instant::now(), ProcessUsage::so_far());
    let done = work()?;
    print_rate(label, count, began.elapsed());
    let (user, system, faults) = ProcessUsage::so_far().since(&used);
    println!("{:>47} {:>9.1} ms of processor time, {system:.1} of it the kernel's; {faults} faults", "", user + system);
    Ok(done)
}

/// The processor time of this process, on all processors. On a busy machine it is more reliable than the wall clock.
struct ProcessUsage {
    /// Page faults, user ticks, kernel ticks.
    counts: [u32; 3],
}

impl ProcessUsage {
    fn so_far() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        Self { counts: [7, 11, 12].map(|at| fields.get(at).and_then(|count| count.parse().ok()).unwrap_or(0)) }
    }

    /// User milliseconds, kernel milliseconds, and page faults.
    fn since(&self, before: &Self) -> (f64, f64, u32) {
        let [faults, user, system] = [0, 1, 2].map(|at| self.counts[at].wrapping_sub(before.counts[at]));
        (f64::from(user) * 10.0, f64::from(system) * 10.0, faults)
    }
}

fn print_rate(label: &str, count: u64, taken: Duration) {
    let rate = match count {
        0 => String::new(),
        #[allow(clippy::cast_precision_loss, reason = "it is shown with three digits")]
        count => format!("{:>8.2} million a second", count as f64 / taken.as_secs_f64() / 1e6),
    };
    println!("  {label:<44} {:>9.1} ms {rate}", taken.as_secs_f64() * 1e3);
}

/// Runs one query, or all of them if `question` is empty.
fn query_long(path: &Path, question: &str) -> Outcome {
    println!("an execution of a million events, in a closed log");
    let reader = timed("open", 0, || Ok(open_reader(path)?))?;
    let reader = &*reader;
    let entry =
        list(reader, &Wanted { limit: Some(1), ..Wanted::default() })?.0.pop().ok_or("there is no execution")?;
    let (id, count) = (entry.id, entry.entry.records);
    let asked = |name| question.is_empty() || question == name;
    timed("header, from the index", 0, || Ok(head(reader, id)?))?;
    if asked("records") {
        timed(
            "records",
            count,
            || Ok(Records::new(reader, stream_of(id), 0).try_for_each(|record| record.map(drop))?),
        )?;
    }
    if asked("events") {
        timed("events", count, || Ok(entries(reader, id).try_for_each(|entry| entry.map(drop))?))?;
    }
    let at = |each: &mut dyn FnMut(Entry)| -> Outcome<Execution> {
        let last = At::Seq(count - 1);
        Ok(Prefetch::new(reader, id).entries(|entries| fold_to(id, reader, entries, &last, each))?.0)
    };
    if asked("at") {
        timed("--at the last event", count, || at(&mut |_| ()))?;
    }
    if asked("why") {
        timed("why", count, || {
            let mut facts = Facts::default();
            let state = at(&mut |entry| facts.note(entry))?;
            let steps = facts.why(&state, "sum_19999")?;
            let_go(state);
            Ok((steps, facts))
        })?;
    }
    if asked("verify") {
        let verified = timed("verify", count, || Ok(verify(reader, id)?))?;
        if !verified.is_ok() {
            return Err(format!("the log is not sound: {:?}", verified.verdicts).into());
        }
    }
    if !question.is_empty() {
        return Ok(());
    }
    let since = format!("prove --since {}", path.with_file_name("checkpoint").display());
    time_commands(
        path,
        &["@", "@ --at 1000", "@ --at 999999", "@ why sum_19999", "@ verify", "@ --full", "@ prove 500000", &since],
    )
}

fn query_many(path: &Path) -> Outcome {
    println!("a closed log of a hundred thousand executions");
    let reader = timed("open", 0, || Ok(open_reader(path)?))?;
    let wanted = Wanted { limit: Some(100), ..Wanted::default() };
    timed("list of the first hundred", 0, || Ok(list(&*reader, &wanted)?))?;
    timed("list of all", 0, || Ok(list(&*reader, &Wanted::default())?))?;
    time_commands(path, &["list", "list --limit 1000000"])
}

/// Measures the time to the first and to the last line of whole commands.
fn time_commands(log: &Path, lines: &[&str]) -> Outcome {
    let Some(program) = std::env::current_exe()?.parent().map(|directory| directory.join("replay")) else {
        return Ok(());
    };
    let program = std::env::var_os("REPLAY").map_or(program, Into::into);
    if !program.exists() {
        return Ok(());
    }
    for line in lines {
        let began = Instant::now();
        let mut child = Program::new(&program)
            .args(line.split(' '))
            .env("CLOACA_LOG", log)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("no output")?);
        out.read_line(&mut String::new())?;
        print_rate(&format!("replay {line}: first line"), 0, began.elapsed());
        std::io::copy(&mut out.by_ref(), &mut std::io::sink())?;
        child.wait()?;
        print_rate(&format!("replay {line}: last line"), 0, began.elapsed());
    }
    Ok(())
}
