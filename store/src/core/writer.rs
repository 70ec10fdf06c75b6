//! The one who writes: takes what is waiting, refuses what does not fit, seals the rest as a group, makes it durable, and
//! only then says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::group::{Group, Sealed, StreamState};
use super::ready::{ReadyBatch, ReadyFrame};
use super::{Core, Listed};
use crate::backend::{Backend, BackendError};
use crate::bytes::Malformed;
use crate::layout::frame::Standing;
use crate::layout::head::Tip;
use crate::layout::keys;
use crate::layout::listing::MAX_LABEL;
use crate::log::{Acknowledge, AppendError, Appended, Batch, Definition, Durability, Frame, Listing, ReadError};
use crate::log_event::LogEvent;
use crate::record::{Hash, StreamId, StreamKind, Timestamp};
use crate::seal;

/// How many records may lie behind the head file: what an open after a crash has to check.
const HEAD_EVERY: u64 = 65_536;

/// How many streams the writer remembers; it looks the others up again.
const REMEMBERED_STREAMS: usize = 100_000;

/// How many definitions the writer remembers to have stored.
const REMEMBERED_DEFINITIONS: usize = 10_000;

/// A batch that waits, and who waits for it.
pub(crate) struct Job {
    pub(crate) batch: ReadyBatch,
    waiting: Waiting,
}

impl Job {
    /// Prepares a batch, on the thread of whoever appends it.
    pub(crate) fn new(batch: Batch, acknowledge: Acknowledge) -> Self {
        Self { batch: batch.into(), waiting: Waiting(Some(acknowledge)) }
    }
}

/// Who waits for a batch. Told that the log is closed, if nobody tells anything else: an acknowledgement is called once,
/// whatever happens.
struct Waiting(Option<Acknowledge>);

impl Waiting {
    fn tell(mut self, result: Result<Appended, AppendError>) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge(result);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(acknowledge) = self.0.take() {
            acknowledge(Err(AppendError::Closed));
        }
    }
}

/// What a job came to; to be told by whoever drives the writer.
pub(crate) struct Outcome {
    waiting: Waiting,
    result: Result<Appended, AppendError>,
}

impl Outcome {
    /// Tells whoever waits.
    pub(crate) fn tell(self) {
        self.waiting.tell(self.result);
    }
}

/// The writer of a log.
pub(crate) struct Writer<B> {
    core: Arc<Core<B>>,
    tip: Tip,
    streams: HashMap<StreamId, StreamState>,
    definitions: HashSet<Hash>,
    /// The position in the head file.
    head_saved: u64,
    /// Whether something was acknowledged that is not synced.
    unsynced: bool,
    /// Why nothing more is taken.
    stopped: Option<AppendError>,
}

impl<B: Backend> Writer<B> {
    /// A writer that goes on where the log ends.
    pub(crate) fn new(core: Arc<Core<B>>, head_saved: u64) -> Self {
        Self {
            tip: core.tip(),
            core,
            streams: HashMap::new(),
            definitions: HashSet::new(),
            head_saved,
            unsynced: false,
            stopped: None,
        }
    }

    /// Whether something was acknowledged that a power cut could still take back.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    /// The time of the last record.
    pub(crate) fn last_time(&self) -> Timestamp {
        self.tip.time
    }

    /// Wakes the readers that wait until the log moves. It has moved, and whoever appended was told.
    pub(crate) fn tell_readers(&self) {
        self.core.moving.moved();
    }

    /// The log, for those who change it.
    pub(super) fn core(&self) -> &Core<B> {
        &self.core
    }

    /// Why nothing more is taken, if so.
    pub(super) fn stopped(&self) -> Option<AppendError> {
        self.stopped.clone()
    }

    /// Forgets what is known of a stream that was changed.
    pub(super) fn forget_stream(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
    }

    /// Those definitions that the log does not have.
    pub(super) fn new_definitions(&mut self, mut definitions: Vec<Definition>) -> Result<Vec<Definition>, AppendError> {
        for definition in &definitions {
            self.check_definition(definition)?;
        }
        definitions.retain(|definition| self.definitions.insert(definition.fingerprint));
        Ok(definitions)
    }

