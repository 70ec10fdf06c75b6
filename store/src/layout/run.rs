//! The index: where in the segments a value stands, and how far the segments are in it.
//!
//! ```text
//! some places:  'R' packing format 0, and for each:
//!               the rest of the key (10 bytes of a frame, 8 of a commit entry) | segment u32 | offset u32 | length u16
//! the end:      'E' packing format 0 | segment u32 | offset u32
//! to be wiped:  'W' packing format 0 | length u16 | the key of the value, whose place is in the key of the entry
//! ```
//! What all keys of an entry begin with is in the key of the entry, and with it the rest of the first one.

use ::bytes::Bytes;

use super::segment::Place;
use super::{expect_header, header, keys};
use crate::bytes::{Cursor, Malformed, Put};

const RUN: u8 = b'R';
const END: u8 = b'E';
const WASTE: u8 = b'W';
const PLACE: usize = 4 + 4 + 2;

/// Some places of values whose keys begin alike, in the order of their keys: an entry of the index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    rest: usize,
    places: &'a [u8],
}

impl<'a> Run<'a> {
    /// Reads an entry for keys that have a rest of so many bytes.
    pub(crate) fn decode(rest: usize, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        expect_header(&mut cursor, RUN)?;
        let places = cursor.all();
        let run = Self { rest, places };
        if places.is_empty() || !places.len().is_multiple_of(rest + PLACE) {
            return Err(Malformed(format!("{} bytes are not some places", places.len())));
        }
        let mut rests = run.iter().map(|(rest, _)| rest);
        let first = rests.next();
        if rests.try_fold(first, |before, rest| (before < Some(rest)).then_some(Some(rest))).is_none() {
            return Err(Malformed::new("its keys are not in order"));
        }
        Ok(run)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() / (self.rest + PLACE)
    }

    /// The rests of the keys and the places, in order.
    pub(crate) fn iter(self) -> impl DoubleEndedIterator<Item = (&'a [u8], Place)> {
        self.places.chunks_exact(self.rest + PLACE).map(move |entry| {
            let (rest, place) = entry.split_at(self.rest);
            (rest, take_place(place))
        })
    }

    /// The place of the value whose key has a rest.
    pub(crate) fn get(&self, rest: &[u8]) -> Option<Place> {
        let width = self.rest + PLACE;
        let (mut from, mut below) = (0, self.len());
        while from < below {
            let middle = usize::midpoint(from, below);
            let (found, place) = self.places[middle * width..(middle + 1) * width].split_at(self.rest);
            match found.cmp(rest) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Greater => below = middle,
                std::cmp::Ordering::Equal => return Some(take_place(place)),
            }
        }
        None
    }
}

/// An entry of the index for places of keys with these rests.
pub(crate) fn encode(places: &[(Vec<u8>, Place)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + places.iter().map(|(rest, _)| rest.len() + PLACE).sum::<usize>());
    bytes.put(&header(RUN));
    for (rest, place) in places {
        bytes.put(rest);
        bytes.put_u32(place.segment);
        bytes.put_u32(place.offset);
        bytes.put_u16(place.length);
    }
    bytes
}

/// Of ten bytes, which [`Run::decode`] has counted.
fn take_place(bytes: &[u8]) -> Place {
    let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Place { segment: number(0), offset: number(4), length: u16::from_be_bytes([bytes[8], bytes[9]]) }
}

/// An entry of the index, key and value, for the value of a key that was replaced and is to be wiped where it stands.
pub(crate) fn encode_waste(key: &[u8], place: Place) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::with_capacity(4 + 2 + key.len());
    bytes.put(&header(WASTE));
    bytes.put_u16(place.length);
    bytes.put(key);
    (keys::waste(place.segment, place.offset), bytes)
}

/// What is to be wiped, by an entry of the index.
pub(crate) fn decode_waste(key: &[u8], bytes: &[u8]) -> Result<(Bytes, Place), Malformed> {
    let (segment, offset) = keys::parse_waste(key)?;
    let mut cursor = Cursor::new(bytes);
    expect_header(&mut cursor, WASTE)?;
    let length = cursor.u16()?;
    Ok((Bytes::copy_from_slice(cursor.all()), Place { segment, offset, length }))
}

/// Up to where the segments are in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct End {
    pub(crate) segment: u32,
    pub(crate) offset: u32,
}

impl End {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12);
        bytes.put(&header(END));
        bytes.put_u32(self.segment);
        bytes.put_u32(self.offset);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        expect_header(&mut cursor, END)?;
        let end = Self { segment: cursor.u32()?, offset: cursor.u32()? };
        cursor.end()?;
        Ok(end)
    }
}

#[cfg(test)]
mod tests {
    // Helpers outside of tests fail by panicking too.
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn place(number: u8) -> Place {
        Place { segment: number.into(), offset: 0x0a0b_0c00 + u32::from(number), length: 0x0d00 + u16::from(number) }
    }

    fn refusal(rest: usize, bytes: &[u8]) -> String {
        Run::decode(rest, bytes).unwrap_err().0
    }

