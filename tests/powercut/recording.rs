//! What `record.c` wrote down, read back.

use std::fs;
use std::path::Path;
use std::rc::Rc;

/// One thing that happened, in order.
#[derive(Clone, Debug)]
pub enum Event {
    Open {
        descriptor: i32,
        /// As for open(2).
        flags: i64,
        path: String,
    },
    Close {
        descriptor: i32,
    },
    Write {
        descriptor: i32,
        offset: usize,
        data: Rc<[u8]>,
    },
    Truncate {
        descriptor: i32,
        length: usize,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        path: String,
    },
    MakeDirectory {
        path: String,
    },
    SyncBegins {
        descriptor: i32,
        by: Sync,
    },
    SyncEnds {
        descriptor: i32,
        by: Sync,
    },
    /// sync_file_range, which promises nothing over a power cut.
    Range,
    Mark(String),
    /// A call that was made to fail.
    Fault(String),
    /// The directory below which everything happens.
    Root(String),
}

/// Which call syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    Fsync,
    Fdatasync,
}

/// Reads a recording. One that ends in the middle of a record ends before it: the program was killed.
pub fn read(path: &Path) -> Vec<Event> {
    let bytes = fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut events = Vec::new();
    while let Some((head, after)) = rest.split_first_chunk::<25>() {
        let number = |from: usize| i64::from_le_bytes(head[from..from + 8].try_into().unwrap());
        let count = u32::from_le_bytes(head[21..].try_into().unwrap()) as usize;
        let Some((data, after)) = after.split_at_checked(count) else { break };
        let descriptor = i32::from_le_bytes(head[1..5].try_into().unwrap());
        events.push(event(head[0], descriptor, number(5), number(13), data));
        rest = after;
    }
    events
}

fn event(kind: u8, descriptor: i32, offset: i64, length: i64, data: &[u8]) -> Event {
    let text = || String::from_utf8(data.to_vec()).unwrap();
    match kind {
        1 => Event::Open { descriptor, flags: offset, path: text() },
        2 => Event::Close { descriptor },
        3 => Event::Write { descriptor, offset: offset.try_into().unwrap(), data: data.into() },
        4 => Event::Truncate { descriptor, length: length.try_into().unwrap() },
        5 => {
            let both = text();
            let (from, to) = both.split_once('\n').unwrap();
            Event::Rename { from: from.to_owned(), to: to.to_owned() }
        }
        6 => Event::Unlink { path: text() },
        7 => Event::MakeDirectory { path: text() },
        8 => Event::SyncBegins { descriptor, by: Sync::Fsync },
        9 => Event::SyncEnds { descriptor, by: Sync::Fsync },
        10 => Event::SyncBegins { descriptor, by: Sync::Fdatasync },
        11 => Event::SyncEnds { descriptor, by: Sync::Fdatasync },
        12 => Event::Range,
        13 => Event::Mark(text()),
        14 => Event::Fault(text()),
        15 => Event::Root(text()),
        other => panic!("no event has the number {other}"),
    }
}
