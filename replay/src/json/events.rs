//! Events as JSON, and back.

use std::sync::Arc;

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{
    AbandonReason, Cause, ContextRemoved, ContextWritten, Environment, Event, ExecutionEnded, ExecutionId,
    ExecutionOptions, ExecutionRecovered, ExecutionStarted, Origin, Read, Reads, Request, Seen, Seq, Settled,
    SkipReason, TaskAbandoned, TaskCompleted, TaskError, TaskFailed, TaskSkipped, TaskStarted,
};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::time::{Millis, Timestamp};
use cloacina_store::record::Hash;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::{NotAHistory, hex, time, unhex};
use crate::reading::{Entry, Erased};
use crate::time::rfc3339;

/// An event with its envelope.
#[derive(Debug, Serialize, Deserialize)]
pub struct EntryJson {
    seq: Seq,
    position: u64,
    time: String,
    previous: String,
    hash: String,
    /// Its name; null if the body is gone and nothing is known of it.
    event: Option<String>,
    body: Option<Box<RawValue>>,
    /// That its body was erased: a value in what is left of it stands for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedJson>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ErasedJson {
    time: String,
    by: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
struct StartedJson {
    workflow: String,
    definition: String,
    cause: CauseJson,
    environment: EnvironmentJson,
    options: OptionsJson,
    inputs: u32,
}

/// What caused an execution.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CauseJson {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct EnvironmentJson {
    engine: String,
    host: String,
    pid: u32,
    python: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct OptionsJson {
    timeout_ms: Option<u64>,
    task_timeout_ms: Option<u64>,
    strict_context: bool,
    max_recoveries: u32,
}

/// A value that was written (with `value`) or removed (without). The input has no task.
#[derive(Serialize, Deserialize)]
struct WrittenJson {
    task: Option<String>,
    attempt: Option<u32>,
    key: String,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

#[derive(Serialize, Deserialize)]
struct TaskStartedJson {
    task: String,
    attempt: u32,
    worker: u32,
}

#[derive(Serialize, Deserialize)]
struct CompletedJson {
    task: String,
    attempt: u32,
    reads: ReadsJson,
}

#[derive(Serialize, Deserialize)]
struct FailedJson {
    task: String,
    attempt: u32,
    error: ErrorJson,
    reads: ReadsJson,
    retry_at: Option<String>,
}

/// What an attempt read.
#[derive(Debug, Serialize, Deserialize)]
pub struct ReadsJson {
    keys: Vec<ReadJson>,
    all: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReadJson {
    key: String,
    /// `nothing`, `write`, `merged` or `undeclared`.
    seen: String,
    seqs: Vec<Seq>,
}

/// Why an attempt failed.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorJson {
    kind: String,
    message: String,
    traceback: Option<String>,
    lineage: Vec<String>,
    transient: bool,
    hint: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SkippedJson {
    task: String,
    why: SkipJson,
}

/// Why a task was skipped.
#[derive(Debug, Serialize, Deserialize)]
pub struct SkipJson {
    rule: String,
    tasks: Vec<SettledJson>,
    keys: Vec<String>,
    failure: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SettledJson {
    task: String,
    settled: String,
}

#[derive(Serialize, Deserialize)]
struct AbandonedJson {
    task: String,
    attempt: u32,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct RequestJson {
    by: String,
    reason: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct RecoveredJson {
    environment: EnvironmentJson,
    definition: String,
}

#[derive(Serialize, Deserialize)]
struct EndedJson {
    reason: String,
    context: String,
}

/// A value as the text that was written. A text that is no JSON after all is told as a string, and so is one that was
/// erased: as `"erased"`, which the event or the context beside it says, too.
///
/// # Errors
/// Never, for a text of ours.
pub fn raw(value: &Json) -> serde_json::Result<Box<RawValue>> {
    RawValue::from_string(value.as_str().to_owned()).or_else(|_| to_raw_value(value.as_str()))
}

/// A value that is there; `null` is one too.
///
/// # Errors
/// If it is no JSON.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl EntryJson {
    /// An event as JSON.
    ///
    /// # Errors
    /// Never, for an event of ours.
    pub fn new(entry: &Entry) -> serde_json::Result<Self> {
        Ok(Self {
            seq: entry.seq,
            position: entry.position,
            time: rfc3339(entry.time),
            previous: entry.previous.to_string(),
            hash: entry.hash.to_string(),
            event: entry.event.as_ref().map(|event| event.name().to_owned()),
            body: entry.event.as_ref().map(body).transpose()?,
            erased: entry.erased.as_ref().map(|erased| ErasedJson {
                time: rfc3339(erased.time),
                by: erased.by.clone(),
                reason: erased.reason.clone(),
            }),
        })
    }

    /// The event that this is.
    ///
    /// # Errors
    /// [`NotAHistory`].
    pub fn entry(&self) -> Result<Entry, NotAHistory> {
        let erased = self.erased.as_ref().map(|erased| {
            let (by, reason) = (erased.by.clone(), erased.reason.clone());
            time(&erased.time).map(|time| Erased { time, by, reason })
        });
        let erased = erased.transpose()?;
        let event = match (&self.event, &self.body) {
            (Some(name), Some(body)) => Some(event(name, body.get())?),
            _ => None,
        };
        Ok(Entry {
            seq: self.seq,
            position: self.position,
            time: time(&self.time)?,
            previous: Hash(unhex(&self.previous)?),
            hash: Hash(unhex(&self.hash)?),
            event: match event {
                Some(Event::ContextWritten(write)) if erased.is_some() => {
                    Some(Event::ContextWritten(ContextWritten { value: Json::erased(), ..write }))
                }
                event => event,
            },
            erased,
        })
    }
}

fn body(event: &Event) -> serde_json::Result<Box<RawValue>> {
    match event {
        Event::ExecutionStarted(started) => to_raw_value(&StartedJson {
            workflow: started.workflow.to_string(),
            definition: started.definition.to_string(),
            cause: CauseJson::from(&started.cause),
            environment: EnvironmentJson::from(&started.environment),
            options: OptionsJson::from(&started.options),
            inputs: started.inputs,
        }),
        Event::ContextWritten(write) => {
            let (task, attempt) = origin(&write.origin);
            let (key, value) = (write.key.to_string(), Some(raw(&write.value)?));
            to_raw_value(&WrittenJson { task, attempt, key, value })
        }
        Event::ContextRemoved(removal) => {
            let (task, attempt) = origin(&removal.origin);
            to_raw_value(&WrittenJson { task, attempt, key: removal.key.to_string(), value: None })
        }
        Event::TaskStarted(started) => {
            let (task, attempt, worker) = (started.task.to_string(), started.attempt, started.worker);
            to_raw_value(&TaskStartedJson { task, attempt, worker })
        }
        Event::TaskCompleted(done) => {
            let (task, attempt) = (done.task.to_string(), done.attempt);
            to_raw_value(&CompletedJson { task, attempt, reads: ReadsJson::from(&done.reads) })
        }
        Event::TaskFailed(failed) => to_raw_value(&FailedJson {
            task: failed.task.to_string(),
            attempt: failed.attempt,
            error: ErrorJson::from(&failed.error),
            reads: ReadsJson::from(&failed.reads),
            retry_at: failed.retry_at.map(rfc3339),
        }),
        Event::TaskSkipped(skipped) => {
            to_raw_value(&SkippedJson { task: skipped.task.to_string(), why: SkipJson::from(&skipped.why) })
        }
        Event::TaskAbandoned(abandoned) => {
            let (task, attempt) = (abandoned.task.to_string(), abandoned.attempt);
            to_raw_value(&AbandonedJson { task, attempt, why: abandon_name(abandoned.why).to_owned() })
        }
        Event::ExecutionPaused(request) | Event::ExecutionUnpaused(request) | Event::CancelRequested(request) => {
            let (by, reason) = (request.by.to_string(), request.reason.as_ref().map(ToString::to_string));
            to_raw_value(&RequestJson { by, reason })
        }
        Event::ExecutionRecovered(recovered) => {
            let environment = EnvironmentJson::from(&recovered.environment);
            to_raw_value(&RecoveredJson { environment, definition: recovered.definition.to_string() })
        }
        Event::ExecutionCompleted(ended) | Event::ExecutionFailed(ended) | Event::ExecutionCancelled(ended) => {
            to_raw_value(&EndedJson { reason: ended.reason.to_string(), context: hex(&ended.context) })
        }
    }
}

fn event(name: &str, body: &str) -> Result<Event, NotAHistory> {
    Ok(match name {
        "ExecutionStarted" => Event::ExecutionStarted(serde_json::from_str::<StartedJson>(body)?.try_into()?),
        "ContextWritten" => {
            let write: WrittenJson = serde_json::from_str(body)?;
            let value = write.value.as_ref().map(|value| Json::from_serializer(value.get()));
            let value = value.ok_or_else(|| NotAHistory::Part(format!("a write of '{}' has no value", write.key)))?;
            Event::ContextWritten(ContextWritten { origin: write.origin(), key: write.key.as_str().into(), value })
        }
        "ContextRemoved" => {
            let removal: WrittenJson = serde_json::from_str(body)?;
            Event::ContextRemoved(ContextRemoved { origin: removal.origin(), key: removal.key.as_str().into() })
        }
        "TaskStarted" => {
            let TaskStartedJson { task, attempt, worker } = serde_json::from_str(body)?;
            Event::TaskStarted(TaskStarted { task: task.into(), attempt, worker })
        }
        "TaskCompleted" => {
            let CompletedJson { task, attempt, reads } = serde_json::from_str(body)?;
            Event::TaskCompleted(TaskCompleted { task: task.into(), attempt, reads: reads.try_into()? })
        }
        "TaskFailed" => {
            let FailedJson { task, attempt, error, reads, retry_at } = serde_json::from_str(body)?;
            let retry_at = retry_at.as_deref().map(time).transpose()?;
            let (error, reads) = (error.into(), reads.try_into()?);
            Event::TaskFailed(TaskFailed { task: task.into(), attempt, error, reads, retry_at })
        }
        "TaskSkipped" => {
            let SkippedJson { task, why } = serde_json::from_str(body)?;
            Event::TaskSkipped(TaskSkipped { task: task.into(), why: why.try_into()? })
        }
        "TaskAbandoned" => {
            let AbandonedJson { task, attempt, why } = serde_json::from_str(body)?;
            Event::TaskAbandoned(TaskAbandoned { task: task.into(), attempt, why: abandon_reason(&why)? })
        }
        "ExecutionPaused" => Event::ExecutionPaused(serde_json::from_str::<RequestJson>(body)?.into()),
        "ExecutionUnpaused" => Event::ExecutionUnpaused(serde_json::from_str::<RequestJson>(body)?.into()),
        "CancelRequested" => Event::CancelRequested(serde_json::from_str::<RequestJson>(body)?.into()),
        "ExecutionRecovered" => {
            let RecoveredJson { environment, definition } = serde_json::from_str(body)?;
            let definition = Fingerprint(unhex(&definition)?);
            Event::ExecutionRecovered(ExecutionRecovered { environment: environment.into(), definition })
        }
        "ExecutionCompleted" => Event::ExecutionCompleted(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        "ExecutionFailed" => Event::ExecutionFailed(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        "ExecutionCancelled" => Event::ExecutionCancelled(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        other => return Err(NotAHistory::Part(format!("there is no event '{other}'"))),
    })
}

fn shared(text: Option<String>) -> Option<Arc<str>> {
    text.map(Into::into)
}

fn origin(origin: &Origin) -> (Option<String>, Option<u32>) {
    match origin {
        Origin::Input => (None, None),
        Origin::Task { task, attempt } => (Some(task.to_string()), Some(*attempt)),
    }
}

impl WrittenJson {
    fn origin(&self) -> Origin {
        match (&self.task, self.attempt) {
            (Some(task), Some(attempt)) => Origin::Task { task: task.as_str().into(), attempt },
            _ => Origin::Input,
        }
    }
}

/// Why an attempt was abandoned.
#[must_use]
pub fn abandon_name(why: AbandonReason) -> &'static str {
    match why {
        AbandonReason::ProcessDied => "process_died",
        AbandonReason::Shutdown => "shutdown",
    }
}

fn abandon_reason(name: &str) -> Result<AbandonReason, NotAHistory> {
    match name {
        "process_died" => Ok(AbandonReason::ProcessDied),
        "shutdown" => Ok(AbandonReason::Shutdown),
        other => Err(NotAHistory::Part(format!("'{other}' is no reason to abandon an attempt"))),
    }
}

fn settled_name(settled: Settled) -> &'static str {
    match settled {
        Settled::Completed => "completed",
        Settled::Failed => "failed",
        Settled::Skipped => "skipped",
        Settled::SkippedByFailure => "skipped_by_failure",
    }
}

fn settled(name: &str) -> Result<Settled, NotAHistory> {
    let all = [Settled::Completed, Settled::Failed, Settled::Skipped, Settled::SkippedByFailure];
    let found = all.into_iter().find(|settled| settled_name(*settled) == name);
    found.ok_or_else(|| NotAHistory::Part(format!("'{name}' is no end of a task")))
}

impl From<&Cause> for CauseJson {
    fn from(cause: &Cause) -> Self {
        let kind = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match cause {
            Cause::Call => kind("call"),
            Cause::Schedule { schedule, scheduled } => Self {
                schedule: Some(ExecutionId(*schedule).to_string()),
                scheduled: Some(rfc3339(*scheduled)),
                ..kind("schedule")
            },
            Cause::Trigger { name } => Self { name: Some(name.to_string()), ..kind("trigger") },
            Cause::Fork { execution, seq } => {
                Self { execution: Some(execution.to_string()), seq: Some(*seq), ..kind("fork") }
            }
            Cause::Parent { execution, task } => {
                Self { execution: Some(execution.to_string()), task: Some(task.to_string()), ..kind("parent") }
            }
        }
    }
}

impl TryFrom<&CauseJson> for Cause {
    type Error = NotAHistory;

    fn try_from(json: &CauseJson) -> Result<Self, NotAHistory> {
        let wrong = || NotAHistory::Part(format!("the cause '{}' is incomplete or unknown", json.kind));
        let id = |text: &Option<String>| -> Result<ExecutionId, NotAHistory> {
            text.as_ref().and_then(|text| text.parse().ok()).ok_or_else(wrong)
        };
        Ok(match json.kind.as_str() {
            "call" => Self::Call,
            "schedule" => {
                let scheduled = time(json.scheduled.as_deref().ok_or_else(wrong)?)?;
                Self::Schedule { schedule: id(&json.schedule)?.0, scheduled }
            }
            "trigger" => Self::Trigger { name: json.name.as_deref().ok_or_else(wrong)?.into() },
            "fork" => Self::Fork { execution: id(&json.execution)?, seq: json.seq.ok_or_else(wrong)? },
            "parent" => {
                Self::Parent { execution: id(&json.execution)?, task: json.task.as_deref().ok_or_else(wrong)?.into() }
            }
            _ => return Err(wrong()),
        })
    }
}

impl From<&Environment> for EnvironmentJson {
    fn from(environment: &Environment) -> Self {
        Self {
            engine: environment.engine.to_string(),
            host: environment.host.to_string(),
            pid: environment.pid,
            python: environment.python.as_ref().map(ToString::to_string),
        }
    }
}

impl From<EnvironmentJson> for Environment {
    fn from(json: EnvironmentJson) -> Self {
        let EnvironmentJson { engine, host, pid, python } = json;
        Self { engine: engine.into(), host: host.into(), pid, python: shared(python) }
    }
}

impl From<&ExecutionOptions> for OptionsJson {
    fn from(options: &ExecutionOptions) -> Self {
        Self {
            timeout_ms: options.timeout.map(|span| span.0),
            task_timeout_ms: options.task_timeout.map(|span| span.0),
            strict_context: options.strict_context,
            max_recoveries: options.max_recoveries,
        }
    }
}

impl TryFrom<StartedJson> for ExecutionStarted {
    type Error = NotAHistory;

    fn try_from(json: StartedJson) -> Result<Self, NotAHistory> {
        Ok(Self {
            workflow: json.workflow.into(),
            definition: Fingerprint(unhex(&json.definition)?),
            cause: (&json.cause).try_into()?,
            environment: json.environment.into(),
            options: ExecutionOptions {
                timeout: json.options.timeout_ms.map(Millis),
                task_timeout: json.options.task_timeout_ms.map(Millis),
                strict_context: json.options.strict_context,
                max_recoveries: json.options.max_recoveries,
            },
            inputs: json.inputs,
        })
    }
}

impl From<&Reads> for ReadsJson {
    fn from(reads: &Reads) -> Self {
        let keys = reads.keys.iter().map(|read| {
            let (seen, seqs) = match &read.seen {
                Seen::Nothing => ("nothing", Vec::new()),
                Seen::Write(seq) => ("write", vec![*seq]),
                Seen::Merged(seqs) => ("merged", seqs.clone()),
                Seen::Undeclared(seq) => ("undeclared", vec![*seq]),
            };
            ReadJson { key: read.key.to_string(), seen: seen.to_owned(), seqs }
        });
        Self { keys: keys.collect(), all: reads.all }
    }
}

impl TryFrom<ReadsJson> for Reads {
    type Error = NotAHistory;

    fn try_from(json: ReadsJson) -> Result<Self, NotAHistory> {
        let keys = json.keys.into_iter().map(|read| {
            let seen = match (read.seen.as_str(), &read.seqs[..]) {
                ("nothing", []) => Seen::Nothing,
                ("write", [seq]) => Seen::Write(*seq),
                ("merged", seqs) => Seen::Merged(seqs.to_vec()),
                ("undeclared", [seq]) => Seen::Undeclared(*seq),
                (seen, _) => return Err(NotAHistory::Part(format!("a read of '{}' saw '{seen}'", read.key))),
            };
            Ok(Read { key: read.key.into(), seen })
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, all: json.all })
    }
}

impl From<&TaskError> for ErrorJson {
    fn from(error: &TaskError) -> Self {
        Self {
            kind: error.kind.to_string(),
            message: error.message.to_string(),
            traceback: error.traceback.as_ref().map(ToString::to_string),
            lineage: error.lineage.iter().map(ToString::to_string).collect(),
            transient: error.transient,
            hint: error.hint.as_ref().map(ToString::to_string),
        }
    }
}

impl From<ErrorJson> for TaskError {
    fn from(json: ErrorJson) -> Self {
        Self {
            kind: json.kind.into(),
            message: json.message.into(),
            traceback: shared(json.traceback),
            lineage: json.lineage.into_iter().map(Into::into).collect(),
            transient: json.transient,
            hint: shared(json.hint),
        }
    }
}

impl From<&SkipReason> for SkipJson {
    fn from(why: &SkipReason) -> Self {
        let settled = |(task, settled): &(Arc<str>, Settled)| SettledJson {
            task: task.to_string(),
            settled: settled_name(*settled).to_owned(),
        };
        Self {
            rule: why.rule.to_string(),
            tasks: why.tasks.iter().map(settled).collect(),
            keys: why.keys.iter().map(ToString::to_string).collect(),
            failure: why.failure,
        }
    }
}

impl TryFrom<SkipJson> for SkipReason {
    type Error = NotAHistory;

    fn try_from(json: SkipJson) -> Result<Self, NotAHistory> {
        let tasks = json.tasks.into_iter().map(|task| Ok((task.task.into(), settled(&task.settled)?)));
        Ok(Self {
            rule: json.rule.into(),
            tasks: tasks.collect::<Result<_, NotAHistory>>()?,
            keys: json.keys.into_iter().map(Into::into).collect(),
            failure: json.failure,
        })
    }
}

impl From<RequestJson> for Request {
    fn from(json: RequestJson) -> Self {
        Self { by: json.by.into(), reason: shared(json.reason) }
    }
}

impl TryFrom<EndedJson> for ExecutionEnded {
    type Error = NotAHistory;

    fn try_from(json: EndedJson) -> Result<Self, NotAHistory> {
        Ok(Self { reason: json.reason.into(), context: unhex(&json.context)? })
    }
}

/// A time, or nothing.
#[must_use]
pub fn maybe(time: Option<Timestamp>) -> Option<String> {
    time.map(rfc3339)
}
