//! Checkpoints: signed statements of the contents of a log, small enough to be stored elsewhere.
//!
//! As text, a checkpoint is
//!
//! ```text
//! cloacina-checkpoint 1
//! log 5b1e…      the hash of the log's first record in hex, which identifies the log
//! size 61        the number of records in the tree
//! root 9f3a…     the root of the tree
//! time 1795490530000000
//! key 8c4d…      the Ed25519 public key
//! signature 77…  over all lines before the `key` line, with their newlines
//! ```

use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::log::{LogReader, ReadError};
use crate::log_event::{Checkpoint, LogEvent};
use crate::merkle::Tree;
use crate::record::{Hash, StreamId, Timestamp};

const FIRST_LINE: &str = "cloacina-checkpoint 1";

/// The number of hashes that are read at once.
const PAGE: usize = 16 * 1024;

/// A text is not a valid checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACheckpoint {
    /// The text is something else, or truncated.
    #[error("not a checkpoint: {0}")]
    Foreign(String),
    /// The checkpoint was written by a newer version.
    #[error("the checkpoint has format {found}, this version reads format 1; upgrade cloaca to read it")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// The signature is not valid for the key.
    #[error("the signature of the checkpoint is invalid: it was altered, or not signed with the key {key}")]
    BadSignature {
        /// The key in the checkpoint, in hex.
        key: String,
    },
}

/// A checkpoint cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is empty.
    #[error("the log has no records yet")]
    Empty,
    /// An earlier checkpoint in the log does not match the records.
    #[error("the checkpoint at size {size} in this log does not match its records: run `replay verify --all`")]
    Differs {
        /// The size of that checkpoint.
        size: u64,
    },
}

/// Bytes as hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Decodes exactly `N` bytes of hex.
#[must_use]
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

impl Checkpoint {
    /// The signed part of the text.
    #[must_use]
    pub fn statement(&self) -> String {
        let Self { origin, size, root, time, .. } = self;
        format!("{FIRST_LINE}\nlog {origin}\nsize {size}\nroot {root}\ntime {}\n", time.0)
    }

    /// Checks the signature against the key in the checkpoint. The caller decides whether to trust that key.
    ///
    /// # Errors
    /// [`NotACheckpoint::BadSignature`].
    pub fn check(&self) -> Result<(), NotACheckpoint> {
        let signature = Signature::from_bytes(&self.signature);
        let fits = VerifyingKey::from_bytes(&self.key)
            .is_ok_and(|key| key.verify_strict(self.statement().as_bytes(), &signature).is_ok());
        if fits { Ok(()) } else { Err(NotACheckpoint::BadSignature { key: hex(&self.key) }) }
    }

    /// Formats the checkpoint as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}key {}\nsignature {}\n", self.statement(), hex(&self.key), hex(&self.signature))
    }

    /// Parses a text and checks its signature. The text does not contain the peaks.
    ///
    /// # Errors
    /// [`NotACheckpoint`].
    pub fn from_text(text: &str) -> Result<Self, NotACheckpoint> {
        let foreign = |what: &str| NotACheckpoint::Foreign(what.to_owned());
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        match first.strip_prefix("cloacina-checkpoint ").map(str::parse::<u32>) {
            Some(Ok(1)) => {}
            Some(Ok(found)) if found > 1 => return Err(NotACheckpoint::Newer { found }),
            _ => return Err(foreign("its first line is not `cloacina-checkpoint 1`")),
        }
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)).and_then(|rest| rest.strip_prefix(' '));
            line.ok_or_else(|| foreign(&format!("the `{name}` line is missing")))
        };
        fn number<T: FromStr>(text: &str) -> Result<T, NotACheckpoint> {
            text.parse().map_err(|_| NotACheckpoint::Foreign(format!("'{text}' is not a number")))
        }
        fn bytes<const N: usize>(text: &str) -> Result<[u8; N], NotACheckpoint> {
            unhex(text).ok_or_else(|| NotACheckpoint::Foreign(format!("'{text}' is not {N} bytes in hex")))
        }
        let checkpoint = Self {
            origin: Hash(bytes(field("log")?)?),
            size: number(field("size")?)?,
            root: Hash(bytes(field("root")?)?),
            peaks: Vec::new(),
            time: Timestamp(number(field("time")?)?),
            key: bytes(field("key")?)?,
            signature: bytes(field("signature")?)?,
        };
        if lines.next().is_some() {
            return Err(foreign("there are lines after the signature"));
        }
        checkpoint.check()?;
        // A checkpoint has exactly one text: another verifier may hash the lines as they are.
        if checkpoint.to_text() == text {
            Ok(checkpoint)
        } else {
            Err(foreign("it is not in canonical form, with lower-case hex and one newline after each line"))
        }
    }
}

/// Returns the last checkpoint in a log for which `wanted` holds.
///
/// # Errors
/// As [`LogReader::read`].
pub fn last(reader: &dyn LogReader, wanted: impl Fn(&Checkpoint) -> bool) -> Result<Option<Checkpoint>, ReadError> {
    let mut last = None;
    crate::own_stream::visit(reader, |_, event| {
        if let LogEvent::Checkpoint(checkpoint) = event
            && wanted(&checkpoint)
        {
            last = Some(checkpoint);
        }
        true
    })?;
    Ok(last)
}

