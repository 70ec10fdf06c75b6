//! Changes other than appending. Each is one group with an event in the log's own stream; the writer makes it between two
//! others.
//!
//! Readers see frames that are replaced before that is durable. It does no harm: what they see is what will be, or, after a
//! crash in that moment, what was.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use super::group::Group;
use super::writer::Writer;
use crate::backend::Backend;
use crate::bytes::Malformed;
use crate::keeper::{ChangeError, Changed, Erase, MOST_ERASED, Prune};
use crate::layout::frame::{self, FrameHeader, Standing, StoredFrame};
use crate::layout::{chunk_count, keys};
use crate::log::{AppendError, ReadError};
use crate::log_event::{Checkpoint, Erased, LogEvent, Pruned};
use crate::record::{Body, Hash, StreamId, Timestamp};

/// How many frames of a stream are looked for at once.
const PAGE: usize = 256;

/// What the writer is asked to do between two groups.
pub(crate) enum Work {
    Erase(Erase),
    Prune(Prune),
    Take(Box<super::import::Taken>),
    Sign(Checkpoint),
}

impl<B: Backend> Writer<B> {
    /// Makes a change durable, or does nothing.
    pub(crate) fn change(&mut self, work: Work, time: Timestamp) -> Result<Changed, ChangeError> {
        if let Some(stopped) = self.stopped() {
            return Err(stopped.into());
        }
        match work {
            Work::Erase(erase) => self.erase(erase, time),
            Work::Prune(prune) => self.prune(prune, time),
            Work::Take(taken) => self.take_over(*taken, time),
            Work::Sign(checkpoint) => self.sign(checkpoint, time),
        }
    }

    /// The end of a closed stream of the log's users.
    pub(super) fn closed_stream(&self, stream: StreamId) -> Result<crate::log::StreamEntry, ChangeError> {
        if stream == StreamId::LOG {
            return Err(ChangeError::Refused("the log's own stream stays as it is".to_owned()));
        }
        // By what is stored: that is what will be changed.
        let entry = self.core().stored_stream(stream)?;
        if entry.open { Err(ChangeError::Open(stream)) } else { Ok(entry) }
    }

    fn erase(&mut self, erase: Erase, time: Timestamp) -> Result<Changed, ChangeError> {
        let Erase { stream, mut records, reason, by } = erase;
        let entry = self.closed_stream(stream)?;
        records.sort_unstable();
        records.dedup_by_key(|(seq, _)| *seq);
        if records.is_empty() || records.len() > MOST_ERASED {
            let what = format!("between 1 and {MOST_ERASED} records can be erased at once, not {}", records.len());
            return Err(ChangeError::Refused(what));
        }
        if let Some((seq, _)) = records.iter().find(|(seq, _)| *seq >= entry.records) {
            return Err(ChangeError::Refused(format!("{stream} has no seq {seq}, it has {} records", entry.records)));
        }
        let seqs: BTreeSet<u64> = records.iter().map(|(seq, _)| *seq).collect();
        let mut edits = Vec::new();
        let mut erased = BTreeSet::new();
        let mut next = seqs.first().copied();
        while let Some(seq) = next {
            let (first_seq, mut frame) = self.whole_frame(stream, seq)?;
            let old = frame.header.clone();
            let after = first_seq + u64::from(old.count);
            for seq in seqs.range(first_seq..after) {
                let at = usize::try_from(seq - first_seq).unwrap_or(usize::MAX);
                let Some(record) = frame.records.get_mut(at) else { continue };
                if let Body::Present { .. } = record.body {
                    let (commitment, length) = (record.body.commitment(), record.body.length());
                    record.body = Body::Erased { commitment, length };
                    erased.insert(*seq);
                }
            }
            edits.extend(replace(stream, first_seq, &old, &frame)?);
            next = seqs.range(after..).next().copied();
        }
        records.retain(|(seq, _)| erased.contains(seq));
        if records.is_empty() {
            return Ok(Changed::default());
        }
        let count = records.len() as u64;
        let event = LogEvent::Erased(Erased { stream, records, reason, by });
        self.write_changes(&[event], time, edits)?;
        Ok(Changed { streams: 1, records: count, already: 0 })
    }

