//! Writes the seed corpus of the fuzzer: golden data, and the stored bytes, requests and answers of logs with many kinds of
//! executions. Needed only for a new target or a changed format: the fuzzer itself extends the corpus much further.
//!
//!     cargo run -p cloacina-fuzz --bin seeds -- target/fuzz/seeds

// A tool of the tests: it fails by panicking.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cloacina_store::archive::{Selected, write_archive};
use cloacina_store::keeper::{Change, Erase, Import, Keeper, Prune};
use cloacina_store::log::{Batch, Definition, EventLog, Frame, Listing, LogReader};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use cloacina_store::{Options, compact, open, seal};

struct Seeds(PathBuf);

impl Seeds {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) {
        let folder = self.0.join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Writes the golden events, archives, checkpoints and proofs, and the labels, definitions and histories in the archive.
fn golden(seeds: &Seeds, golden: &Path) {
    for entry in fs::read_dir(golden.join("events-v1")).unwrap() {
        let path = entry.unwrap().path();
        seeds.put("event", &path.file_stem().unwrap().to_string_lossy(), &unhex(&fs::read_to_string(&path).unwrap()));
    }
    for entry in fs::read_dir(golden.join("archive-v1")).unwrap() {
        let path = entry.unwrap().path();
        let target = match path.extension().and_then(|extension| extension.to_str()) {
            Some("cloaca") => "archive",
            Some("checkpoint") => "checkpoint",
            _ => "proof",
        };
        seeds.put(target, &path.file_name().unwrap().to_string_lossy(), &fs::read(&path).unwrap());
    }
    let archive = cloacina_store::archive::open_archive(&golden.join("archive-v1/three.cloaca")).unwrap();
    for entry in archive.streams(&cloacina_store::log::StreamFilter { limit: 10, ..Default::default() }).unwrap() {
        seeds.put("label", &entry.stream.to_string(), &entry.label);
        let records = archive.read(entry.stream, 0, usize::MAX).unwrap();
        for fingerprint in archive.definitions() {
            let definition = archive.definition(fingerprint).unwrap().unwrap();
            seeds.put("definition", &fingerprint.to_string(), &definition);
            let bodies = records.iter().filter_map(|record| record.body.bytes());
            let parts = std::iter::once(&*definition).chain(bodies);
            let history: Vec<u8> = parts
                .flat_map(|part| [&u16::try_from(part.len()).unwrap_or(0).to_be_bytes()[..], part].concat())
                .collect();
            seeds.put("history", &format!("{}-{fingerprint}", entry.stream), &history);
        }
    }
}

fn batch(number: u8, bodies: &[&[u8]], seq: u64, listing: Listing) -> Batch {
    let frame = Frame {
        stream: StreamId::from_bytes([number; 16]),
        kind: StreamKind::Execution,
        expected_seq: seq,
        time: Timestamp(1),
        bodies: bodies.iter().map(|body| body.to_vec()).collect(),
        listing,
    };
    let bytes: &[u8] = b"source";
    let definition = Definition { fingerprint: seal::fingerprint(bytes), bytes: bytes.into() };
    Batch { frames: vec![frame], definitions: vec![definition] }
}

fn write(log: &dyn EventLog) {
    log.append(batch(7, &[b"a", b"b"], 0, Listing::Open(b"label".to_vec()))).unwrap();
    log.append(batch(7, &[b"c"], 2, Listing::Closed(b"done".to_vec()))).unwrap();
    log.append(batch(8, &[b"d"], 0, Listing::Open(b"label".to_vec()))).unwrap();
}

/// Every structure in a segment begins with eight bytes: its type and its length.
fn length_of(bytes: &[u8]) -> usize {
    usize::try_from(u32::from_be_bytes(bytes[4..8].try_into().unwrap())).unwrap()
}

/// The lengths of the headers of a segment and of a group.
const SEGMENT_HEADER: usize = 80;
const GROUP_HEADER: usize = 112;

/// Writes the contents of a log: everything behind the header of its segment, and each structure by itself.
fn segment(seeds: &Seeds, name: &str, log: &Path) {
    let segment = fs::read(log.join("segments/0000000001")).unwrap();
    let (header, groups) = segment.split_at(SEGMENT_HEADER);
    seeds.put("segment", name, groups);
    seeds.put("layout", &format!("{name}-segment"), header);
    seeds.put("layout", &format!("{name}-head"), &fs::read(log.join("head")).unwrap());
    let mut rest = groups;
    while rest.len() > GROUP_HEADER {
        let at = groups.len() - rest.len();
        let (group, after) = rest.split_at(length_of(rest));
        seeds.put("layout", &format!("{name}-group-{at}"), &group[..GROUP_HEADER]);
        let mut items = &group[GROUP_HEADER..];
        while !items.is_empty() {
            let (item, others) = items.split_at(length_of(items));
            let target = if item[0] == b'F' { "frame" } else { "layout" };
            seeds.put(target, &format!("{name}-{at}-{}", others.len()), item);
            items = others;
        }
        rest = after;
    }
}

/// Writes the stored bytes of logs: appended to, erased and pruned, imported into, compacted.
fn stored(seeds: &Seeds) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    write(&log);
    for record in log.read(StreamId::LOG, 0, 10).unwrap() {
        seeds.put("log_event", &record.seq.to_string(), record.body.bytes().unwrap());
    }
    log.close().unwrap();
    segment(seeds, "written", &path);
    for (number, entry) in cloacina_store::fuzzing::index_entries(&path).unwrap().into_iter().enumerate() {
        seeds.put("index_entry", &number.to_string(), &entry);
    }
    let log = open(&path, &Options::default()).unwrap();
    let stream = StreamId::from_bytes([7; 16]);
    let archive = directory.path().join("archive");
    let archived = write_archive(&log, &[Selected::stream(stream)], &archive, Timestamp(1)).unwrap();
    let (reason, by) = ("asked to".to_owned(), "ann".to_owned());
    let erase = Erase { stream, records: vec![(1, b"note".to_vec())], reason: reason.clone(), by: by.clone() };
    log.change(Change::Erase(erase)).unwrap();
    let streams = vec![(stream, log.stream(stream).unwrap().head)];
    log.change(Change::Prune(Prune { streams, archive: Some(archived.digest), reason, by })).unwrap();
    log.change(Change::Import(Import { archive, digest: archived.digest })).unwrap();
    for record in log.read(StreamId::LOG, 3, 10).unwrap() {
        seeds.put("log_event", &record.seq.to_string(), record.body.bytes().unwrap());
    }
    log.close().unwrap();
    segment(seeds, "changed", &path);
    compact(&path).unwrap();
    segment(seeds, "anew", &path);
}

