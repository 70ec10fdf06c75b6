//! What a backend is held against in tests: an ordered map.

use std::collections::BTreeMap;
use std::ops::Bound;

use ::bytes::Bytes;

use super::{Direction, Entry, KeyRange};

/// Values under their keys.
pub(super) type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a scan of it gives.
pub(super) fn scanned(model: &Model, range: &KeyRange, limit: usize, direction: Direction) -> Vec<Entry> {
    if range.from >= range.below {
        return Vec::new();
    }
    let bounds = (Bound::Included(range.from.clone()), Bound::Excluded(range.below.clone()));
    let mut all: Vec<Entry> =
        model.range(bounds).map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone()))).collect();
    if direction == Direction::Down {
        all.reverse();
    }
    all.truncate(limit);
    all
}
