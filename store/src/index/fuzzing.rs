//! See [`crate::fuzzing`].

use std::fmt::Debug;
use std::io;
use std::path::Path;

use bincode::{Decode, Encode};

use super::entries::{self, End};
use super::state::{FrameDelta, StoredStream};
use crate::layout::segment::Place;
use crate::record::StreamKind;
use crate::segments::Span;

/// A value of the index in sled, with the checksum that fits it; and a key of the listing.
pub fn index_entry(bytes: &[u8]) {
    const KEY: &[u8] = b"s0123456789abcdef";
    stays::<StoredStream>(KEY, bytes);
    stays::<Vec<FrameDelta>>(KEY, bytes);
    stays::<Span>(KEY, bytes);
    stays::<Place>(KEY, bytes);
    stays::<End>(KEY, bytes);
    let _ = entries::decode::<StoredStream>(KEY, bytes);
    if let Ok(listed) = entries::parse_listed(bytes) {
        let again = entries::listed(false, StreamKind::Execution, listed);
        assert_eq!(again[2..], bytes[2..], "a key of the listing is written as it was read");
        assert_eq!(entries::parse_listed(&again), Ok(listed));
    }
}

/// What is read is written in the one way that there is, and reads as the same.
fn stays<Value: Decode<()> + Encode + PartialEq + Debug>(key: &[u8], content: &[u8]) {
    let bytes = entries::checked(key, content);
    let Ok(value) = entries::decode::<Value>(key, &bytes) else { return };
    let again = entries::encode(key, &value);
    assert!(again.is_ok(), "what was read can be written: {value:?}");
    let again = again.unwrap_or_default();
    assert!(again.len() <= bytes.len(), "nothing is written longer than it was read");
    assert_eq!(entries::decode::<Value>(key, &again).as_ref(), Ok(&value), "it reads again as it was read");
    assert!(entries::decode::<Value>(b"another key", &again).is_err(), "a value is one of its key");
}

/// What the index of a closed log has: the contents of its values, without their checksums, and its keys.
///
/// # Errors
/// Of sled.
pub fn index_entries(log: &Path) -> io::Result<Vec<Vec<u8>>> {
    let database = ::sled::Config::new().path(log.join(super::store::DIRECTORY)).open()?;
    let mut entries = Vec::new();
    for entry in database.iter() {
        let (key, value) = entry?;
        entries.extend([key.to_vec(), value.get(4..).unwrap_or_default().to_vec()]);
    }
    Ok(entries)
}
