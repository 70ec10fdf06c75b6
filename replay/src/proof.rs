//! Proofs that can be checked without the log: an inclusion proof shows that a record is in the Merkle tree of a
//! checkpoint, a consistency proof that one checkpoint extends another.

use std::fmt::Write as _;

use cloacina_store::checkpoint::{NotACheckpoint, hex, unhex};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::log_event::Checkpoint;
use cloacina_store::merkle::{Node, ProofError, includes, is_consistent, prove_consistency, prove_inclusion};
use cloacina_store::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
use cloacina_store::seal::{self, Header};
use serde::{Deserialize, Serialize};

use crate::time::{parse_rfc3339, rfc3339};

/// The name and the version of the format.
pub const FORMAT: &str = "cloaca.proof/1";

/// A proof, as it is stored in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// [`FORMAT`].
    format: String,
    /// The checkpoint as text.
    checkpoint: String,
    #[serde(flatten)]
    claim: Claim,
    /// The hashes of the proof as in RFC 9162, in hex.
    path: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Claim {
    Inclusion { record: RecordJson },
    Consistency { since: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RecordJson {
    stream: String,
    stream_kind: u8,
    seq: u64,
    position: u64,
    time: String,
    previous: String,
    commitment: String,
    hash: String,
    /// Salt and body, if disclosed: then the proof shows what was recorded, not only that something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    salt: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// Why no proof could be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProveError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No checkpoint covers the record.
    #[error("no checkpoint in this log covers position {position}")]
    NoCheckpoint {
        /// The record's position.
        position: u64,
    },
    /// The record was first recorded in another log.
    #[error("this execution was imported: its records are in the Merkle tree of their original log, not of this one")]
    Imported,
    /// The checkpoint belongs to another log, or this log differs from what was signed.
    #[error("{0}")]
    Differs(String),
}

impl From<ProofError<ReadError>> for ProveError {
    fn from(error: ProofError<ReadError>) -> Self {
        match error {
            ProofError::Read(error) => Self::Read(error),
            ProofError::OutOfRange(what) => Self::Differs(what),
        }
    }
}

/// The content of a valid proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedProof {
    /// The checkpoint; its signature matches its key.
    pub checkpoint: Checkpoint,
    /// The fact that is proved.
    pub what: What,
}

/// The fact that a proof shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// This record was in the log.
    Record {
        /// Its position in the stream and in the log, and its time.
        header: Header,
        /// Its hash.
        hash: Hash,
        /// Its content, if the proof discloses it.
        body: Option<Vec<u8>>,
    },
    /// The log has only grown since an older checkpoint.
    Growth {
        /// The older checkpoint.
        since: Box<Checkpoint>,
    },
}

/// Why a proof is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProof {
    /// It is not a proof, or has a newer format.
    #[error("cannot read this as a proof: {0}")]
    Foreign(String),
    /// Its checkpoint is invalid.
    #[error(transparent)]
    Checkpoint(#[from] NotACheckpoint),
    /// Its parts contradict each other.
    #[error("the proof is invalid: {0}")]
    False(String),
}

/// Proves that a record is in a log, by the given checkpoint or else the last one in the log that covers the record.
///
/// # Errors
/// [`ProveError`].
pub fn of_record(
    reader: &dyn LogReader,
    record: &Record,
    by: Option<Checkpoint>,
    with_body: bool,
) -> Result<Proof, ProveError> {
    let position = record.position;
    if reader.tree(position, 1)?.first() != Some(&Node::of_record(position, &record.hash)) {
        return Err(ProveError::Imported);
    }
    let covers = |checkpoint: &Checkpoint| checkpoint.size > position && checkpoint.check().is_ok();
    let checkpoint = match by {
        Some(given) if covers(&given) => given,
        Some(_) => return Err(ProveError::NoCheckpoint { position }),
        None => cloacina_store::checkpoint::last(reader, covers)?.ok_or(ProveError::NoCheckpoint { position })?,
    };
    let path = prove_inclusion(position, checkpoint.size, |from, limit| reader.tree(from, limit))?;
    if !includes(&checkpoint.root, checkpoint.size, position, &record.hash, &path) {
        return Err(ProveError::Differs(differs(&checkpoint)));
    }
    let claim = Claim::Inclusion { record: RecordJson::new(record, with_body) };
    Ok(Proof::new(&checkpoint, claim, &path))
}

