//! The context: which value of a key a task sees, and why.
//!
//! Every value that a task could see is a [`Version`], and versions of one key form a graph: a write points to the
//! version that its writer could see, a merge to the versions that met at a join. Which write hides which, and the base
//! of a merge, are questions to that graph; nothing in it depends on when anything ran.
//!
//! A context with a hundred thousand keys is not a map of its own for each task. What took effect stands once, in the
//! [`Ledger`] of the execution, and a task has a [`Scope`]: which part of that it sees. Three things make it cheap:
//!
//! - What a task wrote takes effect as one **commit**, when it completes. A scope is a set of commits, those of the task's
//!   ancestors, and a join unites sets. `commit_set.rs` says what that costs.
//! - Most keys have a **chain**: each write was made by a task that saw the one before it. A task sees a chain up to some
//!   version, the last one whose commit is in its scope, and where branches meet, the longer part is what they give
//!   together. No join has to look at such a key.
//! - A version that is on no chain, because its writer did not see all that the chain had, or because it is a merge, is
//!   **apart**: the scopes that see it name it. Those few keys are joined one by one.
//!
//! Which of two writes that did not see each other went on with the chain is the one that took effect first. That changes
//! how they are kept, and never what is seen: a version is found in either place, and merges go by versions alone.

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

/// What somebody sees: the visible version of each key.
#[derive(Clone, Debug, Default)]
pub struct Context {
    ledger: Arc<Ledger>,
    scope: Scope,
}

impl Context {
    /// What is seen of a ledger in a scope.
    #[must_use]
    pub fn new(ledger: Arc<Ledger>, scope: Scope) -> Self {
        Self { ledger, scope }
    }

    /// The visible version of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&VersionRef> {
        self.ledger.look(&self.scope, key)
    }

    /// All of it, in the order of the keys. Removed values are in it.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &VersionRef)> {
        self.ledger.visible(&self.scope).into_iter()
    }

    /// The keys that may have another version in another context of the same execution; each key once.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<Key> {
        // Whatever one of them sees is in the ledger that has more.
        let ledger = if self.ledger.commits() < other.ledger.commits() { &other.ledger } else { &self.ledger };
        ledger.differing(&self.scope, &other.scope)
    }
}

impl FromIterator<(Key, VersionRef)> for Context {
    /// A context of no execution.
    fn from_iter<I: IntoIterator<Item = (Key, VersionRef)>>(versions: I) -> Self {
        Self::new(Arc::default(), versions.into_iter().collect())
    }
}

/// What an attempt can see: what its ancestry gives, and behind it the latest writes of everybody else.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What the input and the task's ancestors wrote.
    pub declared: Context,
    /// What had taken effect at the attempt's start, whoever wrote it: see [`Ledger::latest`].
    pub latest: Arc<Ledger>,
}

/// What a look at one key found.
#[derive(Clone, Debug)]
pub enum Sight {
    /// A value that the task's ancestry gives.
    Declared(VersionRef),
    /// A value that is only there because somebody else happened to be faster.
    Undeclared(VersionRef),
    /// No value.
    Nothing,
}

impl View {
    /// Looks at a key.
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

/// The keys and values of a context that are there.
pub fn values(context: &Context) -> impl Iterator<Item = (&Key, &Json)> {
    context.iter().filter_map(|(key, version)| version.value().map(|value| (key, value)))
}

/// SHA-256 over a context: each key and value, in the order of the keys, with their lengths (8 bytes, big-endian)
/// before them.
#[must_use]
pub fn digest(context: &Context) -> [u8; 32] {
    digest_of(values(context))
}

/// As [`digest`], over keys and values that come in the order of the keys.
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
