//! The content of the views as JSON.

use std::collections::BTreeMap;

use cloacina_engine::core::codec::{Label, LabelStatus};
use cloacina_engine::core::context::{Context, Version, values};
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{ExecutionId, Seq, TaskId};
use cloacina_engine::core::graph::TaskIndex;
use cloacina_engine::core::standing::{ExecutionStatus, Standing, UnknownStatus};
use cloacina_engine::core::state::{Execution, TaskState};
use cloacina_store::log::StreamEntry;
use cloacina_store::record::{Hash, StreamKind, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

use super::outcomes::{AskedJson, ErrorJson, ReadsJson, SkipJson, abandon_name};
use super::starts::CauseJson;
use super::values::{ErasedJson, maybe, raw};
use super::{InvalidHistory, time, unhex};
use crate::reading::{started, stream_of};
use crate::source::Head;
use crate::story::{AttemptRow, Change, NamedCollision, Outcome, Story, TaskRow, Undeclared, What};
use crate::time::rfc3339;
use crate::verify::{Verdict, Verification};
use crate::why::{How, Step};
use crate::words;

/// An execution as listed in the index of its log.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecutionJson {
    id: String,
    log: String,
    workflow: Option<String>,
    version: Option<String>,
    definition: Option<String>,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_step: Option<String>,
    started: String,
    last: String,
    ended: Option<String>,
    duration_us: Option<u64>,
    cause: Option<CauseJson>,
    recoveries: Option<u32>,
    #[serde(default, skip_serializing_if = "is_zero")]
    retries: u32,
    events: u64,
    bytes: u64,
    head: String,
    durability: Option<String>,
}

impl ExecutionJson {
    /// Converts an execution to JSON. `location` is where its log was found.
    #[must_use]
    pub fn new(head: &Head, location: &str) -> Self {
        let (label, entry, ended) = (head.label.as_ref().ok(), &head.entry, head.ended());
        Self {
            id: head.id.to_string(),
            log: location.to_owned(),
            workflow: label.map(|label| label.workflow.to_string()),
            version: label.map(|label| label.definition.version()),
            definition: label.map(|label| label.definition.to_string()),
            status: head.status().to_owned(),
            reason: head.standing.reason.clone(),
            until: maybe(head.standing.until),
            next_step: head.standing.next.clone(),
            started: rfc3339(started(entry)),
            last: rfc3339(cloacina_engine::core::time::Timestamp(entry.last.0)),
            ended: maybe(ended),
            duration_us: ended.map(|ended| ended.micros_since(started(entry))),
            cause: label.map(|label| CauseJson::from(&label.cause)),
            recoveries: label.map(|label| label.recoveries),
            retries: label.map_or(0, |label| label.retries),
            events: entry.records,
            bytes: entry.bytes,
            head: entry.head.to_string(),
            durability: head.durability.map(words::durability),
        }
    }

    /// Adds a reason for its status if it has none.
    #[must_use]
    pub fn or_reason(mut self, reason: impl FnOnce() -> Option<String>) -> Self {
        self.reason = self.reason.take().or_else(reason);
        self
    }

    /// Converts it back to an execution.
    ///
    /// # Errors
    /// [`InvalidHistory`].
    pub fn head(&self) -> Result<Head, InvalidHistory> {
        let wrong = || InvalidHistory::Part(format!("'{}' is not an execution id", self.id));
        let id: ExecutionId = self.id.parse().map_err(|_| wrong())?;
        let (label, standing) = (self.label()?, self.standing()?);
        Ok(Head {
            id,
            location: self.log.clone(),
            durability: self.durability.as_deref().and_then(words::parse_durability),
            entry: StreamEntry {
                stream: stream_of(id),
                kind: StreamKind::Execution,
                open: label.as_ref().is_none_or(|label| label.ended.is_none()),
                started: Timestamp(time(&self.started)?.0),
                last: Timestamp(time(&self.last)?.0),
                records: self.events,
                bytes: self.bytes,
                head: Hash(unhex(&self.head)?),
                label: label.as_ref().map(cloacina_engine::core::codec::encode_label).unwrap_or_default(),
            },
            label: label.ok_or_else(|| cloacina_engine::core::codec::DecodeError::Broken {
                what: "a label".to_owned(),
                why: "it could not be read where this was written".to_owned(),
            }),
            standing,
        })
    }