/// Proves that a log extends an older checkpoint, by the last checkpoint in the log.
///
/// # Errors
/// [`ProveError`].
pub fn of_growth(reader: &dyn LogReader, since: &Checkpoint) -> Result<Proof, ProveError> {
    let newer = |checkpoint: &Checkpoint| checkpoint.size >= since.size && checkpoint.check().is_ok();
    let last = cloacina_store::checkpoint::last(reader, newer)?;
    let last = last.ok_or(ProveError::NoCheckpoint { position: since.size.saturating_sub(1) })?;
    let path = prove_consistency(since.size, last.size, |from, limit| reader.tree(from, limit))?;
    let holds = since.origin == last.origin && is_consistent((since.size, &since.root), (last.size, &last.root), &path);
    if !holds {
        return Err(ProveError::Differs(differs(since)));
    }
    Ok(Proof::new(&last, Claim::Consistency { since: since.to_text() }, &path))
}

fn differs(checkpoint: &Checkpoint) -> String {
    format!(
        "the first {} records of this log are not the ones that the checkpoint signs (its root is {})",
        checkpoint.size, checkpoint.root
    )
}

/// Checks a log against a checkpoint: its first records must be those that were signed.
///
/// # Errors
/// [`ProveError::Differs`] if they are not.
pub fn check_log(reader: &dyn LogReader, checkpoint: &Checkpoint) -> Result<(), ProveError> {
    let end = reader.head()?.position;
    if end < checkpoint.size {
        let size = checkpoint.size;
        return Err(ProveError::Differs(format!("the checkpoint signs {size} records, this log has {end}")));
    }
    let origin = reader.read(StreamId::LOG, 0, 1)?.first().map(|record| record.hash);
    if origin != Some(checkpoint.origin) {
        let what = format!("the checkpoint belongs to another log, whose first record is {}", checkpoint.origin);
        return Err(ProveError::Differs(what));
    }
    let tree = cloacina_store::checkpoint::grow(reader, Default::default(), checkpoint.size)?;
    if tree.root() == checkpoint.root { Ok(()) } else { Err(ProveError::Differs(differs(checkpoint))) }
}

impl RecordJson {
    fn new(record: &Record, with_body: bool) -> Self {
        let (salt, body) = match &record.body {
            Body::Present { salt, bytes } if with_body => (Some(hex(salt)), Some(hex(bytes))),
            _ => (None, None),
        };
        Self {
            stream: record.stream.to_string(),
            stream_kind: record.kind.number(),
            seq: record.seq,
            position: record.position,
            time: rfc3339(cloacina_engine::core::time::Timestamp(record.time.0)),
            previous: record.previous.to_string(),
            commitment: record.body.commitment().to_string(),
            hash: record.hash.to_string(),
            salt,
            body,
        }
    }

