//! What the fuzzer and the test of its corpus ask of decoders that nobody outside of this crate can call; only with the
//! feature `fuzzing`.
//!
//! Each takes any bytes, and panics where a decoder does not keep what it promises: that what it takes is encoded again to
//! the same bytes, or, where several bytes mean the same, to bytes that mean the same. Checks over content (of a listing
//! entry, the head file, an archive) are made to fit first: a fuzzer cannot guess a hash, and would never get past it.

use ::bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::archive::fuzzing as archives;
use crate::bytes::Put;
use crate::layout::frame::{self, Standing};
use crate::layout::group::GroupEntry;
use crate::layout::head::Tip;
use crate::layout::listing::ListingEntry;
use crate::layout::{definition, keys};
use crate::record::{Hash, StreamId};

pub use crate::backend::journal::fuzzing::journal;
pub use crate::backend::segments::fuzzing::segment;
pub use crate::backend::sled_file::fuzzing::{sled_files, sled_input};
pub use crate::socket::fuzzing::{answer, message, request};

/// A value of the tree, or a head file.
pub fn value(bytes: &[u8]) {
    if let Ok(stored) = frame::decode(&Bytes::copy_from_slice(bytes)) {
        assert_eq!(frame::decode_header(bytes).as_ref(), Ok(&stored.header), "the header alone reads as with the rest");
        let again = frame::encode(&stored).map(|(bytes, _)| bytes);
        assert_eq!(again.as_deref(), Ok(bytes), "a frame is written as it was read");
        if stored.header.standing != Standing::Pruned {
            assert_eq!(stored.records.len(), crate::bytes::usize_of(stored.header.count));
        }
        assert_eq!(stored.hashes().last(), Some(&stored.header.head));
        // Nobody has its hashes: it may be refused, whatever its seqs are.
        for first_seq in [0, u64::MAX - 1] {
            let _ = stored.clone().open(StreamId::from_bytes([7; 16]), first_seq, Hash::ZERO);
        }
    } else {
        let _ = frame::decode_header(bytes);
    }
    if let Ok(entry) = GroupEntry::decode(bytes) {
        assert_eq!(entry.encode(), bytes, "a commit entry is written as it was read");
    }
    if let Ok(found) = definition::decode(bytes) {
        assert_eq!(definition::encode(found).as_deref(), Ok(bytes), "a definition is written as it was read");
        assert_eq!(definition::stored_length(bytes), Ok(bytes.len()));
    }
    let key = keys::listing(true, crate::record::StreamKind::Execution, StreamId::from_bytes([7; 16]));
    let content = bytes.split_last_chunk::<8>().map_or(bytes, |(content, _)| content);
    let listed = checked(&Sha256::new().chain_update(&key), content);
    if let Ok(entry) = ListingEntry::decode(&key, &listed) {
        assert_eq!(entry.encode(&key), listed, "a listing entry is written as it was read");
    }
    let head = checked(&Sha256::new(), content);
    if let Ok(tip) = Tip::decode(&head) {
        assert_eq!(tip.encode(), head, "a head is written as it was read");
    }
    let _ = (ListingEntry::decode(&key, bytes), Tip::decode(bytes));
}

/// Content with the check that fits it.
fn checked(hasher: &Sha256, content: &[u8]) -> Vec<u8> {
    let hash: [u8; 32] = hasher.clone().chain_update(content).finalize().into();
    [content, &hash[..8]].concat()
}

/// A key of the tree.
pub fn key(bytes: &[u8]) {
    match bytes.first() {
        Some(b'F') => {
            if let Ok((stream, seq, chunk)) = keys::parse_frame(bytes) {
                assert_eq!(keys::frame(stream, seq, chunk), bytes);
                assert!(keys::frames(stream, 0, None).from.as_slice() <= bytes);
                assert!(keys::frames(stream, 0, None).below.as_slice() > bytes);
            }
        }
        Some(b'C') => {
            if let Ok(position) = keys::parse_group(bytes) {
                assert_eq!(keys::group(position), bytes);
            }
        }
        Some(b'O' | b'X') => {
            if let Ok((open, kind, stream)) = keys::parse_listing(bytes) {
                assert_eq!(keys::listing(open, kind, stream), bytes);
            }
        }
        Some(b'T') => {
            if let Ok((kind, place)) = keys::parse_started(bytes) {
                assert_eq!(keys::started(kind, place), bytes);
            }
        }
        _ => {
            let _ = keys::parse_definition(bytes);
        }
    }
}

/// An archive: as it is, and with all hashes made to fit. What is taken can be imported into a log, in which nothing is
/// found wrong then.
pub fn archive(bytes: &[u8]) {
    archives::read(bytes);
    archives::read(&archives::resealed(bytes));
}

/// A body of the log's own stream.
pub fn log_event(bytes: &[u8]) {
    use crate::log_event::LogEvent;
    if let Ok(event) = LogEvent::decode(bytes)
        // What is as long as two events cannot be written again.
        && let Ok(again) = event.encode()
    {
        assert!(again.len() <= bytes.len(), "nothing is written longer than it was read");
        assert_eq!(LogEvent::decode(&again), Ok(event), "an event reads again as it was read");
    }
}

/// A checkpoint as text; also with a signature that fits.
pub fn checkpoint(bytes: &[u8]) {
    use crate::checkpoint::{Signed, hex};
    use crate::log_event::Checkpoint;
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let statement = text.split_once("key ").map_or(text, |(statement, _)| statement);
    let Signed { key, signature } = Signed::over(statement.as_bytes());
    let signed = format!("{statement}key {}\nsignature {}\n", hex(&key), hex(&signature));
    for text in [text, &signed] {
        if let Ok(checkpoint) = Checkpoint::from_text(text) {
            assert_eq!(Checkpoint::from_text(&checkpoint.to_text()).as_ref(), Ok(&checkpoint));
            assert!(text.starts_with(&checkpoint.statement()), "what was signed is what was read");
        }
    }
}

/// A format file.
pub fn format_file(bytes: &[u8]) {
    if let Some(found) = crate::directory::format_file::parse(bytes) {
        let mut text = Vec::new();
        text.put(format!("cloacina-log {found}\n").as_bytes());
        assert_eq!(text, bytes, "one number is written in one way");
    }
}
