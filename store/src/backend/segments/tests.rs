// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;

use super::*;
use crate::layout::MAX_VALUE;
use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;

type Placed = Vec<(Bytes, Place)>;

/// What [`each_value`] gave: places, keys and values.
type Given = Vec<(Place, Vec<u8>, Option<Vec<u8>>)>;

/// The segments of a log, with values in them.
struct Ground {
    directory: TempDir,
    appender: Appender,
    placed: Placed,
    values: Vec<Vec<u8>>,
}

impl Ground {
    fn new(longest: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let appender = Appender::open_with(directory.path(), End::default(), longest).unwrap();
        Self { directory, appender, placed: Placed::new(), values: Vec::new() }
    }

    fn with(values: &[Vec<u8>]) -> Self {
        let mut ground = Self::new(LONGEST);
        ground.append(values);
        ground
    }

    fn append(&mut self, values: &[Vec<u8>]) {
        for value in values {
            let key = Bytes::from(format!("key {}", self.values.len()));
            self.placed.push((key.clone(), self.appender.append(&key, value).unwrap()));
            self.values.push(value.clone());
        }
        self.appender.sync().unwrap();
    }

    /// The segments as somebody finds them who opens them now.
    fn segments(&self) -> Segments {
        Segments::of(self.directory.path())
    }

    fn read(&self, number: usize) -> Result<Bytes, Unread> {
        let (key, place) = &self.placed[number];
        self.segments().read(key, *place)
    }

    fn path(&self, segment: u32) -> PathBuf {
        path_of(&self.directory.path().join(DIRECTORY), segment)
    }

    fn bytes(&self, segment: u32) -> Vec<u8> {
        fs::read(self.path(segment)).unwrap()
    }

    fn write(&self, segment: u32, offset: u64, bytes: &[u8]) {
        let file = OpenOptions::new().write(true).open(self.path(segment)).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    fn change(&self, segment: u32, offset: usize, change: u8) {
        self.write(segment, offset as u64, &[self.bytes(segment)[offset] ^ change]);
    }

    /// Where a value begins in its segment, and where it ends.
    fn span(&self, number: usize) -> std::ops::Range<usize> {
        let (key, place) = &self.placed[number];
        let from = place.offset as usize;
        from..from + place.span(key)
    }

    fn given(&self, from: End, to: End) -> Given {
        let mut given = Given::new();
        each_value(self.directory.path(), from, to, |place, key, value| {
            given.push((place, key.to_vec(), value.map(<[u8]>::to_vec)));
        })
        .unwrap();
        given
    }

    fn all_given(&self) -> Given {
        self.given(End::default(), end(self.directory.path()).unwrap())
    }

    /// What is to be given of these values.
    fn expected(&self, numbers: impl IntoIterator<Item = usize>) -> Given {
        let of = |number: usize| {
            let (key, place) = &self.placed[number];
            (*place, key.to_vec(), Some(self.values[number].clone()))
        };
        numbers.into_iter().map(of).collect()
    }
}

fn damaged(what: &str) -> Unread {
    Unread::Damaged(what.to_owned())
}

fn has(bytes: &[u8], body: &[u8]) -> bool {
    bytes.windows(body.len()).any(|part| part == body)
}

fn values() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let value = prop_oneof![
        4 => vec(any::<u8>(), 0..60),
        1 => (any::<u8>(), 0..=MAX_VALUE).prop_map(|(byte, length)| vec![byte; length]),
    ];
    vec(value, 1..20)
}

