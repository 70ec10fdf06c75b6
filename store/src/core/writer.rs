//! The writer: collects pending batches, rejects invalid ones, seals the others as a group, makes it durable, and then
//! acknowledges them.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::group::{Group, Sealed};
use super::open::save_head;
use super::prepared::{PreparedBatch, PreparedFrame};
use super::scan::ScannedLog;
use crate::bytes::Malformed;
use crate::index::{IndexError, StreamState};
use crate::layout::definition;
use crate::layout::head::{Head, Tip};
use crate::layout::segment::{Place, SegmentHeader};
use crate::log::{Acknowledge, AppendError, Appended, Batch, Definition, Durability, Frame, Listing, ReadError};
use crate::log_event::LogEvent;
use crate::merkle::Tree;
use crate::record::{StreamId, StreamKind, Timestamp};
use crate::seal;
use crate::segments::appender::Appender;

/// The maximum number of records after the head file's position: those that an open after a crash has to verify.
const HEAD_EVERY: u64 = 65_536;

/// A pending batch and its acknowledgement.
pub(crate) struct Job {
    pub(crate) batch: PreparedBatch,
    ack: PendingAck,
}

impl Job {
    /// Prepares a batch, on the caller's thread.
    pub(crate) fn new(batch: Batch, acknowledge: Acknowledge) -> Self {
        Self { batch: batch.into(), ack: PendingAck(Some(acknowledge)) }
    }
}

/// A pending acknowledgement. Reports `Closed` if it is dropped, so that every acknowledgement is called
/// exactly once.
struct PendingAck(Option<Acknowledge>);

impl PendingAck {
    fn send(mut self, result: Result<Appended, AppendError>) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge(result);
        }
    }
}

impl Drop for PendingAck {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge(Err(AppendError::Closed));
        }
    }
}

/// The result of a job, not yet acknowledged.
pub(crate) struct Outcome {
    ack: PendingAck,
    result: Result<Appended, AppendError>,
}

impl Outcome {
    /// Calls the acknowledgement.
    pub(crate) fn acknowledge(self) {
        self.ack.send(self.result);
    }
}

/// The writer of a log.
pub(crate) struct Writer {
    core: Arc<Core>,
    appender: Appender,
    tree: Tree,
    /// The log is on the disk up to here.
    synced: Place,
    /// The position from which on events record erasures that are not complete.
    wiping: Option<u64>,
    /// The position in the head file.
    head_saved: u64,
    /// Why the log takes no more appends, if it stopped.
    stopped: Option<AppendError>,
}

impl Writer {
    /// A writer that continues at the end of the log.
    pub(crate) fn new(core: Arc<Core>, appender: Appender, head: &Head, scanned: ScannedLog) -> Self {
        Self {
            core,
            appender,
            tree: scanned.tree,
            synced: head.place,
            wiping: None,
            head_saved: head.tip.position,
            stopped: None,
        }
    }

    fn tip(&self) -> Tip {
        self.core.tip()
    }