    #[test]
    fn an_entry_of_the_index_of_format_1_has_these_bytes() {
        let bytes = encode(&[(vec![7; 8], place(1)), (vec![8; 8], place(2))]);
        let first = [&"07".repeat(8), "00000001", "0a0b0c01", "0d01"];
        let second = [&"08".repeat(8), "00000002", "0a0b0c02", "0d02"];
        assert_eq!(hex(&bytes), ["52000100".to_owned(), first.concat(), second.concat()].concat());
    }

    #[test]
    fn an_end_of_format_1_has_these_bytes() {
        let end = End { segment: 0x0102_0304, offset: 0x0506_0708 };
        assert_eq!(hex(&end.encode()), "450001000102030405060708");
    }

    #[test]
    fn ends_sort_as_they_are_reached() {
        let [first, second] = [(1, 9), (2, 8)].map(|(segment, offset)| End { segment, offset });
        assert!(End::default() < first && first < second);
    }

    #[test]
    fn what_are_no_places_is_refused() {
        let bytes = encode(&[(vec![7; 8], place(1)), (vec![8; 8], place(2))]);
        assert_eq!(refusal(8, b"R\0\x01"), "4 bytes are needed, 3 are left");
        assert_eq!(refusal(8, b"R\0\x01\0"), "0 bytes are not some places");
        assert_eq!(refusal(8, &bytes[..39]), "35 bytes are not some places");
        assert_eq!(refusal(10, &bytes), "36 bytes are not some places");
        assert_eq!(
            refusal(8, &[b"E", &bytes[1..]].concat()),
            "it begins with [45, 00, 01, 00], expected [52, 00, 01, 00]"
        );
        let newer = [b"R\0\x02", &bytes[3..]].concat();
        assert_eq!(refusal(8, &newer), "it has format 2, this version reads up to 1; upgrade to read it");
    }

    #[test]
    fn places_that_are_not_in_order_are_refused() {
        for (second, third) in [(7, 8), (8, 8), (9, 8), (6, 9)] {
            let bytes = encode(&[(vec![7; 8], place(1)), (vec![second; 8], place(2)), (vec![third; 8], place(3))]);
            assert_eq!(refusal(8, &bytes), "its keys are not in order");
        }
    }

    #[test]
    fn what_is_no_end_is_refused() {
        let bytes = End { segment: 1, offset: 2 }.encode();
        let refusal = |bytes: &[u8]| End::decode(bytes).unwrap_err().0;
        assert_eq!(refusal(b"E\0"), "4 bytes are needed, 2 are left");
        assert_eq!(refusal(&bytes[..7]), "4 bytes are needed, 3 are left");
        assert_eq!(refusal(&bytes[..11]), "4 bytes are needed, 3 are left");
        assert_eq!(refusal(&[&bytes[..], b"x"].concat()), "1 bytes are left over");
        assert_eq!(
            refusal(&[b"R", &bytes[1..]].concat()),
            "it begins with [52, 00, 01, 00], expected [45, 00, 01, 00]"
        );
        let newer = [b"E\0\x02", &bytes[3..]].concat();
        assert_eq!(refusal(&newer), "it has format 2, this version reads up to 1; upgrade to read it");
    }

    fn any_place() -> impl Strategy<Value = Place> {
        any::<(u32, u32, u16)>().prop_map(|(segment, offset, length)| Place { segment, offset, length })
    }

    /// Keys that are close to each other as well as any.
    fn rests(length: usize) -> impl Strategy<Value = BTreeMap<Vec<u8>, Place>> {
        let rest = prop_oneof![
            proptest::collection::vec(any::<u8>(), length),
            (0..40u8).prop_map(move |number| [vec![0; length - 1], vec![number]].concat()),
        ];
        btree_map(rest, any_place(), 1..40)
    }

    proptest! {
        #[test]
        fn places_come_back_as_they_went_in(
            places in prop_oneof![rests(8), rests(10)],
            others in proptest::collection::vec(0..40u8, 0..5),
        ) {
            let length = places.keys().next().unwrap().len();
            let list: Vec<_> = places.clone().into_iter().collect();
            let bytes = encode(&list);
            let run = Run::decode(length, &bytes).unwrap();
            prop_assert_eq!(run.len(), list.len());
            let read: Vec<_> = run.iter().map(|(rest, place)| (rest.to_vec(), place)).collect();
            prop_assert_eq!(&read, &list);
            let last = run.iter().next_back().map(|(rest, place)| (rest.to_vec(), place));
            prop_assert_eq!(last.as_ref(), list.last());
            let others = others.into_iter().map(|number| [vec![0; length - 1], vec![number]].concat());
            for rest in places.keys().cloned().chain(others) {
                prop_assert_eq!(run.get(&rest), places.get(&rest).copied());
            }
        }

        #[test]
        fn an_end_comes_back_as_it_went_in(segment: u32, offset: u32) {
            let end = End { segment, offset };
            prop_assert_eq!(End::decode(&end.encode()), Ok(end));
        }
    }
}
