//! The context of a running attempt: reads from a [`View`], buffers its writes, and records both.

use std::collections::BTreeMap;

use super::context::{Ledger, Scope, Sight, Version, View, values};
use super::event::{Key, Read, Reads, Seen};
use super::json::Json;

/// The context of one attempt.
///
/// ```
/// use cloacina_engine::core::{json::Json, task_context::TaskContext};
/// let mut context = TaskContext::from_values([("rows".into(), Json::parse("3")?)]);
/// assert_eq!(context.get("rows")?.map(|value| value.to_string()), Some("3".to_owned()));
/// context.set("done", Json::parse("true")?);
/// let (writes, reads) = context.finish();
/// assert_eq!(&*writes[0].key, "done");
/// assert_eq!(&*reads.keys[0].key, "rows");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct TaskContext {
    view: View,
    strict: bool,
    /// The last value that the attempt wrote to each key (`None`: removed), with the rank of its first write.
    writes: BTreeMap<Key, (usize, Option<Json>)>,
    reads: BTreeMap<Key, Seen>,
    all: bool,
    write_count: usize,
}

/// The change that an attempt made to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// Its new value; `None` if it was removed.
    pub value: Option<Json>,
}

/// A read of a key that no ancestor wrote, in a strict context.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "context key '{key}' was written by a task that this one does not depend on; add that task to its dependencies"
)]
pub struct UndeclaredRead {
    /// The key.
    pub key: Key,
}

/// A copy of what an attempt sees, for attempts that run where a [`View`] cannot be used, such as another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextSnapshot {
    /// The values that its ancestors and the input provide.
    pub declared: Vec<(Key, Json)>,
    /// The values of other keys, written by tasks that are not ancestors.
    pub undeclared: Vec<(Key, Json)>,
    /// Whether an undeclared read is an error.
    pub strict: bool,
}

/// The reads and writes of an attempt on a context that was created from a [`ContextSnapshot`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextChanges {
    /// One write per key, in the order of the first writes.
    pub writes: Vec<Write>,
    /// The keys that it read.
    pub reads: Vec<Key>,
    /// Whether it read the whole context.
    pub all: bool,
}

impl TaskContext {
    /// Creates the context of an attempt that sees `view`. If `strict`, an undeclared read is an error.
    #[must_use]
    pub fn new(view: View, strict: bool) -> Self {
        Self { view, strict, ..Self::default() }
    }

    /// Creates a context with these values that belongs to no attempt.
    #[must_use]
    pub fn from_values(values: impl IntoIterator<Item = (Key, Json)>) -> Self {
        let declared =
            values.into_iter().map(|(key, value)| (key, Version::written(Some(value), 0, None, None))).collect();
        Self::new(View { declared, ..View::default() }, false)
    }

