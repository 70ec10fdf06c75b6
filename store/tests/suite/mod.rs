//! The conformance suite: what a log must do on any storage. Every backend has to pass it:
//!
//! ```ignore
//! mod suite;
//! suite::conformance!(the_new_one, NewPlace);
//! ```

// Not every file of tests uses all of the helpers, and helpers outside of tests fail by panicking too.
#![allow(
    dead_code,
    unused_macros,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs
)]

pub mod listing;
pub mod stored;

use std::sync::mpsc;

use cloacina_store::keeper::{Change, Prune};
use cloacina_store::log::{
    AppendError, Batch, Definition, EventLog, Frame, Listing, LogReader, ReadError, StreamFilter,
};
use cloacina_store::log_event::LogEvent;
use cloacina_store::merkle::Node;
use cloacina_store::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use cloacina_store::{read_through, seal};

/// The storage of a log, for one test.
pub trait Place {
    fn new() -> Self;
    /// Opens the log. It is empty the first time.
    fn open(&self) -> Box<dyn EventLog>;
}

/// Generates a module with one test per rule, for a [`Place`].
macro_rules! conformance {
    ($name:ident, $place:ty) => {
        mod $name {
            use super::suite;
            use super::*;

            suite::conformance!(@rules $place:
                what_is_appended_is_read_back_in_order
                positions_and_seqs_leave_no_gap
                every_record_carries_its_hash_and_the_one_before
                a_batch_is_in_the_log_as_a_whole_or_not_at_all
                a_wrong_seq_is_a_conflict_and_affects_no_other_append
                invalid_batches_are_refused_and_the_log_continues
                two_appends_to_one_stream_can_wait_together
                acknowledgements_come_in_the_order_of_the_calls
                reading_starts_at_the_given_seq_and_stops_at_the_limit
                reading_a_missing_stream_is_an_error
                the_listing_has_the_newest_first
                the_listing_takes_filters_and_pages
                the_entry_of_an_open_stream_is_up_to_date
                a_closed_stream_is_not_listed_as_open
                a_stream_without_a_label_is_listed_too
                the_tail_goes_across_streams_in_order
                a_long_page_of_the_tail_equals_short_ones
                changes_since_a_position_are_listed_with_the_next_position
                definitions_are_stored_once_and_found_by_fingerprint
                large_bodies_come_back_complete
                many_small_records_in_one_frame_come_back_complete
                many_frames_in_one_group_are_read_back
                time_never_goes_back
                the_head_says_where_the_log_ends
                a_closed_log_refuses_appends
                everything_is_there_after_closing_and_opening
                everything_is_there_after_dropping_and_opening
                the_log_records_who_opened_and_closed_it
                each_append_that_is_awaited_costs_one_flush
            );
        }
    };
    (@rules $place:ty: $($rule:ident)*) => {
        $(#[test] fn $rule() { suite::$rule(&<$place as suite::Place>::new()); })*
    };
}
pub(crate) use conformance;
pub use listing::*;

/// The protocol version at the start of each request over the socket. A request with any other version is refused.
pub const VERSION: u8 = 4;

pub fn stream(number: u128) -> StreamId {
    StreamId::from_bytes(number.to_be_bytes())
}

pub fn frame(stream: StreamId, expected_seq: u64, bodies: &[&[u8]], listing: Listing) -> Frame {
    Frame {
        stream,
        kind: StreamKind::Execution,
        expected_seq,
        time: Timestamp(1_000),
        bodies: bodies.iter().map(|body| body.to_vec()).collect(),
        listing,
    }
}

pub fn batch(frames: Vec<Frame>) -> Batch {
    Batch { definitions: Vec::new(), frames }
}

pub fn one(stream: StreamId, expected_seq: u64, body: &[u8]) -> Batch {
    batch(vec![frame(stream, expected_seq, &[body], Listing::Keep)])
}

/// The change that prunes a stream as it is now.
pub fn prune(log: &dyn LogReader, stream: StreamId) -> Change {
    let head = log.stream(stream).unwrap().head;
    let (reason, by) = ("old".to_owned(), "ann".to_owned());
    Change::Prune(Prune { streams: vec![(stream, head)], archive: None, reason, by })
}

pub fn open_label(label: &str) -> Listing {
    Listing::Open(label.as_bytes().to_vec())
}

pub fn closed_label(label: &str) -> Listing {
    Listing::Closed(label.as_bytes().to_vec())
}

pub fn bodies(records: &[Record]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.body.bytes().unwrap().to_vec()).collect()
}

