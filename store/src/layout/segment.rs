//! A segment file: values with their keys, one behind the other, each with a checksum of its own.
//!
//! ```text
//! header:      'S' packing format 0 | number of the segment u32
//! each value:  crc32 u32 | 'v' (a value) or 'w' (wiped: zeros in its place) | key length u8 | value length u16 | key | value
//! ```
//! The checksum is over the number of the segment, the place of the value in it (4 bytes each), and all that stands behind it.
//! So a value that was moved, or that stands in the file of another segment, is not taken for one.

use super::{MAX_VALUE, expect_header, header};
use crate::bytes::{Cursor, Malformed, Put};

const MAGIC: u8 = b'S';
/// How long the header of a segment is.
pub(crate) const HEADER: usize = 8;
/// What stands before a key.
const BEFORE_KEY: usize = 4 + 1 + 1 + 2;
/// The longest that a value and its key can be together.
pub(crate) const LONGEST: usize = BEFORE_KEY + u8::MAX as usize + MAX_VALUE;

const VALUE: u8 = b'v';
const WIPED: u8 = b'w';

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    /// Where what belongs to it begins in the segment.
    pub(crate) offset: u32,
    /// The length of the value alone.
    pub(crate) length: u16,
}

impl Place {
    /// How many bytes a value takes in its segment, with its key.
    pub(crate) fn span(self, key: &[u8]) -> usize {
        BEFORE_KEY + key.len() + usize::from(self.length)
    }
}

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) key: &'a [u8],
    /// `None` where it was wiped.
    pub(crate) value: Option<&'a [u8]>,
    /// The length of the value, also of one that was wiped.
    pub(crate) length: u16,
    /// How many bytes it takes.
    pub(crate) span: usize,
}

/// The header of the segment with a number.
pub(crate) fn encode_header(number: u32) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..4].copy_from_slice(&header(MAGIC));
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Checks the header of the segment with a number.
pub(crate) fn check_header(number: u32, bytes: &[u8]) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(bytes);
    expect_header(&mut cursor, MAGIC)?;
    let found = cursor.u32()?;
    if found == number { Ok(()) } else { Err(Malformed(format!("it is segment {found}"))) }
}

/// Puts a value and its key behind what is in `into`, as they stand at a place in a segment. Neither is too long: a key has
/// some tens of bytes, and no value is longer than [`MAX_VALUE`].
pub(crate) fn put(into: &mut Vec<u8>, segment: u32, offset: u32, key: &[u8], value: &[u8]) {
    put_as(VALUE, into, segment, offset, key, value);
}

/// What stands in the place of a value of some length once it was wiped.
pub(crate) fn wiped(place: Place, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(place.span(key));
    put_as(WIPED, &mut bytes, place.segment, place.offset, key, &vec![0; usize::from(place.length)]);
    bytes
}

fn put_as(kind: u8, into: &mut Vec<u8>, segment: u32, offset: u32, key: &[u8], value: &[u8]) {
    let at = into.len();
    into.reserve(BEFORE_KEY + key.len() + value.len());
    into.put_u32(0);
    into.push(kind);
    into.push(u8::try_from(key.len()).unwrap_or(u8::MAX));
    into.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
    into.put(key);
    into.put(value);
    let checksum = checksum_of(segment, offset, &into[at + 4..]);
    into[at..at + 4].copy_from_slice(&checksum.to_be_bytes());
}

/// Reads what stands at a place in a segment; more may stand behind it.
pub(crate) fn read(segment: u32, offset: u32, bytes: &[u8]) -> Result<Found<'_>, Malformed> {
    let (found, checksum) = peek(bytes)?;
    if checksum != checksum_of(segment, offset, &bytes[4..found.span]) {
        return Err(Malformed::new("its checksum does not fit its content"));
    }
    Ok(found)
}

/// The same, without a look at the checksum, which is returned: for what has hashes of its own.
pub(crate) fn peek(bytes: &[u8]) -> Result<(Found<'_>, u32), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let checksum = cursor.u32()?;
    let [kind, key] = cursor.array()?;
    let length = cursor.u16()?;
    if usize::from(length) > MAX_VALUE {
        return Err(Malformed(format!("{length} bytes are longer than {MAX_VALUE}")));
    }
    if kind != VALUE && kind != WIPED {
        return Err(Malformed::new("there is no value"));
    }
    let key = cursor.take(usize::from(key))?;
    let value = cursor.take(usize::from(length))?;
    let span = BEFORE_KEY + key.len() + value.len();
    Ok((Found { key, value: (kind == VALUE).then_some(value), length, span }, checksum))
}