/// Extends `tree` to the first `size` records of a log. Reads each hash once.
///
/// # Errors
/// As [`LogReader::tree`]; [`ReadError::DamagedLog`] if the log is shorter.
pub fn grow(reader: &dyn LogReader, mut tree: Tree, size: u64) -> Result<Tree, ReadError> {
    while tree.size() < size {
        let left = usize::try_from(size - tree.size()).unwrap_or(usize::MAX);
        let nodes = reader.tree(tree.size(), PAGE.min(left))?;
        if nodes.is_empty() {
            let what = format!("it has {} records, and should have {size}", tree.size());
            return Err(ReadError::DamagedLog(what));
        }
        for node in &nodes {
            // Pruned records have fewer nodes than records.
            if tree.size() == size {
                break;
            }
            if tree.size() + node.size > size || !tree.push_node(node) {
                let what = format!("records from position {} on were pruned together with later ones", tree.size());
                return Err(ReadError::DamagedLog(what));
            }
        }
    }
    Ok(tree)
}

/// Creates and signs a checkpoint of the whole log. Continues from the last checkpoint in the log with the same
/// key. Does not record it: see [`Change::Sign`](crate::keeper::Change::Sign).
///
/// # Errors
/// [`SignError`].
///
/// # Examples
/// ```
/// use cloacina_store::checkpoint;
/// use cloacina_store::log_event::Checkpoint;
/// use cloacina_store::record::Timestamp;
/// use cloacina_store::{MemoryDisk, MemoryLog};
///
/// let log = MemoryLog::open(&MemoryDisk::new())?;
/// let checkpoint = checkpoint::sign(&log, &[7; 32], Timestamp(5))?;
/// let read = Checkpoint::from_text(&checkpoint.to_text())?;
/// assert_eq!((read.size, read.root), (1, checkpoint.root));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn sign(reader: &dyn LogReader, secret: &[u8; 32], time: Timestamp) -> Result<Checkpoint, SignError> {
    let size = reader.head()?.position;
    let origin = reader.read(StreamId::LOG, 0, 1)?.first().ok_or(SignError::Empty)?.hash;
    let key = SigningKey::from_bytes(secret);
    let public = key.verifying_key().to_bytes();
    // Anyone who can write the files can forge an event: trust only checkpoints signed with this key.
    let is_own = |before: &Checkpoint| before.size <= size && before.key == public && before.check().is_ok();
    let before = last(reader, |before| is_own(before) && before.origin == origin)?;
    let tree = match before.map(|before| (before.size, before.root, Tree::resume(before.size, before.peaks))) {
        None => Tree::default(),
        Some((_, root, Some(tree))) if tree.root() == root => tree,
        Some((size, _, _)) => return Err(SignError::Differs { size }),
    };
    let tree = grow(reader, tree, size)?;
    let mut checkpoint = Checkpoint {
        origin,
        size,
        root: tree.root(),
        peaks: tree.peaks().to_vec(),
        time,
        key: public,
        signature: [0; 64],
    };
    checkpoint.signature = key.sign(checkpoint.statement().as_bytes()).to_bytes();
    Ok(checkpoint)
}

/// A signature with a well-known key.
#[cfg(feature = "fuzzing")]
pub(crate) struct Signed {
    pub(crate) key: [u8; 32],
    pub(crate) signature: [u8; 64],
}

#[cfg(feature = "fuzzing")]
impl Signed {
    pub(crate) fn over(statement: &[u8]) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        Self { key: key.verifying_key().to_bytes(), signature: key.sign(statement).to_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, MemoryLog};

    /// The checkpoint was re-encoded before its signature was checked, so one with capital hex digits was accepted here
    /// but rejected by the Python verifier, which hashes the lines as they are. Found by altering the corpus.
    #[test]
    fn a_checkpoint_that_is_written_otherwise_is_refused() {
        let log = MemoryLog::open(&MemoryDisk::new()).unwrap();
        let checkpoint = sign(&log, &[7; 32], Timestamp(5)).unwrap();
        let text = checkpoint.to_text();
        assert!(Checkpoint::from_text(&text).is_ok());
        let origin = format!("log {}", checkpoint.origin);
        for other in [
            text.replace(&origin, &format!("log {}", checkpoint.origin.to_string().to_uppercase())),
            text.replace('\n', "\r\n"),
            text.replace("size 1", "size +1"),
            text.replace("size 1", "size 01"),
            text.trim_end().to_owned(),
        ] {
            assert_ne!(other, text);
            assert!(matches!(Checkpoint::from_text(&other), Err(NotACheckpoint::Foreign(_))), "{other}");
        }
    }

    #[test]
    fn a_newer_checkpoint_says_which_and_what_to_do() {
        let why = Checkpoint::from_text("cloacina-checkpoint 2\n").unwrap_err().to_string();
        assert_eq!(why, "the checkpoint has format 2, this version reads format 1; upgrade cloaca to read it");
    }
}