fn everything(log: &dyn LogReader) -> Vec<Record> {
    log.tail(0, usize::MAX).unwrap()
}

/// Checks the log twice: as the process that wrote it sees it (recent writes are in memory), and reopened from storage.
fn written_and_reopened(place: &impl Place, written: Box<dyn EventLog>, check: impl Fn(&dyn EventLog)) {
    check(&*written);
    drop(written);
    check(&*place.open());
}

fn ids(log: &dyn LogReader, filter: &StreamFilter) -> Vec<StreamId> {
    log.streams(filter).unwrap().iter().map(|entry| entry.stream).collect()
}

fn executions(limit: usize) -> StreamFilter {
    StreamFilter { kind: Some(StreamKind::Execution), limit, ..StreamFilter::default() }
}

pub fn what_is_appended_is_read_back_in_order(place: &impl Place) {
    let log = place.open();
    log.append(batch(vec![frame(stream(1), 0, &[b"a", b"b"], open_label("x"))])).unwrap();
    log.append(one(stream(1), 2, b"")).unwrap();
    let records = log.read(stream(1), 0, 10).unwrap();
    assert_eq!(bodies(&records), [b"a".to_vec(), b"b".to_vec(), Vec::new()]);
    assert!(records.iter().all(|record| record.stream == stream(1) && record.kind == StreamKind::Execution));
}

pub fn positions_and_seqs_leave_no_gap(place: &impl Place) {
    let log = place.open();
    let start = log.head().unwrap().position;
    for round in 0..5 {
        let appended = log
            .append(batch(vec![
                frame(stream(1), round * 2, &[b"a", b"b"], Listing::Keep),
                frame(stream(2), round, &[b"c"], Listing::Keep),
            ]))
            .unwrap();
        assert_eq!((appended.position, appended.records), (start + round * 3, 3));
    }
    let positions: Vec<_> = everything(&*log).iter().map(|record| record.position).collect();
    assert_eq!(positions, (0..start + 15).collect::<Vec<_>>());
    let seqs: Vec<_> = log.read(stream(1), 0, 100).unwrap().iter().map(|record| record.seq).collect();
    assert_eq!(seqs, (0..10).collect::<Vec<_>>());
}

pub fn every_record_carries_its_hash_and_the_one_before(place: &impl Place) {
    let log = place.open();
    log.append(batch(vec![frame(stream(1), 0, &[b"a", b"b"], Listing::Keep)])).unwrap();
    log.append(one(stream(1), 2, b"c")).unwrap();
    let mut previous = Hash::ZERO;
    for record in log.read(stream(1), 0, 10).unwrap() {
        assert_eq!(record.previous, previous);
        seal::check(&record).unwrap();
        assert!(matches!(record.body, Body::Present { salt, .. } if salt != [0; 16]));
        previous = record.hash;
    }
    assert_eq!(log.stream(stream(1)).unwrap().head, previous);
}

pub fn a_batch_is_in_the_log_as_a_whole_or_not_at_all(place: &impl Place) {
    let log = place.open();
    let start = log.head().unwrap();
    let definition = Definition { fingerprint: seal::fingerprint(b"d"), bytes: b"d".as_slice().into() };
    let refused = Batch {
        definitions: vec![definition.clone()],
        frames: vec![frame(stream(1), 0, &[b"a"], open_label("x")), frame(stream(2), 7, &[b"b"], open_label("y"))],
    };
    assert!(matches!(log.append(refused), Err(AppendError::Conflict { .. })));
    assert_eq!(log.head().unwrap(), start);
    assert_eq!(log.read(stream(1), 0, 1), Err(ReadError::NoStream(stream(1))));
    assert_eq!(log.definition(definition.fingerprint).unwrap(), None);
    assert!(log.streams(&executions(10)).unwrap().is_empty());
}

