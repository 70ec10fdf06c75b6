//! Reading the history of an execution from a log.

use cloacina_engine::core::codec;
use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::outcome::stream_of;
use cloacina_store::log::LogReader;

/// One event of an execution, as read from the log.
#[derive(Clone, Debug)]
pub struct RecordedEvent {
    /// Its position in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// The event.
    pub event: Event,
}

/// Returns all events of an execution, in order.
///
/// # Panics
/// If the log cannot be read.
#[must_use]
pub fn history(log: &dyn LogReader, execution: ExecutionId) -> Vec<RecordedEvent> {
    let records = log.read(stream_of(execution), 0, usize::MAX >> 1).expect("the history is readable");
    records
        .into_iter()
        .map(|record| RecordedEvent {
            position: record.position,
            time: Timestamp(record.time.0),
            event: codec::decode_event(record.body.bytes().expect("the body is there")).expect("an event"),
        })
        .collect()
}

/// Returns the names of the events, each with its task and attempt if it has them: `TaskStarted extract 1`.
#[must_use]
pub fn event_names(log: &dyn LogReader, execution: ExecutionId) -> Vec<String> {
    history(log, execution).iter().map(|past| describe(&past.event)).collect()
}

/// Whether the history has an event with this description.
#[must_use]
pub fn has_event(log: &dyn LogReader, execution: ExecutionId, event: &str) -> bool {
    event_names(log, execution).iter().any(|name| name == event)
}

fn describe(event: &Event) -> String {
    let name = event.name();
    match event {
        Event::TaskStarted(event) => format!("{name} {} {}", event.task, event.attempt),
        Event::TaskCompleted(event) => format!("{name} {} {}", event.task, event.attempt),
        Event::TaskFailed(event) => format!("{name} {} {}", event.task, event.attempt),
        Event::TaskAbandoned(event) => format!("{name} {} {} {:?}", event.task, event.attempt, event.why),
        Event::TaskDeferred(event) => format!("{name} {} {}", event.task, event.attempt),
        Event::TaskResumed(event) => format!("{name} {} {}", event.task, event.attempt),
        Event::TaskSkipped(event) => format!("{name} {}", event.task),
        Event::ContextWritten(event) => format!("{name} {}", event.key),
        Event::ContextRemoved(event) => format!("{name} {}", event.key),
        _ => name.to_owned(),
    }
}
