//! Encodes and decodes events, definitions and labels. The only module that knows bincode.
//!
//! A body is a fixed header followed by bincode data:
//!
//! | bytes | meaning |
//! |---|---|
//! | 1 | magic: `E` an event, `D` a definition, `L` a label of the listing |
//! | 1 | codec: 1 is bincode 2, standard configuration |
//! | 1 | format of the data |
//! | 2 | kind, little-endian; 0 for definitions and for labels of executions that were not retried |
//!
//! Events of executions, schedules and triggers share one range of kind numbers: 1 to 31, 32 to 47, and 48 to 63.
//!
//! Kind numbers are never reused. An unknown format is an error, never a guess. Decoding is bounded: no input can make
//! it allocate more than a small multiple of its own length.

use bincode::config::{self, Config};
use bincode::error::DecodeError as BincodeError;
use bincode::{BorrowDecode, Encode};

use super::definition::{Definition, Fingerprint};
use super::envelope::StreamEvent;
use super::event::{
    Event, ExecutionEnded, ExecutionRecovered, ExecutionRetried, ExecutionStarted, Request, TaskAbandoned,
    TaskDeferred, TaskFailed, TaskResumed, TaskSkipped,
};
use super::standing::Standing;

mod names;
mod streams;

use names::Interned;

pub use super::digest::sha256;
pub use super::label::{Label, LabelStatus, ScheduleLabel, TriggerLabel};
pub use names::Names;
pub use streams::{decode_schedule_event, decode_trigger_event, encode_schedule_event, encode_trigger_event};

const CODEC: u8 = 1;
const FORMAT: u8 = 1;
const HEADER: usize = 5;
const EVENT: u8 = b'E';
const DEFINITION: u8 = b'D';
const LABEL: u8 = b'L';
/// The kinds of labels. That of executions is 0, unless they were retried.
const SCHEDULE_LABEL: u16 = 1;
const TRIGGER_LABEL: u16 = 2;
/// The kind of a [`Standing`], which an engine sends to readers and never stores.
const STANDING: u16 = 3;
/// The label of an execution that was retried, followed by how often.
const RETRIED_LABEL: u16 = 4;

/// Why bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header belongs to something else.
    #[error("not {expected}: it starts with {found:02x?}")]
    Foreign {
        /// What was expected.
        expected: &'static str,
        /// The first bytes.
        found: Vec<u8>,
    },
    /// It was written by a newer version.
    #[error("{what} has format {found}, this version reads up to format {known}; upgrade to read it")]
    Newer {
        /// What was being decoded.
        what: String,
        /// Its format.
        found: u8,
        /// The newest format that this version reads.
        known: u8,
    },
    /// The data is truncated or altered.
    #[error("{what} cannot be decoded: {why}")]
    Broken {
        /// What was being decoded.
        what: String,
        /// The reason.
        why: String,
    },
}

/// Returns the fingerprint of a definition.
#[must_use]
pub fn fingerprint(definition: &Definition) -> Fingerprint {
    Fingerprint(sha256(&encode_definition(definition)))
}

/// Returns the canonical encoding of a definition, which the log stores. Its SHA-256 is the fingerprint.
#[must_use]
pub fn encode_definition(definition: &Definition) -> Vec<u8> {
    encode_body(DEFINITION, 0, definition)
}

/// Decodes a definition.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_definition(bytes: &[u8]) -> Result<Definition, DecodeError> {
    let (_, body) = split_header(DEFINITION, "a definition", bytes)?;
    decode_interned("a definition", body, &mut Names::default())
}

/// Encodes a label.
#[must_use]
pub fn encode_label(label: &Label) -> Vec<u8> {
    match label.retries {
        0 => encode_body(LABEL, 0, label),
        retries => encode_body(LABEL, RETRIED_LABEL, &(label, retries)),
    }
}

/// Decodes a label.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_label(bytes: &[u8]) -> Result<Label, DecodeError> {
    let what = "a label";
    match split_header(LABEL, what, bytes)? {
        (RETRIED_LABEL, body) => {
            let (label, retries): (Label, u32) = decode(what, body)?;
            Ok(Label { retries, ..label })
        }
        (_, body) => decode(what, body),
    }
}

/// Encodes a schedule's label.
#[must_use]
pub fn encode_schedule_label(label: &ScheduleLabel) -> Vec<u8> {
    encode_body(LABEL, SCHEDULE_LABEL, label)
}

/// Decodes a schedule's label.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_schedule_label(bytes: &[u8]) -> Result<ScheduleLabel, DecodeError> {
    let what = "a schedule's label";
    decode(what, label_body(what, SCHEDULE_LABEL, bytes)?)
}

/// Encodes a trigger's label.
#[must_use]
pub fn encode_trigger_label(label: &TriggerLabel) -> Vec<u8> {
    encode_body(LABEL, TRIGGER_LABEL, label)
}

/// Decodes a trigger's label.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_trigger_label(bytes: &[u8]) -> Result<TriggerLabel, DecodeError> {
    let what = "a trigger's label";
    decode(what, label_body(what, TRIGGER_LABEL, bytes)?)
}

