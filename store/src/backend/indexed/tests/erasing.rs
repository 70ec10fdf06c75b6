//! What was replaced or deleted is in the segments until nothing leads to it any more, and not longer; and what a power cut does
//! meanwhile.

use super::*;

/// A frame and a commit entry that somebody wants to be rid of.
fn with_secrets() -> Ground {
    let mut ground = Ground::new();
    ground.bring(&[vec![put(frame(1, 0), b"a secret body"), put(keys::group(0), b"a secret entry")], frames(1, 1..4)]);
    assert!(ground.has(b"a secret body") && ground.has(b"a secret entry"));
    ground
}

/// One is replaced, the other is deleted.
fn rid() -> Vec<Change> {
    vec![put(frame(1, 0), b"erased"), (keys::group(0), None)]
}

#[test]
fn what_is_brought_wipes_what_it_replaces() {
    let mut ground = with_secrets();
    let length = ground.bytes().len();
    ground.bring(&[rid()]);
    assert!(!ground.has(b"secret"));
    assert!(ground.bytes().len() > length, "it is where it was, under its key");
    ground.check_all();
}

#[test]
fn what_is_applied_wipes_what_it_replaces_once_it_was_synced() {
    let mut ground = with_secrets();
    ground.apply(&rid());
    ground.check_all();
    assert!(ground.has(b"a secret body") && ground.has(b"a secret entry"));
    ground.indexed.write_out().unwrap();
    assert!(ground.has(b"a secret body") && ground.has(b"a secret entry"));
    ground.indexed.sync().unwrap();
    assert!(!ground.has(b"secret"));
    ground.check_all();
}

#[test]
fn each_of_several_values_that_were_replaced_one_after_the_other_is_wiped() {
    let mut ground = with_secrets();
    ground.apply(&[put(frame(1, 0), b"another secret")]);
    ground.apply(&[put(frame(1, 0), b"a third secret")]);
    ground.apply(&rid());
    assert!(ground.has(b"another secret") && ground.has(b"a third secret"));
    ground.sync();
    assert!(!ground.has(b"secret"));
    ground.check_all();
}

#[test]
fn what_is_replaced_in_the_same_groups_is_never_written() {
    let mut ground = Ground::new();
    ground.bring(&[vec![put(frame(1, 0), b"a secret body")], rid()]);
    assert!(!ground.has(b"secret"));
    ground.check_all();
}

/// Until then a power cut leaves an index that leads to what was replaced.
#[test]
fn nothing_is_wiped_before_the_index_was_synced() {
    type Replace = fn(&Ground) -> Result<(), BackendError>;
    let ways: [(Replace, &str); 2] = [
        (|ground| ground.indexed.bring(&[changes(&rid())]), "brought"),
        (
            |ground| {
                ground.indexed.apply(&changes(&rid()))?;
                ground.indexed.write_out()?;
                ground.indexed.sync()
            },
            "applied",
        ),
    ];
    for (replace, way) in ways {
        let mut ground = with_secrets();
        ground.disk.fail_sync(1, "no power");
        assert_eq!(replace(&ground), Err(BackendError::Failed("no power".to_owned())), "{way}");
        assert!(ground.has(b"a secret body") && ground.has(b"a secret entry"), "{way}");
        ground.cut_power();
        ground.check_all();
    }
}

/// A sync is of what was written out.
#[test]
fn what_was_replaced_by_what_was_not_written_out_is_not_wiped() {
    let mut ground = with_secrets();
    let before = ground.model.clone();
    ground.apply(&rid());
    ground.indexed.sync().unwrap();
    ground.cut_power();
    ground.model = before;
    ground.check_all();
}

/// The database took the first piece, and not the second.
#[test]
fn what_a_power_cut_left_is_wiped_once_the_groups_are_brought_again() {
    let mut ground = with_secrets();
    ground.disk.fail_write(2, "no power");
    assert!(ground.indexed.bring(&[changes(&rid())]).is_err());
    ground.cut_power();
    ground.bring(&[rid()]);
    ground.check_all();
    assert!(!ground.has(b"secret"), "what the first piece replaced is still there");
}

/// It was written, and in no index when the power was cut; then it was brought again, and replaced.
#[test]
fn what_was_on_its_way_at_a_power_cut_does_not_stay_when_it_is_replaced() {
    let mut ground = Ground::new();
    let group = [put(frame(1, 0), b"a secret body")];
    ground.disk.fail_write(1, "no power");
    assert!(ground.indexed.bring(&[changes(&group)]).is_err());
    ground.cut_power_and_bring(&group);
    ground.bring(&[rid()]);
    ground.check_all();
    assert!(!ground.has(b"secret"), "what was written first is still there");
}

/// It was handed to the operating system, and nobody waited for the disk: what is replaced is known to nobody who opens it later.
#[test]
fn what_a_killed_process_has_replaced_is_wiped_by_the_next_one() {
    let mut ground = with_secrets();
    ground.apply(&rid());
    ground.indexed.write_out().unwrap();
    ground.disk = ground.disk.after_kill();
    ground.reopen();
    ground.check_all();
    ground.sync();
    assert!(!ground.has(b"secret"), "what was replaced is still there");
}

/// A stream whose entries are cut anew because of some frames has all others in the meantime, wherever the database's pieces end.
#[test]
fn frames_that_no_group_names_are_there_after_each_piece() {
    // What the second entry begins with is deleted: what is left of it gets another key.
    let pruned: Vec<Change> = (32..36).map(|seq| (frame(1, seq), None)).collect();
    let pruned = [vec![put(frame(1, 31), b"pruned")], pruned].concat();
    let untouched: Vec<u64> = (0..31).chain(36..100).collect();
    let missing = |ground: &Ground| -> Vec<u64> {
        untouched.iter().copied().filter(|seq| ground.get(&frame(1, *seq)).is_none()).collect()
    };
    // The definitions come first, and fill the first piece up to here: so the stream's changes are cut at each of them.
    for filled in (PIECE - 1_600..=PIECE - 10).step_by(20) {
        let mut ground = Ground::new();
        ground.bring(&[frames(1, 0..100)]);
        let fill = vec![7; filled];
        let definitions = fill.chunks(4_096).zip(0..).map(|(part, chunk)| {
            let key = keys::definition(Hash([9; 32]), chunk);
            let value = &part[..part.len().saturating_sub(key.len())];
            put(key, value)
        });
        let group: Vec<Change> = definitions.chain(pruned.clone()).collect();
        ground.disk.fail_write(2, "no power");
        assert!(ground.indexed.bring(&[changes(&group)]).is_err());
        ground.cut_power();
        let before = missing(&ground);
        ground.bring(&[group]);
        let missing = (before, missing(&ground));
        assert_eq!(missing, (Vec::new(), Vec::new()), "before and after it was brought again, behind {filled} bytes");
        ground.check_all();
    }
}
