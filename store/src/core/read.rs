//! Reading, with every check: each record against its hash, each hash against the one before it, the end of a stream
//! against what the listing knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ahead::FramesAhead;
use super::frames::Located;
use super::{Core, Listed, View};
use crate::backend::{Backend, Direction};
use crate::layout::frame::{FrameHeader, Standing, StoredFrame};
use crate::layout::keys;
use crate::log::{LogHead, LogReader, Notices, ReadError, StreamEntry, StreamFilter, StreamsSince};
use crate::record::{Hash, Record, StreamId, StreamKind};
use crate::seal;

/// How much one call may return.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) records: usize,
    /// Reading stops after the frame with which there are so many records: one that has more is not read in parts, each
    /// of which would load all of it again.
    pub(crate) enough: usize,
    /// Reading stops after the frame with which the bodies reach this.
    pub(crate) bytes: u64,
    pub(crate) hashes: Hashes,
}

impl Budget {
    /// So many records, each checked.
    fn all(records: usize) -> Self {
        Self { records, enough: records, bytes: u64::MAX, hashes: Hashes::Checked }
    }

    /// For how many records there is to be room from the start: for a page and the rest of its last frame. Growing would clear and copy
    /// as much memory again, page by page.
    pub(super) fn room(&self) -> usize {
        self.enough.min(PAGE_ROOM) + FRAME_ROOM
    }
}

/// Who computes the hashes of what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashes {
    /// It is done here.
    Checked,
    /// Whoever it is sent to does it, of each record: the one who writes has no time to spare.
    ForTheReceiver,
}

/// For how many records there is room from the start, however many are asked for, and how many more the last frame may have.
const PAGE_ROOM: usize = 1024;
const FRAME_ROOM: usize = 16;

/// Where a stream stands before a frame: what the frame must go on from.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub(super) head: Hash,
    bytes: u64,
}

impl Before {
    pub(crate) const START: Self = Self { head: Hash::ZERO, bytes: 0 };

    pub(crate) fn after(frame: &FrameHeader) -> Self {
        Self { head: frame.head, bytes: frame.bytes }
    }
}

impl<B: Backend> Core<B> {
    /// Records of a stream from `from` on.
    pub(crate) fn read_within(&self, stream: StreamId, from: u64, budget: Budget) -> Result<Vec<Record>, ReadError> {
        if stream == StreamId::LOG {
            self.wait_for_rewrite();
        }
        let tip = self.tip().position;
        let mut records: Vec<Record> = Vec::with_capacity(budget.room());
        self.check_shown(stream)?;
        let next = if from == 0 && budget.enough > 0 {
            0
        } else {
            match self.last_frame(stream, from, tip)? {
                Some((_, found)) if found.standing == Standing::Pruned => return Err(self.pruned(stream)?),
                Some((next, _)) => next,
                // There is none that begins at `from` or before: none at all, or the first ones are lost.
                None => return self.explain_absence(stream).map(|()| records),
            }
        };
        let passed = usize::try_from(from - next).unwrap_or(usize::MAX);
        let loaded = self.load_page(&mut records, stream, next, passed, budget);
        // What is wrong with an earlier record is told before what is wrong with a later one.
        self.check_hashes(&records, budget.hashes).map_err(|(_, error)| error)?;
        loaded?;
        records.drain(..passed.min(records.len()));
        records.truncate(budget.records);
        Ok(records)
    }

    /// Puts the records of the frames from the one that begins at a `seq` on behind others, without a look at their hashes. The first
    /// ones do not count for the budget.
    fn load_page(
        &self,
        records: &mut Vec<Record>,
        stream: StreamId,
        first_seq: u64,
        passed: usize,
        budget: Budget,
    ) -> Result<(), ReadError> {
        let tip = self.tip().position;
        let (mut next, mut bytes) = (first_seq, 0);
        let mut before = self.before(stream, next)?;
        let mut last = None;
        let mut frames = FramesAhead::new(self, stream, budget.enough);
        while records.len().saturating_sub(passed) < budget.enough && bytes < budget.bytes {
            let frame = match (frames.load(next)?, last) {
                (Some(frame), _) if frame.header.is_before(tip) => frame,
                (Some(frame), Some(_)) => return self.check_position(stream, next, &frame.header),
                (None, Some(last)) => return self.check_end(stream, next, last),
                (_, None) => return self.explain_absence(stream),
            };
            if frame.header.standing == Standing::Pruned {
                return Err(self.pruned(stream)?);
            }
            let (header, own) = (frame.header.clone(), frame.own_bytes());
            bytes += own;
            let cannot_be = |(seq, what)| ReadError::Damaged { stream, seq, what };
            frame.records_into(records, stream, next, before.head).map_err(cannot_be)?;
            check_bytes(stream, next, before, own, &header)?;
            before = Before::after(&header);
            let after = next + u64::from(header.count);
            last = Some((next, header));
            next = after;
        }
        Ok(())
    }

