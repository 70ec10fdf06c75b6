//! A slow model of the values of keys: terms, each with the explicit set of all terms in its history.
//!
//! A write is a term, and so is the merge of two terms at a join. Nothing is shared or optimized.

use std::collections::{BTreeMap, BTreeSet};

use cloacina_engine::core::event::Seq;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::merge::three_way;
use serde_json::Value;

pub type TermId = usize;
/// The term of each key.
pub type Terms = BTreeMap<String, TermId>;

#[derive(Clone, Debug, PartialEq)]
enum TermKind {
    Write { seq: Seq, writer: Option<String> },
    Merge { ours: TermId, theirs: TermId, taken: Vec<TermId> },
}

#[derive(Debug)]
struct Term {
    kind: TermKind,
    value: Option<Value>,
    /// All terms that it came from, and the term itself.
    history: BTreeSet<TermId>,
}

/// All terms so far.
#[derive(Debug, Default)]
pub struct TermArena {
    terms: Vec<Term>,
    /// Whether a base had to be merged from terms that the names of their writers do not order.
    pub ambiguous: bool,
}

impl TermArena {
    pub fn value(&self, term: TermId) -> Option<&Value> {
        self.terms[term].value.as_ref()
    }

    pub fn write(&mut self, seq: Seq, writer: Option<String>, value: Option<&Json>, over: Option<TermId>) -> TermId {
        let history = over.map(|over| self.terms[over].history.clone()).unwrap_or_default();
        self.insert(TermKind::Write { seq, writer }, value.map(Json::value), history)
    }

    fn insert(&mut self, kind: TermKind, value: Option<Value>, mut history: BTreeSet<TermId>) -> TermId {
        if let Some(known) = self.terms.iter().position(|term| term.kind == kind) {
            return known;
        }
        let id = self.terms.len();
        history.insert(id);
        self.terms.push(Term { kind, value, history });
        id
    }

    /// Returns the writes that a term's value consists of.
    pub fn sources(&self, term: TermId) -> BTreeSet<Seq> {
        match &self.terms[term].kind {
            TermKind::Write { seq, .. } => BTreeSet::from([*seq]),
            TermKind::Merge { taken, .. } => taken.iter().flat_map(|term| self.sources(*term)).collect(),
        }
    }

    /// Returns the writers of its sources, from the first branch to the last.
    fn writers(&self, term: TermId) -> Vec<Option<String>> {
        match &self.terms[term].kind {
            TermKind::Write { writer, .. } => vec![writer.clone()],
            TermKind::Merge { taken, .. } => {
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

    /// Merges two terms.
    fn merge(&mut self, ours: TermId, theirs: TermId) -> TermId {
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
        let base = last.into_iter().reduce(|ours, theirs| self.merge(ours, theirs));
        let base = base.and_then(|base| self.terms[base].value.clone());
        let (left, right) = (self.terms[ours].value.clone(), self.terms[theirs].value.clone());
        let taken = match (left == base, right == base) {
            (_, true) => vec![ours],
            (true, false) => vec![theirs],
            (false, false) => vec![ours, theirs],
        };
        let value = three_way(base.as_ref(), left.as_ref(), right.as_ref()).value;
        let history = self.terms[ours].history.union(&self.terms[theirs].history).copied().collect();
        self.insert(TermKind::Merge { ours, theirs, taken }, value, history)
    }

    /// Joins several branches, from the first to the last.
    pub fn join(&mut self, branches: &[Terms]) -> Terms {
        let mut joined = Terms::new();
        for branch in branches {
            for (key, theirs) in branch {
                let merged = match joined.get(key) {
                    Some(ours) => self.merge(*ours, *theirs),
                    None => *theirs,
                };
                joined.insert(key.clone(), merged);
            }
        }
        joined
    }
}
