//! Reading an execution's stream: records in pages, decoded one by one.

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

/// Why the past of an execution cannot be told, or not further than to some event.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// The log cannot be read, or is not what was written.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// An event was written by a newer version.
    #[error("execution {id}, seq {seq}: {why}")]
    Newer {
        /// The execution.
        id: ExecutionId,
        /// The event.
        seq: Seq,
        /// What is newer than what.
        why: DecodeError,
    },
    /// A record holds no event.
    #[error("execution {id}, seq {seq}: {why}")]
    Undecodable {
        /// The execution.
        id: ExecutionId,
        /// The record.
        seq: Seq,
        /// What it is instead.
        why: DecodeError,
    },
    /// The definition that the execution names cannot be had.
    #[error("the definition {fingerprint}: {why}")]
    Definition {
        /// Its fingerprint.
        fingerprint: Fingerprint,
        /// Why not.
        why: String,
    },
    /// An event that the state before it cannot take.
    #[error("execution {id}: {illegal}")]
    Impossible {
        /// The execution.
        id: ExecutionId,
        /// The event, and why.
        illegal: IllegalEvent,
    },
    /// A history that was written elsewhere says that it is not whole.
    #[error("{0}")]
    Told(String),
    /// The body of an event was erased: what follows from it is not known any more.
    #[error("execution {id}, seq {seq}: the body of this event was erased; what follows from it cannot be told")]
    Erased {
        /// The execution.
        id: ExecutionId,
        /// The event.
        seq: Seq,
    },
}

impl Trouble {
    /// Whether it is why there are no events after the last one that was read.
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
    /// Its place in the stream.
    pub seq: Seq,
    /// Its place in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
    /// The hash of the record before it.
    pub previous: Hash,
    /// The hash of its own record.
    pub hash: Hash,
    /// What happened. Of an event whose body was erased: the same without what it said, `None` if not even that is known.
    pub event: Option<Event>,
    /// Who erased its body, when and why; `None` if it is there.
    pub erased: Option<Erased>,
}

impl Entry {
    /// The definition that the execution goes by from this event on.
    #[must_use]
    pub fn definition(&self) -> Option<Fingerprint> {
        self.event.as_ref()?.definition()
    }

    /// Whether its body was erased, also where nothing says by whom.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.erased.is_some() || self.event.is_none()
    }
}

/// That a body was erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erased {
    /// When.
    pub time: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Decodes the records of one execution, and looks up what was erased from it where it meets that.
pub struct Decoder<'a> {
    reader: &'a dyn LogReader,
    erasures: Erasures,
    names: Names,
}

impl<'a> Decoder<'a> {
    /// A decoder that asks a log.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader) -> Self {
        Self { reader, erasures: Erasures::default(), names: Names::default() }
    }

    /// Decodes a record; one whose body was erased, and the log does not say what it was, has no event.
    ///
    /// # Errors
    /// [`Trouble::Newer`], [`Trouble::Undecodable`] or [`Trouble::Log`].
    pub fn decode(&mut self, record: &Record) -> Result<Entry, Trouble> {
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

    fn event(&mut self, record: &Record, bytes: &[u8]) -> Result<Event, Trouble> {
        codec::decode_event_among(bytes, &mut self.names).map_err(|why| {
            let (id, seq) = (ExecutionId(*record.stream.as_bytes()), record.seq);
            match why {
                DecodeError::Newer { .. } => Trouble::Newer { id, seq, why },
                _ => Trouble::Undecodable { id, seq, why },
            }
        })
    }
}

/// What is known to be erased of a stream.
#[derive(Default)]
struct Erasures {
    by_seq: BTreeMap<Seq, Erasure>,
    /// How many records the log's own stream had, which says what was erased, when it was read last.
    read_up_to: u64,
}

impl Erasures {
    /// What the log says of a record whose body is not there. It may have been erased since the log was asked last.
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

/// The stream of an execution.
#[must_use]
pub fn stream_of(id: ExecutionId) -> StreamId {
    StreamId::from_bytes(id.0)
}

/// When the first event of an execution happened.
#[must_use]
pub fn started(entry: &StreamEntry) -> Timestamp {
    Timestamp(entry.started.0)
}

/// The events of an execution, in order, read page by page. It ends after the first [`Trouble`].
pub fn entries(reader: &dyn LogReader, id: ExecutionId) -> impl Iterator<Item = Result<Entry, Trouble>> + '_ {
    let mut decoder = Decoder::new(reader);
    let records = Records::new(reader, stream_of(id), 0);
    up_to_trouble(records.map(move |record| decoder.decode(&record?)))
}

/// Events up to the first [`Trouble`], and that.
pub(crate) fn up_to_trouble(
    entries: impl Iterator<Item = Result<Entry, Trouble>>,
) -> impl Iterator<Item = Result<Entry, Trouble>> {
    let mut failed = false;
    entries.map_while(move |entry| {
        if failed {
            return None;
        }
        failed = entry.is_err();
        Some(entry)
    })
}

/// Where definitions come from.
pub trait Definitions {
    /// The graph of the definition with this fingerprint.
    ///
    /// # Errors
    /// [`Trouble::Definition`] if there is none, or [`Trouble::Log`].
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, Trouble>;
}

impl Definitions for &dyn LogReader {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, Trouble> {
        let bytes = self.definition(Hash(fingerprint.0))?;
        let wrong = |why: String| Trouble::Definition { fingerprint, why };
        let bytes = bytes.ok_or_else(|| wrong("the log does not have it".to_owned()))?;
        let definition = codec::decode_definition(&bytes).map_err(|why| wrong(why.to_string()))?;
        Graph::new(Arc::new(definition)).map(Arc::new).map_err(|why| wrong(why.to_string()))
    }
}

impl Definitions for BTreeMap<Fingerprint, Arc<Graph>> {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, Trouble> {
        let wrong = || Trouble::Definition { fingerprint, why: "the history does not have it".to_owned() };
        self.get(&fingerprint).cloned().ok_or_else(wrong)
    }
}
