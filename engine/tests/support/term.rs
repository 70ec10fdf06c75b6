//! What a key holds, by definition: terms over writes, each with the explicit set of all that it has ever been.
//!
//! A write is a term; so is the meeting of two terms at a join. Nothing is shared, counted or found quickly.

use std::collections::{BTreeMap, BTreeSet};

use cloacina_engine::core::event::Seq;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::merge::three_way;
use serde_json::Value;

pub type TermId = usize;
/// The term of each key.
pub type Terms = BTreeMap<String, TermId>;

#[derive(Clone, Debug, PartialEq)]
enum Made {
    Written { seq: Seq, writer: Option<String> },
    Met { ours: TermId, theirs: TermId, taken: Vec<TermId> },
}

#[derive(Debug)]
struct Term {
    made: Made,
    value: Option<Value>,
    /// Every term that it came from, and itself.
    history: BTreeSet<TermId>,
}

/// Every term that was made so far.
#[derive(Debug, Default)]
pub struct Heap {
    terms: Vec<Term>,
    /// Whether a base had to be merged from terms that the order of the writers' names does not order.
    pub ambiguous: bool,
}

impl Heap {
    pub fn value(&self, term: TermId) -> Option<&Value> {
        self.terms[term].value.as_ref()
    }

    pub fn write(&mut self, seq: Seq, writer: Option<String>, value: Option<&Json>, over: Option<TermId>) -> TermId {
        let history = over.map(|over| self.terms[over].history.clone()).unwrap_or_default();
        self.make(Made::Written { seq, writer }, value.map(Json::value), history)
    }

    fn make(&mut self, made: Made, value: Option<Value>, mut history: BTreeSet<TermId>) -> TermId {
        if let Some(known) = self.terms.iter().position(|term| term.made == made) {
            return known;
        }
        let id = self.terms.len();
        history.insert(id);
        self.terms.push(Term { made, value, history });
        id
    }

    /// The writes that a term's value consists of.
    pub fn sources(&self, term: TermId) -> BTreeSet<Seq> {
        match &self.terms[term].made {
            Made::Written { seq, .. } => BTreeSet::from([*seq]),
            Made::Met { taken, .. } => taken.iter().flat_map(|term| self.sources(*term)).collect(),
        }
    }

    /// The writers of its sources, from first to last branch.
    fn writers(&self, term: TermId) -> Vec<Option<String>> {
        match &self.terms[term].made {
            Made::Written { writer, .. } => vec![writer.clone()],
            Made::Met { taken, .. } => {
                let mut all = Vec::new();
                for writer in taken.iter().flat_map(|term| self.writers(*term)) {
                    if !all.contains(&writer) {
                        all.push(writer);
                    }
                }
                all
            }
        }
    }

    /// What two branches give together.
    fn meet(&mut self, ours: TermId, theirs: TermId) -> TermId {
        if self.terms[ours].history.contains(&theirs) {
            return ours;
        }
        if self.terms[theirs].history.contains(&ours) {
            return theirs;
        }
        let common: BTreeSet<TermId> =
            self.terms[ours].history.intersection(&self.terms[theirs].history).copied().collect();
        let hidden =
            |term: &TermId| common.iter().any(|other| other != term && self.terms[*other].history.contains(term));
        let mut last: Vec<TermId> = common.iter().copied().filter(|term| !hidden(term)).collect();
        let order = |term: &TermId| {
            let writers = self.writers(*term);
            (writers.iter().min().cloned(), writers)
        };
        last.sort_by_key(order);
        self.ambiguous |= last.windows(2).any(|pair| order(&pair[0]) == order(&pair[1]));
        let base = last.into_iter().reduce(|ours, theirs| self.meet(ours, theirs));
        let base = base.and_then(|base| self.terms[base].value.clone());
        let (left, right) = (self.terms[ours].value.clone(), self.terms[theirs].value.clone());
        let taken = match (left == base, right == base) {
            (_, true) => vec![ours],
            (true, false) => vec![theirs],
            (false, false) => vec![ours, theirs],
        };
        let value = three_way(base.as_ref(), left.as_ref(), right.as_ref()).value;
        let history = self.terms[ours].history.union(&self.terms[theirs].history).copied().collect();
        self.make(Made::Met { ours, theirs, taken }, value, history)
    }

    /// What several branches give together, from first to last.
    pub fn join(&mut self, branches: &[Terms]) -> Terms {
        let mut joined = Terms::new();
        for branch in branches {
            for (key, theirs) in branch {
                let met = match joined.get(key) {
                    Some(ours) => self.meet(*ours, *theirs),
                    None => *theirs,
                };
                joined.insert(key.clone(), met);
            }
        }
        joined
    }
}
