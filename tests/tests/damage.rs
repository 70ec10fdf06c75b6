//! Damage of any file of a log is detected and named, or harmless: never another history, a crash, or a hang.
//!
//! Every byte of a small log is flipped, one at a time; its files are cut, removed, and exchanged for older ones. Each
//! time a process of its own checks the log, reads all of it, and (of some) opens it for writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::powercut::checker::{Answer, Checker, Seen, scratch};
use crate::powercut::judge::{self, Written};
use crate::powercut::load;

/// The files of a log, by their paths in it.
type Files = BTreeMap<String, Vec<u8>>;

fn write(load: &str, phase: u64, log: &Path) {
    let written = Command::new(env!("CARGO_BIN_EXE_log_victim"))
        .args(["write", load, &phase.to_string()])
        .arg(log)
        .arg(log.with_extension("marks"))
        .status();
    assert!(written.unwrap().success());
}

/// The only segment of such logs.
const SEGMENT: &str = "segments/0000000001";

fn files(log: &Path) -> Files {
    let mut files = Files::new();
    for entry in fs::read_dir(log).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            files.insert(entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap());
        }
    }
    files.insert(SEGMENT.to_owned(), fs::read(log.join(SEGMENT)).unwrap());
    files
}

fn put(files: &Files, log: &Path) {
    let _ = fs::remove_dir_all(log);
    fs::create_dir_all(log.join("blobs")).unwrap();
    fs::create_dir_all(log.join("segments")).unwrap();
    for (name, content) in files {
        fs::write(log.join(name), content).unwrap();
    }
}

/// A log, and what is in it.
struct Ground {
    files: Files,
    whole: Seen,
    written: Vec<Written>,
    /// How many records at the end may be gone without a word.
    unguarded: usize,
}

impl Ground {
    fn new(loads: &[&str], place: &Path) -> Self {
        let log = place.join("log");
        for (phase, load) in loads.iter().enumerate() {
            write(load, phase as u64, &log);
        }
        Self::of(&log, loads)
    }

    /// The log that these loads were written to.
    fn of(log: &Path, loads: &[&str]) -> Self {
        let Answer::Seen(whole) = Checker::new().read(log) else { panic!("the log is not whole to begin with") };
        assert_eq!(judge::is_whole(&whole), Ok(()));
        let written =
            loads.iter().enumerate().map(|(phase, load)| Written::all(&load::named(load).unwrap(), phase as u64));
        Self { files: files(log), whole, written: written.collect(), unguarded: 0 }
    }

    /// How far a file is used: behind that, all is 0.
    fn used(&self, name: &str) -> usize {
        self.files[name].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// What came of a damage, in a word, or why it is not as it must be.
    fn judge(&self, answer: &Answer) -> Result<&'static str, String> {
        match answer {
            Answer::Refused(_) => Ok("refused"),
            Answer::Seen(seen) if seen == &self.whole => Ok("harmless"),
            Answer::Seen(seen) if judge::is_whole(seen).is_ok() => {
                let (has, had) = (seen.records.len(), self.whole.records.len());
                if self.whole.records.starts_with(&seen.records) && had - has <= self.unguarded {
                    Ok("without its last group")
                } else {
                    Err(format!("another history: {has} records, {had} were written: {seen:?}"))
                }
            }
            // Found: what is shown beside it is what was written.
            Answer::Seen(seen) => {
                let known: BTreeSet<&String> = self.whole.records.iter().chain(&self.whole.streams).collect();
                match seen.records.iter().chain(&seen.streams).find(|line| !known.contains(line)) {
                    None if seen.streams.is_empty() => Ok("found, nothing could be read"),
                    None => Ok("found, others could be read"),
                    Some(line) if line.ends_with("not as listed") => Ok("found, others could be read"),
                    Some(line) => Err(format!("what was not written: {line}")),
                }
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// The same of a log that was opened for writing and went on.
    fn judge_going_on(&self, answer: &Answer) -> Result<&'static str, String> {
        let more = Written::all(&load::named("more").unwrap(), 9);
        let written: Vec<Written> = self.written.iter().cloned().chain([more]).collect();
        match answer {
            Answer::Refused(_) => Ok("refused to writers"),
            Answer::Seen(seen) if judge::is_whole(seen).is_ok() => {
                judge::is_history(seen, &written).map(|()| "harmless to writers")
            }
            Answer::Seen(_) => Ok("found after writing"),
            other => Err(format!("{other:?}")),
        }
    }
}

/// A damage: what it is called, and what it leaves.
type Damage<'a> = (String, Box<dyn Fn(&Files) -> Files + Send + Sync + 'a>);

/// Does each damage to the log, reads it, and opens every `nth` for writing.
fn all_are_found(what: &str, ground: &Ground, damages: &[Damage<'_>], nth: usize) -> BTreeMap<&'static str, usize> {
    let next = Mutex::new(damages.iter().enumerate());
    let tally = Mutex::new((BTreeMap::<&'static str, usize>::new(), Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let place = tempfile::tempdir_in(scratch()).unwrap();
                let log: PathBuf = place.path().join("log");
                let mut checker = Checker::new();
                loop {
                    let damage = next.lock().unwrap().next();
                    let Some((number, (name, damage))) = damage else { break };
                    put(&damage(&ground.files), &log);
                    let mut judged = vec![ground.judge(&checker.read(&log))];
                    if number % nth == 0 {
                        judged.push(ground.judge_going_on(&checker.go_on(&log, 9)));
                    }
                    let (counts, wrong) = &mut *tally.lock().unwrap();
                    for judged in judged {
                        match judged {
                            Ok(word) => *counts.entry(word).or_default() += 1,
                            Err(why) => wrong.push(format!("{name}: {why}")),
                        }
                    }
                }
            });
        }
    });
    let (counts, wrong) = tally.into_inner().unwrap();
    println!("{what}: {} damages: {counts:?}", damages.len());
    let told: Vec<String> = wrong.iter().take(10).map(|why| why.chars().take(600).collect()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), damages.len(), told.join("\n"));
    counts
}

