//! Private decoders for the fuzzer and the test of its corpus; only with the feature `fuzzing`.
//!
//! Each function accepts any bytes and panics if a decoder breaks its contract: a decoded value must encode to the same
//! bytes or, where several encodings are valid, to bytes that decode to the same value. Checksums and content hashes
//! (in segments, head files and archives) are corrected first, because a fuzzer cannot guess them and would never get
//! past them.

use sha2::{Digest, Sha256};

use crate::archive::fuzzing as archives;
use crate::bytes::Put;

pub use crate::index::fuzzing::{index_entries, index_entry};
pub use crate::layout::fuzzing::{frame, layout};
pub use crate::segments::fuzzing::segment;
pub use crate::socket::fuzzing::{answer, message, request};

/// The content of a head file with a valid checksum.
pub(crate) fn checked(content: &[u8]) -> Vec<u8> {
    let hash: [u8; 32] = Sha256::digest(content).into();
    [content, &hash[..8]].concat()
}

/// An archive: as it is, and with all hashes corrected. If it is accepted, it is imported into a log, which must then
/// verify.
pub fn archive(bytes: &[u8]) {
    archives::read(bytes);
    archives::read(&archives::resealed(bytes));
}

/// A body of the log's own stream.
pub fn log_event(bytes: &[u8]) {
    use crate::log_event::LogEvent;
    if let Ok(event) = LogEvent::decode(bytes)
        // An event that is too long cannot be encoded again.
        && let Ok(again) = event.encode()
    {
        assert!(again.len() <= bytes.len(), "nothing is written longer than it was read");
        assert_eq!(LogEvent::decode(&again), Ok(event), "an event reads again as it was read");
    }
}

/// A checkpoint as text; also with a valid signature.
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
