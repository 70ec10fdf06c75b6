//! Histories made by the engine's own `decide`, in a log in memory, with times and ids that are always the same; and
//! the command line run on them in this process.

#![allow(dead_code, reason = "each program uses its part")]

pub mod histories;

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cloacina_engine::core::codec::{encode_definition, encode_event, encode_label, fingerprint};
use cloacina_engine::core::decide::{Command, Decision, Effect, Start, decide, encode, label, start};
use cloacina_engine::core::definition::{Definition, Fingerprint, TaskDefinition};
use cloacina_engine::core::erasure::{What, plan};
use cloacina_engine::core::event::{Cause, Environment, Event, ExecutionId, ExecutionOptions, Request, Seq, TaskError};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::Jitter;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::cli::{paging::Sharing, run, surroundings::Surroundings};
use cloacina_replay::reading::{entries, stream_of};
use cloacina_store::keeper::{Change, Erase};
use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader, OpenError, ReadError};
use cloacina_store::record::{Hash, Record, StreamId, StreamKind, Timestamp as StoreTime};
use cloacina_store::{MemoryDisk, MemoryLog};
use cloacina_store::{read_through, seal};

/// Opens a log for reading.
type Opens = dyn Fn(&Path) -> Result<Box<dyn LogReader>, OpenError>;

/// 2026-11-24T03:22:10Z.
pub const START: i64 = 1_795_490_530_000_000;

thread_local! {
    /// How much later than [`START`] the histories of this thread start, in microseconds.
    static LATER: Cell<i64> = const { Cell::new(0) };
}

/// Makes the histories of this thread start now: a log on disk rejects times before its own.
pub fn begin_now() {
    LATER.set(chrono::Utc::now().timestamp_micros() - START);
}

/// A log shared by a test and the command line that it runs.
#[derive(Clone)]
pub struct Log(pub Arc<dyn EventLog>);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(MemoryLog::open(&MemoryDisk::new()).unwrap()))
    }
}

/// A change of records between the log and the reader.
pub type Alter = fn(Vec<Record>) -> Vec<Record>;

/// Checks the hash of each record, as every reader of a log does.
pub fn checked(records: Vec<Record>) -> Result<Vec<Record>, ReadError> {
    for record in &records {
        seal::check(record).map_err(|computed| ReadError::Damaged {
            stream: record.stream,
            seq: record.seq,
            what: format!("its hash is {}, its content gives {computed}", record.hash),
        })?;
    }
    Ok(records)
}

/// A reader that returns altered records.
pub struct Altered(pub Log, pub Alter);

impl LogReader for Altered {
    read_through!(self => self.0.0; stream, streams, tail, tree, erasures, definition, head, notices, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.0.0.read(stream, from, limit).map(self.1).and_then(checked)
    }
}

/// A task with dependencies.
pub fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    let mut task = TaskDefinition::new(id);
    task.dependencies = dependencies.iter().map(|name| (*name).into()).collect();
    task
}

/// An error like those of Python tasks.
pub fn error(kind: &str, message: &str) -> TaskError {
    let traceback = format!(
        "Traceback (most recent call last):\n  File \"/app/flow.py\", line 42, in work\n    customers = dataset[\"customers\"]\n{kind}: {message}\n"
    );
    TaskError {
        kind: kind.into(),
        message: message.into(),
        traceback: Some(traceback.into()),
        lineage: vec![kind.into(), "Exception".into()],
        ..TaskError::default()
    }
}

pub fn json(text: &str) -> Json {
    Json::parse(text).unwrap()
}

/// The id that ends with these eight digits.
pub fn id(end: u32) -> ExecutionId {
    let mut bytes = [0x01, 0x93, 0x5f, 0x00, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, 0];
    bytes[3] = (end & 0xff) as u8;
    bytes[12..].copy_from_slice(&end.to_be_bytes());
    ExecutionId(bytes)
}

fn environment(pid: u32) -> Environment {
    Environment { engine: "0.1.0".into(), host: "db01".into(), pid, python: Some("3.13.1".into()) }
}

/// An engine without threads: it decides, appends, and runs the code of the test.
pub struct Recorder {
    log: Log,
    graph: Arc<Graph>,
    fingerprint: Fingerprint,
    pub state: Execution,
    now: Timestamp,
    running: HashMap<String, TaskContext>,
}

