//! Events as JSON, and back.

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{
    ContextRemoved, ContextWritten, Event, ExecutionEnded, ExecutionRecovered, ExecutionRetried, ExecutionStarted,
    Origin, Request, Seq, TaskAbandoned, TaskCompleted, TaskDeferred, TaskFailed, TaskResumed, TaskSkipped,
    TaskStarted,
};
use cloacina_engine::core::json::{Erasure, Json};
use cloacina_store::record::Hash;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::outcomes::{ErrorJson, ReadsJson, SkipJson, abandon_name, abandon_reason};
use super::starts::{CauseJson, EnvironmentJson, OptionsJson};
use super::values::{ErasedJson, present, raw, shared};
use super::{InvalidHistory, hex, time, unhex};
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
    /// Its name; null if the body is missing and the event unknown.
    event: Option<String>,
    body: Option<Box<RawValue>>,
    /// The erasure of its body. A value in the remaining body is only a placeholder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedJson>,
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

/// A written value (with `value`) or a removal (without). The input has no task.
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

#[derive(Serialize, Deserialize)]
struct SkippedJson {
    task: String,
    why: SkipJson,
}

#[derive(Serialize, Deserialize)]
struct AbandonedJson {
    task: String,
    attempt: u32,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct DeferredJson {
    task: String,
    attempt: u32,
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
struct RetriedJson {
    by: String,
    reason: Option<String>,
    environment: EnvironmentJson,
    definition: String,
    options: OptionsJson,
}

#[derive(Serialize, Deserialize)]
struct EndedJson {
    reason: String,
    context: String,
}

impl EntryJson {
    /// Converts an event to JSON.
    ///
    /// # Errors
    /// Never for an event of this library.
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

    /// Converts it back to an event.
    ///
    /// # Errors
    /// [`InvalidHistory`].
    pub fn entry(&self) -> Result<Entry, InvalidHistory> {
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
                    Some(Event::ContextWritten(ContextWritten { value: erased_value(erased.as_ref()), ..write }))
                }
                event => event,
            },
            erased,
        })
    }
}

/// Returns the placeholder for an erased value.
fn erased_value(erased: Option<&Erased>) -> Json {
    erased.map_or_else(Json::erased, |Erased { time, by, reason }| Json::erased_by(&Erasure::new(by, reason, *time)))
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
        Event::TaskDeferred(deferred) => {
            to_raw_value(&DeferredJson { task: deferred.task.to_string(), attempt: deferred.attempt })
        }
        Event::TaskResumed(resumed) => {
            let (task, attempt, worker) = (resumed.task.to_string(), resumed.attempt, resumed.worker);
            to_raw_value(&TaskStartedJson { task, attempt, worker })
        }
        Event::ExecutionPaused(request) | Event::ExecutionUnpaused(request) | Event::CancelRequested(request) => {
            let (by, reason) = (request.by.to_string(), request.reason.as_ref().map(ToString::to_string));
            to_raw_value(&RequestJson { by, reason })
        }
        Event::ExecutionRecovered(recovered) => {
            let environment = EnvironmentJson::from(&recovered.environment);
            to_raw_value(&RecoveredJson { environment, definition: recovered.definition.to_string() })
        }
        Event::ExecutionRetried(retried) => to_raw_value(&RetriedJson {
            by: retried.request.by.to_string(),
            reason: retried.request.reason.as_ref().map(ToString::to_string),
            environment: EnvironmentJson::from(&retried.environment),
            definition: retried.definition.to_string(),
            options: OptionsJson::from(&retried.options),
        }),
        Event::ExecutionCompleted(ended) | Event::ExecutionFailed(ended) | Event::ExecutionCancelled(ended) => {
            to_raw_value(&EndedJson { reason: ended.reason.to_string(), context: hex(&ended.context) })
        }
    }
}

fn event(name: &str, body: &str) -> Result<Event, InvalidHistory> {
    Ok(match name {
        "ExecutionStarted" => Event::ExecutionStarted(serde_json::from_str::<StartedJson>(body)?.try_into()?),
        "ContextWritten" => {
            let write: WrittenJson = serde_json::from_str(body)?;
            let value = write.value.as_ref().map(|value| Json::from_serializer(value.get()));
            let value =
                value.ok_or_else(|| InvalidHistory::Part(format!("a write of '{}' has no value", write.key)))?;
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
        "TaskDeferred" => {
            let DeferredJson { task, attempt } = serde_json::from_str(body)?;
            Event::TaskDeferred(TaskDeferred { task: task.into(), attempt })
        }
        "TaskResumed" => {
            let TaskStartedJson { task, attempt, worker } = serde_json::from_str(body)?;
            Event::TaskResumed(TaskResumed { task: task.into(), attempt, worker })
        }
        "ExecutionPaused" => Event::ExecutionPaused(serde_json::from_str::<RequestJson>(body)?.into()),
        "ExecutionUnpaused" => Event::ExecutionUnpaused(serde_json::from_str::<RequestJson>(body)?.into()),
        "CancelRequested" => Event::CancelRequested(serde_json::from_str::<RequestJson>(body)?.into()),
        "ExecutionRecovered" => {
            let RecoveredJson { environment, definition } = serde_json::from_str(body)?;
            let definition = Fingerprint(unhex(&definition)?);
            Event::ExecutionRecovered(ExecutionRecovered { environment: environment.into(), definition })
        }
        "ExecutionRetried" => Event::ExecutionRetried(serde_json::from_str::<RetriedJson>(body)?.try_into()?),
        "ExecutionCompleted" => Event::ExecutionCompleted(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        "ExecutionFailed" => Event::ExecutionFailed(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        "ExecutionCancelled" => Event::ExecutionCancelled(serde_json::from_str::<EndedJson>(body)?.try_into()?),
        other => return Err(InvalidHistory::Part(format!("unknown event '{other}'"))),
    })
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

impl TryFrom<StartedJson> for ExecutionStarted {
    type Error = InvalidHistory;

    fn try_from(json: StartedJson) -> Result<Self, InvalidHistory> {
        Ok(Self {
            workflow: json.workflow.into(),
            definition: Fingerprint(unhex(&json.definition)?),
            cause: (&json.cause).try_into()?,
            environment: json.environment.into(),
            options: json.options.into(),
            inputs: json.inputs,
        })
    }
}

impl From<RequestJson> for Request {
    fn from(json: RequestJson) -> Self {
        Self { by: json.by.into(), reason: shared(json.reason) }
    }
}

impl TryFrom<RetriedJson> for ExecutionRetried {
    type Error = InvalidHistory;

    fn try_from(json: RetriedJson) -> Result<Self, InvalidHistory> {
        Ok(Self {
            environment: json.environment.into(),
            definition: Fingerprint(unhex(&json.definition)?),
            options: json.options.into(),
            request: Request { by: json.by.into(), reason: shared(json.reason) },
        })
    }
}

impl TryFrom<EndedJson> for ExecutionEnded {
    type Error = InvalidHistory;

    fn try_from(json: EndedJson) -> Result<Self, InvalidHistory> {
        Ok(Self { reason: json.reason.into(), context: unhex(&json.context)? })
    }
}
