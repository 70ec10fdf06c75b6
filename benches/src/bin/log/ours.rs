//! Our log as shipped: chain, commitments, listing, socket, group commit on its writer thread.

use std::path::Path;

use cloacina_benches::load::{Decision, Done};
use cloacina_store::log::{Acknowledge, Batch, EventLog, Frame, Listing, LogReader, StreamFilter};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use cloacina_store::{Options, SledLog};

use crate::store::{Outcome, Store};

/// Records per read, as in the debugger.
const PAGE: usize = 4096;

struct Ours {
    log: SledLog,
    done: Done,
}

pub fn open(directory: &Path, done: Done) -> Outcome<Box<dyn Store>> {
    Ok(Box::new(Ours { log: cloacina_store::open(&directory.join("log"), &Options::default())?, done }))
}

pub fn frame(decision: Decision) -> Frame {
    let label = b"customers, running".to_vec();
    Frame {
        stream: StreamId::from_bytes(decision.stream),
        kind: StreamKind::Execution,
        expected_seq: decision.seq,
        time: Timestamp(0),
        listing: match (decision.is_first(), decision.is_last()) {
            (_, true) => Listing::Closed(label),
            (true, _) => Listing::Open(label),
            _ => Listing::Keep,
        },
        bodies: decision.bodies,
    }
}

impl Store for Ours {
    fn append(&self, decisions: Vec<Decision>) {
        let batch = |decision: Decision| {
            let (slot, done) = (decision.slot, self.done.clone());
            let acknowledge: Acknowledge = Box::new(move |result| {
                // The load may have ended with an error.
                let _ = done.send((slot, result.map(drop).map_err(|error| error.to_string())));
            });
            (Batch { definitions: Vec::new(), frames: vec![frame(decision)] }, acknowledge)
        };
        self.log.append_all_then(decisions.into_iter().map(batch).collect());
    }

    fn scan(&self) -> Outcome<u64> {
        let filter = StreamFilter { kind: Some(StreamKind::Execution), limit: usize::MAX, ..StreamFilter::default() };
        let mut count = 0;
        for entry in self.log.streams(&filter)? {
            let mut next = 0;
            loop {
                let records = self.log.read(entry.stream, next, PAGE)?;
                next += records.len() as u64;
                if records.len() < PAGE {
                    break;
                }
            }
            count += next;
        }
        Ok(count)
    }

    fn scan_in_order(&self) -> Option<Outcome<u64>> {
        let scan = || {
            let (mut next, mut count) = (0, 0);
            loop {
                let records = self.log.tail(next, PAGE)?;
                let Some(last) = records.last() else { return Ok(count) };
                next = last.position + 1;
                // The log's own events are not part of the load.
                count += records.iter().filter(|record| record.kind == StreamKind::Execution).count() as u64;
            }
        };
        Some(scan())
    }

    fn close(self: Box<Self>) -> Outcome {
        Ok(self.log.close()?)
    }
}
