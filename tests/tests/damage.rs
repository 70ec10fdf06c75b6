//! Damage to any file of a log is detected and named, or harmless. It never leads to another history, a crash, or a hang.
//!
//! Every byte of a small log is flipped, one at a time; its files are truncated, removed, and replaced by older ones. Each
//! time a separate process verifies the log, reads all of it, and in some cases opens it for writing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::powercut::checker::{Answer, Checker, Seen, scratch};
use crate::powercut::judge::{self, Written};
use crate::powercut::load;

/// The files of a log by relative path.
type Files = BTreeMap<String, Vec<u8>>;

fn write(load: &str, phase: u64, log: &Path) {
    let written = Command::new(env!("CARGO_BIN_EXE_log_victim"))
        .args(["write", load, &phase.to_string()])
        .arg(log)
        .arg(log.with_extension("marks"))
        .status();
    assert!(written.unwrap().success());
}

/// The only segment of a small log.
const SEGMENT: &str = "segments/0000000001";
/// The offset of its first group.
const SEGMENT_HEADER: usize = 80;

/// The prefix of the files of the index, which is rebuilt from the segments if it does not match them.
const INDEX: &str = "index/";

fn files(log: &Path) -> Files {
    let mut files = Files::new();
    let mut directories = vec![log.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(log).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

fn put(files: &Files, log: &Path) {
    let _ = fs::remove_dir_all(log);
    for (name, content) in files {
        let path = log.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// An undamaged log and its contents.
struct BaseLog {
    files: Files,
    whole: Seen,
    written: Vec<Written>,
    /// How many records at the end may be silently missing: those of a last group that looks unfinished.
    may_be_missing: usize,
    /// The most batches that these records may belong to.
    batches_may_be_missing: usize,
}

impl BaseLog {
    fn new(loads: &[&str], place: &Path) -> Self {
        let log = place.join("log");
        for (phase, load) in loads.iter().enumerate() {
            write(load, phase as u64, &log);
        }
        Self::of(&log, loads)
    }

    /// Reads a log that these loads were written to.
    fn of(log: &Path, loads: &[&str]) -> Self {
        let Answer::Seen(whole) = Checker::new().read(log) else { panic!("the log was damaged from the start") };
        assert_eq!(judge::is_intact(&whole), Ok(()));
        let written =
            loads.iter().enumerate().map(|(phase, load)| Written::all(&load::named(load).unwrap(), phase as u64));
        Self { files: files(log), whole, written: written.collect(), may_be_missing: 0, batches_may_be_missing: 0 }
    }

    /// The same log, if damage to its last group may pass for a group that a crash left unfinished.
    fn with_open_end(self) -> Self {
        let load = load::named(self.written.last().unwrap().load).unwrap();
        let batches = load.in_flight;
        let may_be_missing = usize::try_from(batches * load.frames * load.records).unwrap();
        Self { may_be_missing, batches_may_be_missing: usize::try_from(batches).unwrap(), ..self }
    }

    /// The offset of each group of the segment.
    fn groups(&self) -> Vec<usize> {
        let (segment, mut at, mut groups) = (&self.files[SEGMENT], SEGMENT_HEADER, Vec::new());
        while segment.get(at) == Some(&b'G') {
            groups.push(at);
            at += usize::try_from(u32::from_be_bytes(segment[at + 4..at + 8].try_into().unwrap())).unwrap();
        }
        assert_eq!(at, self.used(SEGMENT), "the groups fill the segment up to the end");
        groups
    }

    /// The used length of a file; the rest is zeros.
    fn used(&self, name: &str) -> usize {
        self.files[name].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
    }

    /// Classifies the result of a damage in a word, or returns why it is wrong.
    fn judge(&self, answer: &Answer) -> Result<&'static str, String> {
        match answer {
            Answer::Refused(_) => Ok("refused"),
            Answer::Seen(seen) if seen == &self.whole => Ok("harmless"),
            Answer::Seen(seen) if judge::is_intact(seen).is_ok() => {
                let (has, expected_count) = (seen.records.len(), self.whole.records.len());
                if self.whole.records.starts_with(&seen.records) && expected_count - has <= self.may_be_missing {
                    Ok("without its last group")
                } else {
                    Err(format!("another history: {has} records, {expected_count} were written: {seen:?}"))
                }
            }
            // The damage was found; everything else that is shown must be what was written.
            Answer::Seen(seen) => {
                let known: BTreeSet<&String> = self.whole.records.iter().chain(&self.whole.streams).collect();
                match seen.records.iter().chain(&seen.streams).find(|line| !known.contains(line)) {
                    None if seen.streams.is_empty() => Ok("found, nothing could be read"),
                    None => Ok("found, others could be read"),
                    Some(line) if line.ends_with("not as listed") => Ok("found, others could be read"),
                    Some(line) => Err(format!("never written: {line}")),
                }
            }
            other => Err(format!("{other:?}")),
        }
    }

    /// The same for a log that was opened for writing and appended to.
    fn judge_after_append(&self, answer: &Answer) -> Result<&'static str, String> {
        let more = Written::all(&load::named("more").unwrap(), 9);
        let mut written = self.written.clone();
        if let Some(last) = written.last_mut() {
            let sure = last.batches.len().saturating_sub(self.batches_may_be_missing);
            last.acknowledged.retain(|batch| *batch < sure);
        }
        written.push(more);
        match answer {
            Answer::Refused(_) => Ok("refused to writers"),
            Answer::Seen(seen) if judge::is_intact(seen).is_ok() => {
                judge::is_history(seen, &written).map(|()| "harmless to writers")
            }
            Answer::Seen(_) => Ok("found after writing"),
            other => Err(format!("{other:?}")),
        }
    }
}

/// A damage: its name, and the function that makes it.
type Damage<'a> = (String, Box<dyn Fn(&Files) -> Files + Send + Sync + 'a>);

/// Makes each damage to the log, reads it, and opens every `nth` one for writing.
fn check_all(what: &str, base: &BaseLog, damages: &[Damage<'_>], nth: usize) -> BTreeMap<&'static str, usize> {
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
                    put(&damage(&base.files), &log);
                    let mut judged = vec![base.judge(&checker.read(&log))];
                    if number % nth == 0 {
                        judged.push(base.judge_after_append(&checker.append_and_read(&log, 9)));
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
    let reported: Vec<String> = wrong.iter().take(10).map(|why| why.chars().take(600).collect()).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), damages.len(), reported.join("\n"));
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
    let base = BaseLog::new(&["tiny"], place.path());
    let mut damages = Vec::new();
    for (name, content) in &base.files {
        let used = base.used(name);
        let every = if name.starts_with(INDEX) { 61 } else { 1 };
        damages.extend((0..used).step_by(every).map(|place| flip(name, place)));
        // The zeros at the end are space allocated ahead: a sample of them is enough.
        damages.extend((used..content.len()).step_by(16_381).map(|place| flip(name, place)));
    }
    check_all("flipped bytes", &base, &damages, 8);
}

/// A killed process leaves a log that continues beyond its head file. Regression: such a log opened as complete after it had lost
/// everything but its first record.
#[test]
fn a_flipped_byte_in_a_log_that_was_not_closed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["turning"], place.path()).with_open_end();
    let mut damages = Vec::new();
    for name in base.files.keys() {
        let used = base.used(name);
        let places: BTreeSet<usize> = (0..used.min(200)).map(|part| part * used / used.min(200)).collect();
        damages.extend(places.into_iter().map(|at| flip(name, at)));
    }
    check_all("flipped bytes of a log that was not closed", &base, &damages, 10);
}

