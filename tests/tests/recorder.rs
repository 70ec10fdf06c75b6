//! Tests of the recorder behind the power-cut and fault tests: it records every system call, also those that bypass the C library;
//! it refuses unsupported ones; and a program that acknowledges too early is detected.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::powercut::dice::Dice;
use crate::powercut::disk::{Disk, HonouredSyncs};
use crate::powercut::recording::{Event, FileRef};
use crate::powercut::victim::{self, Run};

/// The recorded events of each step of `calls.c`.
const EVERY_CALL: &[(&str, &[&str])] = &[
    ("mkdir of the first", &["mkdir d"]),
    ("open a directory", &["open d"]),
    ("openat", &["open d/a"]),
    ("write", &["write d/a 0 hello"]),
    ("pwrite", &["write d/a 5 world"]),
    ("writev", &["write d/a 5 onetwo!"]),
    ("pwritev", &["write d/a 100 onetwo!"]),
    ("pwritev2", &["write d/a 200 one"]),
    ("dup", &[]),
    ("write to a dup", &["write d/a 12 again"]),
    ("close", &[]),
    ("write of a thread", &["write d/a 17 thread"]),
    ("write of a child", &["write d/a 23 child"]),
    ("ftruncate", &["truncate d/a 150"]),
    ("truncate", &["truncate d/a 120"]),
    ("fsync", &["sync begins d/a", "Fsync ends"]),
    ("fdatasync", &["sync begins d/a", "Fdatasync ends"]),
    ("sync_file_range", &["range"]),
    ("fsync of a directory", &["sync begins d", "Fsync ends"]),
    ("fallocate", &["allocate d/a 0..8192 mode 0"]),
    ("fallocate beyond the end", &["allocate d/a 0..16384 mode 1"]),
    ("a hole", &["allocate d/a 2..8 mode 3"]),
    ("a range of zeros", &["allocate d/a 8000..9000 mode 16"]),
    ("open to copy", &["open c"]),
    ("copy_file_range", &["write c 50 he\0\0\0\0\0\0two!againthr"]),
    ("sendfile", &["write c 0 he\0\0\0\0\0"]),
    ("splice", &["write c 7 spliced"]),
    ("open to append", &["open c"]),
    ("append", &["write c 70 end"]),
    ("append by pwrite", &["write c 73 more"]),
    ("open to read", &["open c"]),
    ("map to read", &[]),
    ("map as one's own", &[]),
    ("rename", &["rename c e"]),
    ("rename into a directory", &["rename e d/e"]),
    ("renameat2", &["rename d/e f"]),
    ("mkdir", &["mkdir g"]),
    ("exchange", &["exchange d g"]),
    ("exchange a file", &["exchange g/a f"]),
    ("link", &["link d/a h"]),
    ("linkat", &["link d/a g/i"]),
    ("open without a name", &["open (deleted)"]),
    ("write without a name", &["write (deleted) 0 none"]),
    ("give it a name", &["link (deleted) j"]),
    ("symlink", &["symlink j k"]),
    ("open through a symlink", &["open j"]),
    ("write through a symlink", &["write j 0 N"]),
    ("open through a descriptor", &["open g/l"]),
    ("write to it", &["write g/l 0 l"]),
    ("unlink", &["unlink h"]),
    ("write to what has no name any more", &["write g/l 1 l"]),
    ("unlinkat", &["unlink g/i"]),
    ("rmdir", &["unlink d"]),
    ("mkdirat", &["mkdir g/m"]),
    ("creat", &["open n"]),
    ("end", &[]),
];

/// Runs `calls.c` on an empty disk, with an optional fault.
fn calls(recorder: &Path, arguments: [&str; 2], disk: &Path, fault: Option<&str>) -> Run {
    static BUILT: LazyLock<PathBuf> = LazyLock::new(|| victim::compiled("calls", &["calls.c"]).unwrap());
    fs::create_dir(disk).unwrap();
    let mut command = Command::new(recorder);
    command.arg(&*BUILT).args(arguments).args([disk.to_owned(), victim::marks_beside(disk)]);
    victim::run(command, disk, fault).unwrap()
}