impl Recorder {
    pub fn start(
        log: &Log,
        id: ExecutionId,
        workflow: &str,
        tasks: Vec<TaskDefinition>,
        input: &[(&str, &str)],
    ) -> Self {
        Self::start_by(log, id, workflow, tasks, input, Cause::Call)
    }

    pub fn start_by(
        log: &Log,
        id: ExecutionId,
        workflow: &str,
        tasks: Vec<TaskDefinition>,
        input: &[(&str, &str)],
        cause: Cause,
    ) -> Self {
        let definition = Definition { workflow: workflow.into(), tasks };
        let fingerprint = fingerprint(&definition);
        let bytes = encode_definition(&definition);
        let graph = Arc::new(Graph::new(Arc::new(definition)).unwrap());
        let now = Timestamp(START + LATER.get() + i64::from(id.0[15]) * 600_000_000);
        let begin = Start {
            id,
            graph: graph.clone(),
            fingerprint,
            cause,
            environment: environment(41),
            options: ExecutionOptions::default(),
            input: input.iter().map(|(key, value)| ((*key).into(), json(value))).collect(),
        };
        let (state, decision) = start(begin, now).unwrap();
        let log = log.clone();
        let mut recorder = Self { log, graph, fingerprint, state, now, running: HashMap::new() };
        let definition = cloacina_store::log::Definition { fingerprint: Hash(fingerprint.0), bytes: bytes.into() };
        recorder.append(&decision, vec![definition]);
        recorder
    }

    fn append(&mut self, decision: &Decision, definitions: Vec<cloacina_store::log::Definition>) {
        for effect in &decision.effects {
            if let Effect::Run { task, view, .. } = effect {
                let name = self.graph.name(*task).to_string();
                self.running.insert(name, TaskContext::new((**view).clone(), false));
            }
        }
        let Some(first) = decision.events.first() else { return };
        let bytes = encode_label(&label(&self.state));
        let listing = if self.state.status().is_final() { Listing::Closed(bytes) } else { Listing::Open(bytes) };
        let frame = Frame {
            stream: StreamId::from_bytes(self.state.id().0),
            kind: StreamKind::Execution,
            expected_seq: first.seq,
            time: StoreTime(self.now.0),
            bodies: encode(&decision.events),
            listing,
        };
        self.log.0.append(Batch { definitions, frames: vec![frame] }).unwrap();
    }

    pub fn wait(&mut self, milliseconds: i64) -> &mut Self {
        self.now.0 += milliseconds * 1_000;
        self
    }

    pub fn command(&mut self, command: Command) -> &mut Self {
        let decision = decide(&mut self.state, command, self.now).unwrap();
        self.append(&decision, Vec::new());
        self
    }

    pub fn begin(&mut self, task: &str, worker: u32) -> &mut Self {
        let task = self.graph.find(task).unwrap();
        if self.state.next_timer().is_some_and(|(due, _)| due <= self.now) {
            // The end of its wait makes the task ready.
            self.command(Command::TimerFired { jitter: Jitter::NONE });
        }
        self.command(Command::StartTask { task, worker })
    }

    pub fn finish(&mut self, task: &str, work: impl FnOnce(&mut TaskContext) -> Result<(), TaskError>) -> &mut Self {
        let mut context = self.running.remove(task).unwrap();
        let result = work(&mut context);
        let attempt = self.state.task(self.graph.find(task).unwrap()).attempts();
        let (writes, reads) = context.finish();
        let jitter = Jitter::NONE;
        self.command(Command::AttemptFinished { task: task.into(), attempt, writes, reads, result, jitter })
    }

    /// Starts and finishes a task that takes this long.
    pub fn run(
        &mut self,
        task: &str,
        milliseconds: i64,
        work: impl FnOnce(&mut TaskContext) -> Result<(), TaskError>,
    ) -> &mut Self {
        self.begin(task, 0).wait(milliseconds).finish(task, work)
    }

