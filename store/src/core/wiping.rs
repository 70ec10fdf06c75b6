//! Overwriting erased and pruned data in place.
//!
//! The event that records an erasure is durable first. If the process is interrupted afterwards, the next writer
//! completes the erasure: the head stores the position up to which all of them are complete, and repeating one changes
//! nothing.

use std::collections::BTreeMap;

use super::Core;
use super::fold::events_of;
use super::scan::LoadError;
use crate::layout::frame::StoredFrame;
use crate::layout::segment::Place;
use crate::log::ReadError;
use crate::log_event::LogEvent;
use crate::record::{Hash, StreamId};
use crate::segments::Span;
use crate::segments::appender::Appender;
use crate::segments::walk::Item;

/// The number of frames of a stream that are looked up at once, and the number of bytes that are overwritten together.
const FRAMES: usize = 1024;
const BYTES: usize = 8 * 1024 * 1024;

/// Collects overwrites.
#[derive(Default)]
struct OverwriteBuffer {
    changes: Vec<(Place, Vec<u8>)>,
    bytes: usize,
}

impl OverwriteBuffer {
    fn add(&mut self, core: &Core, place: Place, bytes: Vec<u8>) -> Result<(), ReadError> {
        self.bytes += bytes.len();
        self.changes.push((place, bytes));
        if self.bytes >= BYTES { self.write(core) } else { Ok(()) }
    }

    fn write(&mut self, core: &Core) -> Result<(), ReadError> {
        let Self { changes, .. } = std::mem::take(self);
        Appender::overwrite(&**core.segments.disk(), &changes).map_err(|error| ReadError::Io(error.to_string()))
    }
}

impl Core {
    /// Visits the frames of a stream, starting with the one that contains a `seq`, until `visit` returns `false`.
    pub(crate) fn each_frame(
        &self,
        stream: StreamId,
        from: u64,
        mut visit: impl FnMut(Place, StoredFrame) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let mut next = from;
        loop {
            let frames = self.query(|index| index.frames(stream, next, FRAMES))?;
            for frame in &frames {
                let stored = self.segments.frame(frame.span)?;
                next = stored.header.next_seq();
                if !visit(frame.span.place, stored)? {
                    return Ok(());
                }
            }
            if frames.len() <= FRAMES {
                return Ok(());
            }
        }
    }

    /// Overwrites erased bodies.
    pub(crate) fn wipe_erased(&self, stream: StreamId, commitments: &BTreeMap<u64, Hash>) -> Result<(), ReadError> {
        let mut overwrites = OverwriteBuffer::default();
        let mut next = commitments.keys().next().copied();
        while let Some(seq) = next {
            next = None;
            self.each_frame(stream, seq, |place, frame| {
                let after = frame.header.next_seq();
                let bytes = frame.erased_bytes(|seq| commitments.get(&seq).copied());
                let bytes = bytes.map_err(|why| ReadError::DamagedLog(why.to_string()))?;
                overwrites.add(self, place, bytes)?;
                next = commitments.range(after..).next().map(|(seq, _)| *seq);
                // Usually, the frame after this one is next.
                Ok(next == Some(after))
            })?;
        }
        overwrites.write(self)
    }

    /// Overwrites the frames of pruned streams. The caller passes their places, because the index no longer has them.
    pub(crate) fn wipe_pruned(&self, places: &[Span]) -> Result<(), ReadError> {
        let mut overwrites = OverwriteBuffer::default();
        for span in places {
            let frame = self.segments.frame(*span)?;
            let bytes = frame.pruned_bytes().map_err(|why| ReadError::DamagedLog(why.to_string()))?;
            overwrites.add(self, span.place, bytes)?;
        }
        overwrites.write(self)
    }
}

/// Erasures and prunings that are recorded but may not be complete.
#[derive(Default)]
pub(crate) struct PendingErasures {
    erased: BTreeMap<StreamId, BTreeMap<u64, Hash>>,
    /// Each with the place of the event that records it: frames after that place were imported later.
    pruned: BTreeMap<StreamId, Place>,
}