    /// Returns its standing at the time of writing.
    fn standing(&self) -> Result<Standing, InvalidHistory> {
        if self.workflow.is_none() {
            let reason = self.reason.as_deref().unwrap_or("its label could not be read where this was written");
            return Ok(Standing::unreadable(reason, self.next_step.as_deref().unwrap_or_default()));
        }
        Ok(Standing {
            status: self.status.parse().map_err(|unknown: UnknownStatus| InvalidHistory::Part(unknown.to_string()))?,
            reason: self.reason.clone(),
            until: self.until.as_deref().map(time).transpose()?,
            next: self.next_step.clone(),
        })
    }

    fn label(&self) -> Result<Option<Label>, InvalidHistory> {
        let (Some(workflow), Some(definition), Some(cause), Some(recoveries)) =
            (&self.workflow, &self.definition, &self.cause, self.recoveries)
        else {
            return Ok(None);
        };
        let status = match self.standing()?.status {
            ExecutionStatus::Paused => LabelStatus::Paused,
            ExecutionStatus::Completed => LabelStatus::Completed,
            ExecutionStatus::Failed => LabelStatus::Failed,
            ExecutionStatus::Cancelled => LabelStatus::Cancelled,
            _ => LabelStatus::Running,
        };
        Ok(Some(Label {
            workflow: workflow.as_str().into(),
            status,
            started: time(&self.started)?,
            ended: self.ended.as_deref().map(time).transpose()?,
            definition: Fingerprint(unhex(definition)?),
            cause: cause.try_into()?,
            recoveries,
            retries: self.retries,
        }))
    }
}

/// A task, with its attempts.
#[derive(Debug, Serialize)]
pub struct TaskJson {
    task: String,
    first: Seq,
    last: Seq,
    attempts: Vec<AttemptJson>,
    skipped: Option<SkipJson>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    asked: Vec<AskedJson>,
    cancelled: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retried: bool,
    collisions: Vec<CollisionJson>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Serialize)]
struct AttemptJson {
    attempt: u32,
    started_seq: Seq,
    started: String,
    ended: Option<String>,
    duration_us: Option<u64>,
    worker: u32,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    abandoned: Option<&'static str>,
    reads: ReadsJson,
    writes: Vec<ChangeJson>,
    undeclared: Vec<UndeclaredJson>,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct ChangeJson {
    seq: Seq,
    key: String,
    /// `added`, `replaced` or `removed`.
    change: &'static str,
    bytes: usize,
}

#[derive(Debug, Serialize)]
struct UndeclaredJson {
    key: String,
    seq: Seq,
    writer: Option<String>,
}

/// A collision at a join.
#[derive(Debug, Serialize)]
pub struct CollisionJson {
    key: String,
    writes: Vec<WriterJson>,
    taken: Vec<Seq>,
}

#[derive(Debug, Serialize)]
struct WriterJson {
    seq: Seq,
    writer: Option<String>,
}

fn name(task: Option<&TaskId>) -> Option<String> {
    task.map(ToString::to_string)
}

/// Iterates over the tasks of a story, in the order of their first event.
pub fn tasks(story: &Story) -> impl Iterator<Item = TaskJson> + '_ {
    story.rows.iter().filter_map(|row| match &row.what {
        What::Task(task) => Some(TaskJson::new(task, row.first, row.last)),
        _ => None,
    })
}

/// Returns the collisions at the join of the graph's leaves.
pub fn collisions(story: &Story) -> Vec<CollisionJson> {
    match story.end().map(|row| &row.what) {
        Some(What::Ended { collisions, .. }) => collisions.iter().map(CollisionJson::new).collect(),
        _ => Vec::new(),
    }
}

impl TaskJson {
    /// Whether it is the row of this task.
    #[must_use]
    pub fn is_of(&self, task: &str) -> bool {
        self.task == task
    }

    fn new(row: &TaskRow, first: Seq, last: Seq) -> Self {
        Self {
            task: row.task.to_string(),
            first,
            last,
            attempts: row.attempts.iter().map(AttemptJson::new).collect(),
            skipped: row.skipped.as_ref().map(SkipJson::from),
            asked: row.asked.iter().map(AskedJson::from).collect(),
            cancelled: row.cancelled,
            retried: row.retried,
            collisions: row.collisions.iter().map(CollisionJson::new).collect(),
        }
    }
}

