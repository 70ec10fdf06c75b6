//! What becomes of the index when something was put.

use std::collections::BTreeMap;
use std::io;

use ::bytes::Bytes;

use super::{Indexed, PIECE, Placed};
use crate::backend::segments::Appender;
use crate::backend::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::layout::keys::{self, INDEXED, Kept};
use crate::layout::run::{self, End};
use crate::layout::segment::Place;

/// How many places an entry of the index has at the most: it is written anew for each place that is added.
pub(super) const MOST_PLACES: usize = 32;

/// So many entries of the index are read to find the last of them.
const FEW_RUNS: usize = 6;

/// Changes of the database.
pub(super) struct Update {
    /// Where frames are, and what the database has itself, in pieces that it can take one by one.
    pub(super) places: Vec<Changes>,
    /// What says that all of it is there.
    pub(super) last: Changes,
    /// What was put or deleted, and stands in the segments as it was before.
    pub(super) replaced: Placed,
}

/// What was put, and where it stands now: `None` for what was deleted.
pub(super) struct Appended {
    places: BTreeMap<Bytes, Option<Place>>,
    /// What the database keeps itself.
    here: Vec<(Bytes, Option<Bytes>)>,
}

/// Writes what some groups put behind the segments, down to the disk: of each key what it has after all of them. It is written in the
/// order of keys: so what belongs to a stream stands together, and is read with one call.
pub(super) fn append<'a>(groups: impl Iterator<Item = &'a Changes>, appender: &mut Appender) -> io::Result<Appended> {
    let last: BTreeMap<&Bytes, Option<&Bytes>> = groups.flat_map(Changes::iter).collect();
    let mut appended = Appended { places: BTreeMap::new(), here: Vec::new() };
    for (key, value) in last {
        let place = value.map(|value| appender.append(key, value)).transpose()?;
        match Kept::of(key) {
            Kept::Here => appended.here.push((key.clone(), value.cloned())),
            Kept::Placed { .. } => drop(appended.places.insert(key.clone(), place)),
        }
    }
    appender.sync()?;
    Ok(appended)
}

/// A key, and what becomes of it.
type Change = (Bytes, Option<Bytes>);

fn add(changes: &mut Changes, change: Change) {
    match change {
        (key, Some(value)) => changes.put(key, value),
        (key, None) => changes.delete(key),
    }
}

/// Changes in pieces.
#[derive(Default)]
struct Pieces {
    whole: Vec<Changes>,
    next: Changes,
}

impl Pieces {
    /// Adds changes that belong together: a stream whose entries are cut anew has all of its places after each piece.
    fn add(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|change| add(&mut self.next, change));
        if self.next.bytes() >= PIECE {
            self.whole.push(std::mem::take(&mut self.next));
        }
    }

    fn end(mut self) -> Vec<Changes> {
        if !self.next.is_empty() {
            self.whole.push(self.next);
        }
        self.whole
    }
}

impl<B: Backend> Indexed<B> {
    /// What becomes of the index when values stand at new places, and the segments end somewhere.
    pub(super) fn update(&self, appended: Appended, end: End) -> Result<Update, BackendError> {
        let Appended { places, here } = appended;
        let (mut first, mut last) = (Pieces::default(), Changes::default());
        let mut replaced = Placed::new();
        here.into_iter().for_each(|change| first.add([change]));
        let mut places = places.into_iter().peekable();
        while let Some((key, place)) = places.next() {
            let Kept::Placed { shared } = Kept::of(&key) else { continue };
            let alike = key.slice(..shared.min(key.len()));
            let mut together = vec![(key, place)];
            while let Some(next) = places.next_if(|(key, _)| key.starts_with(&alike)) {
                together.push(next);
            }
            let changes = self.update_alike(together, shared, &mut replaced)?;
            if shared == 1 {
                // Commit entries: they say that what they name is there.
                changes.into_iter().for_each(|change| add(&mut last, change));
            } else {
                first.add(changes);
            }
        }
        last.put(INDEXED, end.encode());
        Ok(Update { places: first.end(), last, replaced })
    }

    /// What becomes of the entries of the index whose keys begin like these.
    fn update_alike(
        &self,
        changed: Vec<(Bytes, Option<Place>)>,
        shared: usize,
        replaced: &mut Placed,
    ) -> Result<Vec<Change>, BackendError> {
        let (Some((first, _)), Some((last, _))) = (changed.first(), changed.last()) else { return Ok(Vec::new()) };
        let alike = first.slice(..shared);
        let old = self.runs_with(first, last, shared)?;
        let mut places: BTreeMap<Vec<u8>, Place> = BTreeMap::new();
        let mut changes: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for (key, value) in &old {
            let (_, run) = self.run(key, shared, value)?;
            // One that is full, and has none of them, stays as it is.
            let is_apart = run.iter().next_back().is_none_or(|(rest, _)| rest < &first[shared..]);
            if !(is_apart && run.len() >= MOST_PLACES) {
                places.extend(run.iter().map(|(rest, place)| (rest.to_vec(), place)));
                changes.insert(key.clone(), None);
            }
        }
        let mut here = Vec::new();
        for (key, place) in changed {
            let rest = key[shared..].to_vec();
            let before = match place {
                Some(place) => places.insert(rest, place),
                None => places.remove(&rest),
            };
            if let Some(before) = before {
                // So that whoever comes next wipes it, should this process not come to it.
                let (waste, value) = run::encode_waste(&key, before);
                here.push((waste.into(), Some(value.into())));
                replaced.push((key.clone(), before));
            }
            if self.has_values {
                // What an earlier version has put into the database itself.
                here.push((key, None));
            }
        }
        let places: Vec<_> = places.into_iter().collect();
        for run in places.chunks(MOST_PLACES) {
            let key = keys::run(&[&alike[..], &run[0].0].concat());
            changes.insert(key.into(), Some(run::encode(run).into()));
        }
        here.extend(changes);
        Ok(here)
    }

    /// The entries of the index that have some of the keys between two, and the one before.
    fn runs_with(&self, first: &[u8], last: &[u8], shared: usize) -> Result<Vec<Entry>, BackendError> {
        let (from, end) = (keys::run(first), [&keys::run(last)[..], &[0]].concat());
        let all = KeyRange { from: from[..shared].to_vec(), below: end.clone() };
        // Most have few: to read them forwards takes less time than to look for the one before.
        let mut runs = self.index.scan(&all, FEW_RUNS, Direction::Up)?;
        if runs.len() == FEW_RUNS {
            runs = self.run_before(&first[..shared], first)?.into_iter().collect();
            let behind = KeyRange { from: [&from[..], &[0]].concat(), below: end };
            if behind.from < behind.below {
                runs.extend(self.index.scan(&behind, usize::MAX, Direction::Up)?);
            }
            return Ok(runs);
        }
        let before = runs.iter().rposition(|(key, _)| key[..] <= from[..]).unwrap_or(0);
        Ok(runs.split_off(before))
    }
}
