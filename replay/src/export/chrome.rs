//! Export for `chrome://tracing` and Perfetto: a trace with a track for each worker, and an arrow for each dependency
//! and each retry.
//!
//! The format is the JSON object of the "Trace Event Format": complete events (`X`), flows (`s`, `f`), instants (`i`)
//! and metadata (`M`); times are microseconds, here since the start of the execution.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Exported, outcome};
use crate::ids::short;
use crate::story::{AttemptRow, Outcome, What};
use crate::time::rfc3339;
use crate::words;

/// The track of the execution itself.
const EXECUTION: u32 = 0;

#[derive(Debug, Serialize)]
struct TraceEvent {
    name: String,
    cat: &'static str,
    ph: &'static str,
    ts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    dur: Option<u64>,
    pid: u32,
    tid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    /// Binding point of a flow's end: `e` for the enclosing slice.
    #[serde(skip_serializing_if = "Option::is_none")]
    bp: Option<&'static str>,
    /// Scope of an instant: `g` for the whole trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    s: Option<&'static str>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    args: Map<String, Value>,
}

/// The position of an attempt in the trace.
#[derive(Clone, Copy)]
struct Slice {
    pid: u32,
    tid: u32,
    begin: u64,
    end: u64,
}

/// Writes the trace.
///
/// # Errors
/// I/O errors of `out`.
pub fn write(out: &mut dyn Write, exported: &Exported<'_>) -> io::Result<()> {
    let mut trace = Trace { exported, events: Vec::new(), slices: HashMap::new(), flows: 0 };
    trace.processes();
    trace.execution();
    trace.attempts();
    trace.retries();
    trace.dependencies();
    let other = json!({
        "execution": exported.head.id.to_string(),
        "workflow": exported.head.workflow(),
        "status": exported.head.status(),
        "started": rfc3339(exported.start()),
    });
    let whole = json!({"displayTimeUnit": "ms", "otherData": other});
    // One event a line, for line-oriented tools.
    write!(
        out,
        "{{\"displayTimeUnit\":{},\"otherData\":{},\n\"traceEvents\":[",
        whole["displayTimeUnit"], whole["otherData"]
    )?;
    for (place, event) in trace.events.iter().enumerate() {
        out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, event)?;
    }
    out.write_all(b"\n]}\n")
}

struct Trace<'a> {
    exported: &'a Exported<'a>,
    events: Vec<TraceEvent>,
    slices: HashMap<(&'a str, u32), Slice>,
    flows: u64,
}

impl<'a> Trace<'a> {
    fn since_start(&self, time: cloacina_engine::core::time::Timestamp) -> u64 {
        time.micros_since(self.exported.start())
    }

    /// Returns the number of the process that ran an attempt. Pids are not unique among several hosts.
    fn process(&self, attempt: &AttemptRow) -> u32 {
        let before = self.exported.processes().iter().filter(|(from, _)| *from <= attempt.since).count();
        u32::try_from(before.max(1)).unwrap_or(u32::MAX)
    }

    fn metadata(&mut self, name: &str, pid: u32, tid: u32, value: Value) {
        let args = Map::from_iter([("name".to_owned(), value)]);
        self.events.push(TraceEvent {
            name: name.to_owned(),
            cat: "__metadata",
            ph: "M",
            ts: 0,
            dur: None,
            pid,
            tid,
            id: None,
            bp: None,
            s: None,
            args,
        });
    }

    fn processes(&mut self) {
        let head = self.exported.head;
        for (number, (_, environment)) in (1..).zip(self.exported.processes()) {
            let name = format!("{} …{} ({})", head.workflow(), short(head.id), words::environment(environment));
            self.metadata("process_name", number, EXECUTION, Value::from(name));
        }
        let mut tracks: Vec<(u32, u32)> = self
            .exported
            .tasks()
            .flat_map(|(_, task)| &task.attempts)
            .map(|attempt| (self.process(attempt), attempt.worker))
            .collect();
        tracks.sort_unstable();
        tracks.dedup();
        self.metadata("thread_name", 1, EXECUTION, Value::from("execution"));
        for (process, worker) in tracks {
            self.metadata("thread_name", process, worker + 1, Value::from(format!("worker {worker}")));
        }
    }

