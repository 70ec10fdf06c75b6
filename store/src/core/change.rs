//! Changes other than appending. The writer makes each as one group with events in the log's own stream, and then
//! overwrites the erased or pruned data.

use std::collections::{BTreeMap, BTreeSet};

use super::writer::Writer;
use crate::bytes::Malformed;
use crate::index::StreamState;
use crate::keeper::{ChangeError, Changed, Erase, MAX_ERASED, MAX_PRUNED, Prune};
use crate::log::{AppendError, ReadError};
use crate::log_event::{Checkpoint, Erased, ErasedRecord, LogEvent, Pruned, PrunedStream};
use crate::paging::Records;
use crate::record::{Body, Hash, StreamId, Timestamp};
use crate::segments::Span;

/// The maximum number of streams in one event, which then has about 30 KiB.
const STREAMS: usize = 256;

/// Work for the writer between two groups.
pub(crate) enum Work {
    Erase(Erase),
    Prune(Prune),
    Import(Box<super::import::ImportedStream>),
    Sign(Checkpoint),
}

impl Writer {
    /// Makes a change durable, or changes nothing.
    pub(crate) fn change(&mut self, work: Work, time: Timestamp) -> Result<Changed, ChangeError> {
        if let Some(stopped) = self.stopped() {
            return Err(stopped.into());
        }
        match work {
            Work::Erase(erase) => self.erase(erase, time),
            Work::Prune(prune) => self.prune(prune, time),
            Work::Import(imported) => self.import_stream(*imported, time),
            Work::Sign(checkpoint) => self.sign(checkpoint, time),
        }
    }

    /// The state of a closed stream, other than the log's own.
    fn closed_stream(&self, stream: StreamId) -> Result<StreamState, ChangeError> {
        if stream == StreamId::LOG {
            return Err(ChangeError::Refused("the log's own stream cannot be changed".to_owned()));
        }
        match self.core().query(|index| index.stream(stream))? {
            None => Err(ReadError::NoStream(stream).into()),
            Some(state) if state.pruned => Err(ReadError::Pruned { stream, records: state.records }.into()),
            Some(state) if state.open => Err(ChangeError::Open(stream)),
            Some(state) => Ok(state),
        }
    }

    fn erase(&mut self, erase: Erase, time: Timestamp) -> Result<Changed, ChangeError> {
        let Erase { stream, mut records, reason, by } = erase;
        let state = self.closed_stream(stream)?;
        records.sort_unstable();
        records.dedup_by_key(|(seq, _)| *seq);
        if records.is_empty() || records.len() > MAX_ERASED {
            let what = format!("between 1 and {MAX_ERASED} records can be erased at once, not {}", records.len());
            return Err(ChangeError::Refused(what));
        }
        if let Some((seq, _)) = records.iter().find(|(seq, _)| *seq >= state.records) {
            return Err(ChangeError::Refused(format!("{stream} has no seq {seq}, it has {} records", state.records)));
        }
        let commitments = self.commitments(stream, records.iter().map(|(seq, _)| *seq).collect())?;
        let records: Vec<ErasedRecord> = records
            .into_iter()
            .filter_map(|(seq, note)| Some(ErasedRecord { seq, commitment: *commitments.get(&seq)?, note }))
            .collect();
        if records.is_empty() {
            return Ok(Changed::default());
        }
        let count = records.len() as u64;
        let event = LogEvent::Erased(Erased { stream, records, reason, by });
        self.wipe_with(&[event], time, |core| core.wipe_erased(stream, &commitments))?;
        Ok(Changed { streams: 1, records: count, already: 0 })
    }

    /// The commitments to bodies that are not erased yet, after verifying their records.
    fn commitments(&self, stream: StreamId, seqs: BTreeSet<u64>) -> Result<BTreeMap<u64, Hash>, ReadError> {
        let core = self.core();
        let mut commitments = BTreeMap::new();
        let mut next = seqs.first().copied();
        while let Some(seq) = next {
            let frames =
                core.stream_frames(stream, seq, super::read::Budget { records: 1, stop_after: 1, bytes: u64::MAX })?;
            let records = super::read::checked_records(&frames, 0)?;
            for record in records.iter().filter(|record| seqs.contains(&record.seq)) {
                if let Body::Present { .. } = record.body {
                    commitments.insert(record.seq, record.body.commitment());
                }
            }
            let after = records.last().map_or(seq, |record| record.seq).saturating_add(1);
            next = seqs.range(after..).next().copied();
        }
        Ok(commitments)
    }