    /// Makes everything that waits durable, with one flush.
    pub(crate) fn commit(&mut self, jobs: Vec<Job>) -> Vec<Outcome> {
        self.forget();
        let mut group = Group::new(self.tip);
        let mut outcomes = Vec::with_capacity(jobs.len());
        for Job { batch, waiting } in jobs {
            let result = self.admit(batch, &mut group);
            outcomes.push(Outcome { waiting, result });
        }
        if let Some(sealed) = group.finish()
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

    fn forget(&mut self) {
        if self.streams.len() > REMEMBERED_STREAMS {
            self.streams.clear();
        }
        if self.definitions.len() > REMEMBERED_DEFINITIONS {
            self.definitions.clear();
        }
    }

    /// Takes a batch into the group, or refuses all of it.
    fn admit(&mut self, batch: ReadyBatch, group: &mut Group) -> Result<Appended, AppendError> {
        if let Some(stopped) = &self.stopped {
            return Err(stopped.clone());
        }
        self.check(&batch)?;
        let position = group.position();
        self.add(batch, group).map_err(|why| {
            // Everything was checked before: what is in the group now is half of a batch.
            let stopped = AppendError::Failed(format!("a batch could not be sealed: {why}"));
            self.stopped = Some(stopped.clone());
            stopped
        })?;
        Ok(Appended { position, records: group.position() - position })
    }

    fn add(&mut self, batch: ReadyBatch, group: &mut Group) -> Result<(), Malformed> {
        for definition in &batch.definitions {
            if self.definitions.insert(definition.fingerprint) {
                group.add_definition(definition)?;
            }
        }
        batch.frames.into_iter().try_for_each(|frame| group.add_frame(frame, &mut self.streams))
    }

    /// Everything that a batch can be refused for. Nothing is changed before all of it was checked.
    fn check(&mut self, batch: &ReadyBatch) -> Result<(), AppendError> {
        if batch.frames.is_empty() && batch.definitions.is_empty() {
            return Err(AppendError::Invalid("the batch is empty".to_owned()));
        }
        let mut seen = HashSet::new();
        for frame in &batch.frames {
            // Most batches have one frame.
            if batch.frames.len() > 1 && !seen.insert(frame.stream) {
                let what = format!("stream {} has two frames in one batch; join them", frame.stream);
                return Err(AppendError::Invalid(what));
            }
            self.check_frame(frame)?;
        }
        batch.definitions.iter().try_for_each(|definition| self.check_definition(definition))
    }

    fn check_frame(&mut self, frame: &ReadyFrame) -> Result<(), AppendError> {
        let stream = frame.stream;
        let invalid = |what: &str| Err(AppendError::Invalid(format!("stream {stream}: {what}")));
        if frame.content.as_ref().is_ok_and(|content| content.count() == 0) {
            return invalid("a frame has no body");
        }
        if (stream == StreamId::LOG) != (frame.kind == StreamKind::Log) {
            return invalid("the stream of kind Log is the log's own, and the only one");
        }
        if let Listing::Open(label) | Listing::Closed(label) = &frame.listing
            && label.len() > MAX_LABEL
        {
            return invalid(&format!("a label of {} bytes is longer than {MAX_LABEL}", label.len()));
        }
        if let Err(Malformed(why)) = &frame.content {
            return invalid(why);
        }
        let next = match self.find_stream(stream)? {
            Some(state) if state.kind != frame.kind => {
                let what = format!("it is of kind {:?}, not {:?}", state.kind, frame.kind);
                return invalid(&what);
            }
            Some(state) => state.next_seq,
            None => 0,
        };
        if frame.expected_seq != next {
            return Err(AppendError::Conflict { stream, expected: frame.expected_seq, next });
        }
        Ok(())
    }

    /// Checks a definition, and learns whether the log has it.
    fn check_definition(&mut self, definition: &Definition) -> Result<(), AppendError> {
        let fingerprint = definition.fingerprint;
        if self.definitions.contains(&fingerprint) {
            return Ok(());
        }
        let found = seal::fingerprint(&definition.bytes);
        if found != fingerprint {
            let what = format!("the definition {fingerprint} has content with fingerprint {found}");
            return Err(AppendError::Invalid(what));
        }
        if crate::layout::definition::fits(&definition.bytes) {
            let stored = self.core.backend.get(&keys::definition(fingerprint, 0));
            if stored.map_err(|error| self.unreadable(error.into()))?.is_some() {
                self.definitions.insert(fingerprint);
            }
            return Ok(());
        }
        let length = definition.bytes.len();
        Err(AppendError::Invalid(format!("the definition {fingerprint} of {length} bytes is too long")))
    }

    /// What is known of a stream, from memory or from its end.
    fn find_stream(&mut self, stream: StreamId) -> Result<Option<&StreamState>, AppendError> {
        if !self.streams.contains_key(&stream)
            && let Some(state) = self.load_stream(stream).map_err(|error| self.unreadable(error))?
        {
            self.streams.insert(stream, state);
        }
        Ok(self.streams.get(&stream))
    }

    fn load_stream(&self, stream: StreamId) -> Result<Option<StreamState>, ReadError> {
        let Some((first_seq, last)) = self.core.last_frame(stream, u64::MAX, u64::MAX)? else {
            return Ok(None);
        };
        let next_seq = first_seq.saturating_add(u64::from(last.count));
        if last.standing == Standing::Pruned {
            return Err(ReadError::Pruned { stream, records: next_seq });
        }
        // What is appended goes on from it, so it must be whole.
        self.core.check_last(stream, first_seq)?;
        let listed: Option<Listed> = self.core.with_view(|view| self.core.listed(view, last.kind, stream))?;
        let listed =
            listed.ok_or_else(|| ReadError::DamagedLog(format!("stream {stream} is missing in the listing")))?;
        Ok(Some(StreamState { kind: last.kind, next_seq, head: last.head, bytes: last.bytes, listed }))
    }

    /// A batch is refused where what it would have to go on from is damaged or gone; others can go on. Where the disk fails, nothing can:
    /// a failed write, of which sled tells whoever comes next, can first be met by a read.
    fn unreadable(&mut self, error: ReadError) -> AppendError {
        let what = format!("what it goes on from cannot be read: {error}");
        if !matches!(error, ReadError::Io(_)) {
            return AppendError::Invalid(what);
        }
        let stopped = AppendError::Failed(what);
        self.stopped = Some(stopped.clone());
        stopped
    }

    fn make_durable(&mut self, sealed: Sealed) {
        let Sealed { changes, hidden, rewriting, written, tip } = sealed;
        let core = Arc::clone(&self.core);
        let done = core
            .backend
            .make_room(&changes)
            .and_then(|()| core.apply_hidden(hidden, rewriting, tip.position, |backend| backend.apply(&changes)))
            .and_then(|()| core.backend.write_out())
            .and_then(|()| match core.durability {
                Some(Durability::Interval(_) | Durability::Os) => {
                    self.unsynced = true;
                    Ok(())
                }
                Some(Durability::Sync) | None => core.backend.sync(),
            });
        match done {
            Ok(()) => {
                self.tip = tip;
                core.show(tip, written);
                if tip.position - self.head_saved >= HEAD_EVERY {
                    // The group itself is durable. That the log stopped is told to the next one.
                    let _ = self.save_head();
                }
            }
            Err(error) => self.stop(&error),
        }
    }

    /// A failed write or sync is final: the system may have dropped what it could not write, and a second sync would
    /// claim that all is well.
    fn stop(&mut self, error: &BackendError) {
        tracing::error!(log = self.core.location, %error, "the log stopped");
        self.stopped = Some(AppendError::Failed(error.to_string()));
        self.core.failed.store(true, Ordering::Release);
    }

    /// Syncs what was acknowledged before it was on the disk.
    pub(crate) fn sync(&mut self) {
        if self.stopped.is_some() || !self.unsynced {
            return;
        }
        match self.core.backend.sync() {
            Ok(()) => self.unsynced = false,
            Err(error) => self.stop(&error),
        }
    }

    /// Writes down how far the log goes, once that is on the disk.
    pub(crate) fn save_head(&mut self) -> Result<(), AppendError> {
        self.sync();
        if self.stopped.is_none() && self.tip.position != self.head_saved {
            match self.core.backend.save_head(&self.tip.encode()) {
                Ok(()) => self.head_saved = self.tip.position,
                Err(error) => self.stop(&error),
            }
        }
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Appends to the log's own stream.
    pub(crate) fn record(&mut self, event: &LogEvent, time: Timestamp) -> Result<(), AppendError> {
        self.record_with(std::slice::from_ref(event), time, |_| {})
    }

    /// Appends to the log's own stream, and changes something else in the same group.
    pub(super) fn record_with(
        &mut self,
        events: &[LogEvent],
        time: Timestamp,
        change: impl FnOnce(&mut Group),
    ) -> Result<(), AppendError> {
        let encoded: Result<Vec<_>, _> = events.iter().map(LogEvent::encode).collect();
        let bodies = encoded.map_err(|error| AppendError::Invalid(error.to_string()))?;
        let expected_seq = self.find_stream(StreamId::LOG)?.map_or(0, |state| state.next_seq);
        let frame =
            Frame { stream: StreamId::LOG, kind: StreamKind::Log, expected_seq, time, bodies, listing: Listing::Keep };
        let batch = Batch { definitions: Vec::new(), frames: vec![frame] };
        let mut group = Group::new(self.tip);
        self.admit(batch.into(), &mut group)?;
        change(&mut group);
        if let Some(sealed) = group.finish() {
            self.make_durable(sealed);
        }
        self.stopped.clone().map_or(Ok(()), Err)
    }

    /// Closes the log in order: says so in it, syncs, and writes down how far it goes.
    pub(crate) fn close(&mut self, time: Timestamp) -> Result<(), AppendError> {
        let recorded = self.record(&LogEvent::Closed, time);
        let saved = self.save_head().and(recorded);
        self.core.closed.store(true, Ordering::Release);
        let closed = self.core.backend.close().map_err(|error| {
            self.stop(&error);
            AppendError::Failed(error.to_string())
        });
        self.stopped.get_or_insert(AppendError::Closed);
        saved.and(closed)
    }
}