    /// The log that it appends to.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// Resumes in another process, in which the workflow has other tasks.
    pub fn recover_with(&mut self, tasks: Vec<TaskDefinition>) -> &mut Self {
        let definition = Definition { workflow: self.graph.definition().workflow.clone(), tasks };
        self.fingerprint = fingerprint(&definition);
        let bytes = encode_definition(&definition).into();
        self.graph = Arc::new(Graph::new(Arc::new(definition)).unwrap());
        let command =
            Command::Recover { environment: environment(58), definition: (self.fingerprint, self.graph.clone()) };
        let decision = decide(&mut self.state, command, self.now).unwrap();
        self.running.clear();
        let fingerprint = Hash(self.fingerprint.0);
        self.append(&decision, vec![cloacina_store::log::Definition { fingerprint, bytes }]);
        self
    }

    /// Retries in another process, in which the workflow has these tasks.
    pub fn retry_with(&mut self, tasks: Vec<TaskDefinition>) -> &mut Self {
        let definition = Definition { workflow: self.graph.definition().workflow.clone(), tasks };
        self.fingerprint = fingerprint(&definition);
        let bytes = encode_definition(&definition).into();
        self.graph = Arc::new(Graph::new(Arc::new(definition)).unwrap());
        let command = Command::Retry {
            request: Request { by: "ann".into(), reason: Some("db01 is up again".into()) },
            environment: environment(59),
            options: *self.state.options(),
            definition: (self.fingerprint, self.graph.clone()),
        };
        let decision = decide(&mut self.state, command, self.now).unwrap();
        self.running.clear();
        let fingerprint = Hash(self.fingerprint.0);
        self.append(&decision, vec![cloacina_store::log::Definition { fingerprint, bytes }]);
        self
    }

    /// Retries in another process.
    pub fn retry(&mut self) -> &mut Self {
        let tasks = self.graph.definition().tasks.clone();
        self.retry_with(tasks)
    }

    pub fn recover(&mut self) -> &mut Self {
        let definition = (self.fingerprint, self.graph.clone());
        self.command(Command::Recover { environment: environment(57), definition })
    }
}

/// Erases values of a finished execution, as `cloaca log erase` does.
pub fn erase(log: &Log, id: ExecutionId, what: What, reason: &str) {
    let events: Vec<(Seq, Event)> =
        entries(&*log.0, id).map(Result::unwrap).map(|entry| (entry.seq, entry.event.unwrap())).collect();
    let records = plan(&events, &[what]).unwrap();
    let records = records.iter().map(|(seq, note)| (*seq, encode_event(note))).collect();
    let (reason, by) = (reason.to_owned(), "ann".to_owned());
    log.0.change(Change::Erase(Erase { stream: stream_of(id), records, reason, by })).unwrap();
}

/// The result of a command line: standard output, standard error, exit code.
pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}=== stderr\n{}=== exit {}", self.out, self.err, self.code)
    }
}

/// Runs a command line on a log.
pub fn replay(log: &Log, arguments: &str) -> Ran {
    replay_with(&opener(log), None, arguments)
}

/// An opener that returns the log for any path.
pub fn opener(log: &Log) -> impl Fn(&Path) -> Result<Box<dyn LogReader>, OpenError> + use<> {
    let log = log.clone();
    move |_| Ok(Box::new(Altered(log.clone(), |records| records)))
}

pub fn replay_with(open: &Opens, terminal: Option<usize>, arguments: &str) -> Ran {
    replay_pausing(open, terminal, &|_| false, arguments)
}

/// Runs a command line that waits for new events: `pause` adds some, and returns whether to continue.
pub fn replay_pausing(
    open: &Opens,
    terminal: Option<usize>,
    pause: &dyn Fn(std::time::Duration) -> bool,
    arguments: &str,
) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let variable = |name: &str| (name == "CLOACA_LOG").then(|| OsString::from("./tutorial_04.db"));
    let mut around = Surroundings {
        out: &mut out,
        err: &mut err,
        terminal,
        variable: &variable,
        directory: PathBuf::from("/work"),
        now: Timestamp(START + 10_800_000_000),
        open,
        pause,
        sharing: &Sharing::default(),
        shows_progress: false,
    };
    let words = std::iter::once("replay").chain(arguments.split_whitespace()).map(OsString::from).collect();
    let code = run(words, &mut around);
    Ran { out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), code }
}