    fn prune(&mut self, prune: Prune, time: Timestamp) -> Result<Changed, ChangeError> {
        let Prune { streams, archive, reason, by } = prune;
        if streams.len() > MAX_PRUNED {
            let what = format!("at most {MAX_PRUNED} streams can be pruned at once, not {}", streams.len());
            return Err(ChangeError::Refused(what));
        }
        let core = self.core();
        let mut dropped: Vec<PrunedStream> = Vec::with_capacity(streams.len());
        let mut spans: Vec<Span> = Vec::new();
        let mut seen = BTreeSet::new();
        for (stream, head) in streams.into_iter().filter(|(stream, _)| seen.insert(*stream)) {
            let state = self.closed_stream(stream)?;
            if state.head != head {
                return Err(ChangeError::Refused(format!("{stream} ends with hash {}, not {head}", state.head)));
            }
            // A damaged stream must not be pruned as if it were intact, and could not be overwritten either.
            Records::new(&*core, stream, 0).try_for_each(|record| record.map(drop))?;
            let frames = core.query(|index| index.frames(stream, 0, usize::MAX - 1))?;
            spans.extend(frames.iter().map(|frame| frame.span));
            let StreamState { kind, records, bytes, started, last, .. } = state;
            dropped.push(PrunedStream { stream, kind, records, bytes, head, times: (started, last) });
        }
        if dropped.is_empty() {
            return Ok(Changed::default());
        }
        let records = dropped.iter().map(|dropped| dropped.records).sum();
        let changed = Changed { streams: dropped.len() as u64, records, already: 0 };
        let event = |streams: &[PrunedStream]| {
            let (reason, by) = (reason.clone(), by.clone());
            LogEvent::Pruned(Pruned { streams: streams.to_vec(), archive, reason, by })
        };
        let events: Vec<LogEvent> = dropped.chunks(STREAMS).map(event).collect();
        self.wipe_with(&events, time, |core| core.wipe_pruned(&spans))?;
        Ok(changed)
    }

    fn sign(&mut self, checkpoint: Checkpoint, time: Timestamp) -> Result<Changed, ChangeError> {
        let end = self.core().tip().position;
        if checkpoint.size > end {
            let what = format!("the checkpoint covers {} records, but the log has only {end}", checkpoint.size);
            return Err(ChangeError::Refused(what));
        }
        self.record(&LogEvent::Checkpoint(checkpoint), time)?;
        Ok(Changed::default())
    }

    /// Records events durably, and overwrites the data that they erase or prune.
    fn wipe_with(
        &mut self,
        events: &[LogEvent],
        time: Timestamp,
        wipe: impl FnOnce(&super::Core) -> Result<(), ReadError>,
    ) -> Result<(), ChangeError> {
        let core = self.core();
        // Readers wait for the rewrite from before the event is visible until the data is overwritten.
        core.rewrite(|| self.record_and_wipe(&core, events, time, wipe))
    }

    fn record_and_wipe(
        &mut self,
        core: &super::Core,
        events: &[LogEvent],
        time: Timestamp,
        wipe: impl FnOnce(&super::Core) -> Result<(), ReadError>,
    ) -> Result<(), ChangeError> {
        self.note_wiping(true);
        let recorded = self.record_with(events, time, |_, _| Ok(()));
        if let Err(error @ (AppendError::Invalid(_) | AppendError::Conflict { .. })) = recorded {
            self.note_wiping(false);
            return Err(error.into());
        }
        recorded?;
        // In every durability mode: the overwritten data is gone for good.
        self.sync();
        if let Some(stopped) = self.stopped() {
            return Err(stopped.into());
        }
        if let Err(error) = wipe(core) {
            let what = format!(
                "{error}. The change is recorded, but not all data is overwritten yet; the next process that opens the log for writing finishes that"
            );
            self.stop(&what);
            return Err(ChangeError::Failed(what));
        }
        self.note_wiping(false);
        Ok(())
    }
}

pub(super) fn to_refused(Malformed(what): Malformed) -> ChangeError {
    ChangeError::Refused(what)
}
