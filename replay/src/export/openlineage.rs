//! Export as OpenLineage run events, one JSON object a line: one job for the workflow and one for each task, with the
//! keys of the context as datasets. So data catalogues see what each task read and wrote.
//!
//! Follows specification 2-0-2: each run has one START and one of COMPLETE, FAIL and ABORT. An attempt is a run of its
//! task, with the execution as its parent.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

use super::{Exported, attempt_digest};
use crate::story::{AttemptRow, Outcome, TaskRow};
use crate::time::rfc3339;
use crate::words;
use cloacina_engine::core::event::TaskError;
use cloacina_engine::core::time::Timestamp;

const EVENT: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent";
const PARENT: &str = "https://openlineage.io/spec/facets/1-2-0/ParentRunFacet.json#/$defs/ParentRunFacet";
const ERROR: &str = "https://openlineage.io/spec/facets/1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet";
const PRODUCER: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/tree/", env!("CARGO_PKG_VERSION"));

/// The namespace of jobs and datasets.
const NAMESPACE: &str = "cloaca";

/// Writes the events, ordered by time.
///
/// # Errors
/// I/O errors of `out`.
pub fn write(out: &mut dyn Write, exported: &Exported<'_>) -> io::Result<()> {
    let mut events = vec![(exported.start(), execution(exported, "START", exported.start(), None))];
    for (_, task) in exported.tasks() {
        for attempt in &task.attempts {
            events.push((attempt.since, run(exported, task, attempt, "START", attempt.since)));
            if let Some((kind, ended)) = end(attempt) {
                events.push((ended, run(exported, task, attempt, kind, ended)));
            }
        }
    }
    let ended = match exported.head.status() {
        "Completed" => Some("COMPLETE"),
        "Failed" => Some("FAIL"),
        "Cancelled" => Some("ABORT"),
        _ => None,
    };
    if let Some(kind) = ended {
        let failure = exported.tasks().find_map(|(_, task)| failure(task));
        events.push((exported.last(), execution(exported, kind, exported.last(), failure.filter(|_| kind == "FAIL"))));
    }
    // The sort is stable: at equal times, the start of a run stays before its end.
    events.sort_by_key(|(time, _)| *time);
    events.iter().try_for_each(|(_, event)| writeln!(out, "{event}"))
}

fn failure(task: &TaskRow) -> Option<&TaskError> {
    match &task.attempts.last()?.outcome {
        Outcome::Failed { error, retry_at: None } => Some(error),
        _ => None,
    }
}

fn end(attempt: &AttemptRow) -> Option<(&'static str, Timestamp)> {
    let kind = match &attempt.outcome {
        Outcome::Running | Outcome::Deferred | Outcome::Left => return None,
        Outcome::Completed => "COMPLETE",
        Outcome::Failed { .. } => "FAIL",
        Outcome::Abandoned(_) | Outcome::Cancelled => "ABORT",
    };
    Some((kind, attempt.ended?))
}

fn event(kind: &str, time: Timestamp, run: Value, job: Value) -> Value {
    json!({
        "eventType": kind,
        "eventTime": rfc3339(time),
        "run": run,
        "job": job,
        "inputs": [],
        "outputs": [],
        "producer": PRODUCER,
        "schemaURL": EVENT,
    })
}

fn execution(exported: &Exported<'_>, kind: &str, time: Timestamp, error: Option<&TaskError>) -> Value {
    let facets: Map<String, Value> =
        error.map(|error| ("errorMessage".to_owned(), error_facet(error))).into_iter().collect();
    let run = json!({"runId": exported.head.id.to_string(), "facets": facets});
    event(kind, time, run, job(exported.head.workflow()))
}

fn job(name: &str) -> Value {
    json!({"namespace": NAMESPACE, "name": name})
}

fn run(exported: &Exported<'_>, task: &TaskRow, attempt: &AttemptRow, kind: &str, time: Timestamp) -> Value {
    let mut facets = Map::new();
    facets.insert("parent".to_owned(), parent(exported));
    if let (Outcome::Failed { error, .. }, "FAIL") = (&attempt.outcome, kind) {
        facets.insert("errorMessage".to_owned(), error_facet(error));
    }
    let id = run_id(attempt_digest(exported.head.id, &task.task, attempt.number));
    let name = format!("{}.{}", exported.head.workflow(), task.task);
    let mut event = event(kind, time, json!({"runId": id, "facets": facets}), job(&name));
    // Reads and writes are known at the end of an attempt. Writes of a failed attempt have no effect.
    if kind != "START" {
        event["inputs"] = attempt.reads.keys.iter().map(|read| dataset(exported, &read.key)).collect();
    }
    if kind == "COMPLETE" {
        event["outputs"] = attempt.writes.iter().map(|change| dataset(exported, &change.key)).collect();
    }
    event
}

fn dataset(exported: &Exported<'_>, key: &str) -> Value {
    json!({"namespace": NAMESPACE, "name": format!("{}.{key}", exported.head.workflow())})
}

fn parent(exported: &Exported<'_>) -> Value {
    json!({
        "_producer": PRODUCER,
        "_schemaURL": PARENT,
        "run": {"runId": exported.head.id.to_string()},
        "job": job(exported.head.workflow()),
    })
}

fn error_facet(error: &TaskError) -> Value {
    let mut facet = json!({
        "_producer": PRODUCER,
        "_schemaURL": ERROR,
        "message": words::error(error),
        "programmingLanguage": "PYTHON",
    });
    if let Some(traceback) = &error.traceback {
        facet["stackTrace"] = Value::from(&**traceback);
    }
    facet
}

/// Makes a version 8 (custom) UUID from a digest.
fn run_id(mut digest: [u8; 16]) -> String {
    digest[6] = digest[6] & 0x0f | 0x80;
    digest[8] = digest[8] & 0x3f | 0x80;
    cloacina_engine::core::event::ExecutionId(digest).to_string()
}
