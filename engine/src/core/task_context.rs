//! The context in the hands of an attempt: it reads from a [`View`], keeps its writes to itself, and remembers both.

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
    /// What this attempt wrote last to each key, and the place of that write among its writes.
    writes: BTreeMap<Key, (usize, Option<Json>)>,
    reads: BTreeMap<Key, Seen>,
    all: bool,
    write_count: usize,
}

/// What an attempt did to one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: Key,
    /// Its new value; `None` if it was removed.
    pub value: Option<Json>,
}

/// A read of a key that no ancestor wrote, where that is forbidden.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "context key '{key}' was written by a task that this one does not depend on; add that task to its dependencies"
)]
pub struct UndeclaredRead {
    /// The key.
    pub key: Key,
}

/// What an attempt sees, by value: for one that runs where its [`View`] cannot go, such as another process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// What its ancestry gives.
    pub declared: Vec<(Key, Json)>,
    /// What others wrote, and it can see all the same.
    pub undeclared: Vec<(Key, Json)>,
    /// Whether an undeclared read is an error.
    pub strict: bool,
}

/// What an attempt did to a context that was made from a [`Sighting`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// What it wrote, one for each key in the order of first writing.
    pub writes: Vec<Write>,
    /// The keys that it read.
    pub reads: Vec<Key>,
    /// Whether it took the whole context.
    pub all: bool,
}

impl TaskContext {
    /// The context of an attempt that sees `view`. If `strict`, an undeclared read is an error.
    #[must_use]
    pub fn new(view: View, strict: bool) -> Self {
        Self { view, strict, ..Self::default() }
    }

    /// A context that belongs to no attempt and holds these values.
    #[must_use]
    pub fn from_values(values: impl IntoIterator<Item = (Key, Json)>) -> Self {
        let declared =
            values.into_iter().map(|(key, value)| (key, Version::written(Some(value), 0, None, None))).collect();
        Self::new(View { declared, ..View::default() }, false)
    }

    /// What the attempt sees, by value. This is no read.
    #[must_use]
    pub fn sighting(&self) -> Sighting {
        let declared = values(&self.view.declared).map(|(key, value)| (key.clone(), value.clone())).collect();
        let latest = self.view.latest.all_latest();
        let undeclared = latest
            .filter_map(|(key, version)| Some((key, version.value()?)))
            .filter(|(key, _)| matches!(self.view.look(key), Sight::Undeclared(_)))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Sighting { declared, undeclared, strict: self.strict }
    }

    /// A context that shows what another one saw. What is done to it comes back with [`TaskContext::deeds`].
    #[must_use]
    pub fn from_sighting(sighting: Sighting) -> Self {
        let version = |value| Version::written(Some(value), 0, None, None);
        let declared = sighting.declared.into_iter().map(|(key, value)| (key, version(value))).collect();
        // Who wrote it is nothing that a context says.
        let (nobody, mut latest) = ("".into(), Ledger::default());
        let undeclared = sighting.undeclared.into_iter().map(|(key, value)| (key, Some(value), 0));
        latest.commit(&Scope::default(), Some(&nobody), undeclared);
        Self::new(View { declared, latest: latest.into() }, sighting.strict)
    }

    /// What was done to this context.
    #[must_use]
    pub fn deeds(self) -> Deeds {
        let (writes, reads) = self.finish();
        Deeds { writes, reads: reads.keys.into_iter().map(|read| read.key).collect(), all: reads.all }
    }

    /// Does here what was done to the context that was made from this one's sighting: the reads see the same writes as
    /// they would have here.
    pub fn repeat(&mut self, deeds: Deeds) {
        for key in &deeds.reads {
            // In a strict context the attempt had the error there.
            let _ = self.get(key);
        }
        self.all |= deeds.all;
        deeds.writes.into_iter().for_each(|Write { key, value }| self.write(key, value));
    }

    /// The value of a key, and that it was read.
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

    /// Whether a key is there. That is a read too.
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
        let place = self.write_count;
        self.writes.entry(key).and_modify(|entry| entry.1.clone_from(&value)).or_insert((place, value));
    }

    /// The whole context, in the order of the keys: what the task's ancestry gives, and its own writes. Undeclared keys
    /// are not in it: it does not depend on who was faster.
    pub fn all(&mut self) -> BTreeMap<Key, Json> {
        self.all = true;
        self.peek()
    }

    /// The same as [`TaskContext::all`], for a debugger: it does not count as a read.
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

    /// What was written, one for each key in the order of first writing, and what was read.
    #[must_use]
    pub fn finish(self) -> (Vec<Write>, Reads) {
        let mut writes: Vec<(usize, Write)> =
            self.writes.into_iter().map(|(key, (place, value))| (place, Write { key, value })).collect();
        writes.sort_unstable_by_key(|(place, _)| *place);
        let keys = self.reads.into_iter().map(|(key, seen)| Read { key, seen }).collect();
        (writes.into_iter().map(|(_, write)| write).collect(), Reads { keys, all: self.all })
    }
}