fn with(files: &Files, name: &str, change: impl Fn(&mut Vec<u8>)) -> Files {
    let mut files = files.clone();
    change(files.get_mut(name).unwrap());
    files
}

fn flip(name: &str, place: usize) -> Damage<'_> {
    let bit = 1 << (place % 8);
    (format!("{name}, byte {place}"), Box::new(move |files| with(files, name, |content| content[place] ^= bit)))
}

fn cut(name: &str, length: usize) -> Damage<'_> {
    (format!("{name}, cut at {length}"), Box::new(move |files| with(files, name, |content| content.truncate(length))))
}

fn without(name: &str) -> Damage<'_> {
    let removed = move |files: &Files| {
        let mut files = files.clone();
        files.remove(name);
        files
    };
    (format!("{name} is missing"), Box::new(removed))
}

#[test]
fn every_flipped_byte_is_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["tiny"], place.path());
    let mut damages = Vec::new();
    for (name, content) in &ground.files {
        let used = ground.used(name);
        damages.extend((0..used).map(|place| flip(name, place)));
        // What is 0 is the room for what comes: some of it will do.
        damages.extend((used..content.len()).step_by(16_381).map(|place| flip(name, place)));
    }
    all_are_found("flipped bytes", &ground, &damages, 8);
}

/// A process that was killed leaves a log that ends where its journal says, and before that its database. sled takes a damaged
/// place for the end of the database, and a log that had lost all but its first record used to open as a whole one.
#[test]
fn a_flipped_byte_in_a_log_that_was_not_closed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["turning"], place.path());
    let mut damages = Vec::new();
    for name in ["db", "journal", SEGMENT] {
        let used = ground.used(name);
        damages.extend((0..200).map(|part| flip(name, part * used / 200)));
    }
    all_are_found("flipped bytes of a log that was not closed", &ground, &damages, 10);
}

/// What is in the journal alone: every third byte of the sectors that are written, and some of the others, which are 0.
#[test]
fn a_flipped_byte_of_a_journal_is_found() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["barely"], place.path());
    let is_written = |sector: &[u8]| sector.iter().any(|byte| *byte != 0);
    let sectors = ground.files["journal"].chunks(512).enumerate().filter(|(_, sector)| is_written(sector));
    let written: Vec<usize> = sectors.flat_map(|(number, _)| number * 512..(number + 1) * 512).collect();
    assert!(written.len() >= 4 * 512, "{} bytes", written.len());
    let others = (0..ground.files["journal"].len()).step_by(16_381);
    let damages: Vec<Damage<'_>> =
        written.into_iter().step_by(3).chain(others).map(|place| flip("journal", place)).collect();
    let counts = all_are_found("flipped bytes of a journal", &ground, &damages, 40);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["refused", "refused to writers"]);
}

/// The journal has what was acknowledged last, and nobody else has.
#[test]
fn a_journal_that_is_cut_or_missing_or_an_older_one_is_found() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    write("tiny", 0, &log);
    let closed = files(&log);
    write("small", 1, &log);
    let ground = Ground::of(&log, &["tiny", "small"]);
    let length = ground.files["journal"].len();
    let cuts = [0, 1, 511, 512, 5_000, length / 2, length - 512, length - 1];
    let mut damages: Vec<Damage<'_>> = cuts.into_iter().map(|at| cut("journal", at)).collect();
    let longer = |files: &Files| with(files, "journal", |content| content.push(0));
    damages.push(("a longer journal".to_owned(), Box::new(longer)));
    let older = closed["journal"].clone();
    damages.push((
        "the journal of before".to_owned(),
        Box::new(move |files| with(files, "journal", |content| content.clone_from(&older))),
    ));
    damages.push(without("journal"));
    let counts = all_are_found("harmed journals", &ground, &damages, 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["refused", "refused to writers"]);
}

