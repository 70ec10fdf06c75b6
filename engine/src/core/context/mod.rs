//! The context: which value of each key a task sees, and why.
//!
//! Every value of a key is a [`Version`], and the versions of one key form a graph: a write points to the version that
//! its writer saw, a merge to the versions that it joined. This graph determines which write hides which, and the base
//! of a merge. It does not depend on when anything ran.
//!
//! Tasks do not copy the context, which may have hundreds of thousands of keys. The [`Ledger`] of the execution stores
//! all effective writes once, and the [`Scope`] of a task selects the part that it sees. Three ideas make this cheap:
//!
//! - The writes of a task take effect as one **commit** when it completes. A scope is the set of the ancestors'
//!   commits, and a join is a union of sets. `commit_set.rs` explains the cost.
//! - Most keys have a **chain** of versions: each write was made by a task that saw the previous one. A task sees a
//!   chain up to the last version whose commit is in its scope. The join of two branches sees the longer part, so it
//!   does not have to look at such a key.
//! - A version is **off-chain** if its writer did not see the whole chain, or if it is a merge. Scopes that see such a
//!   version list it explicitly, and joins merge these few keys one by one.
//!
//! Of two writes that did not see each other, the one that takes effect first extends the chain. This affects only
//! where they are stored, never what is visible: lookups search both places, and merges only consider versions.

mod commit_set;
mod history;
mod joins;
mod ledger;
mod version;

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::event::Key;
use super::json::Json;

pub use joins::{Collision, Joined, Joins};
pub use ledger::{Ledger, Scope};
pub use version::{Source, Version, VersionRef};

/// A context: the visible version of each key.
#[derive(Clone, Debug, Default)]
pub struct Context {
    ledger: Arc<Ledger>,
    scope: Scope,
}

impl Context {
    /// Creates the context of what a scope sees of a ledger.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, scope: Scope) -> Self {
        Self { ledger, scope }
    }

    /// Returns the visible version of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&VersionRef> {
        self.ledger.look(&self.scope, key)
    }

    /// Returns all visible versions in key order, including removals.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &VersionRef)> {
        self.ledger.visible(&self.scope).into_iter()
    }

    /// Returns the keys whose version may differ in another context of the same execution, each once.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<Key> {
        // The larger ledger contains everything that either context sees.
        let ledger = if self.ledger.commits() < other.ledger.commits() { &other.ledger } else { &self.ledger };
        ledger.differing(&self.scope, &other.scope)
    }
}

impl FromIterator<(Key, VersionRef)> for Context {
    /// Creates a context that belongs to no execution.
    fn from_iter<I: IntoIterator<Item = (Key, VersionRef)>>(versions: I) -> Self {
        Self::new(Arc::default(), versions.into_iter().collect())
    }
}

/// What an attempt can see: the declared context, and as a fallback the latest writes of all other tasks.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the input and the task's ancestors wrote.
    pub declared: Context,
    /// The ledger at the attempt's start, for undeclared reads: see [`Ledger::latest`].
    pub latest: Arc<Ledger>,
}

/// The result of looking up one key.
#[derive(Clone, Debug)]
pub enum Sight {
    /// A value of the input or an ancestor.
    Declared(VersionRef),
    /// A value of a task that is not an ancestor: seeing it depends on timing.
    Undeclared(VersionRef),
    /// No value.
    Nothing,
}

impl View {
    /// Looks up a key.
    #[must_use]
    pub fn look(&self, key: &str) -> Sight {
        match self.declared.get(key) {
            Some(version) if version.value.is_some() => Sight::Declared(version.clone()),
            Some(_) => Sight::Nothing,
            None => match self.latest.latest(key) {
                Some(version) if version.value.is_some() => Sight::Undeclared(version.clone()),
                _ => Sight::Nothing,
            },
        }
    }
}

/// Returns the keys that have a value, with their values.
pub fn values(context: &Context) -> impl Iterator<Item = (&Key, &Json)> {
    context.iter().filter_map(|(key, version)| version.value().map(|value| (key, value)))
}

/// Returns the SHA-256 of a context: each key and value in key order, each preceded by its length (8 bytes,
/// big-endian).
#[must_use]
pub fn digest(context: &Context) -> [u8; 32] {
    digest_of(values(context))
}

/// Same as [`digest`], for keys and values in key order.
pub(super) fn digest_of<'a>(context: impl IntoIterator<Item = (&'a Key, &'a Json)>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for (key, value) in context {
        for part in [key.as_bytes(), value.as_str().as_bytes()] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().into()
}