pub fn a_wrong_seq_is_a_conflict_and_affects_no_other_append(place: &impl Place) {
    let log = place.open();
    log.append(one(stream(1), 0, b"a")).unwrap();
    for expected in [0, 2, u64::MAX] {
        assert_eq!(
            log.append(one(stream(1), expected, b"b")),
            Err(AppendError::Conflict { stream: stream(1), expected, next: 1 })
        );
    }
    log.append(one(stream(2), 0, b"b")).unwrap();
    log.append(one(stream(1), 1, b"c")).unwrap();
}

pub fn invalid_batches_are_refused_and_the_log_continues(place: &impl Place) {
    let log = place.open();
    let twice = frame(stream(1), 0, &[b"a"], Listing::Keep);
    let wrong_definition = Definition { fingerprint: Hash([7; 32]), bytes: b"d".as_slice().into() };
    let long_label = Listing::Open(vec![b'x'; cloacina_store::MAX_LABEL + 1]);
    let refused = [
        Batch::default(),
        batch(vec![frame(stream(1), 0, &[], Listing::Keep)]),
        batch(vec![twice.clone(), Frame { expected_seq: 1, ..twice.clone() }]),
        batch(vec![Frame { stream: StreamId::LOG, ..twice.clone() }]),
        batch(vec![Frame { kind: StreamKind::Log, ..twice.clone() }]),
        batch(vec![frame(stream(1), 0, &[b"a"], long_label)]),
        Batch { definitions: vec![wrong_definition], frames: vec![twice.clone()] },
    ];
    for batch in refused {
        let result = log.append(batch.clone());
        assert!(matches!(result, Err(AppendError::Invalid(_))), "{batch:?} got {result:?}");
    }
    log.append(batch(vec![twice])).unwrap();
    let other_kind = Frame { kind: StreamKind::Trigger, ..frame(stream(1), 1, &[b"a"], Listing::Keep) };
    assert!(matches!(log.append(batch(vec![other_kind])), Err(AppendError::Invalid(_))));
}

pub fn two_appends_to_one_stream_can_wait_together(place: &impl Place) {
    let log = place.open();
    let (sender, receiver) = mpsc::channel();
    for seq in 0..50 {
        let sender = sender.clone();
        let acknowledge = Box::new(move |result| sender.send(result).unwrap());
        log.append_then(one(stream(1), seq, &seq.to_be_bytes()), acknowledge);
    }
    for _ in 0..50 {
        receiver.recv().unwrap().unwrap();
    }
    assert_eq!(log.read(stream(1), 0, 100).unwrap().len(), 50);
}

pub fn acknowledgements_come_in_the_order_of_the_calls(place: &impl Place) {
    let log = place.open();
    let (sender, receiver) = mpsc::channel();
    for number in 0..100u64 {
        let sender = sender.clone();
        // Every third append is refused, but is acknowledged in its turn, too.
        let seq = if number % 3 == 0 { 9 } else { 0 };
        let acknowledge = Box::new(move |result: Result<_, _>| sender.send((number, result.is_ok())).unwrap());
        log.append_then(one(stream(u128::from(number) + 1), seq, b"a"), acknowledge);
    }
    for number in 0..100 {
        assert_eq!(receiver.recv().unwrap(), (number, number % 3 != 0));
    }
}

pub fn reading_starts_at_the_given_seq_and_stops_at_the_limit(place: &impl Place) {
    let log = place.open();
    for first in [0, 3, 6] {
        log.append(batch(vec![frame(stream(1), first, &[b"a", b"b", b"c"], Listing::Keep)])).unwrap();
    }
    for from in 0..12 {
        for limit in 0..12 {
            let seqs: Vec<_> = log.read(stream(1), from, limit).unwrap().iter().map(|record| record.seq).collect();
            assert_eq!(seqs, (from..9).take(limit).collect::<Vec<_>>(), "from {from}, limit {limit}");
        }
    }
    assert!(log.read(stream(1), u64::MAX, 5).unwrap().is_empty());
}