    /// Whether acknowledged records could be lost in a power failure.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.synced < self.appender.end()
    }

    /// The time of the last record.
    pub(crate) fn last_time(&self) -> Timestamp {
        self.tip().time
    }

    /// Wakes the readers that wait for the log to grow. Call it after the appends are acknowledged.
    pub(crate) fn notify_readers(&self) {
        self.core.tip_watch.notify();
    }

    /// The log.
    pub(super) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
    }

    /// Why the log takes no more appends, if it stopped.
    pub(super) fn stopped(&self) -> Option<AppendError> {
        self.stopped.clone()
    }

    /// Notes that the following events record an erasure, or that it is complete.
    pub(super) fn note_wiping(&mut self, begins: bool) {
        self.wiping = begins.then(|| self.tip().position);
    }

    /// Makes pending batches durable with one sync.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) -> Vec<Outcome> {
        let core = Arc::clone(&self.core);
        if let Err(error) = self.roll_segment_if_full() {
            self.stop(&format!("starting a segment: {error}"));
        }
        let mut group = Group::new(&core, self.appender.end(), &self.tree);
        let mut outcomes = Vec::with_capacity(jobs.len());
        for Job { batch, ack } in jobs {
            let result = self.admit(batch, &mut group);
            outcomes.push(Outcome { ack, result });
        }
        if let Some(sealed) = group.finish(self.synced)
            && self.stopped.is_none()
        {
            self.make_durable(sealed);
        }
        if let Some(stopped) = &self.stopped {
            for outcome in &mut outcomes {
                outcome.result = Err(stopped.clone());
            }
        }
        outcomes
    }

    /// Starts a new segment if the current one is full.
    fn roll_segment_if_full(&mut self) -> io::Result<()> {
        if self.stopped.is_some() || !self.appender.is_full() {
            return Ok(());
        }
        let end = self.appender.end();
        let header = SegmentHeader {
            number: end.segment + 1,
            log: self.core.segments.log,
            before: self.tip(),
            length_before: end.offset,
        };
        self.appender.roll(&header)?;
        // Not the start of the new segment: a sync of the old one says nothing about writes there.
        self.synced = end;
        self.write_head(false, 0)
    }

    /// Adds a batch to the group, or rejects all of it.
    pub(super) fn admit(&mut self, batch: PreparedBatch, group: &mut Group<'_>) -> Result<Appended, AppendError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        self.check(&batch, group)?;
        let position = group.position();
        self.add(batch, group).map_err(|why| {
            // The batch was checked before, and the group now contains half of it.
            let stopped = AppendError::Failed(format!("a batch could not be sealed: {why}"));
            self.stopped = Some(stopped.clone());
            stopped
        })?;
        Ok(Appended { position, records: group.position() - position })
    }

    fn add(&self, batch: PreparedBatch, group: &mut Group<'_>) -> Result<(), Malformed> {
        for definition in &batch.definitions {
            self.define(definition, group)?;
        }
        batch.frames.into_iter().try_for_each(|frame| group.add_frame(frame))
    }

    /// Adds a definition, unless the log has it.
    pub(super) fn define(&self, definition: &Definition, group: &mut Group<'_>) -> Result<(), Malformed> {
        match self.has_definition(definition, group).map_err(|error| Malformed(error.to_string()))? {
            true => Ok(()),
            false => group.add_definition(definition),
        }
    }

    /// Whether the log has a definition.
    fn has_definition(&self, definition: &Definition, group: &Group<'_>) -> Result<bool, ReadError> {
        let fingerprint = definition.fingerprint;
        Ok(group.has_definition(fingerprint) || self.core.query(|index| index.definition(fingerprint))?.is_some())
    }

    /// Checks everything for which a batch can be rejected, before anything is changed.
    fn check(&mut self, batch: &PreparedBatch, group: &Group<'_>) -> Result<(), AppendError> {
        if batch.frames.is_empty() && batch.definitions.is_empty() {
            return Err(AppendError::Invalid("the batch is empty".to_owned()));
        }
        let mut seen = HashSet::new();
        for frame in &batch.frames {
            // Most batches have one frame.
            if batch.frames.len() > 1 && !seen.insert(frame.stream) {
                let what = format!("stream {} has two frames in one batch; combine them", frame.stream);
                return Err(AppendError::Invalid(what));
            }
            self.check_frame(frame, group)?;
        }
        batch.definitions.iter().try_for_each(|definition| match self.has_definition(definition, group) {
            Ok(true) => Ok(()),
            Ok(false) => check_definition(definition),
            Err(error) => Err(self.reject_unreadable(error)),
        })
    }

    fn check_frame(&mut self, frame: &PreparedFrame, group: &Group<'_>) -> Result<(), AppendError> {
        let stream = frame.stream;
        let invalid = |what: &str| Err(AppendError::Invalid(format!("stream {stream}: {what}")));
        if frame.content.as_ref().is_ok_and(|content| content.count() == 0) {
            return invalid("a frame has no bodies");
        }
        if (stream == StreamId::LOG) != (frame.kind == StreamKind::Log) {
            return invalid("only the log's own stream has the kind Log");
        }
        if let Err(Malformed(why)) = &frame.content {
            return invalid(why);
        }
        let next = match self.find_stream(stream, group)? {
            Some(state) if state.kind != frame.kind => {
                let what = format!("it is of kind {:?}, not {:?}", state.kind, frame.kind);
                return invalid(&what);
            }
            Some(state) => state.records,
            None => 0,
        };
        if frame.expected_seq != next {
            return Err(AppendError::Conflict { stream, expected: frame.expected_seq, next });
        }
        Ok(())
    }

    /// The state of a stream. Its last frame must be intact, since the append continues its hash chain; verifies frames
    /// of earlier processes.
    fn find_stream(&mut self, stream: StreamId, group: &Group<'_>) -> Result<Option<StreamState>, AppendError> {
        let known = group.stream(stream).map_err(|IndexError(why)| ReadError::Io(why));
        let found = known.and_then(|state| match state {
            Some(state) if state.pruned => Err(ReadError::Pruned { stream, records: state.records }),
            Some(state) if !group.has_written(stream) && !self.core.index.is_in_memory(stream) => {
                self.core.check_last(stream, &state).map(|()| Some(state))
            }
            state => Ok(state),
        });
        found.map_err(|error| self.reject_unreadable(error))
    }

    /// The error for an unreadable stream. Damage only rejects the batch; after an I/O error, the log stops.
    fn reject_unreadable(&mut self, error: ReadError) -> AppendError {
        let what = format!("cannot read the end of its stream: {error}");
        if !matches!(error, ReadError::Io(_)) {
            return AppendError::Invalid(what);
        }
        let stopped = AppendError::Failed(what);
        self.stopped = Some(stopped.clone());
        stopped
    }

    fn make_durable(&mut self, sealed: Sealed) {
        let Sealed { bytes, part, tip, tree } = sealed;
        if let Err(error) = self.write(&bytes) {
            return self.stop(&error.to_string());
        }
        self.tree = tree;
        if self.core.durability == Some(Durability::Sync) {
            self.synced = self.appender.end();
        }
        self.core.index.append(part, tip, self.appender.end());
        self.core.flushes.fetch_add(1, Ordering::Relaxed);
        if tip.position - self.head_saved >= HEAD_EVERY {
            // The group itself is durable. A failure is reported to the next append.
            let _ = self.save_head();
        }
    }

    fn write(&mut self, group: &[u8]) -> io::Result<()> {
        self.core.segments.disk().check_in_place()?;
        self.appender.write(group)?;
        match self.core.durability {
            Some(Durability::Interval(_) | Durability::Os) => Ok(()),
            Some(Durability::Sync) | None => self.appender.sync(),
        }
    }

    /// Stops the log. A failed write or sync is final: the system may have dropped the data, and a second sync would
    /// succeed without it.
    pub(super) fn stop(&mut self, error: &str) {
        tracing::error!(log = self.core.location, error, "the log stopped");
        self.stopped = Some(AppendError::Failed(error.to_owned()));
        self.core.failed.store(true, Ordering::Release);
    }

    /// Syncs acknowledged records that are not on the disk yet.
    pub(crate) fn sync(&mut self) {
        if self.stopped.is_some() || !self.is_unsynced() {
            return;
        }
        match self.appender.sync() {
            Ok(()) => self.synced = self.appender.end(),
            Err(error) => self.stop(&error.to_string()),
        }
    }

    fn write_head(&mut self, closed: bool, index: u32) -> io::Result<()> {
        let tip = self.tip();
        let head = Head {
            closed,
            log: self.core.segments.log,
            tip,
            place: self.appender.end(),
            wiped: self.wiping.unwrap_or(tip.position),
            index,
            tree: self.tree.clone(),
        };
        self.core.segments.disk().check_in_place()?;
        save_head(&**self.core.segments.disk(), &head)?;
        self.head_saved = tip.position;
        Ok(())
    }

    /// Syncs, and saves the end of the log to the head file.
    pub(crate) fn save_head(&mut self) -> Result<(), AppendError> {
        self.sync();
        if self.stopped.is_none()
            && self.tip().position != self.head_saved
            && let Err(error) = self.write_head(false, 0)
        {
            self.stop(&format!("the head file: {error}"));
        }
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Appends an event to the log's own stream.
    pub(crate) fn record(&mut self, event: &LogEvent, time: Timestamp) -> Result<(), AppendError> {
        self.record_with(std::slice::from_ref(event), time, |_, _| Ok(()))
    }

    /// Appends events to the log's own stream, and more to the same group.
    pub(super) fn record_with(
        &mut self,
        events: &[LogEvent],
        time: Timestamp,
        more: impl FnOnce(&Self, &mut Group<'_>) -> Result<(), Malformed>,
    ) -> Result<(), AppendError> {
        let encoded: Result<Vec<_>, _> = events.iter().map(LogEvent::encode).collect();
        let bodies = encoded.map_err(|error| AppendError::Invalid(error.to_string()))?;
        let core = Arc::clone(&self.core);
        if let Err(error) = self.roll_segment_if_full() {
            self.stop(&format!("beginning a segment: {error}"));
        }
        let mut group = Group::new(&core, self.appender.end(), &self.tree);
        let expected_seq = self.find_stream(StreamId::LOG, &group)?.map_or(0, |state| state.records);
        let frame =
            Frame { stream: StreamId::LOG, kind: StreamKind::Log, expected_seq, time, bodies, listing: Listing::Keep };
        let batch = Batch { definitions: Vec::new(), frames: vec![frame] };
        self.admit(batch.into(), &mut group)?;
        events.iter().for_each(|event| group.note_event(event));
        more(self, &mut group).map_err(|Malformed(why)| AppendError::Invalid(why))?;
        if let Some(sealed) = group.finish(self.synced) {
            self.make_durable(sealed);
        }
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Closes the log cleanly: records that, syncs, closes the index, and saves the head. `index` returns the checksum
    /// of the closed index.
    pub(crate) fn close(&mut self, time: Timestamp, index: impl FnOnce() -> u32) -> Result<(), AppendError> {
        let recorded = self.record(&LogEvent::Closed, time);
        self.sync();
        self.core.closed.store(true, Ordering::Release);
        let is_whole = self.core.index.close();
        if self.stopped.is_none() {
            let checksum = if is_whole { index() } else { 0 };
            let finished = self.appender.finish().and_then(|()| self.write_head(true, checksum));
            if let Err(error) = finished {
                self.stop(&error.to_string());
            }
        }
        let failed = self.stopped.clone().map_or(Ok(()), Err);
        self.stopped.get_or_insert(AppendError::Closed);
        recorded.and(failed)
    }
}

fn check_definition(definition: &Definition) -> Result<(), AppendError> {
    let fingerprint = definition.fingerprint;
    let length = definition.bytes.len();
    if !definition::fits(&definition.bytes) {
        return Err(AppendError::Invalid(format!("the definition {fingerprint} of {length} bytes is too long")));
    }
    let found = seal::fingerprint(&definition.bytes);
    if found == fingerprint {
        return Ok(());
    }
    Err(AppendError::Invalid(format!("the definition {fingerprint} has contents with fingerprint {found}")))
}

impl From<IndexError> for Malformed {
    fn from(IndexError(why): IndexError) -> Self {
        Self(why)
    }
}
