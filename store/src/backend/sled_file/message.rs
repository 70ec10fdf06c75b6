//! The segments of sled's data file, and the messages in them.
//!
//! The file is a row of segments of one size. A segment begins with a header that says which part of the log of pages it
//! holds; messages follow, each behind a checksum, the kind, the length, the number of its segment in the log of pages,
//! and the page that it is about.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use super::scalars::number;
use crate::bytes::{Cursor, Malformed};

/// The bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 20;
/// A message's header has no more bytes than this; in the last so many bytes of a segment none begins.
pub(super) const LONGEST_HEADER: usize = 32;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Canceled,
    /// The segment has no more messages.
    Cap,
    /// The messages behind it, up to a place, count together or not at all.
    Batch,
    /// The page is free.
    Free,
    Counter,
    /// Where the trees begin.
    Meta,
    /// A page as a whole.
    Node,
    /// A change of a page.
    Link,
}

impl Kind {
    /// The kinds of messages whose content is in a file of its own are left out: this log never writes them.
    fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Canceled,
            2 => Self::Cap,
            3 => Self::Batch,
            4 => Self::Free,
            5 => Self::Counter,
            6 => Self::Meta,
            8 => Self::Node,
            10 => Self::Link,
            _ => return None,
        })
    }
}

/// A message whose checksum fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) page: u64,
    /// Which part of the log of pages it says its segment is.
    pub(super) segment_number: u64,
    /// Where its content is in the bytes that it was read from.
    pub(super) content: Range<usize>,
}

impl Message {
    /// The message that some bytes begin with.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let checksum = u32::from_le_bytes(cursor.array()?);
        let kind = cursor.u8()?;
        let length = number(&mut cursor)?;
        let (segment_number, page) = (number(&mut cursor)?, number(&mut cursor)?);
        let kind = Kind::from_number(kind).ok_or_else(|| Malformed::new(format!("a message of kind {kind}")))?;
        let header = bytes.len() - cursor.remaining();
        let content = cursor.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(content);
        hasher.update(&bytes[4..header]);
        if hasher.finalize() ^ u32::MAX != checksum {
            return Err(Malformed::new("the checksum of a message does not fit"));
        }
        Ok(Self { kind, page, segment_number, content: header..header + content.len() })
    }
}

/// How long the message is that some bytes begin with, on the word of its header.
pub(super) fn peek_length(bytes: &[u8]) -> Option<usize> {
    let mut cursor = Cursor::new(bytes);
    cursor.take(4).ok()?;
    Kind::from_number(cursor.u8().ok()?)?;
    let length = usize::try_from(number(&mut cursor).ok()?).ok()?;
    number(&mut cursor).ok()?;
    number(&mut cursor).ok()?;
    cursor.take(length).ok()?;
    Some(bytes.len() - cursor.remaining())
}

/// The place in the log of pages that a segment begins at, if its header is whole.
pub(super) fn segment_start(header: &[u8; SEGMENT_HEADER]) -> Option<u64> {
    let mut cursor = Cursor::new(header);
    let checksum = u32::from_le_bytes(cursor.array().ok()?) ^ u32::MAX;
    let lsn = i64::from_le_bytes(cursor.array().ok()?) ^ i64::MAX;
    (crc32fast::hash(&header[4..]) == checksum).then(|| u64::try_from(lsn).ok()).flatten()
}

/// sled's data file.
#[derive(Debug)]
pub(super) struct Data {
    pub(super) file: File,
    /// How many bytes a segment has.
    pub(super) segment: u64,
    pub(super) length: u64,
}

impl Data {
    /// How many segments there are, also where the last one is not whole.
    pub(super) fn segments(&self) -> u64 {
        self.length.div_ceil(self.segment)
    }

    /// Where each segment begins, in the file and in the log of pages, if its header is whole.
    pub(super) fn starts(&self) -> io::Result<Vec<(u64, Option<u64>)>> {
        let mut header = [0; SEGMENT_HEADER];
        (0..self.segments())
            .map(|number| {
                let offset = number * self.segment;
                if self.length - offset < SEGMENT_HEADER as u64 {
                    return Ok((offset, None));
                }
                self.file.read_exact_at(&mut header, offset)?;
                Ok((offset, segment_start(&header)))
            })
            .collect()
    }

    /// All bytes of the segment that begins at an offset.
    pub(super) fn read_segment(&self, offset: u64, into: &mut Vec<u8>) -> io::Result<()> {
        let length = self.segment.min(self.length.saturating_sub(offset));
        into.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        self.file.read_exact_at(into, offset)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A message as sled writes it, with numbers below 241.
    pub(crate) fn written(kind: u8, segment: u8, page: u8, content: &[u8]) -> Vec<u8> {
        let header = [kind, u8::try_from(content.len()).unwrap(), segment, page];
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(content);
        hasher.update(&header);
        [&(hasher.finalize() ^ u32::MAX).to_le_bytes()[..], &header, content].concat()
    }

    #[test]
    fn a_message_is_read_and_one_with_any_byte_changed_is_not() {
        let bytes = [written(10, 3, 7, b"content"), b"what follows".to_vec()].concat();
        let message = Message::read(&bytes).unwrap();
        assert_eq!((message.kind, message.segment_number, message.page), (Kind::Link, 3, 7));
        assert_eq!(&bytes[message.content], b"content");
        for at in 0..15 {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(Message::read(&changed).is_err(), "byte {at}");
        }
    }
}
