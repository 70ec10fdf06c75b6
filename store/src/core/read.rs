//! Reading with full verification: each record against its hash, each hash against the previous one, the end of a
//! stream against the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Core;
use crate::bytes::Malformed;
use crate::index::{FrameAt, StreamState};
use crate::layout::definition;
use crate::layout::frame::StoredFrame;
use crate::log::{LogHead, LogReader, Notices, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::merkle::Node;
use crate::record::{Hash, Record, StreamId};
use crate::seal;
use crate::segments::SegmentError;

/// Limits the result of one read.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    /// Stop after the frame that reaches this many records. A longer frame is not split, since each part
    /// would load all of it again.
    pub(crate) stop_after: usize,
    /// Stop after the frame that reaches this many bytes.
    pub(crate) bytes: u64,
}

impl Budget {
    fn all(records: usize) -> Self {
        Self { records, stop_after: records, bytes: u64::MAX }
    }
}

/// The number of frames that are looked up at once.
const FRAMES: usize = 1024;

/// The records of frames, except the first `skipped`, each verified against its hash.
pub(crate) fn checked_records(frames: &[StoredFrame], skipped: u64) -> Result<Vec<Record>, ReadError> {
    let count = frames.iter().map(|frame| crate::bytes::usize_of(frame.header.count)).sum();
    let mut records: Vec<Record> = Vec::with_capacity(count);
    let mut skipped = skipped;
    for frame in frames {
        let (stream, seq) = (frame.header.stream, frame.header.first_seq);
        let damaged = |why: Malformed| ReadError::Damaged { stream, seq, what: why.to_string() };
        let start = records.len();
        let taken = frame.records_into(&mut records, std::mem::take(&mut skipped));
        // Report the damage of an earlier record before that of a later one.
        if let Err((at, what)) = seal::check_all(&records[start..]) {
            let Record { stream, seq, .. } = records[start + at];
            return Err(ReadError::Damaged { stream, seq, what });
        }
        taken.map_err(damaged)?;
        // No hash covers the label and the counts.
        frame.check().map_err(damaged)?;
    }
    Ok(records)
}

/// The state of a stream before a frame, which the frame must continue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) seq: u64,
    pub(crate) head: Hash,
    pub(crate) bytes: u64,
}

impl Before {
    pub(crate) const START: Self = Self { seq: 0, head: Hash::ZERO, bytes: 0 };

    /// Checks that a frame continues this state, and returns the state after it.
    pub(crate) fn followed_by(self, frame: &StoredFrame) -> Result<Self, ReadError> {
        let header = &frame.header;
        let (stream, seq) = (header.stream, header.first_seq);
        let damaged = |what: String| Err(ReadError::Damaged { stream, seq, what });
        if seq != self.seq {
            let what = "it is missing, but later records exist".to_owned();
            return Err(ReadError::Damaged { stream, seq: self.seq, what });
        }
        if header.previous != self.head {
            return damaged(format!(
                "its previous hash is {}, but the record before it has {}",
                header.previous, self.head
            ));
        }
        let own = frame.own_bytes().map_err(|why| ReadError::Damaged { stream, seq, what: why.to_string() })?;
        let expected = self.bytes.saturating_add(own);
        if header.bytes != expected {
            let found = header.bytes;
            return damaged(format!("its frame says that the stream has {found} bytes so far, but it has {expected}"));
        }
        Ok(Self::after(frame))
    }

    pub(crate) fn after(frame: &StoredFrame) -> Self {
        Self { seq: frame.header.next_seq(), head: frame.header.head, bytes: frame.header.bytes }
    }
}

impl Core {
    /// The state of an existing stream.
    fn existing_stream(&self, stream: StreamId) -> Result<StreamState, ReadError> {
        if let Some((seq, what)) = self.damaged.get(&stream) {
            return Err(ReadError::Damaged { stream, seq: *seq, what: what.clone() });
        }
        match self.query(|index| index.stream(stream))? {
            None => Err(ReadError::NoStream(stream)),
            Some(state) if state.pruned => Err(ReadError::Pruned { stream, records: state.records }),
            Some(state) => Ok(state),
        }
    }

    /// Frames of a stream, starting with the one that contains a `seq`, within a budget. Checks that each continues the
    /// one before it, but not the hashes of the records.
    pub(crate) fn stream_frames(
        &self,
        stream: StreamId,
        from: u64,
        budget: Budget,
    ) -> Result<Vec<StoredFrame>, ReadError> {
        let mut frames = Vec::new();
        self.stream_frames_into(&mut frames, stream, from, budget)?;
        Ok(frames)
    }

    /// The same, but keeps the frames before the first error.
    fn stream_frames_into(
        &self,
        frames: &mut Vec<StoredFrame>,
        stream: StreamId,
        from: u64,
        budget: Budget,
    ) -> Result<(), ReadError> {
        let state = self.existing_stream(stream)?;
        if from >= state.records || budget.stop_after == 0 {
            return Ok(());
        }
        let (mut next, mut bytes) = (from, 0_u64);
        let mut before: Option<Before> = None;
        loop {
            let limit = FRAMES.min(budget.stop_after);
            let places = self.query(|index| index.frames(stream, next, limit))?;
            if places.first().is_none_or(|first| first.first_seq > next) {
                let what = "it is missing, but later records exist".to_owned();
                return Err(ReadError::Damaged { stream, seq: next, what });
            }
            let is_last_page = places.len() <= limit;
            for at in places {
                let frame = self.frame_at(stream, at)?;
                before = Some(match before {
                    Some(before) => before.followed_by(&frame)?,
                    None if frame.header.first_seq == 0 => Before::START.followed_by(&frame)?,
                    None => Before::after(&frame),
                });
                next = frame.header.next_seq();
                bytes += frame.bytes().len() as u64;
                frames.push(frame);
                if next - from >= budget.stop_after as u64 || bytes >= budget.bytes {
                    return Ok(());
                }
            }
            if is_last_page {
                return Self::check_end(stream, &state, next, frames);
            }
        }
    }