/// Every byte of the segment of a small log: before the last group, damage is never taken for an unfinished write. Writers refuse the log;
/// readers may be able to read the executions that are not damaged.
#[test]
fn a_flipped_byte_before_the_last_group_of_a_log_that_was_not_closed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["barely"], place.path());
    let last = *base.groups().last().unwrap();
    let damages: Vec<Damage<'_>> = (0..last).map(|place| flip(SEGMENT, place)).collect();
    let counts = check_all("flipped bytes before the last group", &base, &damages, 40);
    let found = ["found, others could be read", "refused", "refused to writers"];
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), found);

    let base = base.with_open_end();
    let damages: Vec<Damage<'_>> = (last..base.used(SEGMENT)).map(|place| flip(SEGMENT, place)).collect();
    let counts = check_all("flipped bytes of the last group", &base, &damages, 40);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["harmless to writers", "without its last group"]);
}

/// Only the segment has the last acknowledged records.
#[test]
fn a_segment_that_is_cut_or_missing_or_an_older_one_is_found() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    write("tiny", 0, &log);
    let closed = files(&log);
    write("small", 1, &log);
    let base = BaseLog::of(&log, &["tiny", "small"]);
    // The head file is from the last open of the log.
    let known = closed[SEGMENT].len() + 1;
    let cuts = [0, 1, SEGMENT_HEADER - 1, SEGMENT_HEADER, known / 2, known - 2, known];
    let mut damages: Vec<Damage<'_>> = cuts.into_iter().map(|at| cut(SEGMENT, at)).collect();
    let older = closed[SEGMENT].clone();
    damages.push((
        "the segment of before".to_owned(),
        Box::new(move |files| with(files, SEGMENT, |content| content.clone_from(&older))),
    ));
    damages.push(without(SEGMENT));
    let counts = check_all("harmed segments", &base, &damages, 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["refused", "refused to writers"]);
}

/// Only the lock shows that a log was not closed. Without it, everything in the segments still counts.
#[test]
fn a_log_that_was_not_closed_and_has_lost_its_lock_is_complete() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["small"], place.path());
    let counts = check_all("a missing lock", &base, &[without("lock")], 1);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["harmless", "harmless to writers"]);
}