impl PendingErasures {
    /// Collects the events from a position on.
    pub(crate) fn of(core: &Core, from: u64) -> Result<Self, ReadError> {
        let mut pending = Self::default();
        core.each_own_frame(from, |place, frame| {
            for event in events_of(frame) {
                match event {
                    LogEvent::Erased(erased) => {
                        let commitments = erased.records.iter().map(|record| (record.seq, record.commitment));
                        pending.erased.entry(erased.stream).or_default().extend(commitments);
                    }
                    LogEvent::Pruned(pruned) => {
                        pending.pruned.extend(pruned.streams.iter().map(|dropped| (dropped.stream, place)));
                    }
                    _ => {}
                }
            }
        })?;
        Ok(pending)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.erased.is_empty() && self.pruned.is_empty()
    }

    /// Returns a frame as it will be once the erasure is complete.
    pub(crate) fn apply_to(&self, place: Place, frame: StoredFrame) -> StoredFrame {
        if self.is_empty() {
            return frame;
        }
        let stream = frame.header.stream;
        let done = if self.pruned.get(&stream).is_some_and(|event| place < *event) {
            frame.pruned_bytes().ok()
        } else {
            let commitments = self.erased.get(&stream);
            commitments.and_then(|commitments| frame.erased_bytes(|seq| commitments.get(&seq).copied()).ok())
        };
        done.and_then(|bytes| StoredFrame::decode(bytes.into()).ok()).unwrap_or(frame)
    }
}

/// Completes erasures and prunings that were interrupted: those recorded from a position on.
pub(crate) fn wipe_pending(core: &Core, from: u64) -> Result<(), LoadError> {
    let PendingErasures { erased, pruned } = PendingErasures::of(core, from)?;
    for (stream, commitments) in &erased {
        core.wipe_erased(*stream, commitments)?;
    }
    if pruned.is_empty() {
        return Ok(());
    }
    let streams: Vec<StreamId> = pruned.into_keys().collect();
    let spans = core.frames_of(&streams)?;
    Ok(core.wipe_pruned(&spans)?)
}

impl Core {
    /// Visits the frames of the log's own stream from a position on.
    fn each_own_frame(&self, from: u64, mut visit: impl FnMut(Place, &StoredFrame)) -> Result<(), ReadError> {
        let mut walk = self.walk_from(from)?;
        while let Some(found) = walk.next()? {
            let place = found.place;
            let is_own = |frame: &StoredFrame| frame.header.stream == StreamId::LOG && frame.header.end() > from;
            if let Some(frame) = found.into_frame().filter(is_own) {
                visit(place, &frame);
            }
        }
        Ok(())
    }

    /// The places of pruned streams' frames, which the index no longer has: scans the whole log. Skips frames that were
    /// imported after the pruning.
    fn frames_of(&self, streams: &[StreamId]) -> Result<Vec<Span>, ReadError> {
        let mut spans = Vec::new();
        let mut known: BTreeMap<StreamId, Vec<Span>> = BTreeMap::new();
        for stream in streams {
            let frames = self.query(|index| index.frames(*stream, 0, usize::MAX - 1))?;
            known.insert(*stream, frames.iter().map(|frame| frame.span).collect());
        }
        let mut walk = self.walk_from(0)?;
        while let Some(found) = walk.next()? {
            // In a frame whose pruning was interrupted, the header may already be marked as pruned.
            if let Item::Frame(header) = &found.item
                && (!header.pruned || found.check().is_err())
                && known.get(&header.stream).is_some_and(|live| live.iter().all(|span| span.place != found.place))
            {
                let length = u32::try_from(found.bytes.len()).unwrap_or(u32::MAX);
                spans.push(Span { place: found.place, length });
            }
        }
        Ok(spans)
    }
}