pub fn reading_a_missing_stream_is_an_error(place: &impl Place) {
    let log = place.open();
    log.append(one(stream(2), 0, b"a")).unwrap();
    for absent in [stream(1), stream(3), stream(u128::MAX)] {
        assert_eq!(log.read(absent, 0, 1), Err(ReadError::NoStream(absent)));
        assert_eq!(log.stream(absent), Err(ReadError::NoStream(absent)));
    }
}

pub fn the_tail_goes_across_streams_in_order(place: &impl Place) {
    let log = place.open();
    let start = log.head().unwrap().position;
    for round in 0..4 {
        log.append(batch(vec![
            frame(stream(2), round, &[b"a"], Listing::Keep),
            frame(stream(1), round * 2, &[b"b", b"c"], Listing::Keep),
        ]))
        .unwrap();
    }
    let all = everything(&*log);
    assert_eq!(all.len() as u64, start + 12);
    assert_eq!(bodies(&all[all.len() - 3..]), [b"a".to_vec(), b"b".to_vec(), b"c".to_vec()]);
    written_and_reopened(place, log, |log| {
        let found = everything(log);
        assert_eq!(found[..all.len()], all);
        for from in 0..=found.len() + 2 {
            for limit in [0, 1, 2, 5, 100] {
                let expected: Vec<_> = found.iter().skip(from).take(limit).cloned().collect();
                assert_eq!(log.tail(from as u64, limit).unwrap(), expected, "from {from}, limit {limit}");
            }
        }
    });
}

pub fn a_long_page_of_the_tail_equals_short_ones(place: &impl Place) {
    let log = place.open();
    for round in 0..60 {
        let frames = |number: u128| frame(stream(number * 7 % 30), round * 2, &[b"a", b"b"], Listing::Keep);
        log.append(batch((1..30).map(frames).collect())).unwrap();
    }
    written_and_reopened(place, log, |log| {
        let all = everything(log);
        assert!(all.len() > 60 * 29 * 2, "{}", all.len());
        assert!(all.iter().zip(0..).all(|(record, position)| record.position == position));
        let short = (0..all.len()).step_by(100).flat_map(|from| log.tail(from as u64, 100).unwrap());
        assert!(short.eq(all.iter().cloned()));
        assert_eq!(log.tail(1_001, 1_500).unwrap(), all[1_001..2_501]);
        let leaves: Vec<Node> = all.iter().map(|record| Node::of_record(record.position, &record.hash)).collect();
        assert_eq!(log.tree(0, usize::MAX).unwrap(), leaves);
        assert_eq!(log.tree(1_001, 1_500).unwrap(), leaves[1_001..2_501]);
    });
}

/// A reader that derives from records alone which streams were appended to, by the default method of the trait.
struct ByRecords<'a>(&'a dyn EventLog);

impl LogReader for ByRecords<'_> {
    read_through!(self => self.0; read, stream, streams, tail, tree, erasures, definition, head, wait, location);
}

pub fn changes_since_a_position_are_listed_with_the_next_position(place: &impl Place) {
    let log = place.open();
    for round in 0..4 {
        log.append(batch(vec![
            frame(stream(2), round, &[b"a"], open_label("two")),
            frame(stream(u128::from(round) + 3), 0, &[b"b", b"c"], closed_label("own")),
        ]))
        .unwrap();
    }
    written_and_reopened(place, log, check_changes_since);
}