proptest! {
    // Each of them waits for a disk.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_was_appended_is_read(values in values(), longest in 8..3_000u32) {
        let mut ground = Ground::new(longest);
        ground.append(&values);
        for (number, value) in values.iter().enumerate() {
            prop_assert_eq!(ground.read(number), Ok(Bytes::from(value.clone())));
        }
        let places: Vec<_> = ground.placed.iter().map(|(_, place)| *place).collect();
        prop_assert!(places.is_sorted_by(|before, after| before < after), "{places:?}");
        prop_assert_eq!(end(ground.directory.path()).unwrap(), ground.appender.end());
        prop_assert_eq!(ground.all_given(), ground.expected(0..values.len()));
    }

    #[test]
    fn a_changed_byte_is_found_and_nothing_else_is_hurt(
        values in values(),
        number: prop::sample::Index,
        at: prop::sample::Index,
        change in 1..=255u8,
    ) {
        let ground = Ground::with(&values);
        let hurt = number.index(values.len());
        let span = ground.span(hurt);
        ground.change(1, span.start + at.index(span.len()), change);
        let found = ground.read(hurt).unwrap_err();
        let begins = format!("segment 1 at byte {}: ", span.start);
        prop_assert!(matches!(&found, Unread::Damaged(what) if what.starts_with(&begins)), "{found:?}");
        let whole: Vec<usize> = (0..values.len()).filter(|number| *number != hurt).collect();
        for number in &whole {
            prop_assert_eq!(ground.read(*number), Ok(Bytes::from(values[*number].clone())));
        }
        prop_assert_eq!(ground.all_given(), ground.expected(whole));
    }

    #[test]
    fn a_range_of_zeros_is_passed_over(
        values in values(),
        from: prop::sample::Index,
        length in 1..9_000usize,
    ) {
        let ground = Ground::with(&values);
        let all = ground.bytes(1).len();
        let from = HEADER + from.index(all - HEADER);
        let below = (from + length).min(all);
        let before = ground.bytes(1);
        ground.write(1, from as u64, &vec![0; below - from]);
        let after = ground.bytes(1);
        // Zeros over zeros hurt nothing.
        let whole = (0..values.len()).filter(|number| before[ground.span(*number)] == after[ground.span(*number)]);
        prop_assert_eq!(ground.all_given(), ground.expected(whole));
    }

    #[test]
    fn some_are_read_as_one_by_one(
        values in values(),
        longest in 8..30_000u32,
        wanted in vec(any::<prop::sample::Index>(), 0..30),
        in_order: bool,
        damage in vec((any::<prop::sample::Index>(), 1..=255u8), 0..4),
        wiped in proptest::option::of(any::<prop::sample::Index>()),
        cut in proptest::option::weighted(0.3, any::<prop::sample::Index>()),
    ) {
        let mut ground = Ground::new(longest);
        ground.append(&values);
        let last = ground.appender.end().segment;
        if let Some(wiped) = wiped {
            ground.appender.wipe(&ground.placed[wiped.index(values.len())..][..1]).unwrap();
        }
        for (at, change) in damage {
            let hurt = at.index(values.len());
            let span = ground.span(hurt);
            ground.change(ground.placed[hurt].1.segment, span.start + at.index(span.len()), change);
        }
        if let Some(cut) = cut {
            let length = HEADER + cut.index(ground.bytes(last).len() - HEADER);
            OpenOptions::new().write(true).open(ground.path(last)).unwrap().set_len(length as u64).unwrap();
        }
        let mut wanted: Vec<usize> = wanted.iter().map(|index| index.index(values.len())).collect();
        if in_order {
            wanted.sort_unstable();
        }
        let places: Placed = wanted.iter().map(|number| ground.placed[*number].clone()).collect();
        let one_by_one: Vec<_> = wanted.iter().map(|number| ground.read(*number)).collect();
        prop_assert_eq!(ground.segments().read_some(&places), one_by_one);
    }
}

#[test]
fn neighbours_that_are_more_than_is_read_at_once_are_all_read() {
    let values: Vec<Vec<u8>> = (0..200u8).map(|number| vec![number; MAX_VALUE]).collect();
    let ground = Ground::with(&values);
    let read: Vec<_> = ground.segments().read_some(&ground.placed).into_iter().map(Result::unwrap).collect();
    assert_eq!(read, values);
    let backwards: Placed = ground.placed.iter().rev().cloned().collect();
    let read: Vec<_> = ground.segments().read_some(&backwards).into_iter().rev().map(Result::unwrap).collect();
    assert_eq!(read, values);
}

