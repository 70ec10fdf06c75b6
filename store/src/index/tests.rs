//! Compares the index with a naive model, for any history and any distribution of entries between memory, a flush and
//! sled.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::core::fold::Fold;
use crate::layout::frame::{FrameHeader, FrameOrigin, ListingChange};
use crate::layout::head::LogId;
use crate::log_event::{LogEvent, Pruned, PrunedStream};
use crate::record::Timestamp;

const LOG: LogId = LogId([9; 16]);
const FIRST: Place = Place { segment: 1, offset: 80 };
const NEAR: u32 = 64 * 1024;

/// An operation on a log or its index.
#[derive(Clone, Debug)]
enum Operation {
    /// Append a group with frames of some streams: each with a number of records and a listing change.
    Append(Vec<(u8, u32, ListingChange)>, u32),
    Define(u8, u32),
    Prune(Vec<u8>),
    /// Import a stream in a number of frames.
    Import(u8, u8, bool),
    /// Start a new segment.
    NewSegment,
    /// Start flushing the entries in memory to sled; finish the flush; close and reopen the log.
    StartFlush,
    FinishFlush,
    Reopen,
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let change = || {
        prop::sample::select(vec![ListingChange::Keep, ListingChange::Keep, ListingChange::Open, ListingChange::Closed])
    };
    let length = || prop_oneof![100..5_000u32, 60_000..70_000u32];
    prop_oneof![
        8 => (vec((0..6u8, 1..4u32, change()), 1..4), length()).prop_map(|(frames, length)| Operation::Append(frames, length)),
        1 => (0..4u8, length()).prop_map(|(number, length)| Operation::Define(number, length)),
        1 => vec(0..6u8, 1..3).prop_map(Operation::Prune),
        1 => (0..8u8, 1..4u8, any::<bool>()).prop_map(|(stream, frames, open)| Operation::Import(stream, frames, open)),
        1 => Just(Operation::NewSegment),
        2 => Just(Operation::StartFlush),
        2 => Just(Operation::FinishFlush),
        1 => Just(Operation::Reopen),
    ]
}

/// The naive index: everything in order, searched from the front.
#[derive(Default)]
struct Model {
    streams: BTreeMap<StreamId, (StreamState, Vec<FrameAt>)>,
    definitions: BTreeMap<Hash, Span>,
    groups: Vec<(u64, Place)>,
    position: u64,
    time: i64,
    /// The end of the log that sled covers.
    stored: u64,
}

fn id(number: u8) -> StreamId {
    StreamId::from_bytes([number + 1; 16])
}

fn kind_of(number: u8) -> StreamKind {
    [StreamKind::Execution, StreamKind::Schedule, StreamKind::Trigger][usize::from(number) % 3]
}

/// A log with the index under test.
struct History<'a> {
    model: Model,
    index: Index,
    place: Place,
    directory: Option<&'a Path>,
}

fn open_store(directory: &Path) -> Store {
    let store = Store::open(directory, LOG, 1024 * 1024).unwrap();
    store.check().unwrap();
    store
}

impl<'a> History<'a> {
    fn new(directory: Option<&'a Path>) -> Self {
        let store = directory.map(open_store);
        let index = Index::new(Part::default(), Tip::empty(), FIRST, store);
        Self { model: Model::default(), index, place: FIRST, directory }
    }

    fn tip(&self) -> Tip {
        Tip {
            position: self.model.position,
            time: Timestamp(self.model.time),
            hash: Hash([self.model.position as u8; 32]),
        }
    }