    /// Returns a copy of what the attempt sees. This does not count as a read.
    #[must_use]
    pub fn snapshot(&self) -> ContextSnapshot {
        let declared = values(&self.view.declared).map(|(key, value)| (key.clone(), value.clone())).collect();
        let latest = self.view.latest.all_latest();
        let undeclared = latest
            .filter_map(|(key, version)| Some((key, version.value()?)))
            .filter(|(key, _)| matches!(self.view.look(key), Sight::Undeclared(_)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        ContextSnapshot { declared, undeclared, strict: self.strict }
    }

    /// Creates a context with the values of another one. [`TaskContext::changes`] returns what was done to it.
    #[must_use]
    pub fn from_snapshot(snapshot: ContextSnapshot) -> Self {
        let version = |value| Version::written(Some(value), 0, None, None);
        let declared = snapshot.declared.into_iter().map(|(key, value)| (key, version(value))).collect();
        // A context does not expose writers, so any name will do.
        let (writer, mut latest) = ("".into(), Ledger::default());
        let undeclared = snapshot.undeclared.into_iter().map(|(key, value)| (key, Some(value), 0));
        latest.commit(&Scope::default(), Some(&writer), undeclared);
        Self::new(View { declared, latest: latest.into() }, snapshot.strict)
    }

    /// Returns the reads and writes on this context.
    #[must_use]
    pub fn changes(self) -> ContextChanges {
        let (writes, reads) = self.finish();
        ContextChanges { writes, reads: reads.keys.into_iter().map(|read| read.key).collect(), all: reads.all }
    }

    /// Applies the reads and writes of a context that was created from this one's [`ContextSnapshot`]. The reads are recorded
    /// with the same writes as if they had been made here.
    pub fn apply(&mut self, changes: ContextChanges) {
        for key in &changes.reads {
            // In a strict context the attempt has already seen the error.
            let _ = self.get(key);
        }
        self.all |= changes.all;
        changes.writes.into_iter().for_each(|Write { key, value }| self.write(key, value));
    }

    /// Returns the value of a key and records the read.
    ///
    /// # Errors
    /// [`UndeclaredRead`] in a strict context.
    pub fn get(&mut self, key: &str) -> Result<Option<Json>, UndeclaredRead> {
        if let Some((_, value)) = self.writes.get(key) {
            return Ok(value.clone());
        }
        let (value, seen) = match self.view.look(key) {
            Sight::Declared(version) => (version.value().cloned(), version.seen()),
            Sight::Undeclared(version) => {
                let seq = version.writes().last().copied().unwrap_or(0);
                (version.value().cloned(), Seen::Undeclared(seq))
            }
            Sight::Nothing => (None, Seen::Nothing),
        };
        let forbidden = self.strict && matches!(seen, Seen::Undeclared(_));
        let key = Key::from(key);
        self.reads.entry(key.clone()).or_insert(seen);
        if forbidden { Err(UndeclaredRead { key }) } else { Ok(value) }
    }

    /// Returns whether a key exists. This counts as a read.
    ///
    /// # Errors
    /// [`UndeclaredRead`] in a strict context.
    pub fn contains(&mut self, key: &str) -> Result<bool, UndeclaredRead> {
        self.get(key).map(|value| value.is_some())
    }

    /// Writes a value.
    pub fn set(&mut self, key: impl Into<Key>, value: Json) {
        self.write(key.into(), Some(value));
    }

    /// Removes a value and returns it.
    ///
    /// # Errors
    /// [`UndeclaredRead`] in a strict context.
    pub fn remove(&mut self, key: &str) -> Result<Option<Json>, UndeclaredRead> {
        let value = self.get(key)?;
        if value.is_some() {
            self.write(key.into(), None);
        }
        Ok(value)
    }

    fn write(&mut self, key: Key, value: Option<Json>) {
        self.write_count += 1;
        let rank = self.write_count;
        self.writes.entry(key).and_modify(|entry| entry.1.clone_from(&value)).or_insert((rank, value));
    }

    /// Returns the whole context in key order: the values of the input and the ancestors, with the attempt's own
    /// writes. Undeclared keys are left out, so that the result does not depend on timing.
    pub fn all(&mut self) -> BTreeMap<Key, Json> {
        self.all = true;
        self.peek()
    }

    /// Returns the same as [`TaskContext::all`] without counting as a read, for debuggers.
    #[must_use]
    pub fn peek(&self) -> BTreeMap<Key, Json> {
        let mut all: BTreeMap<Key, Json> =
            values(&self.view.declared).map(|(key, value)| (key.clone(), value.clone())).collect();
        for (key, (_, value)) in &self.writes {
            match value {
                Some(value) => all.insert(key.clone(), value.clone()),
                None => all.remove(key),
            };
        }
        all
    }

    /// Returns one write per key, in the order of the first writes, and the reads.
    #[must_use]
    pub fn finish(self) -> (Vec<Write>, Reads) {
        let mut writes: Vec<(usize, Write)> =
            self.writes.into_iter().map(|(key, (rank, value))| (rank, Write { key, value })).collect();
        writes.sort_unstable_by_key(|(rank, _)| *rank);
        let keys = self.reads.into_iter().map(|(key, seen)| Read { key, seen }).collect();
        (writes.into_iter().map(|(_, write)| write).collect(), Reads { keys, all: self.all })
    }
}
