//! The provenance of a value: its write, the reads of the writer, the writes that those saw, and so on to the input.

use std::collections::{BTreeSet, HashMap};

use cloacina_engine::core::context::{Source, Version};
use cloacina_engine::core::event::{
    Attempt, ContextRemoved, ContextWritten, Event, Key, Origin, Read, Reads, Seen, Seq, TaskId,
};
use cloacina_engine::core::graph::nearest;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::Execution;
use cloacina_engine::core::time::Timestamp;

use crate::reading::{Entry, HistoryError};

/// One step of the provenance: a write, or a read that found nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The number of reads between this write and the requested value.
    pub depth: usize,
    /// The key.
    pub key: Key,
    /// How the step above came to see this write.
    pub how: How,
    /// The write; `None` if there was no such key.
    pub write: Option<Write>,
    /// Whether an earlier step has the same `seq`. The reads of its writer follow only that step.
    pub told_before: bool,
}

/// How a write was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It is the requested value.
    Asked,
    /// By a declared read.
    Read,
    /// As one of several writes that were merged at a join.
    Merged {
        /// Whether the writes collided; `None` if unknown.
        collided: Option<bool>,
    },
    /// Not at all: it collided with other writes at a join, and the value of another one was taken.
    Dropped,
    /// By an undeclared read: the reader does not depend on the writing task.
    Undeclared,
    /// The read found no such key.
    NotSet,
}

/// A write of a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// The event.
    pub seq: Seq,
    /// When it was written.
    pub time: Timestamp,
    /// The task and attempt that wrote it; `None` for the input.
    pub writer: Option<(TaskId, Attempt)>,
    /// The value; `None` if it was removed.
    pub value: Option<Json>,
    /// The value that the writer could see before; `None` if there was none.
    pub before: Option<Json>,
    /// Whether the writer read the whole context.
    pub read_all: bool,
}

/// The provenance of a key cannot be shown.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoValue {
    /// The context has no such key.
    #[error("no key '{key}' in the context")]
    Unknown {
        /// The key.
        key: String,
        /// The existing key with the most similar name.
        nearest: Option<String>,
        /// Writes to the key that had no effect, or have none yet.
        without_effect: Vec<(Seq, TaskId, Attempt)>,
    },
    /// The events cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// Traces a value of the context of `state` back through the events that `state` was folded from.
///
/// # Errors
/// [`NoValue`].
pub fn why(
    state: &Execution,
    entries: impl Iterator<Item = Result<Entry, HistoryError>>,
    key: &str,
) -> Result<Vec<Step>, NoValue> {
    let mut facts = Facts::default();
    for entry in entries {
        let entry = entry?;
        if entry.seq >= state.next_seq() {
            break;
        }
        facts.note(entry);
    }
    facts.why(state, key)
}

fn roots(version: &Version) -> Vec<(How, Seq)> {
    match version.source() {
        Source::Write { seq, .. } => vec![(How::Asked, *seq)],
        Source::Merge { collision } => {
            let how = How::Merged { collided: Some(*collision) };
            version.writes().into_iter().map(|seq| (how, seq)).collect()
        }
    }
}

/// The writes and reads of an execution, collected from its events.
#[derive(Debug, Default)]
pub struct Facts {
    /// Every write, by ascending `seq`.
    writes: Vec<Written>,
    /// The reads of each completed attempt.
    reads: Vec<(TaskId, Attempt, Reads)>,
}

/// The content of a write event.
#[derive(Debug)]
struct Written {
    seq: Seq,
    time: Timestamp,
    origin: Origin,
    key: Key,
    value: Option<Json>,
}

impl Written {
    fn writer(&self) -> Option<(TaskId, Attempt)> {
        match &self.origin {
            Origin::Input => None,
            Origin::Task { task, attempt } => Some((task.clone(), *attempt)),
        }
    }
}

/// The reads of each attempt.
type ReadsBy<'a> = HashMap<(&'a str, Attempt), &'a Reads>;

impl Facts {
    /// Adds an event. Call it once for each event, in order.
    pub fn note(&mut self, entry: Entry) {
        let (seq, time) = (entry.seq, entry.time);
        match entry.event {
            Some(Event::ContextWritten(ContextWritten { origin, key, value })) => {
                self.writes.push(Written { seq, time, origin, key, value: Some(value) });
            }
            Some(Event::ContextRemoved(ContextRemoved { origin, key })) => {
                self.writes.push(Written { seq, time, origin, key, value: None });
            }
            Some(Event::TaskCompleted(done)) => self.reads.push((done.task, done.attempt, done.reads)),
            _ => {}
        }
    }

