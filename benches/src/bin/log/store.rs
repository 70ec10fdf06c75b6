//! The interface that all measured stores implement, and a group commit for stores that have none.

use std::error::Error;
use std::path::Path;
use std::thread::{self, JoinHandle};

use cloacina_benches::load::{Decision, Done};
use crossbeam_channel::{Receiver, Sender};

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A store of events.
pub trait Store {
    /// Appends decisions together. Each is acknowledged through [`Done`] once it is durable.
    fn append(&self, decisions: Vec<Decision>);

    /// Reads every event of every stream in the order of the stream, with the checks that the store makes by itself.
    /// Returns the number of events.
    fn scan(&self) -> Outcome<u64>;

    /// Reads all events in the order in which they were appended, if the store has such an order beside its streams.
    fn scan_in_order(&self) -> Option<Outcome<u64>> {
        None
    }

    fn close(self: Box<Self>) -> Outcome;
}

/// Opens a store, and creates it if necessary.
pub type Open = fn(&Path, Done) -> Outcome<Box<dyn Store>>;

/// A writer that makes several decisions durable with one sync.
pub trait CommitBatch: Send + 'static {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome;
}

/// A group commit: one thread takes all waiting decisions, makes them durable with one sync, and acknowledges them. Users of
/// a store with a single writer do the same to let many transactions share a sync.
pub struct Grouped {
    waiting: Sender<Vec<Decision>>,
    thread: JoinHandle<()>,
}

/// The number of decisions at which a group is closed.
const GROUP: usize = 4096;

impl Grouped {
    pub fn new(writer: impl CommitBatch, done: Done) -> Outcome<Self> {
        let (waiting, messages) = crossbeam_channel::unbounded();
        let thread = thread::Builder::new().spawn(move || write(writer, &messages, &done))?;
        Ok(Self { waiting, thread })
    }

    pub fn append(&self, decisions: Vec<Decision>) {
        // If the thread is gone, no acknowledgement comes, which ends the load.
        let _ = self.waiting.send(decisions);
    }

    /// Ends the thread and drops its writer.
    pub fn close(self) -> Outcome {
        drop(self.waiting);
        self.thread.join().map_err(|_| "the writer panicked".into())
    }
}

fn write(mut writer: impl CommitBatch, messages: &Receiver<Vec<Decision>>, done: &Done) {
    while let Ok(mut group) = messages.recv() {
        while group.len() < GROUP
            && let Ok(more) = messages.try_recv()
        {
            group.extend(more);
        }
        let committed = writer.commit(&group).map_err(|error| error.to_string());
        for decision in group {
            // The load may have ended with an error.
            let _ = done.send((decision.slot, committed.clone()));
        }
    }
}

/// The key of a decision: its stream and its seq.
pub fn key(decision: &Decision) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&decision.stream);
    key[16..].copy_from_slice(&decision.seq.to_be_bytes());
    key
}

/// The value of a decision: its bodies, each prefixed with its length. Our log has one entry per decision, too; one per
/// event would make every store slower.
pub fn value(decision: &Decision) -> Vec<u8> {
    let mut value = Vec::with_capacity(decision.bodies.iter().map(|body| body.len() + 4).sum());
    for body in &decision.bodies {
        value.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        value.extend_from_slice(body);
    }
    value
}

/// Decodes a value into separate bodies, as a user of events would; returns their number.
pub fn events(mut value: &[u8]) -> Outcome<u64> {
    let mut count = 0;
    while let Some((length, rest)) = value.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_be_bytes(*length))?;
        let (body, rest) = rest.split_at_checked(length).ok_or("a value is cut")?;
        std::hint::black_box(body.to_vec());
        count += 1;
        value = rest;
    }
    Ok(count)
}
