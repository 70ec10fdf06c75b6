//! Reading, with every check: each record against its hash, each hash against the one before it, the end of a stream
//! against what the listing knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::frames::FramesAhead;
use super::{Core, Listed};
use crate::backend::{Backend, Direction};
use crate::layout::frame::{FrameHeader, Standing, StoredFrame};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::keys;
use crate::log::{LogHead, LogReader, ReadError, StreamEntry, StreamFilter};
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
}

/// For how many records there is room from the start, however many are asked for, and how many more the last frame may have.
const PAGE_ROOM: usize = 1024;
const FRAME_ROOM: usize = 16;

/// Where a stream stands before a frame: what the frame must go on from.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    head: Hash,
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
        let tip = self.tip().position;
        // For a page and the rest of its last frame. Growing would clear and copy as much memory again, page by page.
        let mut records: Vec<Record> = Vec::with_capacity(budget.enough.min(PAGE_ROOM) + FRAME_ROOM);
        let mut bytes = 0;
        self.check_shown(stream)?;
        let Some((mut next, found)) = self.last_frame(stream, from, tip)? else {
            // There is none that begins at `from` or before: none at all, or the first ones are lost.
            return self.explain_absence(stream).map(|()| records);
        };
        if found.standing == Standing::Pruned {
            return Err(self.pruned(stream)?);
        }
        let mut before = self.before(stream, next)?;
        let mut frames = FramesAhead::new(self, stream, budget.enough);
        while records.len() < budget.enough && bytes < budget.bytes {
            let Some(frame) = frames.load(next)? else {
                self.check_end(stream, next)?;
                break;
            };
            if !frame.header.is_before(tip) {
                self.check_position(stream, next, &frame.header)?;
                break;
            }
            let (first_seq, header) = (next, frame.header.clone());
            bytes += frame.own_bytes();
            self.open_frame_into(&mut records, stream, first_seq, frame, before)?;
            if first_seq < from {
                records.retain(|record| record.seq >= from);
            }
            before = Before::after(&header);
            next = first_seq + u64::from(header.count);
        }
        records.truncate(budget.records);
        Ok(records)
    }

    /// Records of the log from a position on.
    pub(crate) fn tail_within(&self, from: u64, budget: Budget) -> Result<Vec<Record>, ReadError> {
        let tip = self.tip().position;
        let mut records: Vec<Record> = Vec::new();
        if from >= tip || budget.enough == 0 {
            return Ok(records);
        }
        let mut bytes = 0;
        let (mut position, mut entry) = self.group_before(from + 1)?.ok_or_else(|| no_group(from))?;
        loop {
            let first = position;
            for place in &entry.frames {
                let after = position + u64::from(place.count);
                if after > from && records.len() < budget.enough && bytes < budget.bytes {
                    let frame = self.tail_frame(place, position)?;
                    bytes +=
                        frame.iter().filter_map(|record| record.body.bytes()).map(<[u8]>::len).sum::<usize>() as u64;
                    records.extend(frame.into_iter().filter(|record| record.position >= from));
                }
                position = after;
            }
            if position <= from {
                return Err(no_group(from));
            }
            if position >= tip || records.len() >= budget.enough || bytes >= budget.bytes {
                break;
            }
            entry = self.next_group(first, position)?;
        }
        records.truncate(budget.records);
        Ok(records)
    }

    /// The commit entry that must begin where the one at `previous` ended.
    fn next_group(&self, previous: u64, position: u64) -> Result<GroupEntry, ReadError> {
        match self.groups_from(previous + 1, u64::MAX, 1)?.pop() {
            Some((found, entry)) if found == position => Ok(entry),
            Some((found, _)) => Err(ReadError::DamagedLog(format!(
                "the commit entry at position {previous} ends at {position}, the next begins at {found}"
            ))),
            None => Err(no_group(position)),
        }
    }

    /// The records of a frame that a commit entry names.
    fn tail_frame(&self, place: &FramePlace, position: u64) -> Result<Vec<Record>, ReadError> {
        let frame = self.load_named(place, position)?;
        if frame.header.standing == Standing::Pruned {
            return Ok(Vec::new());
        }
        self.open_named(place, frame)
    }

    fn open_named(&self, place: &FramePlace, frame: StoredFrame) -> Result<Vec<Record>, ReadError> {
        let FramePlace { stream, first_seq, count, .. } = *place;
        let before = match self.ends.get(stream, first_seq) {
            Some(before) => before,
            None => self.before(stream, first_seq)?,
        };
        let after = Before::after(&frame.header);
        let records = self.open_frame(stream, first_seq, frame, before)?;
        self.ends.remember(stream, first_seq.saturating_add(u64::from(count)), after);
        Ok(records)
    }

    /// The frame that a commit entry names, if it is the one.
    pub(crate) fn load_named(&self, place: &FramePlace, position: u64) -> Result<StoredFrame, ReadError> {
        let FramePlace { stream, kind, first_seq, count } = *place;
        let differs = |what: String| ReadError::Damaged { stream, seq: first_seq, what };
        let frame = self
            .load_frame(stream, first_seq)?
            .ok_or_else(|| differs("the log names its frame, and it is missing".to_owned()))?;
        if frame.header.standing == Standing::Imported {
            return Err(differs("the log names its frame, and one from an archive stands there".to_owned()));
        }
        let found = (frame.header.kind, frame.header.count, frame.header.first_position);
        if found == (kind, count, position) {
            Ok(frame)
        } else {
            Err(differs(format!(
                "the log says {kind:?}, {count} records from position {position}; its frame says {:?}, {} from {}",
                found.0, found.1, found.2
            )))
        }
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
        let before = self.before(stream, first_seq)?;
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
        self.open_frame_into(&mut records, stream, first_seq, frame, before)?;
        Ok(records)
    }

    /// The same, and the records are put behind others.
    fn open_frame_into(
        &self,
        records: &mut Vec<Record>,
        stream: StreamId,
        first_seq: u64,
        frame: StoredFrame,
        before: Before,
    ) -> Result<(), ReadError> {
        let (bytes, own) = (frame.header.bytes, frame.own_bytes());
        frame.open_into(records, stream, first_seq, before.head).map_err(|(seq, what)| {
            // The first one is also wrong if the hash before it is: then that one is to be named.
            let blamed = if seq == first_seq { self.blame_previous(stream, first_seq) } else { None };
            blamed.unwrap_or(ReadError::Damaged { stream, seq, what })
        })?;
        let expected = before.bytes.saturating_add(own);
        if bytes == expected {
            return Ok(());
        }
        let what = format!("its frame says that the stream has {bytes} bytes so far, it has {expected}");
        Err(ReadError::Damaged { stream, seq: first_seq, what })
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

    /// Nothing stands at `next`: whether the stream may end there.
    fn check_end(&self, stream: StreamId, next: u64) -> Result<(), ReadError> {
        let later = self.backend.scan(&keys::frames(stream, next, None), 1, Direction::Up)?;
        // Unless it was appended just now.
        if later.first().is_some_and(|(key, _)| *key != keys::frame(stream, next, 0)) {
            let what = "it is missing, though later ones are there".to_owned();
            return Err(ReadError::Damaged { stream, seq: next, what });
        }
        self.with_view(|view| {
            let Some(last) = self.last_frame(stream, u64::MAX, view.tip.position)? else {
                return Ok(());
            };
            let listed = self.listed(view, last.1.kind, stream)?;
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

    /// The hashes of the log's records from a position on, also of those that were pruned. Each that is there is checked.
    pub(crate) fn hashes_within(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        let tip = self.tip().position;
        let mut hashes = Vec::new();
        if from >= tip || limit == 0 {
            return Ok(hashes);
        }
        let (mut position, mut entry) = self.group_before(from + 1)?.ok_or_else(|| no_group(from))?;
        loop {
            let first = position;
            for place in &entry.frames {
                let after = position + u64::from(place.count);
                if after > from && hashes.len() < limit {
                    let found = self.frame_hashes(place, position)?;
                    let passed = usize::try_from(from.saturating_sub(position)).unwrap_or(usize::MAX);
                    hashes.extend(found.into_iter().skip(passed));
                }
                position = after;
            }
            if position <= from {
                return Err(no_group(from));
            }
            if position >= tip || hashes.len() >= limit {
                break;
            }
            entry = self.next_group(first, position)?;
        }
        hashes.truncate(limit);
        Ok(hashes)
    }

    fn frame_hashes(&self, place: &FramePlace, position: u64) -> Result<Vec<Hash>, ReadError> {
        let frame = self.load_named(place, position)?;
        if frame.header.standing == Standing::Pruned {
            return Ok(frame.hashes());
        }
        let records = self.open_named(place, frame)?;
        Ok(records.into_iter().map(|record| record.hash).collect())
    }

    /// One stream's entry.
    fn one_stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.check_shown(stream)?;
        let entry = self.with_view(|view| {
            let Some(last) = self.last_frame(stream, u64::MAX, view.tip.position)? else {
                return Ok::<_, ReadError>(None);
            };
            if last.1.standing == Standing::Pruned {
                return Err(self.pruned(stream)?);
            }
            let listed = self
                .listed(view, last.1.kind, stream)?
                .ok_or_else(|| ReadError::DamagedLog(format!("stream {stream} is missing in the listing")))?;
            check_closed(Some(&listed), stream, &last)?;
            self.check_last(stream, last.0)?;
            Ok(Some(Self::stream_entry(listed, Some(&last))))
        })?;
        match entry {
            Some(entry) => Ok(entry),
            None => self.explain_absence(stream).and(Err(ReadError::NoStream(stream))),
        }
    }
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

fn no_group(position: u64) -> ReadError {
    ReadError::DamagedLog(format!("no commit entry has position {position}, though later ones were acknowledged"))
}

impl<B: Backend> LogReader for Core<B> {
    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.read_within(stream, from, Budget { records: limit, enough: limit, bytes: u64::MAX })
    }

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.one_stream(stream)
    }

    fn streams(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        self.list(filter)
    }

    fn tail(&self, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.tail_within(from, Budget { records: limit, enough: limit, bytes: u64::MAX })
    }

    fn hashes(&self, from: u64, limit: usize) -> Result<Vec<Hash>, ReadError> {
        self.hashes_within(from, limit)
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

    fn location(&self) -> String {
        self.location.clone()
    }
}
