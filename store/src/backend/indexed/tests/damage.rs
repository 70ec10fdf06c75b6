//! What is said of an index that leads to damage, and of one that is damaged itself.

use super::*;

/// Where the value of a key stands.
fn place(ground: &Ground, key: &[u8]) -> Place {
    let Kept::Placed { shared } = Kept::of(key) else { panic!("it is kept in the database") };
    ground.indexed.place(key, shared).unwrap().unwrap()
}

fn why<T: std::fmt::Debug>(result: Result<T, BackendError>) -> String {
    match result {
        Err(BackendError::Damaged(what)) => what,
        other => panic!("{other:?} is no damage"),
    }
}

#[test]
fn a_place_that_leads_to_damage_names_it() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..5), (0..5).map(|position| put(keys::group(position), b"entry")).collect()]);
    for (key, range) in [(frame(1, 2), keys::frames(stream(1), 0, None)), (keys::group(3), keys::groups(0, None))] {
        let at = place(&ground, &key).offset;
        // The last byte of its key.
        ground.hurt(u64::from(at) + 8 + key.len() as u64 - 1);
        let expected = format!("reading a log: segment 1 at byte {at}: its checksum does not fit its content");
        assert_eq!(why(ground.indexed.get(&key)), expected);
        for direction in [Direction::Up, Direction::Down] {
            assert_eq!(why(ground.indexed.scan(&range, usize::MAX, direction)), expected);
            let keys = ground.indexed.keys(&range, usize::MAX, direction).unwrap();
            let expected: Vec<_> = scanned(&ground.model, &range, usize::MAX, direction);
            assert_eq!(keys, expected.into_iter().map(|(key, _)| key).collect::<Vec<_>>());
        }
        // What lies before it is read.
        ground.check(&range, 2, Direction::Up);
        // What is put in its place is read again.
        ground.bring(&[vec![put(key, b"mended")]]);
        ground.check(&range, usize::MAX, Direction::Up);
    }
    ground.check_all();
}

#[test]
fn a_segment_that_is_missing_or_too_short_is_named() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..5)]);
    let end = segments::end(ground.directory.path()).unwrap().offset;
    let path = segments::files(ground.directory.path()).unwrap().remove(0);
    OpenOptions::new().write(true).open(&path).unwrap().set_len(u64::from(end) - 1).unwrap();
    assert_eq!(why(ground.indexed.get(&frame(1, 4))), format!("reading a log: segment 1 ends before byte {end}"));
    assert_eq!(ground.get(&frame(1, 3)).as_ref(), ground.model.get(&frame(1, 3)));
    let short = format!("reading a log: segment 1 has {} bytes, and should have {end}", end - 1);
    assert_eq!(why(ground.indexed.check_end()), short);
    assert_eq!(why(take_up(&ground.directory, &ground.disk, &[]).map(drop)), short);
    fs::remove_file(path).unwrap();
    let missing = "reading a log: segment 1 (the file segments/0000000001) is missing";
    assert_eq!(why(take_up(&ground.directory, &ground.disk, &[]).map(drop)), missing);
}

#[test]
fn an_entry_of_the_index_that_is_none_is_damage() {
    for (key, range) in [(frame(1, 0), keys::frames(stream(1), 0, None)), (keys::group(0), keys::groups(0, None))] {
        let mut ground = Ground::new();
        ground.bring(&[frames(1, 0..5), (0..5).map(|position| put(keys::group(position), b"entry")).collect()]);
        let run = keys::run(&key);
        let whole = ground.disk.value(&run).unwrap();
        let cut = format!("{} bytes are not some places", whole.len() - 4 - 1);
        let elsewhere = Place { segment: 1, offset: 8, length: 1 };
        let elsewhere = run::encode(&[(vec![9; if key[0] == b'F' { 10 } else { 8 }], elsewhere)]);
        for (value, expected) in [
            (&whole[..whole.len() - 1], &cut[..]),
            (&b"R\0\x02\0"[..], "it has format 2, this version reads up to 1; upgrade to read it"),
            (&elsewhere, "they belong elsewhere"),
        ] {
            ground.disk.damage(&run, Some(value));
            // Somebody who has not read it before.
            let reader = Indexed::over(ground.disk.clone(), ground.directory.path(), Path::new("a log")).unwrap();
            let expected = format!("the index of a log: some places: {expected}");
            assert_eq!(why(reader.get(&key)), expected);
            assert_eq!(why(reader.scan(&range, 1, Direction::Down)), expected);
            assert_eq!(why(reader.keys(&everything(), usize::MAX, Direction::Up)), expected);
            assert_eq!(why(ground.indexed.bring(&[changes(&[put(key.clone(), b"next")])])), expected);
        }
    }
}

#[test]
fn an_index_that_does_not_say_how_far_it_goes_is_not_written_to() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..5)]);
    ground.disk.damage(INDEXED, Some(b"E\0\x01\0"));
    let expected = "the index of a log: where the segments end: 4 bytes are needed, 0 are left";
    assert_eq!(why(ground.indexed.check_end()), expected);
    assert_eq!(why(ground.indexed.begin(ground.directory.path(), &[])), expected);
    ground.check_all();
}

/// A place that is of another key than it says.
#[test]
fn a_place_that_leads_elsewhere_is_damage() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..2)]);
    let first = place(&ground, &frame(1, 0));
    let rest = |seq| frame(1, seq)[17..].to_vec();
    let run = run::encode(&[(rest(0), first), (rest(1), first)]);
    ground.disk.damage(&keys::run(&frame(1, 0)), Some(&run));
    ground.reopen();
    assert_eq!(ground.get(&frame(1, 0)).unwrap(), 0u64.to_be_bytes());
    assert_eq!(why(ground.indexed.get(&frame(1, 1))), "reading a log: segment 1 at byte 8: something else is there");
}

#[test]
fn a_database_that_cannot_be_read_is_no_damage() {
    let mut ground = Ground::new();
    ground.bring(&[frames(1, 0..2)]);
    ground.disk.fail_read(1, "no disk");
    let failed = BackendError::Failed("no disk".to_owned());
    assert_eq!(ground.indexed.get(&frame(1, 0)), Err(failed.clone()));
    assert_eq!(ground.indexed.scan(&everything(), 9, Direction::Up), Err(failed));
    ground.disk.mend();
    ground.check_all();
}
