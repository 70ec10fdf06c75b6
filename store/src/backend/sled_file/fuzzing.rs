//! See [`crate::fuzzing`].

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::message::{Message, SEGMENT_HEADER, peek_length};
use super::salvage::Salvage;
use super::scalars::number;
use super::{DATA_FILE, SledFile};
use crate::backend::{Backend, Direction, KeyRange};
use crate::bytes::Cursor;

/// How many entries are asked for at once: a damaged tree may have no end.
const ENTRIES: usize = 1_000;

/// sled's files, read without sled: the segments' size as a power of two above 256, the snapshot behind its length in two
/// bytes (none for 0), then the data file. They are read as they are, and with all checksums made to fit.
pub fn sled_files(bytes: &[u8]) {
    let mut cursor = Cursor::new(bytes);
    let (Ok(power), Ok(length)) = (cursor.u8(), cursor.array()) else { return };
    let segment = 256 << (power % 8);
    let Ok(snapshot) = cursor.take(u16::from_be_bytes(length).into()) else { return };
    let data = cursor.all();
    for (snapshot, data) in
        [(snapshot.to_vec(), data.to_vec()), (sealed_snapshot(snapshot), sealed_data(data, segment))]
    {
        let Ok(directory) = tempfile::tempdir() else { return };
        assert!(write(directory.path(), segment, &snapshot, &data).is_ok(), "the files can be written");
        read(directory.path());
    }
}

fn write(directory: &Path, segment: usize, snapshot: &[u8], data: &[u8]) -> io::Result<()> {
    let conf = format!("segment_size: {segment}\nuse_compression: false\nversion: 0.34\n");
    fs::write(directory.join("conf"), [conf.as_bytes(), &crc32fast::hash(conf.as_bytes()).to_le_bytes()].concat())?;
    if !snapshot.is_empty() {
        fs::write(directory.join("snap.0000000000000001"), snapshot)?;
    }
    // A log's data file has holes.
    let file = File::create(directory.join(DATA_FILE))?;
    file.set_len(data.len() as u64)?;
    file.write_all_at(data, 0)
}

/// All that is read of sled's files.
fn read(directory: &Path) {
    let all = KeyRange { from: Vec::new(), below: vec![255; 64] };
    if let Ok(file) = SledFile::open(directory) {
        let _ = file.scan(&all, ENTRIES, Direction::Down);
        if let Ok(entries) = file.scan(&all, ENTRIES, Direction::Up) {
            assert!(entries.len() <= ENTRIES, "no more is given than was asked for");
            for (key, _) in entries.iter().take(20) {
                let _ = file.get(key);
            }
        }
        // What has no end in what is asked for ends with the tree.
        let _ = file.scan(&all, usize::MAX, Direction::Up);
        let _ = file.scan(&all, usize::MAX, Direction::Down);
    }
    if let Ok(gathered) = Salvage::gather(directory) {
        assert!(gathered.scan(&all, ENTRIES, Direction::Up).is_ok());
    }
}

fn sealed_snapshot(snapshot: &[u8]) -> Vec<u8> {
    let mut sealed = snapshot.to_vec();
    if let Some(end) = sealed.len().checked_sub(12) {
        let checksum = crc32fast::hash(&sealed[..end]);
        sealed[end + 8..].copy_from_slice(&checksum.to_le_bytes());
    }
    sealed
}

/// The data file with the checksums of each segment and of its messages, as far as they follow each other.
fn sealed_data(data: &[u8], segment: usize) -> Vec<u8> {
    let mut sealed = data.to_vec();
    for bytes in sealed.chunks_mut(segment) {
        if bytes.len() < SEGMENT_HEADER {
            continue;
        }
        let checksum = crc32fast::hash(&bytes[4..SEGMENT_HEADER]) ^ u32::MAX;
        bytes[..4].copy_from_slice(&checksum.to_le_bytes());
        let mut at = SEGMENT_HEADER;
        while let Some(length) = bytes.get(at..).and_then(peek_length) {
            seal_message(&mut bytes[at..at + length]);
            assert!(Message::read(&bytes[at..]).is_ok(), "a message whose checksum fits is read");
            at += length;
        }
    }
    sealed
}

fn seal_message(bytes: &mut [u8]) {
    let mut cursor = Cursor::new(bytes);
    let numbers = cursor.take(5).and_then(|_| (0..3).try_for_each(|_| number(&mut cursor).map(drop)));
    assert!(numbers.is_ok(), "the header was read before");
    let header = bytes.len() - cursor.remaining();
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[header..]);
    hasher.update(&bytes[4..header]);
    let checksum = hasher.finalize() ^ u32::MAX;
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
}

/// The files of a database as an input of [`sled_files`]: its first segment in the least room that holds it.
///
/// # Errors
/// If a file cannot be read.
pub fn sled_input(directory: &Path) -> io::Result<Vec<u8>> {
    let mut snapshots: Vec<_> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(crate::directory::is_snapshot))
        .collect();
    snapshots.sort();
    let snapshot = snapshots.last().map(fs::read).transpose()?.unwrap_or_default();
    let data = fs::read(directory.join(DATA_FILE))?;
    let used = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 64);
    let power = (0_u8..8).find(|power| (256 << power) >= used).unwrap_or(7);
    let length = u16::try_from(snapshot.len()).map_err(io::Error::other)?.to_be_bytes();
    let data = &data[..data.len().min(used)];
    Ok([&[power][..], &length, &snapshot, data].concat())
}
