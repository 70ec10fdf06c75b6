//! What the fuzzer asks of the segments, and of the index that leads into them.

use super::search::each_in;
use crate::layout::MAX_VALUE;
use crate::layout::run::{self, End, Run};
use crate::layout::segment::{self, Place};

/// Where the bytes are said to stand.
const SEGMENT: u32 = 7;
const START: u32 = 8;

/// An entry of the index, where it ends, and what stands in a segment: as it is, and with all checksums made to fit.
pub fn segment(bytes: &[u8]) {
    for rest in [8, 10] {
        places(rest, bytes);
    }
    if let Ok(end) = End::decode(bytes) {
        assert_eq!(end.encode(), bytes, "an end is written as it was read");
    }
    value(bytes);
    window(bytes);
    let fitting = fitting(bytes);
    value(&fitting);
    window(&fitting);
}

fn places(rest: usize, bytes: &[u8]) {
    let Ok(run) = Run::decode(rest, bytes) else { return };
    let places: Vec<_> = run.iter().map(|(rest, place)| (rest.to_vec(), place)).collect();
    assert_eq!(places.len(), run.len());
    assert_eq!(run::encode(&places), bytes, "an entry of the index is written as it was read");
    for (rest, place) in &places {
        assert_eq!(run.get(rest), Some(*place), "what is in an entry is found in it");
    }
}

fn value(bytes: &[u8]) {
    let Ok(found) = segment::read(SEGMENT, START, bytes) else { return };
    let place = Place { segment: SEGMENT, offset: START, length: found.length };
    assert_eq!(place.span(found.key), found.span);
    // One that was wiped has zeros, whatever is said to have been wiped.
    if let Some(value) = found.value {
        let mut again = Vec::new();
        segment::put(&mut again, SEGMENT, START, found.key, value);
        assert_eq!(again, bytes[..found.span], "a value is written as it was read");
    }
    let wiped = segment::wiped(place, found.key);
    let again = segment::read(SEGMENT, START, &wiped);
    assert_eq!(again, Ok(segment::Found { value: None, ..found }), "what is wiped keeps its key and its length");
}

fn window(bytes: &[u8]) {
    for searched in [bytes.len(), bytes.len() / 2] {
        let mut end = 0;
        let mut last = None;
        let mut each = |place: Place, key: &[u8], value: Option<&[u8]>| {
            let at = crate::bytes::usize_of(place.offset - START);
            assert!(at >= end && at < searched, "each begins behind the one before it, and where it was searched");
            end = at + place.span(key);
            assert!(end <= bytes.len(), "each ends in the window");
            let again = segment::read(SEGMENT, place.offset, &bytes[at..]).map(|found| (found.key, found.value));
            assert_eq!(again, Ok((key, value)), "what is given reads again at its place");
            last = Some(end);
        };
        let next = each_in(SEGMENT, START.into(), bytes, searched, &mut each);
        assert!(next >= searched && last.is_none_or(|last| next >= last), "the next one begins behind all of them");
    }
}

/// With the checksum that fits wherever a value seems to begin, from the front on.
fn fitting(bytes: &[u8]) -> Vec<u8> {
    let mut fitting = bytes.to_vec();
    let (mut at, mut offset) = (0, START);
    while at < fitting.len() {
        let span = reseal(offset, &mut fitting[at..]).unwrap_or(1);
        at += span;
        offset = offset.saturating_add(u32::try_from(span).unwrap_or(u32::MAX));
    }
    fitting
}

/// Makes the checksum of what stands at a place fit, if it seems to be a value, and says how long that is.
fn reseal(offset: u32, bytes: &mut [u8]) -> Option<usize> {
    let &[_, _, _, _, kind, key, high, low, ..] = &*bytes else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let span = 8 + usize::from(key) + length;
    if !b"vw".contains(&kind) || length > MAX_VALUE {
        return None;
    }
    let content = bytes.get(4..span)?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&SEGMENT.to_be_bytes());
    hasher.update(&offset.to_be_bytes());
    hasher.update(content);
    let checksum = hasher.finalize();
    bytes[..4].copy_from_slice(&checksum.to_be_bytes());
    Some(span)
}
