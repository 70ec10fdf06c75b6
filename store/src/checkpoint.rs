//! Checkpoints: a signed statement of what a log held, small enough to be kept somewhere else.
//!
//! As text, a checkpoint is
//!
//! ```text
//! cloacina-checkpoint 1
//! log 5b1e…      the hash of the log's first record, in hex: no other log has it
//! size 61        how many records the tree has
//! root 9f3a…     its root
//! time 1795490530000000
//! key 8c4d…      the Ed25519 public key
//! signature 77…  over all lines before the key's, with their newlines
//! ```

use std::str::FromStr;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use crate::log::{LogReader, ReadError};
use crate::log_event::{Checkpoint, LogEvent};
use crate::merkle::Tree;
use crate::record::{Hash, StreamId, Timestamp};

const FIRST_LINE: &str = "cloacina-checkpoint 1";

/// The hashes that are read at once.
const PAGE: usize = 16 * 1024;

/// Why a text is no checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotACheckpoint {
    /// It is something else, or cut.
    #[error("this is no checkpoint: {0}")]
    Foreign(String),
    /// It was written by a newer version.
    #[error("the checkpoint has format {found}, this version reads format 1; upgrade cloaca to read it")]
    Newer {
        /// Its format.
        found: u32,
    },
    /// Its signature is not that of its key.
    #[error("the signature of the checkpoint does not fit: it was altered, or never signed with the key {key}")]
    BadSignature {
        /// The key that it names, in hex.
        key: String,
    },
}

/// Why a checkpoint cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log is empty.
    #[error("the log has no records yet")]
    Empty,
    /// An earlier checkpoint does not fit.
    #[error("the checkpoint at size {size} in this log does not fit its records: run `replay verify --all`")]
    Differs {
        /// How many records it is of.
        size: u64,
    },
}

/// Bytes as hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes that so many hex digits stand for.
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
    /// What is signed.
    #[must_use]
    pub fn statement(&self) -> String {
        let Self { origin, size, root, time, .. } = self;
        format!("{FIRST_LINE}\nlog {origin}\nsize {size}\nroot {root}\ntime {}\n", time.0)
    }

    /// Checks the signature against the key that the checkpoint names. Whether that is the right key is for the caller to
    /// say.
    ///
    /// # Errors
    /// [`NotACheckpoint::BadSignature`].
    pub fn check(&self) -> Result<(), NotACheckpoint> {
        let signature = Signature::from_bytes(&self.signature);
        let fits = VerifyingKey::from_bytes(&self.key)
            .is_ok_and(|key| key.verify_strict(self.statement().as_bytes(), &signature).is_ok());
        if fits { Ok(()) } else { Err(NotACheckpoint::BadSignature { key: hex(&self.key) }) }
    }

    /// The checkpoint as text.
    #[must_use]
    pub fn to_text(&self) -> String {
        format!("{}key {}\nsignature {}\n", self.statement(), hex(&self.key), hex(&self.signature))
    }

    /// Reads a text, and checks its signature. The peaks are not in it.
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
            line.ok_or_else(|| foreign(&format!("the line of `{name}` is missing")))
        };
        fn number<T: FromStr>(text: &str) -> Result<T, NotACheckpoint> {
            text.parse().map_err(|_| NotACheckpoint::Foreign(format!("'{text}' is no number")))
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
            return Err(foreign("lines follow its signature"));
        }
        checkpoint.check()?;
        // One checkpoint has one text: another verifier may hash the lines as they stand.
        if checkpoint.to_text() == text {
            Ok(checkpoint)
        } else {
            Err(foreign("it is not written as checkpoints are, with lower-case hex and one newline after each line"))
        }
    }
}

/// The last checkpoint in a log that takes `wanted`, if there is one.
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

/// The tree of the first records of a log, from `tree` on. Reads the hashes once.
///
/// # Errors
/// As [`LogReader::tree`]; [`ReadError::DamagedLog`] if the log has fewer.
pub fn grow(reader: &dyn LogReader, mut tree: Tree, size: u64) -> Result<Tree, ReadError> {
    while tree.size() < size {
        let left = usize::try_from(size - tree.size()).unwrap_or(usize::MAX);
        let nodes = reader.tree(tree.size(), PAGE.min(left))?;
        if nodes.is_empty() {
            let what = format!("it has {} records, and should have {size}", tree.size());
            return Err(ReadError::DamagedLog(what));
        }
        for node in &nodes {
            // Of pruned records there are fewer nodes than records.
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

/// Makes a checkpoint of all that a log holds now, and signs it. It goes on from the last one that this key has signed in
/// the log. It is not written down: see [`Change::Sign`](crate::keeper::Change::Sign).
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
    // Whoever can write the files can write an event too: only what this key has signed is gone on from.
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

/// A signature under some bytes, by a key that everybody knows.
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

    /// A checkpoint with capitals in its hash was taken here, since the statement was written anew before its signature was
    /// checked, and refused by the verifier in Python, which hashes the lines as they are. Found by altering the corpus.
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