/// Formats events, with files named by the path of their last open, grouped by the mark before them.
fn describe_events(events: &[Event]) -> Vec<(String, Vec<String>)> {
    let (mut root, mut names, mut steps) = (String::new(), HashMap::new(), Vec::<(String, Vec<String>)>::new());
    for event in events {
        let short = |path: &str| match path.ends_with("(deleted)") {
            true => "(deleted)".to_owned(),
            false => path.strip_prefix(&root).unwrap().trim_start_matches('/').to_owned(),
        };
        let named = |file: &FileRef| match file {
            FileRef::Opened(file) => String::clone(&names[file]),
            FileRef::At(path) => short(path),
        };
        let words = match event {
            Event::Root(path) => {
                root.clone_from(path);
                continue;
            }
            Event::Mark(mark) => {
                steps.push((mark.clone(), Vec::new()));
                continue;
            }
            Event::Open { file, path, .. } => {
                let name = short(path);
                names.insert(*file, name.clone());
                format!("open {name}")
            }
            Event::Write { file, offset, data } => {
                format!("write {} {offset} {}", names[file], String::from_utf8_lossy(data))
            }
            Event::Truncate { file, length } => format!("truncate {} {length}", named(file)),
            Event::Allocate { file, range, mode } => format!("allocate {} {range:?} mode {mode}", names[file]),
            Event::Rename { from, to } => format!("rename {} {}", short(from), short(to)),
            Event::Exchange { one, other } => format!("exchange {} {}", short(one), short(other)),
            Event::Link { file, to } => format!("link {} {}", named(file), short(to)),
            Event::Symlink { target, path } => format!("symlink {target} {}", short(path)),
            Event::Unlink { path } => format!("unlink {}", short(path)),
            Event::MakeDirectory { path } => format!("mkdir {}", short(path)),
            Event::SyncBegins { file, .. } => format!("sync begins {}", names[file]),
            Event::SyncEnds { by, .. } => format!("{by:?} ends"),
            Event::Range => "range".to_owned(),
            Event::Fault(kind) => format!("fault {kind}"),
        };
        steps.last_mut().unwrap().1.push(words);
    }
    steps
}

