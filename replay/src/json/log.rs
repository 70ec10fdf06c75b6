//! Facts about a whole log, checkpoints and proofs as JSON.

use cloacina_engine::core::codec::decode_event;
use cloacina_engine::core::time::Timestamp;
use cloacina_store::doctor::{FileSystem, Holder, SyncCost};
use cloacina_store::log::ReadError;
use cloacina_store::log_event::Checkpoint;
use serde::Serialize;

use super::facts::VerdictJson;
use super::hex;
use crate::doctor::{About, DoctorReport};
use crate::proof::{VerifiedProof, What};
use crate::time::rfc3339;
use crate::verify_log::{LogVerification, VerifiedExecution, seq};
use crate::words;

/// An execution that was verified.
#[derive(Debug, Serialize)]
pub struct VerifiedExecutionJson<'a> {
    id: String,
    workflow: Option<&'a str>,
    status: &'a str,
    ok: bool,
    verdict: &'static str,
    records: u64,
    first: Option<VerdictJson>,
}

impl<'a> From<&'a VerifiedExecution> for VerifiedExecutionJson<'a> {
    fn from(checked: &'a VerifiedExecution) -> Self {
        let head = &checked.head;
        Self {
            id: head.id.to_string(),
            workflow: head.label.as_ref().ok().map(|label| &*label.workflow),
            status: head.status(),
            ok: checked.verification.is_ok(),
            verdict: checked.verdict(),
            records: checked.verification.records,
            first: checked.first().map(VerdictJson::from),
        }
    }
}

/// Damage of a log.
#[derive(Debug, Serialize)]
pub struct FindingJson {
    stream: Option<String>,
    seq: Option<u64>,
    says: String,
}

impl From<&ReadError> for FindingJson {
    fn from(finding: &ReadError) -> Self {
        let stream = finding.stream().map(|stream| stream.to_string());
        Self { stream, seq: seq(finding), says: finding.to_string() }
    }
}

/// The result of verifying a log, without its executions.
#[derive(Debug, Serialize)]
pub struct LogVerificationJson {
    records: u64,
    streams: Option<u64>,
    digest: Option<String>,
    findings: Vec<FindingJson>,
    pruned_meanwhile: u64,
    unreadable: Option<String>,
}

impl LogVerificationJson {
    /// Converts the result to JSON. `pruned_meanwhile` counts executions that were pruned during verification.
    /// `unreadable` is the reason if not all executions could be verified.
    #[must_use]
    pub fn new(whole: &LogVerification, pruned_meanwhile: u64, unreadable: Option<String>) -> Self {
        Self {
            records: whole.records,
            streams: whole.streams,
            digest: whole.digest.map(|digest| digest.to_string()),
            findings: whole.findings.iter().map(FindingJson::from).collect(),
            pruned_meanwhile,
            unreadable,
        }
    }
}

/// The findings of the doctor.
#[derive(Debug, Serialize)]
pub struct DoctorJson {
    files_bytes: u64,
    index_bytes: u64,
    file_system: FileSystemJson,
    sync: Option<SyncJson>,
    sync_failed: Option<String>,
    holder: Option<HolderJson>,
    durability: Option<String>,
    content: Option<ContentJson>,
    warnings: Vec<WarningJson>,
}

#[derive(Debug, Serialize)]
struct FileSystemJson {
    kind: String,
    free_bytes: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct SyncJson {
    median_us: u64,
    longest_us: u64,
    seems_real: bool,
}

#[derive(Debug, Serialize)]
struct HolderJson {
    pid: u32,
    host: String,
    holds: bool,
    answers: bool,
}

#[derive(Debug, Serialize)]
struct ContentJson {
    executions: u64,
    unfinished: u64,
    records: u64,
    oldest: Option<String>,
}

#[derive(Debug, Serialize)]
struct WarningJson {
    about: &'static str,
    says: String,
}

impl From<&DoctorReport> for DoctorJson {
    fn from(ground: &DoctorReport) -> Self {
        let found = &ground.diagnosis;
        let FileSystem { kind, free, size, .. } = &found.file_system;
        let micros = |span: std::time::Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        Self {
            files_bytes: found.files,
            index_bytes: found.index,
            file_system: FileSystemJson { kind: kind.clone(), free_bytes: *free, bytes: *size },
            sync: found.sync.as_ref().ok().map(|SyncCost { median, longest, seems_real }| SyncJson {
                median_us: micros(*median),
                longest_us: micros(*longest),
                seems_real: *seems_real,
            }),
            sync_failed: found.sync.as_ref().err().cloned(),
            holder: found.holder.as_ref().map(|Holder { pid, host, holds, answers }| HolderJson {
                pid: *pid,
                host: host.clone(),
                holds: *holds,
                answers: answers.is_ok(),
            }),
            durability: ground.durability.map(words::durability),
            content: ground.content.map(|content| ContentJson {
                executions: content.executions,
                unfinished: content.unfinished,
                records: content.records,
                oldest: content.oldest.map(rfc3339),
            }),
            warnings: ground
                .warnings
                .iter()
                .map(|warning| WarningJson { about: about(warning.about), says: warning.text.clone() })
                .collect(),
        }
    }
}

fn about(about: About) -> &'static str {
    match about {
        About::FileSystem => "file system",
        About::Sync => "sync",
        About::Holder => "holder",
        About::Durability => "durability",
        About::Content => "content",
        About::Clock => "clock",
        About::Execution => "execution",
    }
}

/// A checkpoint: what was signed, when, and by which key.
#[derive(Debug, Serialize)]
pub struct CheckpointJson {
    records: u64,
    root: String,
    time: String,
    key: String,
}

impl From<&Checkpoint> for CheckpointJson {
    fn from(checkpoint: &Checkpoint) -> Self {
        Self {
            records: checkpoint.size,
            root: checkpoint.root.to_string(),
            time: rfc3339(Timestamp(checkpoint.time.0)),
            key: hex(&checkpoint.key),
        }
    }
}

/// The fact that a proof shows.
#[derive(Debug, Serialize)]
#[serde(tag = "shows", rename_all = "lowercase")]
pub enum ShownJson {
    /// A record was in the log.
    Record {
        /// Its stream.
        stream: String,
        /// Its position in the stream.
        seq: u64,
        /// Its position in the log.
        position: u64,
        /// When it was recorded.
        time: String,
        /// Its hash.
        hash: String,
        /// The name of its event, if the proof discloses the body and it can be decoded.
        event: Option<&'static str>,
        /// The length of its body, if the proof discloses it.
        body_bytes: Option<u64>,
    },
    /// The log extends an older checkpoint.
    Growth {
        /// The older checkpoint.
        since: CheckpointJson,
    },
}

impl From<&VerifiedProof> for ShownJson {
    fn from(shown: &VerifiedProof) -> Self {
        match &shown.what {
            What::Record { header, hash, body } => Self::Record {
                stream: header.stream.to_string(),
                seq: header.seq,
                position: header.position,
                time: rfc3339(Timestamp(header.time.0)),
                hash: hash.to_string(),
                event: body.as_deref().and_then(|body| decode_event(body).ok()).map(|event| event.name()),
                body_bytes: body.as_ref().map(|body| body.len() as u64),
            },
            What::Growth { since } => Self::Growth { since: CheckpointJson::from(&**since) },
        }
    }
}
