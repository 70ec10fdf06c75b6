//! A parser of a log's files, after `FORMAT.md`, for tests that damage or count their contents.

use cloacina_store::MemoryDisk;
use cloacina_store::record::StreamId;

const SEGMENT_HEADER: usize = 80;
const GROUP_HEADER: usize = 112;

/// A group and its items.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub at: usize,
    pub length: usize,
    pub first: u64,
    pub end: u64,
    pub items: Vec<Item>,
}

/// A frame, a definition or a gap.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: String,
    pub at: usize,
    pub bytes: Vec<u8>,
}

impl Item {
    pub fn is_frame_of(&self, stream: StreamId) -> bool {
        self.bytes[0] == b'F' && self.bytes[16..32] == *stream.as_bytes()
    }

    pub fn first_seq(&self) -> u64 {
        number(&self.bytes, 32, 8)
    }

    pub fn count(&self) -> u64 {
        number(&self.bytes, 56, 4)
    }
}

fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// All groups of a log, in order.
pub fn groups(disk: &MemoryDisk) -> Vec<Group> {
    let segments = disk.names().into_iter().filter(|name| name.starts_with("segments/"));
    segments.flat_map(|name| groups_in(&name, &disk.content(&name).unwrap())).collect()
}

/// The groups of a segment.
pub fn groups_in(name: &str, bytes: &[u8]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut at = SEGMENT_HEADER;
    while bytes.get(at) == Some(&b'G') {
        let length = number(bytes, at + 4, 4) as usize;
        let mut items = Vec::new();
        let mut item = at + GROUP_HEADER;
        while item < at + length {
            let end = item + number(bytes, item + 4, 4) as usize;
            items.push(Item { name: name.to_owned(), at: item, bytes: bytes[item..end].to_vec() });
            item = end;
        }
        let (first, end) = (number(bytes, at + 16, 8), number(bytes, at + 24, 8));
        groups.push(Group { name: name.to_owned(), at, length, first, end, items });
        at += length;
    }
    groups
}

/// All items of a log, in order.
pub fn items(disk: &MemoryDisk) -> Vec<Item> {
    groups(disk).into_iter().flat_map(|group| group.items).collect()
}

/// The frame of a stream with a `seq`.
pub fn frame_with(disk: &MemoryDisk, stream: StreamId, seq: u64) -> Item {
    let has =
        |item: &Item| item.is_frame_of(stream) && (item.first_seq()..item.first_seq() + item.count()).contains(&seq);
    items(disk).into_iter().find(has).unwrap()
}

/// Overwrites an item with other bytes of the same length.
pub fn overwrite(disk: &MemoryDisk, item: &Item, bytes: &[u8]) {
    assert_eq!(item.bytes.len(), bytes.len());
    let mut content = disk.content(&item.name).unwrap();
    content[item.at..item.at + bytes.len()].copy_from_slice(bytes);
    disk.damage(&item.name, Some(&content));
}

/// An item with one byte changed.
pub fn flipped(item: &Item, at: usize) -> Vec<u8> {
    let mut bytes = item.bytes.clone();
    bytes[at] ^= 0x41;
    bytes
}

/// Returns an item with its checksum recomputed, as an attacker would leave it.
pub fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..8]);
    hasher.update(&bytes[12..]);
    bytes[8..12].copy_from_slice(&hasher.finalize().to_be_bytes());
    bytes
}
