//! How records are asked for.

use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina_engine::core::event::ExecutionId;
use cloacina_replay::reading::Records;
use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader, ReadError};
use cloacina_store::record::{Record, StreamId, StreamKind, Timestamp};
use cloacina_store::{MemoryDisk, MemoryLog, read_through};

/// Counts how often it is read.
struct Counting(MemoryLog, AtomicUsize);

impl LogReader for Counting {
    read_through!(self => self.0; stream, streams, tail, hashes, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.read(stream, from, limit)
    }
}

/// An attempt had written 200,000 keys. All of its records were checked again for every 512 of them, which took minutes.
#[test]
fn many_records_that_were_decided_together_are_read_in_few_pages() {
    let log = MemoryLog::open(&MemoryDisk::new()).unwrap();
    let (id, count) = ([7; 16], 60_000_usize);
    let frame = Frame {
        stream: StreamId::from_bytes(id),
        kind: StreamKind::Execution,
        expected_seq: 0,
        time: Timestamp(1),
        bodies: (0..count).map(|number| number.to_be_bytes().to_vec()).collect(),
        listing: Listing::Open(b"label".to_vec()),
    };
    log.append(Batch { definitions: Vec::new(), frames: vec![frame] }).unwrap();
    let log = Counting(log, AtomicUsize::new(0));
    let records: Vec<Record> = Records::new(&log, ExecutionId(id), 0).map(Result::unwrap).collect();
    assert!(records.iter().map(|record| record.seq).eq(0..count as u64));
    let pages = log.1.load(Ordering::Relaxed);
    assert!(pages < 12, "{pages} pages");
}