    fn apply(&mut self, step: &Operation) {
        match step {
            Operation::Append(frames, length) => self.append(frames, *length),
            Operation::Define(number, length) => {
                let span = Span { place: self.place, length: *length };
                let fingerprint = Hash([*number; 32]);
                self.model.definitions.insert(fingerprint, span);
                self.group(*length, |_, fold, _| fold.part.define(fingerprint, span));
            }
            Operation::Prune(numbers) => self.prune(numbers),
            Operation::Import(number, frames, open) => self.import(*number, *frames, *open),
            Operation::NewSegment => self.place = Place { segment: self.place.segment + 1, offset: 80 },
            Operation::StartFlush if self.directory.is_some() => self.index.shared.rotate(false),
            Operation::FinishFlush => self.finish_flush(),
            Operation::Reopen => self.reopen(),
            Operation::StartFlush => {}
        }
    }

    /// Adds a group to the model and to the index.
    fn group(&mut self, length: u32, fill: impl FnOnce(&mut Model, &mut Fold<Known<'_>>, Place)) {
        let known: Known<'_> = Box::new(|stream| self.index.stream(stream));
        let mut fold = Fold::new(known);
        let first = self.model.position;
        fill(&mut self.model, &mut fold, self.place);
        fold.part.note_group(first, self.place);
        let part = fold.part;
        self.model.groups.push((first, self.place));
        self.place.offset += length;
        self.index.append(part, self.tip(), self.place);
    }

    fn append(&mut self, frames: &[(u8, u32, ListingChange)], length: u32) {
        let mut seen = Vec::new();
        let frames: Vec<_> = frames
            .iter()
            .filter(|(number, ..)| {
                let is_new = !seen.contains(number);
                seen.push(*number);
                is_new && !self.model.streams.get(&id(*number)).is_some_and(|(state, _)| state.pruned)
            })
            .collect();
        // Times repeat sometimes, and begin before 1970.
        self.model.time += i64::from(length % 3) - i64::from(self.model.position == 0) * 5;
        self.group(length, |model, fold, place| {
            for (at, (number, count, listing)) in frames.iter().enumerate() {
                let before = model.streams.get(&id(*number)).map(|(state, _)| state.records);
                let place = Place { offset: place.offset + 10 * at as u32, ..place };
                let header = header(model, *number, before.unwrap_or(0), *count, *listing, FrameOrigin::Appended);
                model.position += u64::from(*count);
                let end = model.position;
                add(model, fold, &header, place, end, before.is_none());
            }
        });
    }

    fn prune(&mut self, numbers: &[u8]) {
        let mut streams: Vec<StreamId> = numbers.iter().map(|number| id(*number)).collect();
        streams.sort_unstable();
        streams.dedup();
        streams.retain(|stream| self.model.streams.get(stream).is_some_and(|(state, _)| !state.pruned));
        self.group(500, |model, fold, _| {
            model.position += 1;
            let end = model.position;
            let mut dropped = Vec::new();
            for stream in streams {
                let Some((state, frames)) = model.streams.get_mut(&stream) else { continue };
                let StreamState { kind, records, bytes, head, started, last, .. } = state.clone();
                dropped.push(PrunedStream { stream, kind, records, bytes, head, times: (started, last) });
                (state.pruned, state.open, state.end, state.label) = (true, false, end, Arc::from([]));
                frames.clear();
            }
            let pruned = Pruned { streams: dropped, archive: None, reason: String::new(), by: String::new() };
            fold.event(&LogEvent::Pruned(pruned), end);
        });
    }

    fn import(&mut self, number: u8, frames: u8, open: bool) {
        if self.model.streams.get(&id(number)).is_some_and(|(state, _)| !state.pruned) {
            return;
        }
        self.group(900, |model, fold, place| {
            model.position += 1;
            model.streams.remove(&id(number));
            let end = model.position;
            for at in 0..frames {
                let listing = match (at + 1 == frames, open) {
                    (false, _) => ListingChange::Keep,
                    (true, true) => ListingChange::Open,
                    (true, false) => ListingChange::Closed,
                };
                let mut header = header(model, number, u64::from(at) * 2, 2, listing, FrameOrigin::Imported);
                header.time = Timestamp(-3 + i64::from(at));
                let place = Place { offset: place.offset + 20 * u32::from(at), ..place };
                add(model, fold, &header, place, end, at == 0);
            }
        });
    }

    fn finish_flush(&mut self) {
        let flushing = read_lock(&self.index.shared.layers).flushing.clone();
        let Some(flushing) = flushing else { return };
        let (part, tip, place) = &*flushing;
        self.index.shared.query_store(|store| store.apply(part, *tip, *place).map(Some)).unwrap();
        write_lock(&self.index.shared.layers).flushing = None;
        self.model.stored = tip.position;
    }

    fn reopen(&mut self) {
        let Some(directory) = self.directory else { return };
        self.finish_flush();
        assert!(self.index.close(), "sled has the complete index");
        let (tip, place) = (self.index.tip(), self.index.place());
        let closed = Index::new(Part::default(), tip, place, None);
        drop(std::mem::replace(&mut self.index, closed));
        let store = open_store(directory);
        let end = store.end();
        assert_eq!(end.tip, tip);
        assert!(end.place == place || place == FIRST, "as far as the log goes");
        self.index = Index::new(Part::default(), end.tip, end.place, Some(store));
        self.model.stored = end.tip.position;
    }
}

type Known<'a> = Box<dyn Fn(StreamId) -> Result<Option<StreamState>, IndexError> + 'a>;

fn header(
    model: &Model,
    number: u8,
    first_seq: u64,
    count: u32,
    listing: ListingChange,
    origin: FrameOrigin,
) -> FrameHeader {
    let head = Hash([(first_seq + u64::from(count)) as u8; 32]);
    FrameHeader {
        origin,
        pruned: false,
        length: 10,
        kind: kind_of(number),
        listing,
        label_length: 0,
        stream: id(number),
        first_seq,
        first_position: model.position,
        time: Timestamp(model.time),
        count,
        bytes: 5 * (first_seq + u64::from(count)),
        previous: Hash::ZERO,
        head,
    }
}

/// Adds a frame to the index and to the model.
fn add(model: &mut Model, fold: &mut Fold<Known<'_>>, header: &FrameHeader, place: Place, end: u64, is_first: bool) {
    let label: Arc<[u8]> = format!("label {end}").into_bytes().into();
    let shown: &[u8] = if header.listing == ListingChange::Keep { &[] } else { &label };
    let span = Span { place, length: 10 };
    fold.frame(header, shown, span, end).unwrap();
    let before = model.streams.remove(&header.stream).filter(|_| !is_first);
    let (open, kept) =
        before.as_ref().map_or((true, Arc::from([])), |(state, _)| (state.open, Arc::clone(&state.label)));
    let (open, label) = match header.listing {
        ListingChange::Keep => (open, kept),
        ListingChange::Open => (true, label),
        ListingChange::Closed => (false, label),
    };
    let (started, mut frames) = before.map_or((header.time, Vec::new()), |(state, frames)| (state.started, frames));
    frames.push(FrameAt { first_seq: header.first_seq, span });
    let records = header.first_seq + u64::from(header.count);
    let state = StreamState {
        kind: header.kind,
        open,
        pruned: false,
        started,
        last: header.time,
        records,
        bytes: header.bytes,
        head: header.head,
        end,
        label,
    };
    model.streams.insert(header.stream, (state, frames));
}

/// Checks every query of the index against the model.
fn assert_same(history: &History<'_>) {
    let History { model, index, .. } = history;
    for number in 0..9 {
        let known = model.streams.get(&id(number));
        assert_eq!(index.stream(id(number)).unwrap().as_ref(), known.map(|(state, _)| state));
        assert_frames(index, id(number), known.map_or(&[][..], |(_, frames)| frames));
    }
    for number in 0..5 {
        let fingerprint = Hash([number; 32]);
        assert_eq!(index.definition(fingerprint), Ok(model.definitions.get(&fingerprint).copied()));
    }
    assert_listings(model, index);
    for from in 0..=model.position + 1 {
        let mut since: Vec<_> = model
            .streams
            .iter()
            .filter(|(_, (state, _))| state.end > from)
            .map(|(stream, (state, _))| (state.end, *stream))
            .collect();
        since.sort_unstable();
        let is_known = history.directory.is_none() || from >= model.stored;
        assert_eq!(index.since(from), Ok(is_known.then_some(since)), "since {from}");
        assert_group(model, index.group_before(from).unwrap(), from);
    }
}

fn assert_frames(index: &Index, stream: StreamId, frames: &[FrameAt]) {
    let last = frames.last().map_or(0, |frame| frame.first_seq + 2);
    for seq in 0..=last {
        let passed = frames.partition_point(|frame| frame.first_seq <= seq).saturating_sub(1);
        let wanted = &frames[passed..];
        for limit in [1, 2, 3, 10, 63, 64, 65, 1_000] {
            let found = index.frames(stream, seq, limit).unwrap();
            assert_eq!(found, wanted[..found.len().min(wanted.len())], "from {seq}, {limit} of them");
            // A caller that gets at most `limit` frames takes them for the last ones.
            assert!(
                found.len() >= wanted.len().min(limit + 1),
                "{} of {} from {seq}, limit {limit}",
                found.len(),
                wanted.len()
            );
        }
    }
}

fn assert_listings(model: &Model, index: &Index) {
    let mut all: Vec<_> = model.streams.iter().map(|(stream, (state, _))| (state.key(*stream), state)).collect();
    all.sort_unstable_by_key(|(key, _)| std::cmp::Reverse(*key));
    let befores = all.iter().map(|(key, _)| Some(*key)).chain([None, Some(ListingKey::FIRST), Some(ListingKey::LAST)]);
    for before in befores {
        for kind in StreamKind::ALL.into_iter().map(Some).chain([None]) {
            for open_only in [false, true] {
                let wanted: Vec<_> = all
                    .iter()
                    .filter(|(key, state)| {
                        !state.pruned
                            && (state.open || !open_only)
                            && kind.is_none_or(|kind| kind == state.kind)
                            && before.is_none_or(|before| *key < before)
                    })
                    .map(|(key, state)| (key.stream, (*state).clone()))
                    .collect();
                for limit in [0, 1, 2, 3, 1_000] {
                    let filter = StreamFilter { kind, open_only, before, limit };
                    assert_eq!(index.list(&filter).unwrap(), wanted[..limit.min(wanted.len())], "{filter:?}");
                }
            }
        }
    }
}

/// Checks that the group is at or before the position, and not far before it.
fn assert_group(model: &Model, found: Option<Place>, position: u64) {
    let best = model.groups.iter().rev().find(|(first, _)| *first <= position).map(|(_, place)| *place);
    let (Some(found), Some(best)) = (found, best) else { return assert_eq!(found, best, "position {position}") };
    let is_group = model.groups.iter().any(|(first, place)| *place == found && *first <= position);
    let is_near = found.segment == best.segment && found <= best && best.offset - found.offset < NEAR;
    assert!(is_group && is_near, "position {position}: {found:?} for {best:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn in_memory_it_answers_as_the_naive_one(steps in vec(any_operation(), 1..60)) {
        let mut history = History::new(None);
        steps.iter().for_each(|step| history.apply(step));
        assert_same(&history);
    }

    #[test]
    fn with_sled_it_answers_as_the_naive_one(steps in vec(any_operation(), 1..60)) {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index");
        let mut history = History::new(Some(&index));
        for step in &steps {
            history.apply(step);
        }
        assert_same(&history);
        history.finish_flush();
        assert_same(&history);
        history.reopen();
        assert_same(&history);
    }
}

/// A process that had just been forked held the lock of a closed index until it ran its own program. The index counted
/// as damaged and was rebuilt.
#[test]
fn an_index_that_a_forked_process_has_for_a_moment_opens() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("index");
    assert!(open_store(&index).close());
    let forked = std::fs::File::open(index.join("db")).unwrap();
    forked.lock_shared().unwrap();
    let runs_its_program = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(forked);
    });
    open_store(&index);
    runs_its_program.join().unwrap();
}

