//! Export as an OpenTelemetry trace: OTLP in its JSON encoding (`ExportTraceServiceRequest`), which collectors accept
//! at `/v1/traces` or read from a file.
//!
//! The trace id is the execution's id. The execution is the root span, and each attempt a child span. Its links lead to
//! its dependencies and to the previous attempt. Errors are events named `exception`, as in the semantic conventions.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Exported, attempt_digest, outcome};
use crate::json::hex;
use crate::story::{AttemptRow, Outcome, TaskRow};
use crate::words;
use cloacina_engine::core::time::Timestamp;

/// `SPAN_KIND_INTERNAL`.
const INTERNAL: u32 = 1;
/// `STATUS_CODE_OK` and `STATUS_CODE_ERROR`.
const OK: u32 = 1;
const ERROR: u32 = 2;

/// Writes the trace.
///
/// # Errors
/// I/O errors of `out`.
pub fn write(out: &mut dyn Write, exported: &Exported<'_>) -> io::Result<()> {
    let scope = json!({"name": "cloacina-replay", "version": env!("CARGO_PKG_VERSION")});
    let resource = json!({"attributes": resource(exported)});
    write!(
        out,
        "{{\"resourceSpans\":[{{\"resource\":{resource},\"scopeSpans\":[{{\"scope\":{scope},\"spans\":[\n{}",
        root(exported)
    )?;
    for (_, task) in exported.tasks() {
        for attempt in &task.attempts {
            write!(out, ",\n{}", span(exported, task, attempt))?;
        }
    }
    out.write_all(b"\n]}]}]}\n")
}

fn resource(exported: &Exported<'_>) -> Vec<Value> {
    let mut attributes = vec![text("service.name", "cloaca")];
    if let Some((_, environment)) = exported.processes().last() {
        attributes.push(text("service.version", &environment.engine));
        attributes.push(text("host.name", &environment.host));
        attributes.push(number("process.pid", u64::from(environment.pid)));
        attributes.extend(environment.python.as_ref().map(|python| text("process.runtime.version", python)));
    }
    attributes
}

fn root(exported: &Exported<'_>) -> Value {
    let head = exported.head;
    let (code, message) = match head.status() {
        "Completed" => (Some(OK), ""),
        "Failed" => (Some(ERROR), reason(exported)),
        _ => (None, ""),
    };
    let mut span = base(exported, "", &root_id(exported), head.workflow(), exported.start(), exported.last());
    span["attributes"] = json!([
        text("cloaca.workflow", head.workflow()),
        text("cloaca.status", head.status()),
        number("cloaca.events", head.entry.records),
    ]);
    set_status(&mut span, code, message);
    span
}

fn reason<'a>(exported: &Exported<'a>) -> &'a str {
    let state = exported.story.state.as_ref();
    state.map_or("", |state| state.reason())
}

fn span(exported: &Exported<'_>, task: &TaskRow, attempt: &AttemptRow) -> Value {
    let id = span_id(exported, &task.task, attempt.number);
    let mut span = base(exported, &root_id(exported), &id, &task.task, attempt.since, exported.ended(attempt));
    let mut attributes = vec![
        text("cloaca.task", &task.task),
        number("cloaca.attempt", u64::from(attempt.number)),
        number("cloaca.worker", u64::from(attempt.worker)),
        number("cloaca.seq", attempt.started),
        text("cloaca.outcome", outcome(attempt)),
    ];
    attributes.push(list("cloaca.read", attempt.reads.keys.iter().map(|read| &*read.key)));
    attributes.push(list("cloaca.wrote", attempt.writes.iter().map(|change| &*change.key)));
    span["attributes"] = Value::from(attributes);
    span["links"] = Value::from(links(exported, task, attempt));
    match &attempt.outcome {
        Outcome::Completed => set_status(&mut span, Some(OK), ""),
        Outcome::Failed { error, .. } => {
            let mut about = vec![text("exception.type", &error.kind), text("exception.message", &error.message)];
            about.extend(error.traceback.as_ref().map(|trace| text("exception.stacktrace", trace)));
            span["events"] = json!([{
                "timeUnixNano": nanos(exported.ended(attempt)),
                "name": "exception",
                "attributes": about,
            }]);
            set_status(&mut span, Some(ERROR), &words::error(error));
        }
        Outcome::Abandoned(why) => set_status(&mut span, Some(ERROR), words::abandoned(*why)),
        Outcome::Running | Outcome::Deferred | Outcome::Left | Outcome::Cancelled => {}
    }
    span
}

fn base(exported: &Exported<'_>, parent: &str, id: &str, name: &str, begin: Timestamp, end: Timestamp) -> Value {
    json!({
        "traceId": hex(&exported.head.id.0),
        "spanId": id,
        "parentSpanId": parent,
        "name": name,
        "kind": INTERNAL,
        "startTimeUnixNano": nanos(begin),
        "endTimeUnixNano": nanos(end),
    })
}

fn set_status(span: &mut Value, code: Option<u32>, message: &str) {
    span["status"] = match code {
        Some(code) => json!({"code": code, "message": message}),
        None => json!({}),
    };
}

/// Returns links to the spans that caused this one: the previous attempt, or for a first attempt the dependencies.
fn links(exported: &Exported<'_>, task: &TaskRow, attempt: &AttemptRow) -> Vec<Value> {
    let link = |task: &str, number: u32, kind: &str| {
        json!({
            "traceId": hex(&exported.head.id.0),
            "spanId": span_id(exported, task, number),
            "attributes": [text("cloaca.link", kind)],
        })
    };
    let first = task.attempts.first().is_some_and(|first| first.number == attempt.number);
    if !first {
        let before = task.attempts.iter().take_while(|other| other.number != attempt.number).last();
        return before.map(|before| link(&task.task, before.number, "retry")).into_iter().collect();
    }
    let upstream = exported.upstream(&task.task);
    let ran = exported.tasks().filter(|(_, up)| upstream.contains(&&up.task));
    ran.filter_map(|(_, up)| Some(link(&up.task, up.attempts.last()?.number, "dependency"))).collect()
}

fn root_id(exported: &Exported<'_>) -> String {
    span_id(exported, "", 0)
}

fn span_id(exported: &Exported<'_>, task: &str, attempt: u32) -> String {
    hex(&attempt_digest(exported.head.id, task, attempt)[..8])
}

/// Formats nanoseconds as a string, since a JSON number need not hold 64 bits.
fn nanos(time: Timestamp) -> String {
    (i128::from(time.0) * 1_000).clamp(0, i128::from(u64::MAX)).to_string()
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn number(key: &str, value: u64) -> Value {
    json!({"key": key, "value": {"intValue": value.to_string()}})
}

fn list<'a>(key: &str, values: impl Iterator<Item = &'a str>) -> Value {
    let values: Vec<Value> = values.map(|value| json!({"stringValue": value})).collect();
    json!({"key": key, "value": {"arrayValue": {"values": values}}})
}
