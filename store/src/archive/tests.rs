//! Tests that an archive reads like its log, and that arbitrary bytes are rejected safely.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::index::{Unreadable, read_through};
use super::*;
use crate::log::{
    Batch, Definition, EventLog, Frame, Listing, LogReader, OpenError, ReadError, StreamEntry, StreamFilter,
};
use crate::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use crate::{MemoryDisk, MemoryLog, open_reader, seal};

fn stream(number: u8) -> StreamId {
    StreamId::from_bytes([number; 16])
}

fn frame(number: u8, expected_seq: u64, bodies: &[&[u8]], listing: Listing) -> Frame {
    let bodies = bodies.iter().map(|body| body.to_vec()).collect();
    let time = Timestamp(i64::from(number));
    Frame { stream: stream(number), kind: StreamKind::Execution, expected_seq, time, bodies, listing }
}

/// A log with interleaved streams, long bodies and a definition.
fn log() -> MemoryLog {
    let log = MemoryLog::open(&MemoryDisk::new()).unwrap();
    let definitions = vec![Definition { fingerprint: seal::fingerprint(b"d"), bytes: b"d".as_slice().into() }];
    let frames = vec![frame(1, 0, &[b"a", b"b"], Listing::Open(b"one".to_vec())), frame(2, 0, &[b"x"], Listing::Keep)];
    log.append(Batch { definitions, frames }).unwrap();
    for seq in 1..400 {
        let long = vec![seq as u8; if seq % 100 == 0 { 900_000 } else { 30 }];
        log.append(Batch { frames: vec![frame(2, seq, &[&long], Listing::Keep)], ..Batch::default() }).unwrap();
    }
    let frames = vec![frame(1, 2, &[b"c"], Listing::Closed(b"one, over".to_vec()))];
    log.append(Batch { frames, ..Batch::default() }).unwrap();
    log
}

fn both() -> Vec<Selected> {
    vec![
        Selected { stream: stream(1), definitions: vec![seal::fingerprint(b"d")] },
        Selected { stream: stream(2), definitions: vec![seal::fingerprint(b"d")] },
    ]
}

fn archived(selected: &[Selected]) -> (MemoryLog, TempDir, PathBuf, Archived) {
    let (log, directory) = (log(), tempfile::tempdir().unwrap());
    let path = directory.path().join("some.cloaca");
    let archived = write_archive(&log, selected, &path, Timestamp(77)).unwrap();
    (log, directory, path, archived)
}

#[test]
fn an_archive_is_read_as_its_log_is() {
    let (log, _directory, path, archived) = archived(&both());
    let archive = open_archive(&path).unwrap();
    assert_eq!((archive.digest(), archive.records(), archive.made()), (archived.digest, 403, Timestamp(77)));
    assert_eq!(archive.origin(), "memory");
    assert_eq!(archived.bytes, fs::metadata(&path).unwrap().len());
    for number in [1, 2] {
        assert_eq!(archive.stream(stream(number)), log.stream(stream(number)));
        for (from, limit) in [(0, usize::MAX), (1, 1), (150, 200), (400, 5)] {
            assert_eq!(archive.read(stream(number), from, limit), log.read(stream(number), from, limit));
        }
    }
    let everything = log.tail(0, usize::MAX).unwrap();
    for (from, limit) in [(0, usize::MAX), (1, 3), (2, 100), (300, 7), (403, 10), (404, 10)] {
        // All but the log's own record at position 0.
        let expected: Vec<_> =
            everything.iter().filter(|record| record.position >= from.max(1)).take(limit).cloned().collect();
        assert_eq!(archive.tail(from, limit).unwrap(), expected, "{from} {limit}");
    }
    let open = StreamFilter { open_only: true, limit: 9, ..StreamFilter::default() };
    for filter in [StreamFilter { limit: 9, kind: Some(StreamKind::Execution), ..StreamFilter::default() }, open] {
        let expected: Vec<_> =
            log.streams(&filter).unwrap().into_iter().filter(|entry| entry.stream != StreamId::LOG).collect();
        assert_eq!(archive.streams(&filter).unwrap(), expected);
    }
    assert_eq!(archive.definition(seal::fingerprint(b"d")).unwrap().as_deref(), Some(&b"d"[..]));
    assert_eq!(archive.definition(Hash::ZERO), Ok(None));
    assert_eq!(archive.read(stream(9), 0, 1), Err(ReadError::NoStream(stream(9))));
    assert_eq!(archive.head().unwrap().position, log.head().unwrap().position);
    let through_the_front_door = open_reader(&path).unwrap();
    assert_eq!(through_the_front_door.stream(stream(2)), log.stream(stream(2)));
}

#[test]
fn nothing_is_left_where_no_archive_could_be_made() {
    let (log, directory, path, _) = archived(&both());
    let listed = || fs::read_dir(directory.path()).unwrap().count();
    let write = |selected: &[Selected], name: &str| {
        write_archive(&log, selected, &directory.path().join(name), Timestamp(0)).unwrap_err()
    };
    assert!(matches!(write(&both(), "some.cloaca"), ArchiveError::Exists(found) if found == path));
    assert!(matches!(write(&[Selected::stream(stream(9))], "a"), ArchiveError::Read(ReadError::NoStream(_))));
    assert!(matches!(write(&[Selected::stream(StreamId::LOG)], "b"), ArchiveError::OwnStream));
    let lacking = Selected { stream: stream(1), definitions: vec![Hash([3; 32])] };
    assert!(matches!(write(&[lacking], "c"), ArchiveError::NoDefinition { .. }));
    assert!(matches!(write(&both(), "no/such/directory"), ArchiveError::Io { .. }));
    assert_eq!(listed(), 1);
}