#[test]
fn values_stand_one_behind_the_other() {
    let ground = Ground::with(&[b"first".to_vec(), Vec::new(), b"third".to_vec()]);
    let places: Vec<_> = ground.placed.iter().map(|(_, place)| *place).collect();
    let place = |offset, length| Place { segment: 1, offset, length };
    assert_eq!(places, [place(8, 5), place(8 + 18, 0), place(8 + 18 + 13, 5)]);
    assert_eq!(ground.appender.end(), End { segment: 1, offset: 8 + 18 + 13 + 18 });
    assert_eq!(&ground.bytes(1)[..HEADER], segment::encode_header(1));
}

#[test]
fn what_is_appended_later_goes_behind_what_is_there() {
    let mut ground = Ground::with(&[b"before".to_vec()]);
    let indexed = ground.appender.end();
    ground.appender = Appender::open(ground.directory.path(), indexed).unwrap();
    assert_eq!(ground.appender.end(), indexed);
    ground.append(&[b"after".to_vec()]);
    assert_eq!(ground.placed[1].1, Place { segment: 1, offset: indexed.offset, length: 5 });
    assert_eq!((ground.read(0).unwrap(), ground.read(1).unwrap()), (Bytes::from("before"), Bytes::from("after")));
}

/// What the index knows nothing of was on its way when something stopped it: it stays, and nothing is written over it.
#[test]
fn what_is_not_in_the_index_is_not_written_over() {
    let mut ground = Ground::with(&[b"indexed".to_vec()]);
    let indexed = ground.appender.end();
    ground.append(&[b"on its way".to_vec()]);
    ground.write(1, ground.appender.end().offset.into(), b"torn");
    ground.appender = Appender::open(ground.directory.path(), indexed).unwrap();
    ground.append(&[b"after".to_vec()]);
    assert_eq!(ground.all_given(), ground.expected(0..3));
    assert_eq!(ground.placed[2].1.offset as usize, ground.span(1).end + 4);
    // The same where the index knows of no segment at all.
    let behind = ground.appender.end();
    ground.appender = Appender::open(ground.directory.path(), End::default()).unwrap();
    assert_eq!(ground.appender.end(), behind);
}

#[test]
fn a_segment_begins_where_the_last_one_is_full() {
    let mut ground = Ground::new(40);
    ground.append(&[vec![1; 10], vec![2; 10], vec![3; 10]]);
    let places: Vec<_> = ground.placed.iter().map(|(_, place)| (place.segment, place.offset)).collect();
    assert_eq!(places, [(1, 8), (1, 31), (2, 8)], "what makes one full still goes into it");
    assert_eq!(&ground.bytes(2)[..HEADER], segment::encode_header(2));
    assert_eq!(files(ground.directory.path()).unwrap(), [ground.path(1), ground.path(2)]);
    ground.append(&[vec![4; 10]]);
    // The second is full as well when it is opened again.
    ground.appender = Appender::open_with(ground.directory.path(), ground.appender.end(), 40).unwrap();
    assert_eq!(ground.appender.end(), End { segment: 3, offset: 8 });
    ground.append(&[vec![5; 10]]);
    assert_eq!(ground.all_given(), ground.expected(0..5));
}

#[test]
fn a_segment_that_was_being_made_is_made_again() {
    let mut ground = Ground::new(40);
    ground.append(&[vec![1; 100]]);
    for torn in [&b""[..], b"S\0", b"\0\0\0\0\0\0\0\0"] {
        fs::write(ground.path(2), torn).unwrap();
        let appender = Appender::open_with(ground.directory.path(), ground.appender.end(), 40).unwrap();
        assert_eq!(appender.end(), End { segment: 2, offset: 8 });
        assert_eq!(ground.bytes(2), segment::encode_header(2));
    }
}

