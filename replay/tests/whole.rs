//! `replay verify --all`: a verdict for each execution and for the whole log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use crate::common::{Log, Ran, checked, histories, id, replay_with};
use cloacina_engine::core::codec::encode_event;
use cloacina_engine::core::erasure::{What, plan};
use cloacina_engine::core::event::Event;
use cloacina_replay::reading::entries;
use cloacina_store::keeper::{Change, ChangeError, Erase, Prune};
use cloacina_store::log::{EventLog, LogReader, OpenError, ReadError, StreamEntry, StreamFilter};
use cloacina_store::open_keeper;
use cloacina_store::record::{Body, Record, StreamId};
use cloacina_store::{Options, open, open_reader, read_through};
use serde_json::Value;

/// Opens a log for reading.
type Opens = fn(&Path) -> Result<Box<dyn LogReader>, OpenError>;

struct Made {
    directory: tempfile::TempDir,
}

impl Made {
    /// Creates a log with all histories, and closes it.
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap());
        histories::all_into(&Log(log.clone()));
        log.close().unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn verify(&self, open: Opens, option: &str) -> Ran {
        let ran = replay_with(&open, None, &format!("verify --all --log {}{option}", self.path().display()));
        Ran { out: self.nameless(&ran.out), err: self.nameless(&ran.err), ..ran }
    }

    /// Replaces the path of the log.
    fn nameless(&self, text: &str) -> String {
        text.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

/// A reader that flips a byte of the body at seq 5 of one execution.
struct OneFlipped(Box<dyn LogReader>);

impl LogReader for OneFlipped {
    read_through!(self => self.0; stream, streams, tail, tree, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = self.0.read(stream, from, limit)?;
        if stream == StreamId::from_bytes(id(histories::FAILED).0) {
            for record in records.iter_mut().filter(|record| record.seq == 5) {
                if let Body::Present { bytes, .. } = &mut record.body {
                    let mut changed = bytes.to_vec();
                    changed[3] ^= 1;
                    *bytes = changed.into();
                }
            }
        }
        checked(records)
    }
}

fn flipped(path: &Path) -> Result<Box<dyn LogReader>, OpenError> {
    Ok(Box::new(OneFlipped(open_reader(path)?)))
}

#[test]
fn a_whole_log_is_one_line() {
    let ran = Made::new().verify(open_reader, "");
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.starts_with("read from log; read-only, no task code is run\n\nok: 9 executions and "), "{ran}");
    assert_eq!(ran.out.lines().count(), 3, "{ran}");
}

#[test]
fn one_broken_execution_is_named_and_the_others_are_whole() {
    let ran = Made::new().verify(flipped, "");
    assert_eq!(ran.code, 5, "{ran}");
    insta::assert_snapshot!(without_hashes(&ran.to_string()));
}

/// Regression test: the output was "9 executions are whole, the log is not", without what was lost. With all executions
/// damaged it still said that "the others are" whole.
#[test]
fn what_is_lost_with_the_end_of_a_log_is_said() {
    let mut log_alone = 0;
    let made = Made::new();
    // Gives the end of the log a record that belongs to no execution.
    for _ in 0..3 {
        open(&made.path(), &Options::default()).unwrap().close().unwrap();
    }
    let file = made.path().join("segments/0000000001");
    let whole = fs::read(&file).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap();
    // Flips one byte: near the end at short intervals, before that at sampled offsets.
    let backs = (0..2_000).step_by(61).chain((2_000..used).step_by(used / 80));
    for back in backs {
        let mut damaged = whole.clone();
        damaged[used - back] ^= 8;
        fs::write(&file, damaged).unwrap();
        let ran = made.verify(open_reader, "");
        assert_eq!(ran.code, 5, "{ran}");
        assert!(
            ran.err.contains("hint: cp -a log COPY (keeps the evidence), then cloaca log repair --log log --to NEW")
        );
        assert!(ran.out.contains("\nchecked: "), "{ran}");
        if ran.out.contains("\nintact: 9 executions, with all their events") {
            log_alone += 1;
            assert!(
                ran.out.contains("\ndamaged: the log itself. The finished, intact executions have lost nothing"),
                "{ran}"
            );
            // An execution that has lost its end counts as not finished.
            let open = ["not finished: its last events may be", "not finished: their last events may be"];
            let unwrapped = ran.out.replace("\n  ", " ");
            assert!(open.iter().any(|open| unwrapped.contains(open)), "{ran}");
        } else if ran.out.contains("\ndamaged: all 9 executions") {
            says_once_what_is_wrong_with_all(&ran);
        }
    }
    assert!(log_alone > 0, "no damage was that of the log alone");
}

