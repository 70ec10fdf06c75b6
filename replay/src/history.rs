//! The history of one execution as a value: its events, the definitions that they name, and what follows from them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_engine::core::context::Context;
use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::event::{ExecutionId, Seq};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::state::Execution;
use cloacina_store::log::{LogReader, ReadError};

use crate::fold::Folder;
use crate::moment::{At, MomentError};
use crate::reading::{Entry, HistoryError, entries};
use crate::source::{self, Head};
use crate::story::{Story, tell};
use crate::verify::{Verification, verify};
use crate::why::{Facts, NoValue, Step};

/// The history of one execution, in memory.
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
    /// The execution as listed in the index of its log.
    pub head: Head,
    /// Its events, in order, as far as they could be read.
    pub entries: Vec<Entry>,
    /// The graphs of the definitions that its events name.
    pub graphs: BTreeMap<Fingerprint, Arc<Graph>>,
    /// The result of verifying it; `None` if it did not come from a log.
    pub verification: Option<Verification>,
    /// Why the events could not be read or folded to the end.
    pub trouble: Option<HistoryError>,
}

/// Why the origin of a value cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum WhyError {
    /// There is no such moment.
    #[error(transparent)]
    Moment(#[from] MomentError),
    /// There is no such value.
    #[error(transparent)]
    Value(#[from] NoValue),
}

impl History {
    /// Reads and verifies an execution, and keeps its events. Damage is no error: see `verification` and `trouble`.
    ///
    /// # Errors
    /// [`ReadError`] if there is no such execution, or none of it can be read.
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
        // A read error takes precedence: it says where the events end. Folding the events again finds the fold error.
        let trouble = unread.or_else(|| head.cut(kept.len() as u64)).or(trouble);
        let mut head = head;
        head.note(trouble.as_ref());
        Ok(Self { head, entries: kept, graphs, verification: Some(verification), trouble })
    }

    /// Iterates over the events, followed by the read error that ended them, if there was one.
    pub(crate) fn events(&self) -> impl Iterator<Item = Result<Entry, HistoryError>> + '_ {
        let unread = self.trouble.as_ref().filter(|trouble| trouble.ends_reading());
        self.entries.iter().cloned().map(Ok).chain(unread.cloned().map(Err))
    }

    /// Returns the execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.head.id
    }

    /// Returns the last event at or before a moment.
    ///
    /// # Errors
    /// [`MomentError`].
    pub fn seq(&self, at: &At) -> Result<Seq, MomentError> {
        at.find(self.events())
    }

    /// Returns the state at a moment.
    ///
    /// # Errors
    /// [`MomentError`] if there is no such moment, or an event before it cannot be read or folded.
    pub fn state(&self, at: At) -> Result<Execution, MomentError> {
        let at = at.resolved(self.events())?;
        fold_to(self.id(), self.graphs.clone(), &mut self.events(), &at, |_| ()).map(|(state, _)| state)
    }

    /// Returns the context at a moment: the one that a task depending on every leaf would see.
    ///
    /// # Errors
    /// As [`History::state`].
    pub fn context(&self, at: At) -> Result<Context, MomentError> {
        self.state(at).map(|state| state.context())
    }

    /// Returns the events grouped by task.
    #[must_use]
    pub fn story(&self) -> Story {
        tell(self.id(), self.graphs.clone(), self.events()).standing(&self.head.standing)
    }

    /// Returns the result of verifying it; `None` if the history did not come from a log.
    #[must_use]
    pub fn verify(&self) -> Option<&Verification> {
        self.verification.as_ref()
    }

    /// Traces a value of the context at a moment back to the input.
    ///
    /// # Errors
    /// [`WhyError`].
    pub fn why(&self, key: &str, at: At) -> Result<Vec<Step>, WhyError> {
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

/// Folds events up to a moment. Returns the state there and the last folded event. `each` receives every event once
/// folded. Reads each event once, and at most one beyond the moment. A moment that needs the whole history
/// ([`At::Task`]) must be [resolved](At::resolved) first.
///
/// # Errors
/// [`MomentError`] if there is no such moment, or an event before it cannot be read or folded.
pub fn fold_to<D: crate::reading::Definitions>(
    id: ExecutionId,
    definitions: D,
    entries: &mut dyn Iterator<Item = Result<Entry, HistoryError>>,
    at: &At,
    mut each: impl FnMut(Entry),
) -> Result<(Execution, Entry), MomentError> {
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
