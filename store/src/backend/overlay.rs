//! Groups that are not in the database yet, over what is in it.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;

use ::bytes::Bytes;

use super::{Changes, Direction, Entry, KeyRange};

/// Some groups, in order, and what is under a key after all of them: `None` for one that was deleted.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    groups: Vec<Changes>,
    map: BTreeMap<Bytes, Option<Bytes>>,
}

/// What an overlay has of a range: a value, or that there is none, for each key.
pub(super) type Covered = Vec<(Bytes, Option<Bytes>)>;

impl Overlay {
    /// Puts a group over all others.
    pub(super) fn add(&mut self, changes: Changes) {
        self.map.extend(changes.iter().map(|(key, value)| (key.clone(), value.cloned())));
        self.groups.push(changes);
    }

    pub(super) fn groups(&self) -> &[Changes] {
        &self.groups
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// What it says of a key; `None` if it says nothing.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.map.get(key).cloned()
    }

    /// What it says of a range, as far as the first `limit` values that are there.
    pub(super) fn cover(&self, range: &KeyRange, limit: usize, direction: Direction) -> Covered {
        let bounds = (Bound::Included(&range.from[..]), Bound::Excluded(&range.below[..]));
        let all = self.map.range::<[u8], _>(bounds).map(|(key, value)| (key.clone(), value.clone()));
        match direction {
            Direction::Up => first(all, limit),
            Direction::Down => first(all.rev(), limit),
        }
    }
}

/// As many as have `limit` values that are there, and all deletions between them.
fn first(all: impl Iterator<Item = (Bytes, Option<Bytes>)>, limit: usize) -> Covered {
    let mut left = limit;
    all.take_while(|(_, value)| {
        let wanted = left > 0;
        left -= usize::from(wanted && value.is_some());
        wanted
    })
    .collect()
}

/// How many entries of what lies below are enough for `limit` in all: it may lose as many as are deleted above.
pub(super) fn needed(limit: usize, above: &Covered) -> usize {
    limit.saturating_add(above.iter().filter(|(_, value)| value.is_none()).count())
}

/// Lays what is above over what is below, which has [`needed`] entries or all, and takes the first `limit` that are there.
pub(super) fn merge(above: Covered, below: Vec<Entry>, limit: usize, direction: Direction) -> Vec<Entry> {
    if above.is_empty() {
        return below.into_iter().take(limit).collect();
    }
    let mut above = above.into_iter().peekable();
    let mut below = below.into_iter().peekable();
    std::iter::from_fn(|| next(&mut above, &mut below, direction))
        .filter_map(|(key, value)| Some((key, value?)))
        .take(limit)
        .collect()
}

fn next(
    above: &mut Peekable<impl Iterator<Item = (Bytes, Option<Bytes>)>>,
    below: &mut Peekable<impl Iterator<Item = Entry>>,
    direction: Direction,
) -> Option<(Bytes, Option<Bytes>)> {
    let from_above = match (above.peek(), below.peek()) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((over, _)), Some((under, _))) => {
            if over == under {
                below.next();
                true
            } else {
                (over < under) == (direction == Direction::Up)
            }
        }
    };
    if from_above { above.next() } else { below.next().map(|(key, value)| (key, Some(value))) }
}
