//! What is measured of a store, and the group commit that those without one get.

use std::error::Error;
use std::path::Path;
use std::thread::{self, JoinHandle};

use cloacina_benches::load::{Decision, Done};
use crossbeam_channel::{Receiver, Sender};

pub type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A store of events.
pub trait Store {
    /// Hands decisions over together. Of each is told when it is durable.
    fn append(&self, decisions: Vec<Decision>);

    /// Reads every event of every stream, in the order of the stream, and says how many there were. Each store checks
    /// what it checks.
    fn scan(&self) -> Outcome<u64>;

    /// The same in the order in which the events were appended, where that is another one.
    fn scan_in_order(&self) -> Option<Outcome<u64>> {
        None
    }

    fn close(self: Box<Self>) -> Outcome;
}

/// Opens a store, or makes it.
pub type Open = fn(&Path, Done) -> Outcome<Box<dyn Store>>;

/// Something that can make several decisions durable at once, with one sync.
pub trait Committing: Send + 'static {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome;
}

/// One thread that writes: it takes whatever is waiting, makes it durable at once, and says so. That is what the users of
/// a store with one writer at a time do to have many transactions share a sync.
pub struct Grouped {
    waiting: Sender<Vec<Decision>>,
    thread: JoinHandle<()>,
}

/// No group has many more decisions than this.
const GROUP: usize = 4096;

impl Grouped {
    pub fn new(committing: impl Committing, done: Done) -> Outcome<Self> {
        let (waiting, messages) = crossbeam_channel::unbounded();
        let thread = thread::Builder::new().spawn(move || write(committing, &messages, &done))?;
        Ok(Self { waiting, thread })
    }

    pub fn append(&self, decisions: Vec<Decision>) {
        // Where the thread is gone, nobody is told anything, and the load ends with that.
        let _ = self.waiting.send(decisions);
    }

    /// Ends the thread, and with it what it commits to.
    pub fn close(self) -> Outcome {
        drop(self.waiting);
        self.thread.join().map_err(|_| "the writer panicked".into())
    }
}

fn write(mut committing: impl Committing, messages: &Receiver<Vec<Decision>>, done: &Done) {
    while let Ok(mut group) = messages.recv() {
        while group.len() < GROUP
            && let Ok(more) = messages.try_recv()
        {
            group.extend(more);
        }
        let committed = committing.commit(&group).map_err(|error| error.to_string());
        for decision in group {
            // The load may have ended because of an error.
            let _ = done.send((decision.slot, committed.clone()));
        }
    }
}

/// The key of a decision: its stream and its place in it.
pub fn key(decision: &Decision) -> [u8; 24] {
    let mut key = [0; 24];
    key[..16].copy_from_slice(&decision.stream);
    key[16..].copy_from_slice(&decision.seq.to_be_bytes());
    key
}

/// The value of a decision: its bodies behind their lengths. One entry a decision is what our log has, too; one an event
/// would make every store slower.
pub fn value(decision: &Decision) -> Vec<u8> {
    let mut value = Vec::with_capacity(decision.bodies.iter().map(|body| body.len() + 4).sum());
    for body in &decision.bodies {
        value.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        value.extend_from_slice(body);
    }
    value
}

/// How many bodies are in a value: each becomes bytes of its own, as for a user who wants events.
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
