//! What the engine says with `tracing`, for Python's `logging`.
//!
//! The engine's threads must not wait for the GIL: they leave records here, and a thread of Python's takes them.

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

/// Python's number for a level, the logger's name, the message, and the fields: those of the event, then of its spans.
type LogRecord = (u8, String, String, Vec<(String, String)>);

struct Records {
    sender: Sender<LogRecord>,
    receiver: Receiver<LogRecord>,
    /// Has at most one token: that there are records.
    bell: (Sender<()>, Receiver<()>),
}

static RECORDS: OnceLock<Records> = OnceLock::new();
/// Python's number for the lowest level that is wanted.
static LEVEL: AtomicU8 = AtomicU8::new(30);

fn records() -> &'static Records {
    RECORDS.get_or_init(|| {
        let (sender, receiver) = unbounded();
        Records { sender, receiver, bell: bounded(1) }
    })
}

fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 40,
        Level::WARN => 30,
        Level::INFO => 20,
        Level::DEBUG => 10,
        Level::TRACE => 5,
    }
}

/// `cloacina_engine::runtime::engine` speaks as `cloaca.engine.runtime.engine`.
fn logger(target: &str) -> String {
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
        is_ours(metadata) && (metadata.is_span() || number(*metadata.level()) >= LEVEL.load(Ordering::Relaxed))
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut text = Text::default();
        attributes.record(&mut text);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(text);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut text = Text::default();
        event.record(&mut text);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Text>() {
                text.fields.extend_from_slice(&fields.fields);
            }
        }
        let record = (number(*event.metadata().level()), logger(event.metadata().target()), text.message, text.fields);
        let records = records();
        // The receiver lives as long as the process; and a bell that rings already need not ring twice.
        let _ = (records.sender.send(record), records.bell.0.try_send(()));
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: Vec<(String, String)>,
}

impl Text {
    fn add(&mut self, field: &Field, value: impl Display) {
        if field.name() == "message" {
            // Writing to a text cannot fail.
            let _ = write!(self.message, "{value}");
        } else {
            self.fields.push((field.name().to_owned(), value.to_string()));
        }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }
}

/// Listens to the engine from now on. A second call changes nothing.
#[pyfunction]
pub fn start_logging() {
    let subscriber = tracing_subscriber::registry().with(ToPython);
    // It fails if somebody has set one already: that was us.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Says what level, by Python's numbers, is the lowest that is wanted.
#[pyfunction]
pub fn log_level(level: u8) {
    if LEVEL.swap(level, Ordering::Relaxed) != level {
        tracing::callsite::rebuild_interest_cache();
    }
}

/// The records that are there.
#[pyfunction]
pub fn take_logs() -> Vec<LogRecord> {
    records().receiver.try_iter().collect()
}

/// Waits until there are records, or somebody rings; it takes none.
#[pyfunction]
pub fn wait_logs(py: Python<'_>) -> PyResult<()> {
    // The sender lives as long as the process.
    without_gil(py, || records().bell.1.recv()).map(drop)
}

/// Wakes who waits for records.
#[pyfunction]
pub fn ring_logs() {
    // A bell that rings already need not ring twice.
    let _ = records().bell.0.try_send(());
}