    /// Traces a value of the context of `state` back through the added events, from which `state` was folded.
    ///
    /// # Errors
    /// [`NoValue::Unknown`].
    pub fn why(&self, state: &Execution, key: &str) -> Result<Vec<Step>, NoValue> {
        let context = state.context();
        let Some(version) = context.get(key) else {
            let keys: Vec<&str> = context.iter().map(|(key, _)| &**key).collect();
            return Err(NoValue::Unknown {
                key: key.to_owned(),
                nearest: nearest(key, keys).map(ToOwned::to_owned),
                without_effect: self.writes_to(key),
            });
        };
        Ok(self.walk(state, &key.into(), roots(version)))
    }

    fn writes_to(&self, wanted: &str) -> Vec<(Seq, TaskId, Attempt)> {
        let writes = self.writes.iter().filter(|write| &*write.key == wanted);
        writes.filter_map(|write| write.writer().map(|(task, attempt)| (write.seq, task, attempt))).collect()
    }

    /// Depth first, without recursion: a chain of 100,000 tasks must not overflow the stack.
    fn walk(&self, state: &Execution, key: &Key, roots: Vec<(How, Seq)>) -> Vec<Step> {
        let reads = self.reads.iter().map(|(task, attempt, reads)| ((&**task, *attempt), reads));
        let reads: ReadsBy<'_> = reads.collect();
        let mut steps = Vec::new();
        let mut visited = BTreeSet::new();
        let mut open: Vec<(usize, Key, How, Option<Seq>)> =
            roots.into_iter().rev().map(|(how, seq)| (0, key.clone(), how, Some(seq))).collect();
        while let Some((depth, key, how, seq)) = open.pop() {
            let write = seq.and_then(|seq| self.write(state, &reads, seq));
            let new = write.as_ref().is_none_or(|write| visited.insert(write.seq));
            if new && let Some(writer) = write.as_ref().and_then(|write| write.writer.clone()) {
                let reads = reads.get(&(&*writer.0, writer.1)).map(|reads| &reads.keys[..]).unwrap_or_default();
                for (key, how, seq) in reads.iter().flat_map(seen).collect::<Vec<_>>().into_iter().rev() {
                    let how = collided(state, &writer.0, &key, seq).unwrap_or(how);
                    open.push((depth + 1, key, how, seq));
                }
            }
            steps.push(Step { depth, key, how, write, told_before: !new });
        }
        steps
    }

    fn write(&self, state: &Execution, reads: &ReadsBy<'_>, seq: Seq) -> Option<Write> {
        let place = self.writes.binary_search_by_key(&seq, |write| write.seq).ok()?;
        let written = &self.writes[place];
        let writer = written.writer();
        let (mut before, mut read_all) = (None, false);
        if let Some((task, attempt)) = &writer {
            read_all = reads.get(&(&**task, *attempt)).is_some_and(|reads| reads.all);
            before = value_before(state, task, &written.key);
        }
        Some(Write { seq, time: written.time, writer, value: written.value.clone(), before, read_all })
    }
}

/// Returns how a reader saw a write that collided with others at the join of the reader's dependencies, if it did.
fn collided(state: &Execution, reader: &str, key: &str, seq: Option<Seq>) -> Option<How> {
    let collisions = state.task(state.graph().find(reader)?).collisions();
    let collision = collisions.iter().find(|collision| &*collision.key == key)?;
    let seq = seq.filter(|seq| collision.writes.contains(seq))?;
    Some(if collision.taken.contains(&seq) { How::Merged { collided: Some(true) } } else { How::Dropped })
}

/// Returns the value of a key that a task could see before it wrote to the key.
fn value_before(state: &Execution, task: &str, key: &str) -> Option<Json> {
    let task = state.graph().find(task)?;
    state.view(task).declared.get(key)?.value().cloned()
}

/// Returns the writes that a read saw.
fn seen(read: &Read) -> Vec<(Key, How, Option<Seq>)> {
    let one = |how, seq| vec![(read.key.clone(), how, seq)];
    match &read.seen {
        Seen::Nothing => one(How::NotSet, None),
        Seen::Write(seq) => one(How::Read, Some(*seq)),
        Seen::Undeclared(seq) => one(How::Undeclared, Some(*seq)),
        Seen::Merged(seqs) => {
            let how = How::Merged { collided: None };
            seqs.iter().map(|seq| (read.key.clone(), how, Some(*seq))).collect()
        }
    }
}