    /// Checks the hashes of records; says of the first one that does not fit which it is, too.
    pub(super) fn check_hashes(&self, records: &[Record], hashes: Hashes) -> Result<(), (usize, ReadError)> {
        if hashes == Hashes::ForTheReceiver {
            return Ok(());
        }
        let Err((at, what)) = seal::check_all(records) else { return Ok(()) };
        let Record { stream, seq, .. } = records[at];
        // It is also wrong if the hash before it is: then that one is to be named.
        Err((at, self.blame_previous(stream, seq).unwrap_or(ReadError::Damaged { stream, seq, what })))
    }

    /// Checks the records of the frame that begins at a `seq`, and that it goes on from the frame before it.
    pub(crate) fn check_last(&self, stream: StreamId, first_seq: u64) -> Result<(), ReadError> {
        match self.load_frame(stream, first_seq)? {
            Some(frame) => self.check_frame(stream, first_seq, frame),
            None => Ok(()),
        }
    }

    /// Checks the records of a frame, and that it goes on from the frame before it.
    pub(crate) fn check_frame(&self, stream: StreamId, first_seq: u64, frame: StoredFrame) -> Result<(), ReadError> {
        if frame.header.standing == Standing::Pruned {
            // There is nothing to check: the hash of the log covers its last hash.
            return Ok(());
        }
        let before = match self.ends.get(stream, first_seq) {
            Some(before) => before,
            None => self.before(stream, first_seq)?,
        };
        self.open_frame(stream, first_seq, frame, before).map(drop)
    }

    /// Where a stream stands before the frame that begins at a `seq`.
    pub(crate) fn before(&self, stream: StreamId, first_seq: u64) -> Result<Before, ReadError> {
        let Some(last_seq) = first_seq.checked_sub(1) else {
            return Ok(Before::START);
        };
        match self.last_frame(stream, last_seq, u64::MAX)? {
            Some((first, frame)) if first.saturating_add(u64::from(frame.count)) == first_seq => {
                Ok(Before::after(&frame))
            }
            _ => Err(ReadError::Damaged {
                stream,
                seq: last_seq,
                what: "it is missing, though later ones are there".to_owned(),
            }),
        }
    }

    /// A frame's records, each checked, and the frame against what came before it.
    pub(crate) fn open_frame(
        &self,
        stream: StreamId,
        first_seq: u64,
        frame: StoredFrame,
        before: Before,
    ) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let (header, own) = (frame.header.clone(), frame.own_bytes());
        frame.records_into(&mut records, stream, first_seq, before.head).map_err(|(seq, what)| ReadError::Damaged {
            stream,
            seq,
            what,
        })?;
        self.check_hashes(&records, Hashes::Checked).map_err(|(_, error)| error)?;
        check_bytes(stream, first_seq, before, own, &header)?;
        Ok(records)
    }

    /// What is wrong with the frame before the one at a `seq`, if it is.
    fn blame_previous(&self, stream: StreamId, first_seq: u64) -> Option<ReadError> {
        let last_seq = first_seq.checked_sub(1)?;
        let (first, _) = self.last_frame(stream, last_seq, u64::MAX).ok()??;
        let frame = self.load_frame(stream, first).ok()??;
        let before = self.before(stream, first).ok()?;
        let (seq, what) = frame.open(stream, first, before.head).err()?;
        Some(ReadError::Damaged { stream, seq, what })
    }

    /// Nothing stands at `next`: whether the stream may end there, behind a frame.
    fn check_end(&self, stream: StreamId, next: u64, last: (u64, FrameHeader)) -> Result<(), ReadError> {
        let later = self.backend.keys(&keys::frames(stream, next, None), 1, Direction::Up)?;
        // Unless it was appended just now.
        if later.first().is_some_and(|key| *key != keys::frame(stream, next, 0)) {
            let what = "it is missing, though later ones are there".to_owned();
            return Err(ReadError::Damaged { stream, seq: next, what });
        }
        self.with_view(|view| {
            let listed = self.listed(view, last.1.kind, stream)?;
            // What was appended just now is listed as well.
            let last = match &listed {
                Some(listed) if !listed.open && listed.entry.records > next => {
                    self.last_frame(stream, u64::MAX, view.tip.position)?.unwrap_or(last)
                }
                _ => last,
            };
            check_closed(listed.as_ref(), stream, &last)
        })
    }

    /// No durable frame begins at the start of a stream: whether there is no such stream, or it has lost its beginning.
    fn explain_absence(&self, stream: StreamId) -> Result<(), ReadError> {
        self.with_view(|view| {
            if self.backend.get(&keys::frame(stream, 0, 0))?.is_some() {
                // It was appended just now, and may not be durable yet.
                return match self.last_frame(stream, 0, view.tip.position)? {
                    Some(_) => Ok(()),
                    None => Err(ReadError::NoStream(stream)),
                };
            }
            if let Some((_, last)) = self.last_frame(stream, u64::MAX, view.tip.position)? {
                if last.standing == Standing::Pruned {
                    return Err(self.pruned(stream)?);
                }
                let what = "it is missing, though later ones are there".to_owned();
                return Err(ReadError::Damaged { stream, seq: 0, what });
            }
            for kind in StreamKind::ALL {
                if let Some(listed) = self.listed(view, kind, stream)? {
                    return Err(ReadError::TailCut { stream, head: listed.entry.records, found: 0 });
                }
            }
            Err(ReadError::NoStream(stream))
        })
    }

    /// A stream that is just being imported is not there yet.
    fn check_shown(&self, stream: StreamId) -> Result<(), ReadError> {
        match self.with_view(|view| view.hidden.imported == Some(stream)) {
            true => Err(ReadError::NoStream(stream)),
            false => Ok(()),
        }
    }

    /// What is said of a stream whose records were dropped.
    fn pruned(&self, stream: StreamId) -> Result<ReadError, ReadError> {
        let last = self.last_frame(stream, u64::MAX, u64::MAX)?;
        let records = last.map_or(0, |(first_seq, frame)| first_seq.saturating_add(u64::from(frame.count)));
        Ok(ReadError::Pruned { stream, records })
    }

    /// One stream's entry: by what was written last, or by what is stored.
    fn one_stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        if stream == StreamId::LOG {
            self.wait_for_rewrite();
        }
        let written = self.with_view(|view| match view.recent.last(stream) {
            Some(last) => self.entry_at(view, stream, &last).map(Some),
            None => Ok(None),
        });
        written?.map_or_else(|| self.stored_stream(stream), Ok)
    }

    /// One stream's entry, by what is stored.
    pub(super) fn stored_stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.check_shown(stream)?;
        let entry = self.with_view(|view| {
            let Some((last, first_chunk)) = self.last_chunk(stream, u64::MAX, view.tip.position)? else {
                return Ok::<_, ReadError>(None);
            };
            if last.1.standing == Standing::Pruned {
                return Err(self.pruned(stream)?);
            }
            let entry = self.entry_at(view, stream, &last)?;
            self.check_frame(stream, last.0, self.frame_of(stream, last.0, first_chunk)?)?;
            Ok(Some(entry))
        })?;
        match entry {
            Some(entry) => Ok(entry),
            None => self.explain_absence(stream).and(Err(ReadError::NoStream(stream))),
        }
    }

    /// The entry of a stream with this last frame.
    fn entry_at(&self, view: &View, stream: StreamId, last: &Located) -> Result<StreamEntry, ReadError> {
        let listed = self
            .listed(view, last.1.kind, stream)?
            .ok_or_else(|| ReadError::DamagedLog(format!("stream {stream} is missing in the listing")))?;
        check_closed(Some(&listed), stream, last)?;
        Ok(Self::stream_entry(listed, Some(last)))
    }
}