#[test]
fn a_file_that_is_called_otherwise_is_no_segment() {
    let ground = Ground::with(&[b"value".to_vec()]);
    for name in ["2", "00000000002", "+000000002", "0000000002.old", "9999999999"] {
        fs::write(ground.directory.path().join(DIRECTORY).join(name), b"no segment").unwrap();
    }
    assert_eq!(files(ground.directory.path()).unwrap(), [ground.path(1)]);
    assert_eq!(ground.all_given(), ground.expected([0]));
}

#[test]
fn a_log_without_segments_has_none() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(end(directory.path()).unwrap(), End::default());
    assert_eq!(files(directory.path()).unwrap(), Vec::<PathBuf>::new());
    assert_eq!(Segments::of(directory.path()).check_end(End::default()), Ok(()));
    assert!(Segments::of(directory.path()).open_all().is_ok());
    each_value(directory.path(), End::default(), End { segment: 9, offset: 9 }, |_, _, _| panic!("there is none"))
        .unwrap();
}

#[test]
fn a_segment_of_a_newer_version_is_refused_by_its_format() {
    let ground = Ground::with(&[b"value".to_vec()]);
    ground.write(1, 2, &[2]);
    let refused = damaged("segment 1: it has format 2, this version reads up to 1; upgrade to read it");
    assert_eq!(ground.read(0), Err(refused.clone()));
    assert_eq!(ground.segments().read_some(&ground.placed), [Err(refused.clone())]);
    assert_eq!(ground.segments().check_end(ground.appender.end()), Err(refused));
}

#[test]
fn a_segment_that_is_missing_or_too_short_is_named() {
    let mut ground = Ground::new(40);
    ground.append(&[vec![1; 50], vec![2; 50], vec![3; 50]]);
    let end = ground.appender.end();
    assert_eq!(ground.segments().check_end(end), Ok(()));
    let shorten = |length| OpenOptions::new().write(true).open(ground.path(3)).unwrap().set_len(length).unwrap();
    shorten(u64::from(end.offset) - 1);
    assert_eq!(ground.segments().check_end(end), Err(damaged("segment 3 has 70 bytes, and should have 71")));
    assert_eq!(ground.read(2), Err(damaged("segment 3 ends before byte 71")));
    shorten(5);
    assert_eq!(ground.read(2), Err(damaged("segment 3: 4 bytes are needed, 1 are left")));
    fs::remove_file(ground.path(2)).unwrap();
    assert_eq!(ground.read(1), Err(damaged("segment 2 (the file segments/0000000002) is missing")));
    assert_eq!(ground.read(0).unwrap(), [1; 50][..], "the others are read");
    fs::rename(ground.path(1), ground.path(2)).unwrap();
    assert_eq!(ground.read(1), Err(damaged("segment 2: it is segment 1")));
    // What is damaged does not keep anybody from opening the rest.
    assert!(ground.segments().open_all().is_ok());
}

#[test]
fn segments_may_go_further_than_the_index_says() {
    let ground = Ground::with(&[b"value".to_vec(), b"on its way".to_vec()]);
    let end = ground.appender.end();
    for (offset, fits) in [(8, true), (end.offset, true), (end.offset + 1, false)] {
        assert_eq!(ground.segments().check_end(End { segment: 1, offset }).is_ok(), fits);
    }
    assert_eq!(
        ground.segments().check_end(End { segment: 2, offset: 8 }),
        Err(damaged("segment 2 (the file segments/0000000002) is missing"))
    );
}