    /// Reads a frame of a stream.
    fn frame_at(&self, stream: StreamId, at: FrameAt) -> Result<StoredFrame, ReadError> {
        let seq = at.first_seq;
        let frame = self.segments.frame(at.span).map_err(|error| match error {
            SegmentError::Damaged(what) => ReadError::Damaged { stream, seq, what },
            SegmentError::Failed(why) => ReadError::Io(why),
        })?;
        if (frame.header.stream, frame.header.first_seq) == (stream, seq) {
            return Ok(self.pending.apply_to(at.span.place, frame));
        }
        Err(ReadError::Damaged { stream, seq, what: "there is another frame in its place".to_owned() })
    }

    /// Checks that a stream ends as the index says. The stream may have grown since the index was queried.
    fn check_end(stream: StreamId, state: &StreamState, next: u64, frames: &[StoredFrame]) -> Result<(), ReadError> {
        if next < state.records {
            return Err(ReadError::TailCut { stream, head: state.records, found: next });
        }
        let last = frames.last().filter(|_| next == state.records);
        match last {
            Some(last) if (last.header.head, last.header.bytes) != (state.head, state.bytes) => {
                Err(ReadError::Damaged {
                    stream,
                    seq: next.saturating_sub(1),
                    what: format!("the stream ends with hash {}, but should end with {}", last.header.head, state.head),
                })
            }
            _ => Ok(()),
        }
    }

    /// Records of a stream from `from` on, verified.
    pub(crate) fn read_within(&self, stream: StreamId, from: u64, budget: Budget) -> Result<Vec<Record>, ReadError> {
        if stream == StreamId::LOG {
            self.wait_for_rewrite();
        }
        let mut frames = Vec::new();
        let loaded = self.stream_frames_into(&mut frames, stream, from, budget);
        // Report the damage of an earlier record before that of a later one.
        let skipped = frames.first().map_or(0, |first| from.saturating_sub(first.header.first_seq));
        let mut records = checked_records(&frames, skipped)?;
        loaded?;
        records.truncate(budget.records);
        Ok(records)
    }

    /// Verifies the last frame of a stream before appending to it.
    pub(crate) fn check_last(&self, stream: StreamId, state: &StreamState) -> Result<(), ReadError> {
        let last = state.records.saturating_sub(1);
        let frames = self.stream_frames(stream, last, Budget::all(1))?;
        Self::check_end(stream, state, state.records, &frames)?;
        checked_records(&frames, 0).map(drop)
    }

    /// The entry of a stream in the listing.
    pub(crate) fn stream_entry(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        if stream == StreamId::LOG {
            self.wait_for_rewrite();
        }
        Ok(self.existing_stream(stream)?.entry(stream))
    }

    pub(crate) fn load_definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        let Some(span) = self.query(|index| index.definition(fingerprint))? else { return Ok(None) };
        let bytes = self.segments.read(span.place, crate::bytes::usize_of(span.length))?;
        let damaged = |what: String| ReadError::DamagedLog(format!("the definition {fingerprint}: {what}"));
        let (_, text) = definition::decode(&bytes).map_err(|why| damaged(why.to_string()))?;
        let found = seal::fingerprint(&text);
        match found == fingerprint {
            true => Ok(Some(Arc::from(&text[..]))),
            false => Err(damaged(format!("its contents have the fingerprint {found}"))),
        }
    }
}

impl LogReader for Core {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.retry_if_rewritten(|| self.read_within(stream, from, Budget::all(limit)))
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.retry_if_rewritten(|| self.stream_entry(stream))
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let listed = self.query(|index| index.list(filter))?;
        let entry = |(stream, state): (StreamId, StreamState)| {
            let mut entry = state.entry(stream);
            if self.damaged.contains_key(&stream) {
                // It may be what is damaged.
                entry.label = Vec::new();
            }
            entry
        };
        Ok(listed.into_iter().map(entry).collect())
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.retry_if_rewritten(|| self.tail_within(from, Budget::all(limit)))
    }

    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        self.retry_if_rewritten(|| self.streams_since_within(from, limit))
    }

    fn tree(&self, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
        self.retry_if_rewritten(|| self.nodes_within(from, limit))
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        self.load_definition(fingerprint)
    }

    fn head(&self) -> Result<LogHead, ReadError> {
        let closed = self.closed.load(Ordering::Acquire);
        let tip = self.tip();
        Ok(LogHead {
            position: tip.position,
            hash: tip.hash,
            time: tip.time,
            durability: self.durability.filter(|_| !closed),
        })
    }

    fn wait(&self, after: u64, patience: Duration) -> Result<LogHead, ReadError> {
        // Without a writer, nothing would wake the reader.
        if self.durability.is_some() {
            self.tip_watch.wait(patience, usize::MAX, || self.tip().position > after);
        }
        self.head()
    }

    fn notices(&self) -> Result<Notices, ReadError> {
        Ok(self.posted())
    }

    fn location(&self) -> String {
        self.location.clone()
    }
}
