//! Reads an execution's stream: records in pages, decoded one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::codec::{self, DecodeError, Names};
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::erasure::attributed;
use cloacina_engine::core::event::{Event, ExecutionId, Seq};
use cloacina_engine::core::fold::IllegalEvent;
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json;
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{Erasure, LogReader, ReadError, StreamEntry};
use cloacina_store::paging::Records;
use cloacina_store::record::{Hash, Record, StreamId};

/// Why an execution's history cannot be read or folded, at all or beyond some event.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistoryError {
    /// The log cannot be read, or is damaged.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event was written by a newer version.
    #[error("execution {id}, seq {seq}: {why}")]
    Newer {
        /// The execution.
        id: ExecutionId,
        /// The event.
        seq: Seq,
        /// The format found, and the newest format that this version knows.
        why: DecodeError,
    },
    /// A record holds no event.
    #[error("execution {id}, seq {seq}: {why}")]
    Undecodable {
        /// The execution.
        id: ExecutionId,
        /// The record.
        seq: Seq,
        /// Why its body is no event.
        why: DecodeError,
    },
    /// The definition that the execution names is missing or invalid.
    #[error("workflow definition {fingerprint}: {why}")]
    Definition {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// The reason.
        why: String,
    },
    /// An event is illegal in the state before it.
    #[error("execution {id}: {illegal}")]
    Impossible {
        /// The execution.
        id: ExecutionId,
        /// The event, and why it is illegal.
        illegal: IllegalEvent,
    },
    /// An imported history (JSON) reports that it is incomplete.
    #[error("{0}")]
    Told(String),
    /// The body of an event was erased, so the state after it is unknown.
    #[error("execution {id}, seq {seq}: the body of this event was erased; the state after it is unknown")]
    Erased {
        /// The execution.
        id: ExecutionId,
        /// The event.
        seq: Seq,
    },
}

impl HistoryError {
    /// Whether it prevents reading any later events.
    pub(crate) fn ends_reading(&self) -> bool {
        match self {
            Self::Log(_) | Self::Newer { .. } | Self::Undecodable { .. } | Self::Told(_) => true,
            Self::Definition { .. } | Self::Impossible { .. } | Self::Erased { .. } => false,
        }
    }
}

/// One event with its envelope.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its position in the stream.
    pub seq: Seq,
    /// Its position in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// The hash of the record before it.
    pub previous: Hash,
    /// The hash of its own record.
    pub hash: Hash,
    /// The event. If its body was erased: without the erased content, or `None` if the log does not say what it was.
    pub event: Option<Event>,
    /// Who erased its body, when and why; `None` if it was not erased.
    pub erased: Option<Erased>,
}

impl Entry {
    /// Returns the definition that the execution uses from this event on, if the event names one.
    #[must_use]
    pub fn definition(&self) -> Option<Fingerprint> {
        self.event.as_ref()?.definition()
    }

    /// Whether its body is missing, with or without a record of who erased it.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.erased.is_some() || self.event.is_none()
    }
}

/// The erasure of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// When.
    pub time: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Decodes the records of one execution. Looks up the erasure of a body that is missing.
pub struct Decoder<'a> {
    reader: &'a dyn LogReader,
    erasures: Erasures,
    names: Names,
}