/// Somebody who has opened them reads them whatever becomes of their names.
#[test]
fn what_was_opened_is_read_after_it_was_removed() {
    let mut ground = Ground::new(40);
    ground.append(&[vec![1; 50], vec![2; 50]]);
    let segments = ground.segments();
    segments.open_all().unwrap();
    fs::remove_dir_all(ground.directory.path().join(DIRECTORY)).unwrap();
    for ((key, place), value) in ground.placed.iter().zip(&ground.values) {
        assert_eq!(segments.read(key, *place), Ok(Bytes::from(value.clone())));
    }
}

#[test]
fn a_value_that_was_moved_is_none() {
    let mut ground = Ground::new(40);
    ground.append(&[vec![1; 50], vec![2; 50]]);
    let span = ground.span(0);
    let value = ground.bytes(1)[span].to_vec();
    // Both have the same length, and begin at the same byte of their segments.
    ground.write(2, ground.placed[1].1.offset.into(), &value);
    let elsewhere = ground.bytes(1).len();
    ground.write(1, elsewhere as u64, &value);
    let key = &ground.placed[0].0;
    for (segment, offset) in [(2, 8), (1, u32::try_from(elsewhere).unwrap())] {
        let why = format!("segment {segment} at byte {offset}: its checksum does not fit its content");
        assert_eq!(ground.segments().read(key, Place { segment, offset, length: 50 }), Err(damaged(&why)));
    }
    assert_eq!(ground.all_given(), ground.expected([0]));
}

#[test]
fn what_stands_at_a_place_belongs_to_its_key_alone() {
    let ground = Ground::with(&[b"value".to_vec()]);
    let place = ground.placed[0].1;
    let other = damaged("segment 1 at byte 8: something else is there");
    assert_eq!(ground.segments().read(b"key 1", place), Err(other.clone()));
    assert_eq!(
        ground.segments().read(b"key", place),
        Err(damaged("segment 1 at byte 8: 5 bytes are needed, 3 are left"))
    );
    assert!(ground.segments().read(b"key 0", Place { length: 4, ..place }).is_err());
    let longer = Ground::with(&[b"value".to_vec(), b"behind".to_vec()]);
    assert_eq!(longer.segments().read(b"key 0", Place { length: 6, ..place }), Err(other));
}

#[test]
fn a_value_that_was_wiped_is_not_read_and_not_in_the_file() {
    let mut ground = Ground::new(200);
    ground.append(&[vec![b'b'; 100], b"the secret body".to_vec(), vec![b'a'; 100], b"another secret".to_vec()]);
    let before = (ground.bytes(1), ground.bytes(2));
    assert!(has(&before.0, b"the secret body") && has(&before.1, b"another secret"));
    let secrets = [ground.placed[1].clone(), ground.placed[3].clone()];
    ground.appender.wipe(&secrets).unwrap();
    let after = (ground.bytes(1), ground.bytes(2));
    assert!(!has(&after.0, b"secret") && !has(&after.1, b"secret"));
    assert_eq!((after.0.len(), after.1.len()), (before.0.len(), before.1.len()));
    assert!(has(&after.0, &[b"key 1", &[0; 15][..]].concat()), "its key is still there, and zeros behind it");
    for (number, is_whole) in [(0, true), (1, false), (2, true), (3, false)] {
        assert_eq!(
            ground.read(number),
            if is_whole { Ok(ground.values[number].clone().into()) } else { Err(Unread::Wiped) }
        );
    }
    let given: Vec<_> = ground.all_given().into_iter().map(|(_, key, value)| (key, value.is_some())).collect();
    let keys = ["key 0", "key 1", "key 2", "key 3"].map(|key| key.as_bytes().to_vec());
    assert_eq!(given, keys.into_iter().zip([true, false, true, false]).collect::<Vec<_>>());
    // What is appended next goes where it would have gone.
    ground.append(&[b"next".to_vec()]);
    assert_eq!(ground.read(4), Ok(Bytes::from("next")));
}

