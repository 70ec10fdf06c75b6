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

/// A value of the index in sled, with a valid checksum; and a key of the listing.
pub fn index_entry(bytes: &[u8]) {
    const KEY: &[u8] = b"s0123456789abcdef";
    round_trips::<StoredStream>(KEY, bytes);
    round_trips::<Vec<FrameDelta>>(KEY, bytes);
    round_trips::<Span>(KEY, bytes);
    round_trips::<Place>(KEY, bytes);
    round_trips::<End>(KEY, bytes);
    let _ = entries::decode::<StoredStream>(KEY, bytes);
    if let Ok(listed) = entries::parse_listed(bytes) {
        let again = entries::listed(false, StreamKind::Execution, listed);
        assert_eq!(again[2..], bytes[2..], "a key of the listing encodes to the bytes it was decoded from");
        assert_eq!(entries::parse_listed(&again), Ok(listed));
    }
}

/// Checks that a decoded value encodes canonically and decodes to the same value.
fn round_trips<Value: Decode<()> + Encode + PartialEq + Debug>(key: &[u8], content: &[u8]) {
    let bytes = entries::checked(key, content);
    let Ok(value) = entries::decode::<Value>(key, &bytes) else { return };
    let again = entries::encode(key, &value);
    assert!(again.is_ok(), "a decoded value can be encoded: {value:?}");
    let again = again.unwrap_or_default();
    assert!(again.len() <= bytes.len(), "the encoding is not longer than the input");
    assert_eq!(entries::decode::<Value>(key, &again).as_ref(), Ok(&value), "the encoding decodes to the same value");
    assert!(entries::decode::<Value>(b"another key", &again).is_err(), "a value is only valid under its key");
}

/// The keys and the values, without checksums, in the index of a closed log.
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
