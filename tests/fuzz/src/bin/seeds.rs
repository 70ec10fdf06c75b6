//! Writes what the fuzzer begins with: golden data, and what logs with executions of many kinds hold, ask and answer. Only
//! needed where a target is new, or its format has grown: the fuzzer itself makes more of a corpus than this does.
//!
//!     cargo run -p cloacina-fuzz --bin seeds -- target/fuzz/seeds

// A tool of the tests: it fails by panicking.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use cloacina_store::log::{Batch, Definition, EventLog, Frame, Listing, LogReader};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use cloacina_store::{MemoryDisk, MemoryLog, Options, open, seal};

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

/// Events, archives, checkpoints and proofs as they are kept; what the archive holds is also labels, definitions, histories.
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

fn values(seeds: &Seeds) {
    let disk = MemoryDisk::new();
    let log = MemoryLog::open(&disk).unwrap();
    write(&log);
    log.close().unwrap();
    for (number, key) in disk.keys().into_iter().enumerate() {
        seeds.put("key", &number.to_string(), &key);
        seeds.put("value", &number.to_string(), &disk.value(&key).unwrap());
    }
    for record in log.read(StreamId::LOG, 0, 10).unwrap() {
        seeds.put("log_event", &record.seq.to_string(), record.body.bytes().unwrap());
    }
}

/// Asks a log in a directory all that can be asked, in the bytes of FORMAT's protocol.
fn questions(seeds: &Seeds) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    write(&log);
    let (stream, hash, number, text) = ([7; 16], [0; 32], [0, 0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, b'x']);
    let limit = [0, 0, 0, 9];
    let checkpoint = [&hash[..], &number, &hash, &[0, 0, 0, 1], &hash, &number, &hash, &[0; 64]].concat();
    let requests = [
        (1, [&stream[..], &[0; 8], &limit].concat()),
        (1, [&[9; 16][..], &[0; 8], &limit].concat()),
        (2, stream.to_vec()),
        (3, [&[1, 1, 0, 0][..], &stream, &limit].concat()),
        (4, [&number[..], &limit].concat()),
        (5, seal::fingerprint(b"source").0.to_vec()),
        (6, Vec::new()),
        (7, Vec::new()),
        (8, [&number[..], &limit].concat()),
        (9, [&[8; 16][..], &[0, 0, 0, 1], &number, &text, &text, &text].concat()),
        (10, [&stream[..], &hash, &[1], &hash, &text, &text].concat()),
        (11, [&hash[..], &text].concat()),
        (12, checkpoint),
        (13, [&[0; 8][..], &limit].concat()),
        (14, [&number[..], &limit].concat()),
    ];
    for (place, (number, fields)) in requests.into_iter().enumerate() {
        let request = [&[2_u8, number][..], &fields].concat();
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

/// sled's files of a log that was closed, after one execution and after some more.
fn files(seeds: &Seeds) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    for round in 0..3_u8 {
        let log = open(&path, &Options::default()).unwrap();
        log.append(batch(20 + round, &[b"a", b"b"], 0, Listing::Open(b"label".to_vec()))).unwrap();
        log.append(batch(20 + round, &[b"c"], 2, Listing::Closed(b"done".to_vec()))).unwrap();
        log.close().unwrap();
        seeds.put("sled_files", &round.to_string(), &cloacina_store::fuzzing::sled_input(&path).unwrap());
    }
}

/// What stands behind the header of a segment.
fn segments(seeds: &Seeds) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    write(&log);
    log.close().unwrap();
    let segment = fs::read(path.join("segments/0000000001")).unwrap();
    seeds.put("segment", "written", &segment[8..]);
}

/// The journal of a log that is open, as far as it is written; its last entry by itself; and one that is torn.
fn journals(seeds: &Seeds) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    write(&log);
    log.append(batch(9, &[&[b'x'; 1_200]], 0, Listing::Open(b"label".to_vec()))).unwrap();
    let journal = fs::read(path.join("journal")).unwrap();
    // It may be that only its second half is written to.
    let is_used = |sector: &&[u8]| sector.iter().any(|byte| *byte != 0);
    let sectors = journal.chunks(512).skip_while(|sector| !is_used(sector)).take_while(is_used);
    let mut journal: Vec<u8> = sectors.flatten().copied().collect();
    let used = journal.len() / 512;
    let entry: Vec<u8> = journal.chunks(512).take(1).flat_map(|sector| sector[20..].to_vec()).collect();
    let length = usize::try_from(u32::from_be_bytes(journal[16..20].try_into().unwrap())).unwrap();
    seeds.put("journal", "entry", &entry[..length.min(entry.len())]);
    seeds.put("journal", "written", &journal);
    journal[(used - 2) * 512..][..512].fill(0);
    seeds.put("journal", "torn", &journal);
    log.close().unwrap();
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
    values(&seeds);
    questions(&seeds);
    files(&seeds);
    journals(&seeds);
    segments(&seeds);
    texts(&seeds);
}