impl AttemptJson {
    fn new(row: &AttemptRow) -> Self {
        let (outcome, error, retry_at, abandoned) = match &row.outcome {
            Outcome::Running => ("running", None, None, None),
            Outcome::Deferred => ("deferred", None, None, None),
            Outcome::Left => ("not running", None, None, None),
            Outcome::Completed => ("completed", None, None, None),
            Outcome::Cancelled => ("cancelled", None, None, None),
            Outcome::Failed { error, retry_at } => ("failed", Some(ErrorJson::from(error)), maybe(*retry_at), None),
            Outcome::Abandoned(why) => ("abandoned", None, None, Some(abandon_name(*why))),
        };
        Self {
            attempt: row.number,
            started_seq: row.started,
            started: rfc3339(row.since),
            ended: maybe(row.ended),
            duration_us: row.ended.map(|ended| ended.micros_since(row.since)),
            worker: row.worker,
            outcome,
            error,
            retry_at,
            abandoned,
            reads: ReadsJson::from(&row.reads),
            writes: row.writes.iter().map(ChangeJson::new).collect(),
            undeclared: row.undeclared.iter().map(UndeclaredJson::new).collect(),
            hint: row.hint.clone(),
        }
    }
}

impl ChangeJson {
    fn new(change: &Change) -> Self {
        let what = match (&change.value, change.replaces) {
            (None, _) => "removed",
            (Some(_), true) => "replaced",
            (Some(_), false) => "added",
        };
        let bytes = change.value.as_ref().map_or(0, |value| value.as_str().len());
        Self { seq: change.seq, key: change.key.to_string(), change: what, bytes }
    }
}

impl UndeclaredJson {
    fn new(read: &Undeclared) -> Self {
        Self { key: read.key.to_string(), seq: read.seq, writer: name(read.writer.as_ref()) }
    }
}

impl CollisionJson {
    fn new(met: &NamedCollision) -> Self {
        let writes = met.writes.iter().map(|(seq, task)| WriterJson { seq: *seq, writer: name(task.as_ref()) });
        Self { key: met.key.to_string(), writes: writes.collect(), taken: met.taken.clone() }
    }
}

/// The state after an event.
#[derive(Debug, Serialize)]
pub struct StateJson {
    seq: Seq,
    time: String,
    status: &'static str,
    tasks: Vec<TaskStateJson>,
    ready: Vec<String>,
    context: BTreeMap<String, Box<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    erased: Vec<String>,
}

#[derive(Debug, Serialize)]
struct TaskStateJson {
    task: String,
    state: &'static str,
    attempts: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waits_for: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<SkipJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorJson>,
}

impl StateJson {
    /// Converts a state to JSON.
    ///
    /// # Errors
    /// Never for a state of this library.
    pub fn new(state: &Execution) -> serde_json::Result<Self> {
        let graph = state.graph();
        Ok(Self {
            seq: state.next_seq().saturating_sub(1),
            time: rfc3339(state.last()),
            status: state.status().name(),
            tasks: graph.tasks().map(|task| TaskStateJson::new(state, task)).collect(),
            ready: state.ready().map(|task| graph.name(task).to_string()).collect(),
            context: context(&state.context())?,
            erased: erased_keys(&state.context()),
        })
    }
}

impl StateJson {
    /// Converts the state of one task to JSON.
    ///
    /// # Errors
    /// Never for a state of this library.
    pub fn of_task(story: &Story, state: &Execution, task: TaskIndex) -> serde_json::Result<Box<RawValue>> {
        let word = story.state_name(state.task(task).state());
        to_raw_value(&TaskStateJson { state: word, ..TaskStateJson::new(state, task) })
    }
}

impl TaskStateJson {
    fn new(state: &Execution, task: TaskIndex) -> Self {
        let (graph, slot) = (state.graph(), state.task(task));
        let pending = slot.state() == TaskState::Pending;
        let upstream = graph.upstream(task).iter().filter(|_| pending);
        let open = upstream.filter(|up| state.task(**up).state().settled().is_none());
        Self {
            task: graph.name(task).to_string(),
            state: slot.state().name(),
            attempts: slot.attempts(),
            waits_for: open.map(|up| graph.name(*up).to_string()).collect(),
            due: match slot.state() {
                TaskState::WaitingRetry { due } => Some(rfc3339(due)),
                _ => None,
            },
            skipped: slot.skipped().map(SkipJson::from),
            error: slot.failure().map(|failure| ErrorJson::from(&failure.error)),
        }
    }
}