    fn execution(&mut self) {
        let exported = self.exported;
        let dur = self.since_start(exported.last()).max(1);
        let args = Map::from_iter([("status".to_owned(), Value::from(exported.head.status()))]);
        let slice = Slice { pid: 1, tid: EXECUTION, begin: 0, end: dur };
        self.slice(exported.head.workflow().to_owned(), "execution", slice, args);
        for row in &exported.story.rows {
            let name = match &row.what {
                What::Paused(_) => "paused",
                What::Unpaused(_) => "unpaused",
                What::CancelRequested(_) => "cancel requested",
                What::Recovered { .. } => "recovered",
                What::Retried { .. } => "retried",
                _ => continue,
            };
            let ts = self.since_start(row.time);
            self.events.push(TraceEvent {
                name: name.to_owned(),
                cat: "execution",
                ph: "i",
                ts,
                dur: None,
                pid: 1,
                tid: EXECUTION,
                id: None,
                bp: None,
                s: Some("g"),
                args: Map::new(),
            });
        }
    }

    fn slice(&mut self, name: String, cat: &'static str, slice: Slice, args: Map<String, Value>) {
        self.events.push(TraceEvent {
            name,
            cat,
            ph: "X",
            ts: slice.begin,
            dur: Some(slice.end - slice.begin),
            pid: slice.pid,
            tid: slice.tid,
            id: None,
            bp: None,
            s: None,
            args,
        });
    }

    fn attempts(&mut self) {
        let exported = self.exported;
        for (row, task) in exported.tasks() {
            for attempt in &task.attempts {
                let begin = self.since_start(attempt.since);
                // Arrows bind to the slice that encloses their end, so no slice may be empty.
                let end = self.since_start(exported.ended(attempt)).max(begin + 1);
                let slice = Slice { pid: self.process(attempt), tid: attempt.worker + 1, begin, end };
                self.slices.insert((&task.task, attempt.number), slice);
                let again = if attempt.number > 1 { format!(" (attempt {})", attempt.number) } else { String::new() };
                let mut args = Map::from_iter([
                    ("outcome".to_owned(), Value::from(outcome(attempt))),
                    ("attempt".to_owned(), Value::from(attempt.number)),
                    ("seq".to_owned(), Value::from(attempt.started.max(row.first))),
                ]);
                if let Outcome::Failed { error, .. } = &attempt.outcome {
                    args.insert("error".to_owned(), Value::from(words::error(error)));
                }
                let keys = |keys: Vec<&str>| Value::from(keys.join(", "));
                args.insert("read".to_owned(), keys(attempt.reads.keys.iter().map(|read| &*read.key).collect()));
                args.insert("wrote".to_owned(), keys(attempt.writes.iter().map(|change| &*change.key).collect()));
                self.slice(format!("{}{again}", task.task), "attempt", slice, args);
            }
        }
    }

    fn arrow(&mut self, cat: &'static str, from: Slice, to: Slice) {
        self.flows += 1;
        let ends = [("s", from, from.end - 1, None), ("f", to, to.begin, Some("e"))];
        for (ph, slice, ts, bp) in ends {
            self.events.push(TraceEvent {
                name: cat.to_owned(),
                cat,
                ph,
                ts,
                dur: None,
                pid: slice.pid,
                tid: slice.tid,
                id: Some(self.flows),
                bp,
                s: None,
                args: Map::new(),
            });
        }
    }

    fn retries(&mut self) {
        let exported = self.exported;
        for (_, task) in exported.tasks() {
            for pair in task.attempts.windows(2) {
                let find = |attempt: &AttemptRow| self.slices.get(&(&*task.task, attempt.number)).copied();
                if let (Some(from), Some(to)) = (find(&pair[0]), find(&pair[1])) {
                    self.arrow("retry", from, to);
                }
            }
        }
    }

    fn dependencies(&mut self) {
        let exported = self.exported;
        let last: HashMap<&str, u32> =
            exported.tasks().filter_map(|(_, task)| Some((&*task.task, task.attempts.last()?.number))).collect();
        for (_, task) in exported.tasks() {
            let Some(first) = task.attempts.first() else { continue };
            let Some(to) = self.slices.get(&(&*task.task, first.number)).copied() else { continue };
            for up in exported.upstream(&task.task) {
                let from = last.get(&**up).and_then(|number| self.slices.get(&(&**up, *number)).copied());
                // After a recovery, a task may have started before a later attempt at its dependency ended.
                if let Some(from) = from.filter(|from| from.end <= to.begin + 1) {
                    self.arrow("dependency", from, to);
                }
            }
        }
    }
}
