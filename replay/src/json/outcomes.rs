//! Outcomes of tasks as JSON: the reads of attempts, and why they failed, were abandoned, or were skipped.

use std::sync::Arc;

use cloacina_engine::core::event::{AbandonReason, Key, Read, Reads, Seen, Seq, Settled, SkipReason, TaskError};
use cloacina_engine::core::json::Json;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::InvalidHistory;
use super::values::{raw, shared};

/// The reads of an attempt.
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

/// Returns the name of the reason why an attempt was abandoned.
#[must_use]
pub fn abandon_name(why: AbandonReason) -> &'static str {
    match why {
        AbandonReason::ProcessDied => "process_died",
        AbandonReason::Shutdown => "shutdown",
    }
}

pub(super) fn abandon_reason(name: &str) -> Result<AbandonReason, InvalidHistory> {
    match name {
        "process_died" => Ok(AbandonReason::ProcessDied),
        "shutdown" => Ok(AbandonReason::Shutdown),
        other => Err(InvalidHistory::Part(format!("unknown reason '{other}' of an abandoned attempt"))),
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

fn settled(name: &str) -> Result<Settled, InvalidHistory> {
    let all = [Settled::Completed, Settled::Failed, Settled::Skipped, Settled::SkippedByFailure];
    let found = all.into_iter().find(|settled| settled_name(*settled) == name);
    found.ok_or_else(|| InvalidHistory::Part(format!("unknown outcome '{name}' of a task")))
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
    type Error = InvalidHistory;

    fn try_from(json: ReadsJson) -> Result<Self, InvalidHistory> {
        let keys = json.keys.into_iter().map(|read| {
            let seen = match (read.seen.as_str(), &read.seqs[..]) {
                ("nothing", []) => Seen::Nothing,
                ("write", [seq]) => Seen::Write(*seq),
                ("merged", seqs) => Seen::Merged(seqs.to_vec()),
                ("undeclared", [seq]) => Seen::Undeclared(*seq),
                (seen, _) => {
                    return Err(InvalidHistory::Part(format!(
                        "unknown or incomplete read '{seen}' of key '{}'",
                        read.key
                    )));
                }
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
    type Error = InvalidHistory;

    fn try_from(json: SkipJson) -> Result<Self, InvalidHistory> {
        let tasks = json.tasks.into_iter().map(|task| Ok((task.task.into(), settled(&task.settled)?)));
        Ok(Self {
            rule: json.rule.into(),
            tasks: tasks.collect::<Result<_, InvalidHistory>>()?,
            keys: json.keys.into_iter().map(Into::into).collect(),
            failure: json.failure,
        })
    }
}

/// A key that the rule of a skipped task looked up, with the value that the task saw, if there was one.
#[derive(Debug, Serialize)]
pub struct AskedJson {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

impl From<&(Key, Option<Json>)> for AskedJson {
    fn from((key, value): &(Key, Option<Json>)) -> Self {
        // Values in an event are always valid JSON.
        Self { key: key.to_string(), value: value.as_ref().and_then(|value| raw(value).ok()) }
    }
}