#[test]
fn only_what_stands_between_two_places_is_given() {
    let mut ground = Ground::new(60);
    ground.append(&(0..9u8).map(|number| vec![number; 20]).collect::<Vec<_>>());
    let places: Vec<End> =
        ground.placed.iter().map(|(_, place)| End { segment: place.segment, offset: place.offset }).collect();
    assert_eq!(places[8].segment, 5, "two are in each");
    for (from, first) in places.iter().enumerate() {
        for (below, last) in places.iter().enumerate() {
            assert_eq!(ground.given(*first, *last), ground.expected(from..below), "from {first:?} to {last:?}");
        }
    }
    assert_eq!(ground.given(places[7], ground.appender.end()), ground.expected(7..9));
}

/// More than two windows of values, so that some lie across the end of each; and damage in the middle of it.
#[test]
fn values_across_windows_are_given_once() {
    let values: Vec<Vec<u8>> =
        (0..2_300u32).map(|number| number.to_be_bytes().repeat(1_000 - number as usize % 7)).collect();
    let ground = Ground::with(&values);
    assert!(ground.bytes(1).len() > 8 * 1024 * 1024 + segment::LONGEST);
    assert_eq!(ground.all_given(), ground.expected(0..values.len()));
    // One that lies across the end of a window, and all of the bytes around the end of the next one.
    let mut hurt = Vec::new();
    for at in [4 * 1024 * 1024, 8 * 1024 * 1024 - 300] {
        ground.write(1, at, &[0xee; 700]);
        let damage = at as usize..at as usize + 700;
        hurt.extend((0..values.len()).filter(|number| {
            let span = ground.span(*number);
            span.start < damage.end && damage.start < span.end
        }));
    }
    let whole = (0..values.len()).filter(|number| !hurt.contains(number));
    assert!((2..=4).contains(&hurt.len()), "{hurt:?}");
    assert!(ground.all_given() == ground.expected(whole), "all others are given, and none twice");
}

/// It is what somebody would write who knows where it will stand.
#[test]
fn content_that_looks_like_a_value_is_none() {
    let mut ground = Ground::new(LONGEST);
    let mut inner = Vec::new();
    // Behind the header of the segment, what stands before a key, and the key.
    segment::put(&mut inner, 1, 8 + 8 + 5, b"inner", b"forged");
    ground.append(&[inner.clone(), b"behind".to_vec()]);
    let offset = ground.placed[0].1.offset + 8 + 5;
    assert_eq!(&ground.bytes(1)[offset as usize..][..inner.len()], inner);
    assert!(segment::read(1, offset, &inner).is_ok(), "it would be one");
    assert_eq!(ground.all_given(), ground.expected([0, 1]));
    // What was copied from elsewhere is none even where what is around it is damaged.
    let mut ground = Ground::with(&[b"original".to_vec()]);
    let copy = ground.bytes(1)[ground.span(0)].to_vec();
    ground.append(&[copy, b"behind".to_vec()]);
    ground.change(1, ground.span(1).start, 1);
    assert_eq!(ground.all_given(), ground.expected([0, 2]));
}

/// What is written at once is more than waits for it: what is read meanwhile is what was synced.
#[test]
fn much_is_written_before_anybody_waits_for_it() {
    let mut ground = Ground::new(LONGEST);
    let value = vec![7; MAX_VALUE];
    for _ in 0..300 {
        let place = ground.appender.append(b"key", &value).unwrap();
        ground.placed.push((Bytes::from("key"), place));
    }
    let length = ground.bytes(1).len();
    assert!(length > WRITTEN_AT_ONCE && length < ground.appender.end().offset as usize, "{length}");
    assert!(ground.appender.append(b"key", &vec![7; 1 << 16]).is_err(), "this does not fit its length");
    ground.appender.sync().unwrap();
    assert_eq!(ground.bytes(1).len(), ground.appender.end().offset as usize);
    assert!(
        ground.segments().read_some(&ground.placed).iter().all(|read| read.as_ref().is_ok_and(|read| *read == value))
    );
}
