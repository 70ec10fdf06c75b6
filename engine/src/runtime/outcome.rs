//! Outcomes: an execution's state, as its caller is told.

use cloacina_store::log::{Erasure, LogReader, ReadError, StreamEntry};
use cloacina_store::record::{Body, Hash, StreamId};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::engine::{ExecutionStatus, Listed, Outcome, Standing, TaskOutcome};
use crate::core::codec::{self, DecodeError};
use crate::core::context::values;
use crate::core::definition::Fingerprint;
use crate::core::erasure::attributed;
use crate::core::event::{Event, ExecutionId, Seq};
use crate::core::fold::{Graphs, IllegalEvent, Recorded, fold};
use crate::core::graph::Graph;
use crate::core::json;
use crate::core::state::Execution;
use crate::core::time::Timestamp;

/// The stream of an execution.
#[must_use]
pub fn stream_of(execution: ExecutionId) -> StreamId {
    StreamId::from_bytes(execution.0)
}

/// The execution of a stream.
#[must_use]
pub fn execution_of(stream: StreamId) -> ExecutionId {
    ExecutionId(*stream.as_bytes())
}

/// Why an execution cannot be rebuilt from a log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A body cannot be decoded.
    #[error("execution {execution}, seq {seq}: {error}")]
    Decode {
        /// The execution.
        execution: ExecutionId,
        /// The record.
        seq: u64,
        /// Why.
        error: DecodeError,
    },
    /// A body was erased, so what came of it cannot be known.
    #[error("execution {execution}: the body at seq {seq} was erased; the execution can be shown, but not resumed")]
    Erased {
        /// The execution.
        execution: ExecutionId,
        /// The record.
        seq: u64,
    },
    /// The events do not follow from each other.
    #[error("execution {execution}: {error}")]
    Illegal {
        /// The execution.
        execution: ExecutionId,
        /// Why.
        error: IllegalEvent,
    },
    /// The stream is empty.
    #[error("execution {0} has no events")]
    Empty(ExecutionId),
}

impl RebuildError {
    /// How an unfinished execution stands that cannot be rebuilt.
    #[must_use]
    pub fn standing(&self, id: ExecutionId) -> Standing {
        let what = self.to_string();
        match self {
            Self::Decode { error: DecodeError::Newer { .. }, .. } => {
                Standing::unreadable(&what, "open the log with the version that wrote it, or a newer one")
            }
            Self::Erased { .. } => Standing::unreadable(&what, "do its work again under another id"),
            Self::Read(error) if !error.is_damage() => {
                Standing::unreadable(&what, "fix the cause and open the log again")
            }
            Self::Read(_) | Self::Decode { .. } | Self::Illegal { .. } | Self::Empty(_) => Standing::damaged(id, &what),
        }
    }
}

/// Records that are read at once.
const PAGE: usize = 1_024;

/// Rebuilds an execution: reads its stream, and folds it.
///
/// # Errors
/// [`RebuildError`] if the stream is not there, not whole, or not the history of an execution.
pub fn rebuild(log: &dyn LogReader, execution: ExecutionId) -> Result<Execution, RebuildError> {
    let graphs = LogGraphs { log };
    let mut state = None;
    visit(log, execution, |recorded| {
        let folded = fold(state.take(), execution, &recorded, &graphs);
        state = Some(folded.map_err(|error| RebuildError::Illegal { execution, error })?);
        Ok(())
    })?;
    state.ok_or(RebuildError::Empty(execution))
}

/// The events of an execution, with their places.
pub(super) fn events(log: &dyn LogReader, execution: ExecutionId) -> Result<Vec<(Seq, Event)>, RebuildError> {
    let mut events = Vec::new();
    visit(log, execution, |Recorded { seq, event, .. }| {
        events.push((seq, event));
        Ok(())
    })?;
    Ok(events)
}