/// Encodes the standing of an execution.
#[must_use]
pub fn encode_standing(standing: &Standing) -> Vec<u8> {
    encode_body(LABEL, STANDING, standing)
}

/// Decodes the standing of an execution.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_standing(bytes: &[u8]) -> Result<Standing, DecodeError> {
    let what = "the standing of an execution";
    decode(what, label_body(what, STANDING, bytes)?)
}

fn label_body<'a>(what: &'static str, wanted: u16, bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
    match split_header(LABEL, what, bytes)? {
        (kind, body) if kind == wanted => Ok(body),
        _ => Err(DecodeError::Foreign { expected: what, found: bytes[..bytes.len().min(HEADER)].to_vec() }),
    }
}

/// Encodes an event.
#[must_use]
pub fn encode_event(event: &Event) -> Vec<u8> {
    let kind = event.kind();
    match event {
        Event::ExecutionStarted(body) => encode_body(EVENT, kind, body),
        Event::ContextWritten(body) => encode_body(EVENT, kind, body),
        Event::ContextRemoved(body) => encode_body(EVENT, kind, body),
        Event::TaskStarted(body) => encode_body(EVENT, kind, body),
        Event::TaskCompleted(body) => encode_body(EVENT, kind, body),
        Event::TaskFailed(body) => encode_body(EVENT, kind, body),
        Event::TaskSkipped(body) => encode_body(EVENT, kind, body),
        Event::TaskAbandoned(body) => encode_body(EVENT, kind, body),
        Event::TaskDeferred(body) => encode_body(EVENT, kind, body),
        Event::TaskResumed(body) => encode_body(EVENT, kind, body),
        Event::ExecutionPaused(body) | Event::ExecutionUnpaused(body) | Event::CancelRequested(body) => {
            encode_body(EVENT, kind, body)
        }
        Event::ExecutionRecovered(body) => encode_body(EVENT, kind, body),
        Event::ExecutionRetried(body) => encode_body(EVENT, kind, body),
        Event::ExecutionCompleted(body) | Event::ExecutionFailed(body) | Event::ExecutionCancelled(body) => {
            encode_body(EVENT, kind, body)
        }
    }
}

/// Decodes an event.
///
/// # Errors
/// [`DecodeError`]; never a guess.
///
/// ```
/// use cloacina_engine::core::codec::{decode_event, encode_event};
/// use cloacina_engine::core::event::{Event, TaskStarted};
/// let event = Event::TaskStarted(TaskStarted { task: "load".into(), attempt: 1, worker: 0 });
/// assert_eq!(decode_event(&encode_event(&event))?, event);
/// assert!(decode_event(b"E\x01\x01\xff\xff").is_err());
/// # Ok::<(), cloacina_engine::core::codec::DecodeError>(())
/// ```
pub fn decode_event(bytes: &[u8]) -> Result<Event, DecodeError> {
    decode_event_interned(bytes, &mut Names::disabled())
}

/// Decodes one of many events. Names that earlier events with the same `names` contained are shared instead of
/// allocated again.
///
/// # Errors
/// As [`decode_event`].
pub fn decode_event_interned(bytes: &[u8], names: &mut Names) -> Result<Event, DecodeError> {
    let (kind, body) = split_header(EVENT, "an event", bytes)?;
    let what = Event::kind_name(kind);
    Ok(match kind {
        1 => Event::ExecutionStarted(decode::<ExecutionStarted>(what, body)?),
        2 => Event::ContextWritten(decode_interned(what, body, names)?),
        3 => Event::ContextRemoved(decode_interned(what, body, names)?),
        4 => Event::TaskStarted(decode_interned(what, body, names)?),
        5 => Event::TaskCompleted(decode_interned(what, body, names)?),
        6 => Event::TaskFailed(decode::<TaskFailed>(what, body)?),
        7 => Event::TaskSkipped(decode::<TaskSkipped>(what, body)?),
        8 => Event::TaskAbandoned(decode::<TaskAbandoned>(what, body)?),
        9 => Event::ExecutionPaused(decode::<Request>(what, body)?),
        10 => Event::ExecutionUnpaused(decode::<Request>(what, body)?),
        11 => Event::CancelRequested(decode::<Request>(what, body)?),
        12 => Event::ExecutionRecovered(decode::<ExecutionRecovered>(what, body)?),
        13 => Event::ExecutionCompleted(decode::<ExecutionEnded>(what, body)?),
        14 => Event::ExecutionFailed(decode::<ExecutionEnded>(what, body)?),
        15 => Event::ExecutionCancelled(decode::<ExecutionEnded>(what, body)?),
        16 => Event::TaskDeferred(decode::<TaskDeferred>(what, body)?),
        17 => Event::TaskResumed(decode::<TaskResumed>(what, body)?),
        18 => Event::ExecutionRetried(decode::<ExecutionRetried>(what, body)?),
        _ => {
            return Err(DecodeError::Newer {
                what: format!("an event of kind {kind}"),
                found: FORMAT + 1,
                known: FORMAT,
            });
        }
    })
}