fn check_changes_since(log: &dyn EventLog) {
    let all = everything(log);
    for from in 0..=all.len() + 2 {
        for limit in [0, 1, 2, 3, 100] {
            let since = log.streams_since(from as u64, limit).unwrap();
            // Each stream once, in the order of last records, and the position after the last stream that fit the limit.
            let is_last = |at: usize| all[at + 1..].iter().all(|later| later.stream != all[at].stream);
            let written: Vec<usize> = (from..all.len()).filter(|at| is_last(*at)).collect();
            let shown = &written[..limit.min(written.len())];
            let expected: Vec<StreamId> = shown.iter().map(|at| all[*at].stream).collect();
            let next = match (shown.len() < written.len(), shown.last()) {
                (true, Some(last)) => last + 1,
                (true, None) => from,
                (false, _) => all.len().max(from),
            };
            let shown: Vec<StreamId> = since.streams.iter().map(|entry| entry.stream).collect();
            assert_eq!((shown, since.next), (expected, next as u64), "from {from}, limit {limit}");
            assert_eq!(ByRecords(log).streams_since(from as u64, limit).unwrap(), since);
            for entry in since.streams {
                assert_eq!(entry, log.stream(entry.stream).unwrap(), "as it is now");
            }
        }
    }
}

pub fn definitions_are_stored_once_and_found_by_fingerprint(place: &impl Place) {
    let log = place.open();
    let bytes: Vec<u8> = (0..20_000u32).flat_map(u32::to_be_bytes).collect();
    let definition = Definition { fingerprint: seal::fingerprint(&bytes), bytes: bytes.into() };
    for seq in 0..3 {
        log.append(Batch { definitions: vec![definition.clone()], ..one(stream(1), seq, b"a") }).unwrap();
    }
    assert_eq!(log.definition(definition.fingerprint).unwrap(), Some(definition.bytes.clone()));
    assert_eq!(log.definition(Hash([1; 32])).unwrap(), None);
    let empty = Definition { fingerprint: seal::fingerprint(b""), bytes: b"".as_slice().into() };
    let alone = log.append(Batch { definitions: vec![empty.clone()], frames: Vec::new() }).unwrap();
    assert_eq!(alone.records, 0);
    assert_eq!(log.definition(empty.fingerprint).unwrap(), Some(empty.bytes));
}

pub fn large_bodies_come_back_complete(place: &impl Place) {
    let log = place.open();
    let mut seq = 0;
    for length in [4_000, 4_060, 4_096, 4_097, 8_500, 130_000, 1 << 20, 3_000_001] {
        let body: Vec<u8> = (0..length as u32).map(|byte| (byte % 251) as u8).collect();
        log.append(batch(vec![frame(stream(1), seq, &[b"before", &body, b"after"], Listing::Keep)])).unwrap();
        let records = log.read(stream(1), seq, 3).unwrap();
        assert!(bodies(&records) == [b"before".to_vec(), body, b"after".to_vec()], "{length} bytes differ");
        seq += 3;
    }
    assert_eq!(log.read(stream(1), 0, 100).unwrap().len(), 24);
    let start = log.head().unwrap().position - 24;
    assert!(
        log.tail(start, 100).unwrap() == log.read(stream(1), 0, 100).unwrap(),
        "as they were written and as they are stored"
    );
    assert_eq!(log.stream(stream(1)).unwrap().records, 24);
}

pub fn many_small_records_in_one_frame_come_back_complete(place: &impl Place) {
    let log = place.open();
    let many: Vec<Vec<u8>> = (0..10_000u32).map(|number| number.to_be_bytes().to_vec()).collect();
    let frame = Frame { bodies: many.clone(), ..frame(stream(1), 0, &[], Listing::Keep) };
    log.append(batch(vec![frame])).unwrap();
    assert_eq!(bodies(&log.read(stream(1), 0, usize::MAX).unwrap()), many);
    assert_eq!(bodies(&log.read(stream(1), 9_998, 5).unwrap()), many[9_998..]);
}

pub fn many_frames_in_one_group_are_read_back(place: &impl Place) {
    let log = place.open();
    let start = log.head().unwrap().position;
    let frames = (1..=1000).map(|number| frame(stream(number), 0, &[b"a"], open_label("x"))).collect();
    assert_eq!(log.append(batch(frames)).unwrap().records, 1000);
    assert_eq!(log.tail(start, 2000).unwrap().len(), 1000);
    assert_eq!(log.tail(start + 500, 3).unwrap()[2].stream, stream(503));
    drop(log);
    assert_eq!(place.open().streams(&executions(2000)).unwrap().len(), 1000);
}