/// Returns the contents of a directory by path.
fn tree(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(tree(&entry.path()).into_iter().map(|(below, content)| (format!("{name}/{below}"), content)));
            found.insert(name, b"a directory".to_vec());
        } else if kind.is_symlink() {
            found.insert(name, fs::read_link(entry.path()).unwrap().into_os_string().into_encoded_bytes());
        } else {
            found.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn every_call_is_recorded_through_the_c_library_or_directly() {
    let Some(recorder) = victim::recorder() else { return };
    for how in ["libc", "raw"] {
        let place = tempfile::tempdir().unwrap();
        let (disk, empty, out) = (place.path().join("disk"), place.path().join("empty"), place.path().join("out"));
        let run = calls(recorder, ["every", how], &disk, None);
        assert!(run.status.success(), "{how}: {} {}", run.status, run.stderr);
        let steps = describe_events(&run.events);
        let marks: Vec<&str> = steps.iter().map(|(mark, _)| mark.as_str()).collect();
        assert_eq!(marks, EVERY_CALL.iter().map(|(mark, _)| *mark).collect::<Vec<_>>(), "{how}");
        for ((mark, seen), (_, expected)) in steps.iter().zip(EVERY_CALL) {
            // Not every file system supports it.
            let may_be_missing = mark == "a range of zeros" && seen.is_empty();
            assert!(may_be_missing || seen == expected, "{how}: {mark}: {seen:?}, expected {expected:?}");
        }
        fs::create_dir(&empty).unwrap();
        let mut model = Disk::of(&empty, HonouredSyncs::All);
        run.events.iter().for_each(|event| model.apply(event));
        model.write_out(&out);
        assert_eq!(tree(&out), tree(&disk), "{how}: the simulated disk differs from the real one");
    }
}

#[test]
fn an_unsupported_call_ends_the_program() {
    let Some(recorder) = victim::recorder() else { return };
    let calls_of_it = [
        "mmap",
        "mprotect",
        "clone",
        "io_uring",
        "aio",
        "sync",
        "syncfs",
        "dsync",
        "dsync-write",
        "collapse",
        "mknod",
        "rename-out",
        "link-in",
    ];
    for call in calls_of_it {
        let place = tempfile::tempdir().unwrap();
        let run = calls(recorder, ["refused", call], &place.path().join("disk"), None);
        assert_eq!(run.status.code(), Some(95), "{call}: {}", run.stderr);
        assert!(run.stderr.contains("unsupported"), "{call}: {}", run.stderr);
    }
    let place = tempfile::tempdir().unwrap();
    let run = calls(recorder, ["refused", "nothing"], &place.path().join("disk"), None);
    assert!(run.status.success(), "{}", run.stderr);
}

#[test]
fn a_fault_is_injected_into_a_direct_call() {
    let Some(recorder) = victim::recorder() else { return };
    let faults = [
        ("open:2:5:once", "openat: Input/output error"),
        ("write:3:28:once", "writev: No space left on device"),
        ("sync:2:5:once", "fdatasync: Input/output error"),
        ("truncate:2:5:once", "truncate: Input/output error"),
        ("rename:4:5:once", "exchange: Input/output error"),
        ("unlink:3:5:once", "rmdir: Input/output error"),
        ("mkdir:2:5:once", "mkdir: Input/output error"),
        ("allocate:1:28:once", "fallocate: No space left on device"),
        ("link:2:5:once", "linkat: Input/output error"),
    ];
    for (fault, stderr) in faults {
        for how in ["libc", "raw"] {
            let place = tempfile::tempdir().unwrap();
            let run = calls(recorder, ["every", how], &place.path().join("disk"), Some(fault));
            assert_eq!((run.status.code(), run.stderr.trim()), (Some(4), stderr), "{fault} {how}");
        }
    }
}

/// Runs the recorder under itself: a process can have only one tracer.
#[test]
fn the_recorder_reports_that_it_may_not_trace() {
    let Some(recorder) = victim::recorder() else { return };
    let run = Command::new(recorder).arg(recorder).args(["true"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(victim::NOT_PERMITTED), "{stderr}");
    assert!(stderr.contains("cannot be traced here"), "{stderr}");
}

/// Counts the cuts that lose an acknowledged write, and those that lose an acknowledged exchange.
fn losses(recorder: &Path, when: &str, how: &str, images: u64) -> (usize, usize) {
    let place = tempfile::tempdir().unwrap();
    let (root, empty) = (place.path().join("disk"), place.path().join("empty"));
    let run = calls(recorder, [when, how], &root, None);
    assert!(run.status.success(), "{}", run.stderr);
    fs::create_dir(&empty).unwrap();
    let (mut lost, mut unswapped) = (0, 0);
    for image in 0..images {
        let mut dice = Dice::new(&[image]);
        let moment = usize::try_from(dice.below(run.events.len() as u64)).unwrap() + 1;
        let mut disk = Disk::of(&empty, HonouredSyncs::All);
        run.events[..moment].iter().for_each(|event| disk.apply(event));
        let out = place.path().join(format!("image{image}"));
        disk.cut(&mut dice, &out);
        let marks = || run.events[..moment].iter().filter(|event| matches!(event, Event::Mark(_)));
        let content = fs::read(out.join("a")).unwrap_or_default();
        let number = |byte: u8| usize::from(byte);
        let is_there = |record: &u8| {
            let from = (number(*record) - 1) * 512;
            content.get(from..from + 512).is_some_and(|bytes| bytes.iter().all(|byte| byte == record))
        };
        let acknowledged = u8::try_from(marks().count().min(60)).unwrap();
        lost += usize::from(!(1..=acknowledged).all(|record| is_there(&record)));
        // An exchange that was not acknowledged may have happened.
        if let Some(swaps) = marks().count().checked_sub(60).filter(|swaps| *swaps > 0) {
            let begun = run.events[..moment].iter().filter(|event| matches!(event, Event::Exchange { .. })).count();
            let is_old = out.join("old/it").exists() == (swaps % 2 == 1);
            unswapped += usize::from(begun == swaps && !is_old);
        }
        fs::remove_dir_all(&out).unwrap();
    }
    (lost, unswapped)
}

#[test]
fn a_program_that_acknowledges_before_its_sync_is_detected() {
    let Some(recorder) = victim::recorder() else { return };
    for how in ["libc", "raw"] {
        assert_eq!(losses(recorder, "late", how, 120), (0, 0), "{how}");
        let (lost, unswapped) = losses(recorder, "early", how, 120);
        println!("{how}, acknowledged before the sync: {lost} of 120 cuts lost a write, {unswapped} a swap");
        assert!(lost > 3 && unswapped > 3, "{how}: {lost} {unswapped}");
    }
}