impl<'a> Decoder<'a> {
    /// Creates a decoder that looks erasures up in a log.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader) -> Self {
        Self { reader, erasures: Erasures::default(), names: Names::default() }
    }

    /// Decodes a record. The entry has no event if the body is missing and the log does not say what it was.
    ///
    /// # Errors
    /// [`HistoryError::Newer`], [`HistoryError::Undecodable`] or [`HistoryError::Log`].
    pub fn decode(&mut self, record: &Record) -> Result<Entry, HistoryError> {
        let mut entry = Entry {
            seq: record.seq,
            position: record.position,
            time: Timestamp(record.time.0),
            previous: record.previous,
            hash: record.hash,
            event: None,
            erased: None,
        };
        if let Some(bytes) = record.body.bytes() {
            entry.event = self.event(record, bytes).map(Some)?;
            return Ok(entry);
        }
        if let Some(Erasure { time, note, reason, by, .. }) = self.erasures.of(self.reader, record)? {
            entry.erased = Some(Erased { time: Timestamp(time.0), by: by.clone(), reason: reason.clone() });
            let note = note.clone();
            let erasure = json::Erasure::new(by.clone(), reason.clone(), Timestamp(time.0));
            entry.event = Some(attributed(self.event(record, &note)?, &erasure));
        }
        Ok(entry)
    }

    fn event(&mut self, record: &Record, bytes: &[u8]) -> Result<Event, HistoryError> {
        codec::decode_event_interned(bytes, &mut self.names).map_err(|why| {
            let (id, seq) = (ExecutionId(*record.stream.as_bytes()), record.seq);
            match why {
                DecodeError::Newer { .. } => HistoryError::Newer { id, seq, why },
                _ => HistoryError::Undecodable { id, seq, why },
            }
        })
    }
}

/// Cache of the erasures of a stream.
#[derive(Default)]
struct Erasures {
    by_seq: BTreeMap<Seq, Erasure>,
    /// The length of the log's own stream, which records erasures, at the last read.
    read_up_to: u64,
}

impl Erasures {
    /// Returns the erasure of a record whose body is missing. Reads the log again if it has recorded more since.
    fn of(&mut self, reader: &dyn LogReader, record: &Record) -> Result<Option<&Erasure>, ReadError> {
        if !self.by_seq.contains_key(&record.seq) {
            let end = reader.stream(StreamId::LOG).map_or(u64::MAX, |entry| entry.records);
            if end != self.read_up_to {
                let found = reader.erasures(record.stream)?;
                self.by_seq = found.into_iter().map(|erasure| (erasure.seq, erasure)).collect();
                self.read_up_to = end;
            }
        }
        Ok(self.by_seq.get(&record.seq))
    }
}

/// Returns the stream of an execution.
#[must_use]
pub fn stream_of(id: ExecutionId) -> StreamId {
    StreamId::from_bytes(id.0)
}

/// Returns the time of the first event of an execution.
#[must_use]
pub fn started(entry: &StreamEntry) -> Timestamp {
    Timestamp(entry.started.0)
}

/// Iterates over the events of an execution, in order, reading page by page. Ends after the first [`HistoryError`].
pub fn entries(reader: &dyn LogReader, id: ExecutionId) -> impl Iterator<Item = Result<Entry, HistoryError>> + '_ {
    let mut decoder = Decoder::new(reader);
    let records = Records::new(reader, stream_of(id), 0);
    up_to_trouble(records.map(move |record| decoder.decode(&record?)))
}

/// Ends an iterator after its first [`HistoryError`].
pub(crate) fn up_to_trouble(
    entries: impl Iterator<Item = Result<Entry, HistoryError>>,
) -> impl Iterator<Item = Result<Entry, HistoryError>> {
    let mut failed = false;
    entries.map_while(move |entry| {
        if failed {
            return None;
        }
        failed = entry.is_err();
        Some(entry)
    })
}

/// A source of workflow definitions.
pub trait Definitions {
    /// Loads the definition with this fingerprint, as a graph.
    ///
    /// # Errors
    /// [`HistoryError::Definition`] if it is missing or invalid, or [`HistoryError::Log`].
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, HistoryError>;
}

impl Definitions for &dyn LogReader {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, HistoryError> {
        let bytes = self.definition(Hash(fingerprint.0))?;
        let wrong = |why: String| HistoryError::Definition { fingerprint, why };
        let bytes = bytes.ok_or_else(|| wrong("not found in the log".to_owned()))?;
        let definition = codec::decode_definition(&bytes).map_err(|why| wrong(why.to_string()))?;
        Graph::new(Arc::new(definition)).map(Arc::new).map_err(|why| wrong(why.to_string()))
    }
}

impl Definitions for BTreeMap<Fingerprint, Arc<Graph>> {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, HistoryError> {
        let wrong = || HistoryError::Definition { fingerprint, why: "not found in the history".to_owned() };
        self.get(&fingerprint).cloned().ok_or_else(wrong)
    }
}