/// sled stores the frames of a stream in entries of 64. A read that began in the middle of an entry and asked for more
/// frames than the entry had left stopped there.
#[test]
fn frames_go_on_from_sled_into_what_is_leaving_and_into_memory() {
    for (stored, flushing, newest) in
        [(64, 0, 10), (64, 10, 10), (130, 64, 3), (10, 10, 10), (0, 70, 70), (65, 0, 0), (63, 1, 0), (127, 0, 1)]
    {
        let directory = tempfile::tempdir().unwrap();
        let index = directory.path().join("index");
        let mut history = History::new(Some(&index));
        let grow = |history: &mut History<'_>, count: usize| {
            (0..count).for_each(|_| history.apply(&Operation::Append(vec![(0, 2, ListingChange::Keep)], 100)));
        };
        grow(&mut history, stored);
        history.apply(&Operation::StartFlush);
        history.finish_flush();
        grow(&mut history, flushing);
        history.apply(&Operation::StartFlush);
        grow(&mut history, newest);
        assert_same(&history);
    }
}

#[test]
fn long_listings_go_on_over_pages() {
    let directory = tempfile::tempdir().unwrap();
    let index = directory.path().join("index");
    let mut history = History::new(Some(&index));
    for number in 0..200 {
        let listing = if number % 7 == 0 { ListingChange::Open } else { ListingChange::Closed };
        history.apply(&Operation::Append(vec![(number, 1, listing)], 101));
        if number % 60 == 59 {
            history.apply(&Operation::StartFlush);
        }
        if number == 90 {
            history.finish_flush();
        }
    }
    assert_same(&history);
}