/// Regression: if the last group but one was damaged, only one group followed it, and that was taken for the one that may be
/// unfinished: a log passed as complete after it had lost two groups.
#[test]
fn a_damaged_group_of_a_log_that_was_not_closed_is_found() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["turning"], place.path());
    let mut groups = base.groups();
    groups.pop();
    // Their number depends on how many batches happened to share a group.
    assert!(groups.len() > 20, "{} groups", groups.len());
    let near_the_end = groups.split_off(groups.len() - 10);
    let some = groups.into_iter().step_by(9).chain(near_the_end);
    let damages: Vec<Damage<'_>> = some.map(|place| flip(SEGMENT, place + 20)).collect();
    let counts = check_all("damaged groups of a log that was not closed", &base, &damages, 10);
    assert_eq!(counts.keys().copied().collect::<Vec<_>>(), ["refused", "refused to writers"]);
}

/// Opening the log reports the damage. Most damage affects some streams, and a repair saves the others.
#[test]
fn a_repair_saves_the_undamaged_streams() {
    let place = tempfile::tempdir_in(scratch()).unwrap();
    let base = BaseLog::new(&["long"], place.path());
    let (log, new) = (place.path().join("damaged"), place.path().join("new"));
    let known: BTreeSet<&String> = base.whole.streams.iter().collect();
    let (mut checker, mut lost) = (Checker::new(), Vec::new());
    for part in 0..50 {
        let (name, damage) = flip(SEGMENT, part * base.used(SEGMENT) / 50);
        put(&damage(&base.files), &log);
        assert!(base.judge(&checker.read(&log)).is_ok(), "{name}");
        let _ = fs::remove_dir_all(&new);
        cloacina_store::repair::repair(&log, &new).unwrap();
        let Answer::Seen(seen) = checker.read(&new) else { panic!("{name}: the repaired log cannot be read") };
        assert_eq!(judge::is_intact(&seen), Ok(()), "{name}");
        let saved = seen.streams.iter().filter(|line| known.contains(line)).count();
        lost.push(known.len() - saved);
    }
    // Each log has its own log stream.
    println!("{lost:?} of {} streams were not saved completely", known.len());
    assert!(lost.iter().all(|lost| *lost <= known.len() / 2), "{lost:?}");
    assert!(lost.iter().sum::<usize>() <= 4 * lost.len(), "{lost:?}");
}

/// Truncates at every length, not at a sample of them.
#[test]
fn a_truncated_file_is_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["tiny"], place.path());
    let mut damages = Vec::new();
    for (name, content) in &base.files {
        let used = base.used(name);
        // The unused rest is zeros: the first and the last of those lengths are enough, and some in between.
        let unused = used..content.len();
        let near = (0..64).flat_map(|distance| [used + distance, content.len().saturating_sub(distance + 1)]);
        let some = unused.clone().step_by(16_381).chain(near).filter(|length| unused.contains(length));
        let every = if name.starts_with(INDEX) { 61 } else { 1 };
        let lengths: BTreeSet<usize> = (0..used).step_by(every).chain(some).collect();
        damages.extend(lengths.into_iter().map(|length| cut(name, length)));
    }
    check_all("cut files", &base, &damages, 16);
}

#[test]
fn missing_and_older_files_are_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let base = BaseLog::new(&["small", "tiny"], place.path());
    let older = tempfile::tempdir().unwrap();
    let log = older.path().join("log");
    let mut damages: Vec<Damage<'_>> = Vec::new();
    for name in base.files.keys() {
        damages.push(without(name));
    }
    // Older copies of the same log: after its first load, and after the orderly close.
    write("small", 0, &log);
    let unclosed = files(&log);
    // The salts differ, so this is another log with the same contents.
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
    check_all("missing and foreign files", &base, &damages, 1);
}

/// A log is copied after each of its loads: any file of an earlier copy with the latest other files.
#[test]
fn an_old_copy_of_one_file_beside_new_ones_is_found_or_harmless() {
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let mut copies = Vec::new();
    for (phase, load) in ["tiny", "small", "tiny", "tiny"].into_iter().enumerate() {
        write(load, phase as u64, &log);
        copies.push(files(&log));
    }
    let base = BaseLog::of(&log, &["tiny", "small", "tiny", "tiny"]);
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
        }
        // Also the whole older index.
        damages.push((
            format!("the index after load {age}"),
            Box::new(move |files| {
                let log = files.iter().filter(|(name, _)| !name.starts_with(INDEX));
                let index = copy.iter().filter(|(name, _)| name.starts_with(INDEX));
                log.chain(index).map(|(name, content)| (name.clone(), content.clone())).collect()
            }),
        ));
    }
    check_all("older files", &base, &damages, 1);
}