    fn prune(&mut self, prune: Prune, time: Timestamp) -> Result<Changed, ChangeError> {
        let Prune { stream, head, archive, reason, by } = prune;
        let entry = self.closed_stream(stream)?;
        if entry.head != head {
            return Err(ChangeError::Refused(format!("{stream} ends with {}, not with {head}", entry.head)));
        }
        let mut edits = vec![
            (keys::listing(false, entry.kind, stream), None),
            (keys::started(entry.kind, entry.listing_key()), None),
        ];
        let mut left = Sha256::new();
        let mut from = Some(0);
        while let Some(seq) = from {
            let frames = self.frames_from(stream, seq)?;
            from = frames.last().map(|(first_seq, frame)| first_seq + u64::from(frame.header.count));
            for (first_seq, frame) in frames {
                match frame.header.standing {
                    Standing::Own => {
                        let stub = frame.without_records();
                        left.update(frame::encode(&stub).map_err(unsealable)?.0);
                        edits.extend(replace(stream, first_seq, &frame.header, &stub)?);
                    }
                    // No commit entry names it: nothing needs its hashes but the event that it was imported with.
                    Standing::Imported => edits.extend(remove(stream, first_seq, &frame.header, 0)?),
                    Standing::Pruned => {}
                }
            }
        }
        let event = LogEvent::Pruned(Pruned {
            stream,
            kind: entry.kind,
            records: entry.records,
            bytes: entry.bytes,
            head,
            left: Hash(left.finalize().into()),
            times: (entry.started, entry.last),
            archive,
            reason,
            by,
        });
        self.write_changes(&[event], time, edits)?;
        self.forget_stream(stream);
        Ok(Changed { streams: 1, records: entry.records, already: 0 })
    }

    fn sign(&mut self, checkpoint: Checkpoint, time: Timestamp) -> Result<Changed, ChangeError> {
        let end = self.core().tip().position;
        if checkpoint.size > end {
            let what = format!("a checkpoint of {} records, and the log has {end}", checkpoint.size);
            return Err(ChangeError::Refused(what));
        }
        self.write_changes(&[LogEvent::Checkpoint(checkpoint)], time, Vec::new())?;
        Ok(Changed::default())
    }

    /// Some of a stream's frames, from the one that begins at a `seq` on.
    fn frames_from(&self, stream: StreamId, seq: u64) -> Result<Vec<(u64, StoredFrame)>, ChangeError> {
        let mut frames = Vec::new();
        let mut next = seq;
        while frames.len() < PAGE {
            let Some(frame) = self.core().load_frame(stream, next)? else { break };
            let first_seq = next;
            next += u64::from(frame.header.count);
            frames.push((first_seq, frame));
        }
        Ok(frames)
    }

    /// The frame with a record of a stream, all of whose records fit their hashes.
    fn whole_frame(&self, stream: StreamId, seq: u64) -> Result<(u64, StoredFrame), ChangeError> {
        let missing = || ReadError::Damaged { stream, seq, what: "it is missing".to_owned() };
        let (first_seq, _) = self.core().last_frame(stream, seq, u64::MAX)?.ok_or_else(missing)?;
        let frame = self.core().load_frame(stream, first_seq)?.ok_or_else(missing)?;
        if first_seq + u64::from(frame.header.count) <= seq {
            return Err(missing().into());
        }
        self.core().check_frame(stream, first_seq, frame.clone())?;
        Ok((first_seq, frame))
    }

    /// Writes events of the log's own stream and other changes as one group.
    pub(super) fn write_changes(
        &mut self,
        events: &[LogEvent],
        time: Timestamp,
        edits: Vec<Edit>,
    ) -> Result<(), AppendError> {
        self.record_with(events, time, |group: &mut Group| {
            edits.into_iter().for_each(|(key, value)| group.change(key, value));
        })
    }
}

/// A key and its new value; `None` deletes it.
pub(crate) type Edit = (Vec<u8>, Option<Vec<u8>>);

/// Stores a frame in the place of the one that had a header.
pub(super) fn replace(
    stream: StreamId,
    first_seq: u64,
    old: &FrameHeader,
    new: &StoredFrame,
) -> Result<Vec<Edit>, ChangeError> {
    let (bytes, header) = frame::encode(new).map_err(unsealable)?;
    let chunks = crate::layout::chunks(&bytes);
    let mut edits: Vec<Edit> =
        chunks.map(|(chunk, part)| (keys::frame(stream, first_seq, chunk), Some(part.to_vec()))).collect();
    edits.extend(remove(stream, first_seq, old, chunk_count(header.length).map_err(unsealable)?)?);
    Ok(edits)
}

/// Removes the chunks of a frame from one on.
fn remove(stream: StreamId, first_seq: u64, old: &FrameHeader, from: u16) -> Result<Vec<Edit>, ChangeError> {
    let chunks = chunk_count(old.length).map_err(unsealable)?;
    Ok((from..chunks).map(|chunk| (keys::frame(stream, first_seq, chunk), None)).collect())
}

pub(super) fn unsealable(Malformed(what): Malformed) -> ChangeError {
    ChangeError::Refused(what)
}