    /// Returns the header, the hash and the body, each checked against the others.
    fn check(&self) -> Result<(Header, Hash, Option<Vec<u8>>), InvalidProof> {
        let foreign = |what: &str| InvalidProof::Foreign(format!("its record has no valid {what}"));
        let stream: StreamId = self.stream.parse().map_err(|_| foreign("stream"))?;
        let kind = StreamKind::from_number(self.stream_kind).ok_or_else(|| foreign("kind"))?;
        let time = parse_rfc3339(&self.time).ok_or_else(|| foreign("time"))?;
        let header = Header { stream, kind, seq: self.seq, position: self.position, time: Timestamp(time.0) };
        let (previous, commitment) = (hash(&self.previous)?, hash(&self.commitment)?);
        let body = match (&self.salt, &self.body) {
            (Some(salt), Some(body)) => {
                let salt = unhex(salt).ok_or_else(|| foreign("salt"))?;
                let body = bytes(body).ok_or_else(|| foreign("body"))?;
                if seal::commitment(&salt, &body) != commitment {
                    return Err(InvalidProof::False("the body does not match the record's commitment".to_owned()));
                }
                Some(body)
            }
            (None, None) => None,
            _ => return Err(InvalidProof::Foreign("its record has only one of salt and body".to_owned())),
        };
        let computed = seal::record_hash(&header, &previous, &commitment);
        if computed != hash(&self.hash)? {
            return Err(InvalidProof::False(format!(
                "the record's content has the hash {computed}, the record says {}",
                self.hash
            )));
        }
        Ok((header, computed, body))
    }
}

fn hash(text: &str) -> Result<Hash, InvalidProof> {
    unhex(text).map(Hash).ok_or_else(|| InvalidProof::Foreign(format!("'{text}' is not a hash")))
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok().and_then(unhex::<1>));
    pairs.map(|byte| byte.map(|[byte]| byte)).collect()
}

impl Proof {
    fn new(checkpoint: &Checkpoint, claim: Claim, path: &[Hash]) -> Self {
        let path = path.iter().map(ToString::to_string).collect();
        Self { format: FORMAT.to_owned(), checkpoint: checkpoint.to_text(), claim, path }
    }

    /// Returns the proof as JSON, with one line for each hash of its path.
    ///
    /// # Errors
    /// Never for a proof made by this library.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        let _ = writeln!(text);
        Ok(text)
    }

    /// Parses a proof, also from the output of `--json`. Does not check it.
    ///
    /// # Errors
    /// [`InvalidProof::Foreign`].
    pub fn from_json(text: &str) -> Result<Self, InvalidProof> {
        #[derive(Deserialize)]
        struct Around {
            format: String,
            what: String,
            proof: Proof,
        }
        let around = serde_json::from_str::<Around>(text).ok();
        let around = around.filter(|around| around.format == crate::json::FORMAT && around.what == "proof");
        let proof: Self = match around {
            Some(around) => around.proof,
            None => serde_json::from_str(text).map_err(|error| InvalidProof::Foreign(error.to_string()))?,
        };
        if proof.format == FORMAT {
            return Ok(proof);
        }
        Err(InvalidProof::Foreign(format!("it has the format '{}', this version reads '{FORMAT}'", proof.format)))
    }

    /// Checks the proof by itself, without a log. The caller must check that the checkpoint's key is the expected one.
    ///
    /// # Errors
    /// [`InvalidProof`].
    pub fn check(&self) -> Result<VerifiedProof, InvalidProof> {
        let checkpoint = Checkpoint::from_text(&self.checkpoint)?;
        let path = self.path.iter().map(|text| hash(text)).collect::<Result<Vec<_>, _>>()?;
        let what = match &self.claim {
            Claim::Inclusion { record } => {
                let (header, hash, body) = record.check()?;
                if !includes(&checkpoint.root, checkpoint.size, header.position, &hash, &path) {
                    return Err(InvalidProof::False("its path does not lead to the root of the checkpoint".to_owned()));
                }
                What::Record { header, hash, body }
            }
            Claim::Consistency { since } => {
                let since = Checkpoint::from_text(since)?;
                let (old, new) = ((since.size, &since.root), (checkpoint.size, &checkpoint.root));
                if since.origin != checkpoint.origin || !is_consistent(old, new, &path) {
                    return Err(InvalidProof::False("the newer checkpoint does not extend the older one".to_owned()));
                }
                What::Growth { since: Box::new(since) }
            }
        };
        Ok(VerifiedProof { checkpoint, what })
    }
}