impl Event {
    /// Returns the number of its kind in the log. Numbers are never reused.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::ExecutionStarted(_) => 1,
            Self::ContextWritten(_) => 2,
            Self::ContextRemoved(_) => 3,
            Self::TaskStarted(_) => 4,
            Self::TaskCompleted(_) => 5,
            Self::TaskFailed(_) => 6,
            Self::TaskSkipped(_) => 7,
            Self::TaskAbandoned(_) => 8,
            Self::ExecutionPaused(_) => 9,
            Self::ExecutionUnpaused(_) => 10,
            Self::CancelRequested(_) => 11,
            Self::ExecutionRecovered(_) => 12,
            Self::ExecutionCompleted(_) => 13,
            Self::ExecutionFailed(_) => 14,
            Self::ExecutionCancelled(_) => 15,
            Self::TaskDeferred(_) => 16,
            Self::TaskResumed(_) => 17,
            Self::ExecutionRetried(_) => 18,
        }
    }

    /// Returns its name, which is the same everywhere it is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        Self::kind_name(self.kind())
    }

    fn kind_name(kind: u16) -> &'static str {
        match kind {
            1 => "ExecutionStarted",
            2 => "ContextWritten",
            3 => "ContextRemoved",
            4 => "TaskStarted",
            5 => "TaskCompleted",
            6 => "TaskFailed",
            7 => "TaskSkipped",
            8 => "TaskAbandoned",
            9 => "ExecutionPaused",
            10 => "ExecutionUnpaused",
            11 => "CancelRequested",
            12 => "ExecutionRecovered",
            13 => "ExecutionCompleted",
            14 => "ExecutionFailed",
            15 => "ExecutionCancelled",
            16 => "TaskDeferred",
            17 => "TaskResumed",
            18 => "ExecutionRetried",
            _ => "an event of an unknown kind",
        }
    }
}

impl StreamEvent for Event {
    fn name(&self) -> &'static str {
        Self::name(self)
    }
}

fn encode_body(magic: u8, kind: u16, body: &impl Encode) -> Vec<u8> {
    let [low, high] = kind.to_le_bytes();
    let mut bytes = Vec::with_capacity(64);
    bytes.extend([magic, CODEC, FORMAT, low, high]);
    #[expect(
        clippy::expect_used,
        reason = "writing into memory cannot fail, and our bodies hold nothing that bincode rejects"
    )]
    bincode::encode_into_std_write(body, &mut bytes, config::standard()).expect("a body can be encoded into memory");
    bytes
}

fn split_header<'a>(magic: u8, expected: &'static str, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), DecodeError> {
    match bytes {
        [found, CODEC, format, low, high, body @ ..] if *found == magic && *format > 0 => {
            if *format > FORMAT {
                return Err(DecodeError::Newer { what: expected.to_owned(), found: *format, known: FORMAT });
            }
            Ok((u16::from_le_bytes([*low, *high]), body))
        }
        _ => Err(DecodeError::Foreign { expected, found: bytes[..bytes.len().min(HEADER)].to_vec() }),
    }
}

fn decode<T: for<'a> BorrowDecode<'a, ()>>(what: &str, body: &[u8]) -> Result<T, DecodeError> {
    decode_with(what, body, ())
}

fn decode_interned<'a, 'n, T>(what: &str, body: &'a [u8], names: &'n mut Names) -> Result<T, DecodeError>
where
    Interned<T>: BorrowDecode<'a, &'n mut Names>,
{
    decode_with(what, body, names).map(|Interned(value)| value)
}

/// Decodes with a memory limit that grows with the input, in steps because bincode takes it as a constant. 64 bytes
/// per byte of input are more than any valid body needs.
fn decode_with<'a, C, T: BorrowDecode<'a, C>>(what: &str, body: &'a [u8], context: C) -> Result<T, DecodeError> {
    let standard = config::standard();
    let decoded = match body.len() {
        0..=1_024 => decode_limited(body, standard.with_limit::<{ 1 << 16 }>(), context),
        1_025..=65_536 => decode_limited(body, standard.with_limit::<{ 1 << 22 }>(), context),
        65_537..=4_194_304 => decode_limited(body, standard.with_limit::<{ 1 << 28 }>(), context),
        _ => decode_limited(body, standard.with_limit::<{ 1 << 34 }>(), context),
    };
    let broken = |why: String| DecodeError::Broken { what: what.to_owned(), why };
    let (value, used) = decoded.map_err(|error| broken(error.to_string()))?;
    if used == body.len() { Ok(value) } else { Err(broken(format!("{} bytes are left over", body.len() - used))) }
}

fn decode_limited<'a, C, T: BorrowDecode<'a, C>>(
    body: &'a [u8],
    config: impl Config,
    context: C,
) -> Result<(T, usize), BincodeError> {
    bincode::borrow_decode_from_slice_with_context(body, config, context)
}
