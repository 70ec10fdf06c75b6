//! The history of a schedule: when it fired, and which times it skipped.

use cloacina_engine::core::codec;
use cloacina_engine::core::event::{ExecutionId, Request, Seq};
use cloacina_engine::core::schedule::{ScheduleEvent, SkipCause};
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::paging::Records;
use cloacina_store::record::StreamKind;

use crate::ids::{digits, hex, short};

/// One event of a schedule with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct ScheduleEntry {
    /// Its position in the stream.
    pub seq: Seq,
    /// When it was appended.
    pub time: Timestamp,
    /// The event, or why it cannot be read.
    pub event: Result<ScheduleEvent, String>,
}

/// Returns the schedules whose id ends or begins with `text`, newest first.
///
/// # Errors
/// [`ReadError`].
pub fn matching(reader: &dyn LogReader, text: &str) -> Result<Vec<StreamEntry>, ReadError> {
    let Some(wanted) = digits(text) else { return Ok(Vec::new()) };
    let all = StreamFilter { kind: Some(StreamKind::Schedule), limit: usize::MAX, ..StreamFilter::default() };
    let is_meant = |entry: &StreamEntry| {
        let whole = hex(ExecutionId(*entry.stream.as_bytes()));
        whole.ends_with(&wanted) || whole.starts_with(&wanted)
    };
    Ok(reader.streams(&all)?.into_iter().filter(is_meant).collect())
}

/// Iterates over the events of a schedule, in order.
///
/// # Errors
/// [`ReadError`], after the events that could be read.
pub fn events<'a>(
    reader: &'a dyn LogReader,
    entry: &StreamEntry,
) -> impl Iterator<Item = Result<ScheduleEntry, ReadError>> + use<'a> {
    Records::new(reader, entry.stream, 0).map(|record| {
        let record = record?;
        let event = match record.body.bytes() {
            Some(bytes) => codec::decode_schedule_event(bytes).map_err(|why| why.to_string()),
            None => Err("its body was erased".to_owned()),
        };
        Ok(ScheduleEntry { seq: record.seq, time: Timestamp(record.time.0), event })
    })
}

/// Returns the word for the kind of event.
#[must_use]
pub fn word(event: &ScheduleEvent) -> &'static str {
    match event {
        ScheduleEvent::Created(_) => "created",
        ScheduleEvent::Updated(_) => "updated",
        ScheduleEvent::Enabled(_) => "enabled",
        ScheduleEvent::Disabled(_) => "disabled",
        ScheduleEvent::Deleted(_) => "deleted",
        ScheduleEvent::Fired(_) => "fired",
        ScheduleEvent::Skipped(_) => "skipped",
    }
}

/// Describes an event, as shown after its [`word`]. `date` formats times.
#[must_use]
pub fn says(event: &ScheduleEvent, date: impl Fn(Timestamp) -> String) -> String {
    let next = |next: &Option<Timestamp>| match next {
        Some(next) => format!("next at {}", date(*next)),
        None => "it does not fire again".to_owned(),
    };
    let asked = |request: &Request| {
        let why = request.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("by {}{why}", request.by)
    };
    match event {
        ScheduleEvent::Created(created) => {
            let (workflow, expression, zone) = (&created.workflow, &created.expression, &created.timezone);
            let catchup = created.catchup.name();
            let name = created.name.as_ref().map(|name| format!("'{name}': ")).unwrap_or_default();
            let first = next(&created.next);
            let begin = format!("{name}{workflow} at {expression} ({zone}), catch-up {catchup}; {first}");
            let input: Vec<String> = created.input.iter().map(|(key, value)| format!("{key}={value}")).collect();
            match input.is_empty() {
                true => begin,
                false => format!("{begin}; input {}", input.join(", ")),
            }
        }
        ScheduleEvent::Updated(updated) => {
            format!("to {} ({}); {}", updated.expression, updated.timezone, next(&updated.next))
        }
        ScheduleEvent::Enabled(enabled) => format!("{}; {}", asked(&enabled.request), next(&enabled.next)),
        ScheduleEvent::Disabled(request) | ScheduleEvent::Deleted(request) => asked(request),
        ScheduleEvent::Fired(fired) => format!("for {}: …{}", date(fired.scheduled), short(fired.execution)),
        ScheduleEvent::Skipped(skipped) => {
            let why = match skipped.why {
                SkipCause::Missed => "no runner was running then, and catch-up is set to skip".to_owned(),
                SkipCause::LimitReached { limit } => {
                    format!("more times were due than the catch-up limit of {limit}")
                }
                SkipCause::CouldNotFire => {
                    "the schedule was changed while it could not fire: its workflow was not registered, or the runner \
                     fires no schedules"
                        .to_owned()
                }
            };
            let (first, until) = (date(skipped.first), date(skipped.until));
            format!("times due from {first} to {until}: {why}; {}", next(&skipped.next))
        }
    }
}