/// Converts a context to JSON. Values keep the exact text that was written.
///
/// # Errors
/// Never for a context of this library.
pub fn context(context: &Context) -> serde_json::Result<BTreeMap<String, Box<RawValue>>> {
    values(context).map(|(key, value)| Ok((key.to_string(), raw(value)?))).collect()
}

/// Returns the keys whose values were erased, or were merged from an erased one.
#[must_use]
pub fn erased_keys(context: &Context) -> Vec<String> {
    values(context).filter(|(_, value)| value.is_erased()).map(|(key, _)| key.to_string()).collect()
}

/// A value and the writes that it was merged from.
#[derive(Debug, Serialize)]
pub struct ValueJson {
    key: String,
    value: Box<RawValue>,
    writes: Vec<Seq>,
    /// Whether the value was erased, or was merged from an erased one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    erased: bool,
}

impl ValueJson {
    /// Converts a value to JSON; `None` if it was removed.
    ///
    /// # Errors
    /// Never for a value of this library.
    pub fn new(key: &str, version: &Version) -> serde_json::Result<Option<Self>> {
        let Some(value) = version.value() else { return Ok(None) };
        let (key, writes, erased) = (key.to_owned(), version.writes(), value.is_erased());
        Ok(Some(Self { key, value: raw(value)?, writes, erased }))
    }
}

/// The result of verifying an execution.
#[derive(Debug, Serialize)]
pub struct VerificationJson {
    ok: bool,
    chain_ok: bool,
    records: u64,
    chained: u64,
    folded: u64,
    verdicts: Vec<VerdictJson>,
}

/// A finding of the verification.
#[derive(Debug, Serialize)]
pub struct VerdictJson {
    verdict: &'static str,
    seq: Option<Seq>,
    says: String,
}

impl From<&Verdict> for VerdictJson {
    fn from(verdict: &Verdict) -> Self {
        Self { verdict: verdict.name(), seq: verdict.seq(), says: verdict.to_string() }
    }
}

impl From<&Verification> for VerificationJson {
    fn from(found: &Verification) -> Self {
        Self {
            ok: found.is_ok(),
            chain_ok: found.chain_holds(),
            records: found.records,
            chained: found.chained,
            folded: found.folded,
            verdicts: found.verdicts.iter().map(VerdictJson::from).collect(),
        }
    }
}

/// One step of the provenance of a value.
#[derive(Debug, Serialize)]
pub struct StepJson {
    depth: usize,
    key: String,
    how: &'static str,
    seq: Option<Seq>,
    time: Option<String>,
    task: Option<String>,
    attempt: Option<u32>,
    value: Option<Box<RawValue>>,
    before: Option<Box<RawValue>>,
    /// The erasure of `value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    erased: Option<ErasedJson>,
    /// The erasure of `before`.
    #[serde(skip_serializing_if = "Option::is_none")]
    before_erased: Option<ErasedJson>,
    read_all: bool,
    told_before: bool,
}

impl StepJson {
    /// Converts a step to JSON.
    ///
    /// # Errors
    /// Never for a step of this library.
    pub fn new(step: &Step) -> serde_json::Result<Self> {
        let write = step.write.as_ref();
        let writer = write.and_then(|write| write.writer.as_ref());
        Ok(Self {
            depth: step.depth,
            key: step.key.to_string(),
            how: match step.how {
                How::Asked => "asked",
                How::Read => "read",
                How::Merged { collided: Some(true) } => "collided",
                How::Merged { .. } => "merged",
                How::Dropped => "dropped",
                How::Undeclared => "undeclared",
                How::NotSet => "not_there",
            },
            seq: write.map(|write| write.seq),
            time: write.map(|write| rfc3339(write.time)),
            task: writer.map(|(task, _)| task.to_string()),
            attempt: writer.map(|(_, attempt)| *attempt),
            value: write.and_then(|write| write.value.as_ref()).map(raw).transpose()?,
            before: write.and_then(|write| write.before.as_ref()).map(raw).transpose()?,
            erased: write.and_then(|write| write.value.as_ref()).and_then(ErasedJson::of),
            before_erased: write.and_then(|write| write.before.as_ref()).and_then(ErasedJson::of),
            read_all: write.is_some_and(|write| write.read_all),
            told_before: step.told_before,
        })
    }
}