/// Only the lock says that a log was not closed. Where it is gone, what the journal has counts all the same.
#[test]
fn a_log_that_was_not_closed_and_has_lost_its_lock_is_whole() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["small"], place.path());
    let counts = all_are_found("a missing lock", &ground, &[without("lock")], 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["harmless", "harmless to writers"]);
}

/// Where the damaged message was the commit entry of the last group but one, what lies behind the end is the last group
/// alone, and it was taken for the one that may be unfinished: a log passed for whole after it had lost two groups.
#[test]
fn a_damaged_commit_entry_of_a_log_that_was_not_closed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["turning"], place.path());
    let damages = commit_entries(&ground.files[SEGMENT]);
    // How many there are depends on how many batches came to share a group.
    assert!(damages.len() > 20, "{} commit entries", damages.len());
    let nth = (damages.len() / 100).max(1);
    let damages: Vec<Damage<'_>> = damages.into_iter().step_by(nth).collect();
    all_are_found("damaged commit entries of a log that was not closed", &ground, &damages, 10);
}

/// A flipped byte in each thing that is written under the key of a commit entry.
fn commit_entries<'a>(segment: &[u8]) -> Vec<Damage<'a>> {
    let is_key = |key: &[u8]| key[0] == b'C' && key[1..6] == [0; 5];
    let places = segment.windows(9).enumerate().filter(|(_, key)| is_key(key));
    places.map(|(place, key)| flip(SEGMENT, place + key.len() + 20)).collect()
}

/// Most damage of a larger log that was closed concerns some streams. Where it is in its database, what the segments have is found by a
/// repair.
#[test]
fn damage_leaves_other_streams_readable() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["long"], place.path());
    let flips = |name| (0..100).map(move |part| (name, part));
    let damages: Vec<Damage<'_>> =
        flips("db").chain(flips(SEGMENT)).map(|(name, part)| flip(name, part * ground.used(name) / 100)).collect();
    let counts = all_are_found("flipped bytes of a larger log", &ground, &damages, 10);
    let refused = counts.get("refused").copied().unwrap_or_default();
    assert!(refused * 5 < damages.len(), "{refused} of {} left nothing to read", damages.len());
    assert!(counts["found, others could be read"] > 0);
}

/// At every length: the database was once cut at every seventh alone.
#[test]
fn a_file_that_was_cut_anywhere_is_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["tiny"], place.path());
    let mut damages = Vec::new();
    for (name, content) in &ground.files {
        let used = ground.used(name);
        // Behind what is used, all is 0 to the end: of those lengths the first and the last will do, and some between them.
        let unused = used..content.len();
        let near = (0..64).flat_map(|distance| [used + distance, content.len().saturating_sub(distance + 1)]);
        let some = unused.clone().step_by(16_381).chain(near).filter(|length| unused.contains(length));
        let lengths: BTreeSet<usize> = (0..used).chain(some).collect();
        damages.extend(lengths.into_iter().map(|length| cut(name, length)));
    }
    all_are_found("cut files", &ground, &damages, 16);
}

#[test]
fn missing_and_older_files_are_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let ground = Ground::new(&["small", "tiny"], place.path());
    let older = tempfile::tempdir().unwrap();
    let log = older.path().join("log");
    let mut damages: Vec<Damage<'_>> = Vec::new();
    for name in ground.files.keys() {
        damages.push(without(name));
    }
    // A copy of the same log as it was before: after its first load, and after that was closed in order.
    write("small", 0, &log);
    let unclosed = files(&log);
    // The salts differ, so this is also another log with the same content.
    for (name, content) in unclosed {
        damages.push((
            format!("{name} of another log"),
            Box::new(move |files| {
                let mut files = files.clone();
                files.insert(name.clone(), content.clone());
                files
            }),
        ));
    }
    all_are_found("missing and foreign files", &ground, &damages, 1);
}

/// One log, copied after each of its loads: any file of an earlier copy beside the latest ones.
#[test]
fn an_old_copy_of_one_file_beside_new_ones_is_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let mut copies = Vec::new();
    for (phase, load) in ["tiny", "small", "tiny", "tiny"].into_iter().enumerate() {
        write(load, phase as u64, &log);
        copies.push(files(&log));
    }
    let ground = Ground::of(&log, &["tiny", "small", "tiny", "tiny"]);
    let mut damages: Vec<Damage<'_>> = Vec::new();
    for (age, copy) in copies.iter().enumerate() {
        for (name, content) in copy {
            damages.push((
                format!("{name} after load {age}"),
                Box::new(move |files| {
                    let mut files = files.clone();
                    files.insert(name.clone(), content.clone());
                    files
                }),
            ));
            // In place of all of sled's snapshots, too.
            if name.starts_with("snap.") {
                damages.push((
                    format!("{name} after load {age}, alone"),
                    Box::new(move |files| {
                        let mut files = files.clone();
                        files.retain(|name, _| !name.starts_with("snap."));
                        files.insert(name.clone(), content.clone());
                        files
                    }),
                ));
            }
        }
    }
    all_are_found("older files", &ground, &damages, 1);
}