/// Goes through the events of an execution, page by page.
fn visit(
    log: &dyn LogReader,
    execution: ExecutionId,
    mut take: impl FnMut(Recorded) -> Result<(), RebuildError>,
) -> Result<(), RebuildError> {
    let mut erasures: Option<BTreeMap<u64, Erasure>> = None;
    let mut next = 0;
    loop {
        let page = log.read(stream_of(execution), next, PAGE)?;
        if page.is_empty() {
            return Ok(());
        }
        for record in page {
            let seq = record.seq;
            let erasure = match record.body {
                Body::Erased { .. } => erasure_of(log, &mut erasures, execution, seq)?,
                Body::Present { .. } => None,
            };
            let bytes = record.body.bytes().or(erasure.as_ref().map(|erasure| &erasure.note[..]));
            let bytes = bytes.ok_or(RebuildError::Erased { execution, seq })?;
            let mut event =
                codec::decode_event(bytes).map_err(|error| RebuildError::Decode { execution, seq, error })?;
            if let Some(Erasure { by, reason, time, .. }) = erasure {
                event = attributed(event, &json::Erasure::new(by, reason, Timestamp(time.0)));
            }
            take(Recorded { seq, time: Timestamp(record.time.0), event })?;
            next = seq + 1;
        }
    }
}

/// What the log says of an erased event: see [`crate::core::erasure`].
fn erasure_of(
    log: &dyn LogReader,
    erasures: &mut Option<BTreeMap<u64, Erasure>>,
    execution: ExecutionId,
    seq: u64,
) -> Result<Option<Erasure>, ReadError> {
    let known = match erasures {
        Some(known) => known,
        None => {
            let found = log.erasures(stream_of(execution))?;
            erasures.insert(found.into_iter().map(|erasure| (erasure.seq, erasure)).collect())
        }
    };
    Ok(known.get(&seq).cloned())
}

/// The graphs of the definitions in a log.
pub struct LogGraphs<'a> {
    /// The log.
    pub log: &'a dyn LogReader,
}

impl Graphs for LogGraphs<'_> {
    fn graph(&self, fingerprint: Fingerprint) -> Option<Arc<Graph>> {
        let bytes = self.log.definition(Hash(fingerprint.0)).ok()??;
        let definition = codec::decode_definition(&bytes).ok()?;
        Graph::new(Arc::new(definition)).ok().map(Arc::new)
    }
}

/// What is told of an execution.
#[must_use]
pub fn outcome(state: &Execution) -> Outcome {
    let is_final = state.status().is_final();
    let context = values(&state.context()).map(|(key, value)| (key.clone(), value.clone())).collect::<BTreeMap<_, _>>();
    let failed = state.root_failures().and_then(|(task, _)| {
        let failure = state.task(task).failure()?;
        Some((state.graph().name(task).clone(), failure.attempt))
    });
    Outcome {
        execution: state.id(),
        workflow: state.workflow().clone(),
        status: Standing::of(state).status,
        started: state.started(),
        ended: is_final.then(|| state.last()),
        context,
        error: (is_final && !state.reason().is_empty()).then(|| state.reason().to_string()),
        failed,
        tasks: state.graph().tasks().map(|task| task_outcome(state, task)).collect(),
    }
}

fn task_outcome(state: &Execution, task: crate::core::graph::TaskIndex) -> TaskOutcome {
    let slot = state.task(task);
    let error = slot.failure().map(|failure| {
        let mut error = failure.error.clone();
        error.hint = state.failure_hint(task).map(Into::into);
        error
    });
    TaskOutcome {
        task: state.graph().name(task).clone(),
        state: slot.state().name(),
        attempts: slot.attempts(),
        error,
        skipped: slot.skipped().map(describe_skip),
        started: slot.started(),
        ended: slot.ended(),
    }
}

/// Why a task was skipped, in a sentence's half: the rule, and what decided it.
fn describe_skip(why: &crate::core::event::SkipReason) -> String {
    let tasks = why.tasks.iter().map(|(task, settled)| format!("{task}: {settled:?}"));
    let keys = why.keys.iter().map(|key| format!("context '{key}'"));
    let decided: Vec<String> = tasks.chain(keys).collect();
    let by_failure = if why.failure { "skipped by failure: " } else { "" };
    format!("{by_failure}rule {} ({})", why.rule, decided.join(", "))
}

/// What the listing tells of an execution. `known` is how it stands, where its engine knows more than its events say.
pub(crate) fn listed(entry: &StreamEntry, known: Option<Standing>) -> Result<Listed, DecodeError> {
    let label = codec::decode_label(&entry.label)?;
    Ok(Listed {
        execution: execution_of(entry.stream),
        workflow: label.workflow,
        // What was known of it before its end is no longer so.
        standing: known.filter(|_| label.ended.is_none()).unwrap_or_else(|| ExecutionStatus::from(label.status).into()),
        started: label.started,
        ended: label.ended,
        events: entry.records,
    })
}