/// Sends every request of the protocol to a log in a directory.
fn requests(seeds: &Seeds) {
    const VERSION: u8 = 4;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    write(&log);
    let (stream, other, hash, text) = ([7; 16], [8; 16], [0; 32], [1, b'x']);
    let checkpoint = [&hash[..], &[1], &hash, &[1], &hash, &[2], &hash, &[0; 64]].concat();
    let requests = [
        [&[0][..], &stream, &[0, 9]].concat(),
        [&[0][..], &[9; 16], &[0, 9]].concat(),
        [&[1][..], &stream].concat(),
        [&[2, 1, 0, 1, 1, 2][..], &stream, &[9]].concat(),
        vec![3, 1, 9],
        [&[4][..], &seal::fingerprint(b"source").0].concat(),
        vec![5],
        vec![6, 1, 1],
        vec![7],
        vec![8, 0, 9],
        vec![9, 1, 9],
        vec![10],
        [&[11, 0][..], &other, &[1, 1], &text, &text, &text].concat(),
        [&[11, 1, 1][..], &stream, &hash, &[1], &hash, &text, &text].concat(),
        [&[11, 2][..], &text, &hash].concat(),
        [&[11, 3][..], &checkpoint].concat(),
    ];
    for (place, request) in requests.into_iter().enumerate() {
        let request = [&[VERSION][..], &request].concat();
        let message = [&u32::try_from(request.len()).unwrap().to_be_bytes()[..], &request].concat();
        let mut socket = UnixStream::connect(path.join("socket")).unwrap();
        socket.write_all(&message).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).unwrap();
        seeds.put("request", &place.to_string(), &request);
        seeds.put("message", &place.to_string(), &message);
        seeds.put("answer", &place.to_string(), &answer[4..]);
    }
}

fn texts(seeds: &Seeds) {
    let texts: [(&str, &[&str]); 4] = [
        ("format_file", &["cloacina-log 1\n", "cloacina-log 7\n"]),
        (
            "json",
            &[r#"{"a":[1,2.50,-1e400,null,true],"b":{"c":"\u00e9\ud83d\ude00"}}"#, "123456789012345678901234567890"],
        ),
        ("cron", &["30 2 * * *\nEurope/Berlin", "0 0 29 2 MON#1", "@daily", "*/5 1-3,7 L JAN-MAR 5L", "0 0 30 2 *"]),
        (
            "command_line",
            &[
                "latest",
                "9f3ac1d2\n--at\n+2.5s\n--json",
                "list\n--since\n7d\n--status\nFailed\n--limit\n3",
                "list\n--since\n2026-11-24",
                "@-\nwhy\nkey\n--at\n2026-11-24T03:22:10.5+01:00",
                "…ac1d2\nexport\n--to\narchive\n-o\nx",
                "verify\n--proof\nx\n--checkpoint\ny\n--key\n00",
                "-9223372036854775808 us",
            ],
        ),
    ];
    for (target, texts) in texts {
        for (number, text) in texts.iter().enumerate() {
            seeds.put(target, &number.to_string(), text.as_bytes());
        }
    }
}

fn main() {
    let folder = std::env::args_os().nth(1).map(PathBuf::from).unwrap_or_else(|| PathBuf::from("target/fuzz/seeds"));
    let seeds = Seeds(folder);
    golden(&seeds, &Path::new(env!("CARGO_MANIFEST_DIR")).join("../golden"));
    stored(&seeds);
    requests(&seeds);
    texts(&seeds);
}
