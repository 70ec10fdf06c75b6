//! Reading a stream from end to end takes few pages, also if many records were appended together.

use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader, ReadError};
use cloacina_store::paging::Records;
use cloacina_store::record::{Record, StreamId, StreamKind, Timestamp};
use cloacina_store::{MemoryDisk, MemoryLog, read_through};

const STREAM: StreamId = StreamId::from_bytes([7; 16]);

/// A reader that counts its reads, and reports one record as damaged.
struct Counting {
    log: MemoryLog,
    reads: AtomicUsize,
    damaged: u64,
}

impl LogReader for Counting {
    read_through!(self => self.log; stream, streams, tail, tree, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let records = self.log.read(stream, from, limit)?;
        match records.last() {
            Some(last) if last.seq >= self.damaged => Err(damaged(self.damaged)),
            _ => Ok(records),
        }
    }
}

fn damaged(seq: u64) -> ReadError {
    ReadError::Damaged { stream: STREAM, seq, what: "a flipped bit".to_owned() }
}

/// A log with `count` records that were appended together.
fn together(count: usize, damaged: u64) -> Counting {
    let log = MemoryLog::open(&MemoryDisk::new()).unwrap();
    let frame = Frame {
        stream: STREAM,
        kind: StreamKind::Execution,
        expected_seq: 0,
        time: Timestamp(1),
        bodies: (0..count).map(|number| number.to_be_bytes().to_vec()).collect(),
        listing: Listing::Open(b"label".to_vec()),
    };
    log.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    Counting { log, reads: AtomicUsize::new(0), damaged }
}

/// Regression: reading an attempt that had written 200,000 keys took minutes: all records were checked again for every page of 512.
#[test]
fn many_records_that_were_appended_together_are_read_in_few_pages() {
    let log = together(60_000, u64::MAX);
    let records: Vec<Record> = Records::new(&log, STREAM, 0).map(Result::unwrap).collect();
    assert!(records.iter().map(|record| record.seq).eq(0..60_000));
    let pages = log.reads.load(Ordering::Relaxed);
    assert!(pages < 12, "{pages} pages");
}

#[test]
fn records_that_were_appended_at_different_times_are_read_in_pages_of_the_same_length() {
    let log = together(1, u64::MAX);
    for seq in 1..3_000 {
        let frame = Frame {
            stream: STREAM,
            kind: StreamKind::Execution,
            expected_seq: seq,
            time: Timestamp(i64::MAX / 2 + i64::try_from(seq).unwrap()),
            bodies: vec![seq.to_be_bytes().to_vec()],
            listing: Listing::Keep,
        };
        log.log.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    }
    let mut records = Records::new(&log, STREAM, 0);
    let pages: Vec<usize> = std::iter::from_fn(|| records.next_page()).map(|page| page.unwrap().len()).collect();
    assert_eq!(pages, [512, 512, 512, 512, 512, 440]);
}

/// Regression: the last page before a damaged record was read record by record, and each time all records that were appended
/// together were checked again: some ten thousand records, some thousand times.
#[test]
fn the_records_before_a_damaged_one_are_read_in_few_pages_too() {
    for damaged_at in [0, 1, 511, 512, 7_000, 29_999] {
        let log = together(30_000, damaged_at);
        let mut records = Records::new(&log, STREAM, 0);
        for seq in 0..damaged_at {
            assert_eq!(records.next().map(|record| record.map(|record| record.seq)), Some(Ok(seq)));
        }
        assert_eq!(records.next(), Some(Err(damaged(damaged_at))));
        assert_eq!(records.next(), None);
        let pages = log.reads.load(Ordering::Relaxed);
        assert!(pages < 40, "{pages} pages up to {damaged_at}");
    }
}