/// A missing or an additional entry changed the answers of the index without being noticed.
#[test]
fn an_entry_that_is_missing_changed_or_stray_is_noticed() {
    type Harm = fn(&::sled::Db, &::sled::IVec, &::sled::IVec);
    let harms: [Harm; 3] = [
        |database, key, _| drop(database.remove(key).unwrap()),
        |database, key, value| drop(database.insert(key, [value, &[0][..]].concat()).unwrap()),
        |database, key, value| drop(database.insert([key, &[0][..]].concat(), value).unwrap()),
    ];
    for harm in harms {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("index");
        let mut history = History::new(Some(&path));
        history.apply(&Operation::Define(1, 500));
        history.apply(&Operation::Append(vec![(0, 1, ListingChange::Open), (1, 1, ListingChange::Closed)], 500));
        (0..64).for_each(|_| history.apply(&Operation::Append(vec![(0, 1, ListingChange::Keep)], 500)));
        history.apply(&Operation::StartFlush);
        history.finish_flush();
        assert!(history.index.close());
        drop(history);
        let entries: Vec<_> = {
            let database = ::sled::open(&path).unwrap();
            database.iter().map(Result::unwrap).filter(|(key, _)| key != entries::END).collect()
        };
        let kinds: std::collections::BTreeSet<u8> = entries.iter().map(|(key, _)| key[0]).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), b"dgopst", "of every kind");
        for (key, value) in entries {
            let database = ::sled::open(&path).unwrap();
            harm(&database, &key, &value);
            drop(database);
            let store = Store::open(&path, LOG, 1024 * 1024).unwrap();
            assert!(store.check().is_err(), "{key:?}");
            assert!(store.close());
            drop(store);
            let database = ::sled::open(&path).unwrap();
            drop(database.remove([&key, &[0][..]].concat()).unwrap());
            drop(database.insert(&key, &value).unwrap());
            drop(database);
        }
        let store = open_store(&path);
        assert!(store.close());
        assert!(
            matches!(Store::open(&path, LogId([8; 16]), 1024 * 1024), Err(IndexError(why)) if why.contains("another log"))
        );
    }
}