fn checksum_of(segment: u32, offset: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let place = (u64::from(segment) << 32) | u64::from(offset);
    hasher.update(&place.to_be_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    // Helpers outside of tests fail by panicking too.
    #![allow(clippy::unwrap_used)]

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn encoded(segment: u32, offset: u32, key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, segment, offset, key, value);
        bytes
    }

    /// With the checksum that fits.
    fn resealed(segment: u32, offset: u32, mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = checksum_of(segment, offset, &bytes[4..]);
        bytes[..4].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        read(2, 8, bytes).unwrap_err().0
    }

    #[test]
    fn a_segment_of_format_1_has_these_bytes() {
        assert_eq!(hex(&encode_header(0x0102_0304)), "5300010001020304");
        let expected = ["1dc82173", "76", "03", "0002", "6b6579", "6162"];
        assert_eq!(hex(&encoded(2, 8, b"key", b"ab")), expected.concat());
        let place = Place { segment: 2, offset: 8, length: 2 };
        let expected = ["d5e96fa2", "77", "03", "0002", "6b6579", "0000"];
        assert_eq!(hex(&wiped(place, b"key")), expected.concat());
    }

    #[test]
    fn a_header_is_that_of_its_segment_alone() {
        assert_eq!(check_header(7, &encode_header(7)), Ok(()));
        let refusal = |bytes: &[u8]| check_header(8, bytes).unwrap_err().0;
        assert_eq!(refusal(&encode_header(7)), "it is segment 7");
        assert_eq!(refusal(b""), "4 bytes are needed, 0 are left");
        assert_eq!(refusal(&encode_header(8)[..7]), "4 bytes are needed, 3 are left");
        assert_eq!(refusal(b"R\0\x01\0\0\0\0\x08"), "it begins with [52, 00, 01, 00], expected [53, 00, 01, 00]");
        assert_eq!(refusal(b"S\0\x02\0\0\0\0\x08"), "it has format 2, this version reads up to 1; upgrade to read it");
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let bytes = encoded(2, 8, b"key", b"ab");
        assert_eq!(refusal(&bytes[..3]), "4 bytes are needed, 3 are left");
        assert_eq!(refusal(&bytes[..5]), "2 bytes are needed, 1 are left");
        assert_eq!(refusal(&bytes[..7]), "2 bytes are needed, 1 are left");
        assert_eq!(refusal(&bytes[..10]), "3 bytes are needed, 2 are left");
        assert_eq!(refusal(&bytes[..12]), "2 bytes are needed, 1 are left");
        let mut other = bytes.clone();
        other[4] = b'x';
        assert_eq!(refusal(&resealed(2, 8, other)), "there is no value");
        let mut other = bytes;
        other[12] ^= 1;
        assert_eq!(refusal(&other), "its checksum does not fit its content");
    }

    /// No value is longer than what sled keeps safe, whatever a length says.
    #[test]
    fn a_value_that_is_too_long_is_refused() {
        let longest = encoded(2, 8, &[7; 255], &[1; MAX_VALUE]);
        assert_eq!(longest.len(), LONGEST);
        assert_eq!(read(2, 8, &longest).unwrap().span, LONGEST);
        let longer = encoded(2, 8, b"key", &[1; MAX_VALUE + 1]);
        assert_eq!(refusal(&longer), "4097 bytes are longer than 4096");
    }

    #[test]
    fn a_value_is_one_at_its_place_alone() {
        let bytes = encoded(2, 8, b"key", b"ab");
        assert!(read(2, 8, &bytes).is_ok());
        for (segment, offset) in [(3, 8), (2, 9), (8, 2), (0, 0)] {
            assert_eq!(read(segment, offset, &bytes).unwrap_err().0, "its checksum does not fit its content");
        }
    }

    proptest! {
        #[test]
        fn a_value_comes_back_as_it_went_in(
            segment: u32,
            offset: u32,
            key in vec(any::<u8>(), 0..256),
            value in vec(any::<u8>(), 0..5_000),
            behind in vec(any::<u8>(), 0..20),
        ) {
            let value = &value[..value.len().min(MAX_VALUE)];
            let place = Place { segment, offset, length: u16::try_from(value.len()).unwrap() };
            let mut bytes = b"before".to_vec();
            put(&mut bytes, segment, offset, &key, value);
            prop_assert_eq!(bytes.len(), 6 + place.span(&key));
            bytes.extend(&behind);
            let found = Found { key: &key, value: Some(value), length: place.length, span: place.span(&key) };
            prop_assert_eq!(read(segment, offset, &bytes[6..]), Ok(found));
            let bytes = wiped(place, &key);
            prop_assert_eq!(read(segment, offset, &bytes), Ok(Found { value: None, ..found }));
            prop_assert!(bytes[8 + key.len()..].iter().all(|byte| *byte == 0));
        }

        #[test]
        fn a_changed_byte_is_never_read(
            value in vec(any::<u8>(), 0..100),
            wipe: bool,
            place_of: prop::sample::Index,
            change in 1..=255u8,
        ) {
            let place = Place { segment: 2, offset: 8, length: u16::try_from(value.len()).unwrap() };
            let mut bytes = if wipe { wiped(place, b"key") } else { encoded(2, 8, b"key", &value) };
            let index = place_of.index(bytes.len());
            bytes[index] ^= change;
            prop_assert!(read(2, 8, &bytes).is_err());
        }
    }
}