/// That a frame goes on with the count of bytes where the one before it has ended.
pub(super) fn check_bytes(
    stream: StreamId,
    first_seq: u64,
    before: Before,
    own: u64,
    frame: &FrameHeader,
) -> Result<(), ReadError> {
    let (bytes, expected) = (frame.bytes, before.bytes.saturating_add(own));
    if bytes == expected {
        return Ok(());
    }
    let what = format!("its frame says that the stream has {bytes} bytes so far, it has {expected}");
    Err(ReadError::Damaged { stream, seq: first_seq, what })
}

/// A closed stream's last frame against what was written down when it was closed.
fn check_closed(
    listed: Option<&Listed>,
    stream: StreamId,
    (first_seq, last): &(u64, FrameHeader),
) -> Result<(), ReadError> {
    let Some(Listed { open: false, entry, .. }) = listed else {
        return Ok(());
    };
    let found = first_seq.saturating_add(u64::from(last.count));
    if found < entry.records {
        return Err(ReadError::TailCut { stream, head: entry.records, found });
    }
    if (found, last.head, last.bytes) != (entry.records, entry.head, entry.bytes) {
        return Err(ReadError::Damaged {
            stream,
            seq: found.saturating_sub(1),
            what: format!(
                "the listing says {} records and head {}, the stream has {found} and {}",
                entry.records, entry.head, last.head
            ),
        });
    }
    Ok(())
}

impl<B: Backend> LogReader for Core<B> {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.settled(|| self.read_within(stream, from, Budget::all(limit)))
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.settled(|| self.one_stream(stream))
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        self.settled(|| self.list(filter))
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.settled(|| self.tail_within(from, Budget::all(limit)))
    }

    fn streams_since(&self, from: u64, limit: usize) -> Result<StreamsSince, ReadError> {
        self.settled(|| self.streams_since_within(from, limit))
    }

    fn hashes(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        self.settled(|| self.hashes_within(from, limit))
    }

    fn definition(&self, fingerprint: Hash) -> Result<Option<Arc<[u8]>>, ReadError> {
        if self.with_view(|view| view.hidden.definitions.contains(&fingerprint)) {
            return Ok(None);
        }
        let Some(bytes) = self.load_definition(fingerprint)? else {
            return Ok(None);
        };
        let found = seal::fingerprint(&bytes);
        if found == fingerprint {
            Ok(Some(Arc::from(&bytes[..])))
        } else {
            Err(ReadError::DamagedLog(format!("the definition {fingerprint} has content with fingerprint {found}")))
        }
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
        // A copy has no writer that could wake anybody.
        if self.durability.is_some() {
            self.moving.wait(patience, usize::MAX, || self.tip().position > after);
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