pub fn time_never_goes_back(place: &impl Place) {
    let log = place.open();
    let far = i64::MAX / 2;
    for (seq, time) in [(0, far), (1, 5), (2, far + 9), (3, i64::MIN)] {
        let frame = Frame { time: Timestamp(time), ..frame(stream(1), seq, &[b"a"], Listing::Keep) };
        log.append(batch(vec![frame])).unwrap();
    }
    let times: Vec<_> = log.read(stream(1), 0, 10).unwrap().iter().map(|record| record.time.0).collect();
    assert_eq!(times, [far, far, far + 9, far + 9]);
    drop(log);
    assert_eq!(place.open().head().unwrap().time, Timestamp(far + 9));
}

pub fn the_head_says_where_the_log_ends(place: &impl Place) {
    let log = place.open();
    let before = log.head().unwrap();
    assert!(before.durability.is_some());
    let appended = log.append(one(stream(1), 0, b"a")).unwrap();
    let after = log.head().unwrap();
    assert_eq!((appended.position, after.position), (before.position, before.position + 1));
    assert_ne!(before.hash, after.hash);
}

pub fn a_closed_log_refuses_appends(place: &impl Place) {
    let log = place.open();
    log.append(one(stream(1), 0, b"a")).unwrap();
    log.close().unwrap();
    assert_eq!(log.append(one(stream(1), 1, b"b")), Err(AppendError::Closed));
    log.close().unwrap();
    drop(log);
    assert_eq!(place.open().read(stream(1), 0, 10).unwrap().len(), 1);
}

pub fn everything_is_there_after_closing_and_opening(place: &impl Place) {
    reopened(place, true);
}

pub fn everything_is_there_after_dropping_and_opening(place: &impl Place) {
    reopened(place, false);
}

fn reopened(place: &impl Place, close: bool) {
    let mut expected = Vec::new();
    for round in 0..4u64 {
        let log = place.open();
        let found = everything(&*log);
        assert_eq!(found[..expected.len()], expected[..], "in round {round}");
        let body = vec![7; 3_000 * usize::try_from(round).unwrap()];
        log.append(one(stream(1), round, &body)).unwrap();
        let listing = if round % 2 == 0 { open_label("o") } else { closed_label("c") };
        log.append(batch(vec![frame(stream(2), round * 2, &[b"a", &body], listing)])).unwrap();
        expected = everything(&*log);
        if close {
            log.close().unwrap();
        }
    }
    let log = place.open();
    assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 4);
    assert_eq!(
        log.append(one(stream(1), 3, b"x")),
        Err(AppendError::Conflict { stream: stream(1), expected: 3, next: 4 })
    );
    assert!(!log.stream(stream(2)).unwrap().open);
}

pub fn the_log_records_who_opened_and_closed_it(place: &impl Place) {
    place.open().close().unwrap();
    let log = place.open();
    let events: Vec<_> = log
        .read(StreamId::LOG, 0, 10)
        .unwrap()
        .iter()
        .map(|record| LogEvent::decode(record.body.bytes().unwrap()).unwrap())
        .collect();
    assert!(matches!(events[..], [LogEvent::Opened(_), LogEvent::Closed, LogEvent::Opened(_)]), "{events:?}");
    assert_eq!(log.stream(StreamId::LOG).unwrap().kind, StreamKind::Log);
}

pub fn each_append_that_is_awaited_costs_one_flush(place: &impl Place) {
    let log = place.open();
    assert_eq!(log.flushes(), 0);
    for seq in 0..20 {
        log.append(one(stream(1), seq, b"a")).unwrap();
        assert_eq!(log.flushes(), seq + 1);
    }
    log.append(one(stream(1), 0, b"a")).unwrap_err();
    assert_eq!(log.flushes(), 20, "a refused append costs no flush");
}
