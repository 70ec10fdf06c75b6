//! Forwards the engine's `tracing` output to Python's `logging`.
//!
//! The engine's threads must not wait for the GIL: they queue records here, and a Python thread takes them.

use std::fmt::{Debug, Display, Write as _};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pyo3::prelude::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::exit::without_gil;

/// Python's level number, the logger's name, the message, and the fields of the event, then of its spans.
type LogRecord = (u8, String, String, Vec<(String, String)>);

struct Records {
    sender: Sender<LogRecord>,
    receiver: Receiver<LogRecord>,
    /// Wakes the reader. Capacity 1: one token means that there are records.
    wake: (Sender<()>, Receiver<()>),
}

static RECORDS: OnceLock<Records> = OnceLock::new();
/// The lowest level to forward, as Python's number.
static LEVEL: AtomicU8 = AtomicU8::new(30);

fn records() -> &'static Records {
    RECORDS.get_or_init(|| {
        let (sender, receiver) = unbounded();
        Records { sender, receiver, wake: bounded(1) }
    })
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// The logger name of a target: `cloaca.engine.runtime.engine` for `cloacina_engine::runtime::engine`.
fn logger_name(target: &str) -> String {
    let target = target.replace("::", ".");
    let rest = target.strip_prefix("cloacina_").or_else(|| target.strip_prefix("cloaca")).unwrap_or(&target);
    format!("cloaca.{}", rest.trim_start_matches('.'))
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("cloac")
}

struct ToPython;

impl<S: Subscriber + for<'span> LookupSpan<'span>> Layer<S> for ToPython {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        is_ours(metadata) && (metadata.is_span() || python_level(*metadata.level()) >= LEVEL.load(Ordering::Relaxed))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = EventText::default();
        attributes.record(&mut text);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(text);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = EventText::default();
        event.record(&mut text);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<EventText>() {
                text.fields.extend_from_slice(&fields.fields);
            }
        }
        let record = (
            python_level(*event.metadata().level()),
            logger_name(event.metadata().target()),
            text.message,
            text.fields,
        );
        let records = records();
        // Neither matters: the receiver lives as long as the process, and a full wake channel already has its token.
        let _ = (records.sender.send(record), records.wake.0.try_send(()));
    }
}

#[derive(Default)]
struct EventText {
    message: String,
    fields: Vec<(String, String)>,
}

impl EventText {
    fn add(&mut self, field: &Field, value: impl Display) {
        if field.name() == "message" {
            // Writing to a `String` cannot fail.
            let _ = write!(self.message, "{value}");
        } else {
            self.fields.push((field.name().to_owned(), value.to_string()));
        }
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }
}

/// Installs the subscriber. Idempotent.
#[pyfunction]
pub fn start_logging() {
    let subscriber = tracing_subscriber::registry().with(ToPython);
    // Fails if a subscriber is set already: then it is this one.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Sets the lowest level to forward, as Python's number.
#[pyfunction]
pub fn log_level(level: u8) {
    if LEVEL.swap(level, Ordering::Relaxed) != level {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// Takes all queued records.
#[pyfunction]
pub fn take_logs() -> Vec<LogRecord> {
    records().receiver.try_iter().collect()
}

/// Waits until there are records or `wake_logs` is called. Takes none.
#[pyfunction]
pub fn wait_logs(py: Python<'_>) -> PyResult<()> {
    // Cannot fail: the sender lives as long as the process.
    without_gil(py, || records().wake.1.recv()).map(drop)
}

/// Wakes `wait_logs`.
#[pyfunction]
pub fn wake_logs() {
    // A full channel already has its token.
    let _ = records().wake.0.try_send(());
}
