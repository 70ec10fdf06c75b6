//! Reads the recordings of `record.c`.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

/// One recorded event.
#[derive(Clone, Debug)]
pub enum Event {
    /// The file has this number from here on; each open gives it a new one.
    Open {
        file: i32,
        /// As for open(2).
        flags: i64,
        path: String,
    },
    Write {
        file: i32,
        offset: usize,
        data: Rc<[u8]>,
    },
    Truncate {
        file: FileRef,
        length: usize,
    },
    Allocate {
        file: i32,
        range: Range<usize>,
        /// As for fallocate(2).
        mode: i32,
    },
    Rename {
        from: String,
        to: String,
    },
    /// Two names are exchanged.
    Exchange {
        one: String,
        other: String,
    },
    Link {
        file: FileRef,
        to: String,
    },
    Symlink {
        target: String,
        path: String,
    },
    /// Of a file or a directory.
    Unlink {
        path: String,
    },
    MakeDirectory {
        path: String,
    },
    SyncBegins {
        file: i32,
        thread: i64,
    },
    SyncEnds {
        thread: i64,
        by: Sync,
    },
    /// sync_file_range, which guarantees nothing after a power cut.
    Range,
    Mark(String),
    /// A call that was made to fail.
    Fault(String),
    /// The recorded directory.
    Root(String),
}

/// A file by its number or, if it was never opened, by its path.
#[derive(Clone, Debug)]
pub enum FileRef {
    Opened(i32),
    At(String),
}

/// The system call of a sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Fsync,
    Fdatasync,
}

/// Reads a recording. An incomplete last record is ignored: the program was killed.
pub fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<25>() {
        let number = |from: usize| i64::from_le_bytes(head[from..from + 8].try_into().unwrap());
        let count = u32::from_le_bytes(head[21..].try_into().unwrap()) as usize;
        let Some((data, after)) = after.split_at_checked(count) else { break };
        let file = i32::from_le_bytes(head[1..5].try_into().unwrap());
        events.push(event(head[0], file, number(5), number(13), data));
        rest = after;
    }
    events
}

fn event(kind: u8, file: i32, offset: i64, length: i64, data: &[u8]) -> Event {
    let text = || String::from_utf8(data.to_vec()).unwrap();
    let two = || {
        let both = text();
        let (first, second) = both.split_once('\n').unwrap();
        (first.to_owned(), second.to_owned())
    };
    let size = |number: i64| usize::try_from(number).unwrap();
    let or_at = |path: String| if file < 0 { FileRef::At(path) } else { FileRef::Opened(file) };
    match kind {
        1 => Event::Open { file, flags: offset, path: text() },
        3 => Event::Write { file, offset: size(offset), data: data.into() },
        4 => Event::Truncate { file: or_at(text()), length: size(length) },
        5 => {
            let (from, to) = two();
            Event::Rename { from, to }
        }
        6 => Event::Unlink { path: text() },
        7 => Event::MakeDirectory { path: text() },
        8 | 10 => Event::SyncBegins { file, thread: offset },
        9 => Event::SyncEnds { thread: offset, by: Sync::Fsync },
        11 => Event::SyncEnds { thread: offset, by: Sync::Fdatasync },
        12 => Event::Range,
        13 => Event::Mark(text()),
        14 => Event::Fault(text()),
        15 => Event::Root(text()),
        16 => {
            let (one, other) = two();
            Event::Exchange { one, other }
        }
        17 => {
            let (from, to) = two();
            Event::Link { file: or_at(from), to }
        }
        18 => {
            let range = size(offset)..size(offset) + size(length);
            Event::Allocate { file, range, mode: i32::from_le_bytes(data.try_into().unwrap()) }
        }
        19 => {
            let (target, path) = two();
            Event::Symlink { target, path }
        }
        other => panic!("no event has the number {other}"),
    }
}