fn says_once_what_is_wrong_with_all(ran: &Ran) {
    assert!(!ran.out.contains("\nintact: "), "{ran}");
    let unwrapped = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
    let notes = unwrapped.matches("does not match").count();
    assert!((1..=3).contains(&notes), "what is wrong with all of them is said once: {ran}");
}

/// A reader that finds every execution damaged.
struct NothingFits(Box<dyn LogReader>);

impl LogReader for NothingFits {
    read_through!(self => self.0; stream, streams, tail, tree, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        if stream == StreamId::LOG {
            return self.0.read(stream, from, limit);
        }
        let what = "reading log: the checksum of its content does not match".to_owned();
        Err(ReadError::Damaged { stream, seq: from, what })
    }
}

#[test]
fn what_is_wrong_with_all_executions_is_said_once() {
    let ran = Made::new().verify(|path| Ok(Box::new(NothingFits(open_reader(path)?))), "");
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.out.contains("\ndamaged: all 9 executions"), "{ran}");
    says_once_what_is_wrong_with_all(&ran);
}

/// Replaces hashes, which depend on random salts, and the spaces after them by one word.
fn without_hashes(text: &str) -> String {
    let is_hash = |word: &str| {
        word.trim_end_matches(',').len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b',')
    };
    let lines = text.lines().map(|line| {
        let indent = &line[..line.len() - line.trim_start().len()];
        let words = line.split(' ').filter(|word| !word.is_empty());
        let words: Vec<&str> = words.map(|word| if is_hash(word) { "HASH" } else { word }).collect();
        format!("{indent}{}\n", words.join(" "))
    });
    lines.collect()
}

