//! What the fuzzer asks of a journal.

use ::bytes::Bytes;

use super::sector::{SECTOR, checksum_of};
use super::{Found, entry};

/// A journal: as it is, and with all checksums made to fit; and an entry of one by itself.
pub fn journal(bytes: &[u8]) {
    taken(bytes);
    let mut fitting = bytes.to_vec();
    for (number, sector) in (0..).zip(fitting.chunks_exact_mut(SECTOR)) {
        let checksum = checksum_of(number, &sector[4..]);
        sector[..4].copy_from_slice(&checksum.to_be_bytes());
    }
    taken(&fitting);
    if let Ok(group) = entry::decode(7, &Bytes::copy_from_slice(bytes)) {
        let (start, again) = entry::encode(&group.changes, group.follows).unwrap_or_default();
        assert_eq!((start, &again[..]), (7, bytes), "an entry is written as it was read");
    }
}

/// What is found in a journal is in order, and leaves no gap that is not said to be one.
fn taken(bytes: &[u8]) {
    let Found { groups, damage, .. } = Found::of(bytes).behind(0);
    let mut end = 0;
    for group in groups {
        assert!(group.positions.start <= end || !damage.is_empty(), "{damage:?}");
        assert!(group.positions.end > end, "each has something that those before it have not");
        end = group.positions.end;
    }
}