#[test]
fn every_flipped_byte_and_every_cut_of_an_archive_is_found() {
    let (_, directory, path, _) = archived(&both()[..1]);
    let whole = fs::read(&path).unwrap();
    let other = directory.path().join("other.cloaca");
    for at in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(&other, flipped).unwrap();
        assert!(open_archive(&other).is_err(), "byte {at}");
    }
    for length in 0..whole.len() {
        fs::write(&other, &whole[..length]).unwrap();
        assert!(open_archive(&other).is_err(), "cut at {length}");
    }
    fs::write(&other, [&whole[..], b"x"].concat()).unwrap();
    let error = open_archive(&other).err().unwrap().to_string();
    assert!(error.contains("there are 1 bytes after its end"), "{error}");
}

/// The digest is not secret: whoever alters an archive can correct it. The hashes of the records still do not match.
#[test]
fn a_record_that_was_altered_is_named_though_the_digest_fits() {
    let (_, directory, path, _) = archived(&both()[..1]);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(5).rposition(|window| window == [0, 0, 0, 1, b'c']).unwrap() + 4;
    bytes[at] = b'C';
    let end = bytes.len() - 32;
    let digest: [u8; 32] = Sha256::digest(&bytes[..end]).into();
    bytes[end..].copy_from_slice(&digest);
    let altered = directory.path().join("altered.cloaca");
    fs::write(&altered, bytes).unwrap();
    match open_archive(&altered).err().unwrap() {
        OpenError::DamagedArchive { what, .. } => assert!(what.contains("the record at seq 2 has hash"), "{what}"),
        other => panic!("{other}"),
    }
}

#[test]
fn a_newer_archive_and_what_is_none_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "cloacina-archive 7\nand what will be").unwrap();
    assert!(matches!(open_archive(&path), Err(OpenError::NewerFormat { found: 7, known: 1, .. })));
    fs::write(&path, "something else").unwrap();
    assert!(matches!(open_archive(&path), Err(OpenError::NotALog { .. })));
    assert!(matches!(open_archive(&directory.path().join("nothing")), Err(OpenError::Missing { .. })));
    assert!(matches!(open_archive(directory.path()), Err(OpenError::NotALog { .. })));
}

/// A client could name a pipe as the archive to import. Opening it blocked forever on a thread of the process that
/// holds the log, and closing the log waited for that thread.
#[test]
fn a_pipe_is_no_archive_and_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(open_archive(&pipe), Err(OpenError::NotALog { .. })));
}

/// A consistent archive had a record at the last possible position. It was imported into a frame that
/// could not be read.
#[test]
fn a_position_that_no_frame_can_hold_is_refused() {
    let start = format::Start { stream: stream(1), kind: StreamKind::Execution, seq: 0, previous: Hash::ZERO };
    let at = |position| {
        let body = Body::Present { salt: [1; 16], bytes: b"a".as_slice().into() };
        let format::Start { stream, kind, seq, previous } = start;
        let header = seal::Header { stream, kind, seq, position, time: Timestamp(1) };
        let hash = seal::record_hash(&header, &previous, &body.commitment());
        let record = Record { stream, kind, seq, position, time: Timestamp(1), previous, hash, body };
        let entry = StreamEntry {
            stream,
            kind,
            open: false,
            started: Timestamp(1),
            last: Timestamp(1),
            records: 1,
            bytes: 1,
            head: hash,
            label: Vec::new(),
        };
        let header = format::Header {
            made: Timestamp(1),
            position: 1,
            hash: Hash::ZERO,
            origin: "log".to_owned(),
            version: "1".to_owned(),
        };
        let sections = [
            (format::HEADER, header.encode()),
            (format::STREAM, format::encode_stream(&entry)),
            (format::RECORDS, format::encode_records(&[record])),
        ];
        let mut file = format::LINE.to_vec();
        for (tag, section) in sections {
            file.push(tag);
            file.extend(u32::try_from(section.len()).unwrap().to_be_bytes());
            file.extend(section);
        }
        file.push(format::END);
        file.extend(44_u32.to_be_bytes());
        file.extend(format::Counts { streams: 1, records: 1 }.encode());
        let digest: [u8; 32] = Sha256::digest(&file).into();
        file.extend(digest);
        read_through(&file[..], file.len() as u64)
    };
    assert!(at(u64::MAX - 1).is_ok());
    match at(u64::MAX) {
        Err(Unreadable::Damaged(what)) => assert!(what.contains("out of range"), "{what}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

proptest! {
    #[test]
    fn no_bytes_harm_who_reads_an_archive(bytes in proptest::collection::vec(any::<u8>(), 0..300), tag in 0..6_usize) {
        let tag = b"HDSERZ"[tag];
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        for file in [
            bytes.clone(),
            [format::LINE, &bytes[..]].concat(),
            [format::LINE, &[tag][..], &length, &bytes].concat(),
            [format::LINE, &[tag][..], &[255; 4], &bytes].concat(),
        ] {
            prop_assert!(read_through(&file[..], file.len() as u64).is_err());
            // A length that the file does not have is not trusted.
            prop_assert!(read_through(&file[..], u64::MAX).is_err());
        }
    }
}