#[test]
fn each_execution_has_its_verdict_in_json() {
    let made = Made::new();
    let whole: Value = serde_json::from_str(&made.verify(open_reader, " --json").out).unwrap();
    assert_eq!((&whole["what"], &whole["ok"]), (&"verify_all".into(), &true.into()));
    let verdicts = |json: &Value| -> Vec<String> {
        let executions = json["executions"].as_array().unwrap().iter();
        executions
            .map(|one| format!("{} {}", &one["id"].as_str().unwrap()[28..], one["verdict"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(verdicts(&whole).len(), 9);
    assert!(verdicts(&whole).iter().all(|verdict| verdict.ends_with(" ok")), "{whole}");

    let ran = made.verify(flipped, " --json");
    assert_eq!(ran.code, 5, "{ran}");
    let broken: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(broken["ok"], false);
    let not_ok: Vec<String> = verdicts(&broken).into_iter().filter(|verdict| !verdict.ends_with(" ok")).collect();
    assert_eq!(not_ok, ["51b00003 record differs"]);
    let first = &broken["executions"].as_array().unwrap().iter().find(|one| one["ok"] == false).unwrap()["first"];
    assert_eq!(first["seq"], 5);
}

/// An opener that refuses every log.
fn refused(path: &Path) -> Result<Box<dyn LogReader>, OpenError> {
    Err(OpenError::Damaged { path: path.to_owned(), what: "its end is missing".to_owned() })
}

#[test]
fn a_log_that_cannot_be_opened_says_so_and_is_not_called_whole() {
    let made = Made::new();
    let ran = made.verify(refused, "");
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.out.contains("its end is missing"), "{ran}");
    assert!(ran.out.contains("the executions could not be checked one by one"), "{ran}");
    let json: Value = serde_json::from_str(&made.verify(refused, " --json").out).unwrap();
    assert_eq!((&json["ok"], json["whole"]["unreadable"].is_string()), (&false.into(), true));
}

/// A reader with a damaged list of executions.
struct NoList(Box<dyn LogReader>);

impl LogReader for NoList {
    read_through!(self => self.0; read, stream, tail, tree, erasures, definition, head, location);

    fn streams(&self, _: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        Err(ReadError::DamagedLog("an entry of the listing".to_owned()))
    }
}

/// Regression test: the exit code was that of an unreadable log, although the command verifies it.
#[test]
fn a_damaged_list_of_executions_is_a_finding() {
    let made = Made::new();
    let open: Opens = |path| Ok(Box::new(NoList(open_reader(path)?)));
    let ran = made.verify(open, "");
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.out.contains("an entry of the listing"), "{ran}");
    let ran = made.verify(open, " --json");
    assert_eq!(ran.code, 5, "{ran}");
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((&json["ok"], json["whole"]["unreadable"].is_string()), (&false.into(), true));
}

#[test]
fn a_log_of_which_nothing_can_be_read_is_not_what_was_written() {
    let made = Made::new();
    fs::remove_file(made.path().join("head")).unwrap();
    let ran = made.verify(open_reader, "");
    assert_eq!(ran.code, 5, "{ran}");
    assert!(ran.out.contains("\nintact: 9 executions") && ran.out.contains("`head`) is missing"), "{ran}");
    fs::remove_dir_all(made.path().join("segments")).unwrap();
    let ran = made.verify(open_reader, "");
    assert_eq!((ran.code, ran.out.as_str()), (5, ""));
    assert!(ran.err.contains("its head file") && !ran.err.contains("hint: replay verify --all"), "{ran}");
}

/// A reader of a log in which, after its executions are listed, one is pruned and a value of another is erased.
struct ChangedMeanwhile(Box<dyn LogReader>, Once);

impl ChangedMeanwhile {
    fn change(&self) -> Result<(), ChangeError> {
        let keeper = open_keeper(Path::new(&self.0.location())).unwrap();
        let stream = |of: u32| StreamId::from_bytes(id(of).0);
        let head = keeper.stream(stream(histories::COMPLETED))?.head;
        let prune = Prune {
            streams: vec![(stream(histories::COMPLETED), head)],
            archive: None,
            reason: "old".to_owned(),
            by: "ann".to_owned(),
        };
        keeper.change(Change::Prune(prune))?;
        let (reason, by) = ("asked to".to_owned(), "ann".to_owned());
        let events = entries(&*keeper, id(histories::BRANCHES)).map(Result::unwrap);
        let events: Vec<(u64, Event)> = events.map(|entry| (entry.seq, entry.event.unwrap())).collect();
        let is_value = |(_, event): &&(u64, Event)| matches!(event, Event::ContextWritten(_));
        let value = What::Seq(events.iter().find(is_value).unwrap().0);
        let planned = plan(&events, &[value]).unwrap();
        let records = planned.iter().map(|(seq, left)| (*seq, encode_event(left))).collect();
        let erase = Erase { stream: stream(histories::BRANCHES), records, reason, by };
        keeper.change(Change::Erase(erase)).map(drop)
    }
}

impl LogReader for ChangedMeanwhile {
    read_through!(self => self.0; read, streams, tail, tree, erasures, definition, head, location);

    fn stream(&self, stream: StreamId) -> Result<StreamEntry, ReadError> {
        self.1.call_once(|| self.change().unwrap());
        self.0.stream(stream)
    }
}

/// Regression test: `replay verify --all` during `cloaca log prune` said that an intact log was damaged.
#[test]
fn what_was_pruned_while_it_was_verified_is_no_damage_and_said() {
    let open: Opens = |path| Ok(Box::new(ChangedMeanwhile(open_reader(path)?, Once::new())));
    let ran = Made::new().verify(open, "");
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("ok: 8 executions and "), "{ran}");
    assert!(ran.out.contains("; 1 execution with erased values; 1 execution pruned meanwhile"), "{ran}");
    let ran = Made::new().verify(open, " --json");
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!((ran.code, &json["ok"], &json["whole"]["pruned_meanwhile"]), (0, &true.into(), &1.into()));
}
