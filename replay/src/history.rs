//! The past of one execution as a value: its events, the definitions that it went by, and what follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::context::Context;
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{ExecutionId, Seq};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::state::Execution;
use cloacina_store::log::{LogReader, ReadError};

use crate::at::{At, NotThere};
use crate::folding::Folder;
use crate::reading::{Entry, Trouble, entries};
use crate::source::{self, Head};
use crate::story::{Story, tell};
use crate::verify::{Verification, verify};
use crate::why::{Facts, NoValue, Step};

/// The past of one execution, in memory.
///
/// ```no_run
/// use cloacina_replay::history::History;
/// # fn f(reader: &dyn cloacina_store::log::LogReader, id: cloacina_engine::core::event::ExecutionId)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// let history = History::open(reader, id)?;
/// for entry in &history.entries {
///     println!("{} {:?}", entry.seq, entry.event);
/// }
/// let after_five = history.state("5".parse()?)?;
/// assert_eq!(after_five.next_seq(), 6);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct History {
    /// The execution, as the index of its log has it.
    pub head: Head,
    /// Its events, in order, as far as they could be read.
    pub entries: Vec<Entry>,
    /// The graphs of the definitions that it went by.
    pub graphs: BTreeMap<Fingerprint, Arc<Graph>>,
    /// What was found when its records were read; `None` if it did not come from a log.
    pub verification: Option<Verification>,
    /// Why the events could not be read, or not folded, to the end.
    pub trouble: Option<Trouble>,
}

/// Why it cannot be told where a value came from.
#[derive(Debug, thiserror::Error)]
pub enum WhyNot {
    /// There is no such moment.
    #[error(transparent)]
    Moment(#[from] NotThere),
    /// There is no such value.
    #[error(transparent)]
    Value(#[from] NoValue),
}

impl History {
    /// Reads an execution, verifies it, and keeps all of it. What is damaged is a verdict and in `trouble`.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such execution, or nothing of it can be read.
    pub fn open(reader: &dyn LogReader, id: ExecutionId) -> Result<Self, ReadError> {
        let head = source::head(reader, id)?;
        let verification = verify(reader, id)?;
        let mut folder = Some(Folder::new(id, reader));
        let mut graphs = BTreeMap::new();
        let (mut kept, mut trouble, mut unread) = (Vec::new(), None, None);
        for entry in entries(reader, id) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    unread = Some(error);
                    break;
                }
            };
            if let Some(mut folding) = folder.take() {
                match folding.step(&entry) {
                    Ok(_) => folder = Some(folding),
                    Err(error) => {
                        trouble.get_or_insert(error);
                        graphs = folding.finish().1;
                    }
                }
            }
            kept.push(entry);
        }
        if let Some(folder) = folder {
            graphs = folder.finish().1;
        }
        // What cannot be read goes before what cannot be folded: it says where the events end, and folding them again
        // says the other.
        let trouble = unread.or_else(|| head.cut(kept.len() as u64)).or(trouble);
        let mut head = head;
        head.note(trouble.as_ref());
        Ok(Self { head, entries: kept, graphs, verification: Some(verification), trouble })
    }

    /// The events, and after them why there are no more, where that is so.
    pub(crate) fn told(&self) -> impl Iterator<Item = Result<Entry, Trouble>> + '_ {
        let unread = self.trouble.as_ref().filter(|trouble| trouble.ends_reading());
        self.entries.iter().cloned().map(Ok).chain(unread.cloned().map(Err))
    }

    /// The execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.head.id
    }

    /// The last event at or before a moment.
    ///
    /// # Errors
    /// [`NotThere`].
    pub fn seq(&self, at: &At) -> Result<Seq, NotThere> {
        at.find(self.told())
    }

    /// The state at a moment.
    ///
    /// # Errors
    /// [`NotThere`] if there is no such moment, or an event before it cannot be read or folded.
    pub fn state(&self, at: At) -> Result<Execution, NotThere> {
        let at = at.resolved(self.told())?;
        fold_to(self.id(), self.graphs.clone(), &mut self.told(), &at, |_| ()).map(|(state, _)| state)
    }

    /// The context at a moment: what a task that depends on every leaf would see.
    ///
    /// # Errors
    /// As [`History::state`].
    pub fn context(&self, at: At) -> Result<Context, NotThere> {
        self.state(at).map(|state| state.context())
    }

    /// What happened, task by task.
    #[must_use]
    pub fn story(&self) -> Story {
        tell(self.id(), self.graphs.clone(), self.told()).standing(&self.head.standing)
    }

    /// What was found when the records were read; `None` if the history did not come from a log.
    #[must_use]
    pub fn verify(&self) -> Option<&Verification> {
        self.verification.as_ref()
    }

    /// Where a value came from, back to the input, by what was known at a moment.
    ///
    /// # Errors
    /// [`WhyNot`].
    pub fn why(&self, key: &str, at: At) -> Result<Vec<Step>, WhyNot> {
        let state = self.state(at)?;
        let mut facts = Facts::default();
        self.entries
            .iter()
            .take_while(|entry| entry.seq < state.next_seq())
            .cloned()
            .for_each(|entry| facts.note(entry));
        Ok(facts.why(&state, key)?)
    }
}

/// Folds up to a moment, and gives the state there and the last event that was folded. `each` gets every event after it
/// was folded. Reads each event once, and none beyond the moment but the next one. A moment that only the whole history
/// tells ([`At::Task`]) is to be [resolved](At::resolved) first.
///
/// # Errors
/// [`NotThere`] if there is no such moment, or an event before it cannot be read or folded.
pub fn fold_to<D: crate::reading::Definitions>(
    id: ExecutionId,
    definitions: D,
    entries: &mut dyn Iterator<Item = Result<Entry, Trouble>>,
    at: &At,
    mut each: impl FnMut(Entry),
) -> Result<(Execution, Entry), NotThere> {
    let mut folder = Folder::new(id, definitions);
    let mut last: Option<Entry> = None;
    let mut start = None;
    for entry in entries {
        let entry = entry?;
        let start = *start.get_or_insert(entry.time);
        if !at.is_at_or_after(&entry, start) {
            break;
        }
        folder.step(&entry)?;
        let done = at.is_reached_with(&entry);
        if let Some(before) = last.replace(entry) {
            each(before);
        }
        if done {
            break;
        }
    }
    last.iter().cloned().for_each(each);
    let state = folder.finish().0;
    match (state, last) {
        (Some(state), Some(last)) if at.is_met_by(&last) => Ok((state, last)),
        (_, last) => Err(at.not_there(last.map(|last| last.seq).or(start.map(|_| 0)))),
    }
}
