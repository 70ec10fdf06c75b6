//! Sealing: the commitment to a record's body, and the record's own hash.
//!
//! A record's hash covers its header, the hash of the previous record, and a *commitment* to its body, not the body
//! itself. Erasing a body leaves its commitment, and the chain still verifies. The salt is erased with the body, so
//! nobody can confirm a guess of it.
//!
//! Every hash is SHA-256 over a fixed big-endian layout that begins with its own domain byte, so that a hash of one
//! type never passes for one of another. `FORMAT.md` has the layouts.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

use crate::record::{Hash, Record, StreamId, StreamKind, Timestamp};

/// The format that this version seals with. Every record hash covers it.
pub const FORMAT: u8 = 1;

/// The length of a salt: 128 random bits, which cannot be guessed.
pub const SALT_LENGTH: usize = 16;

const COMMITMENT: u8 = 1;
const RECORD: u8 = 2;

/// The part of a record that its hash covers besides the chain and the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The stream.
    pub stream: StreamId,
    /// The kind of the stream.
    pub kind: StreamKind,
    /// The `seq` in the stream.
    pub seq: u64,
    /// The position in the log.
    pub position: u64,
    /// When it was appended.
    pub time: Timestamp,
}

/// SHA-256 of some bytes: the fingerprint of a definition.
#[must_use]
pub fn fingerprint(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// The commitment to a body.
#[must_use]
pub fn commitment(salt: &[u8; SALT_LENGTH], body: &[u8]) -> Hash {
    sha256([&[COMMITMENT], salt, body])
}

/// The hash of a record.
#[must_use]
pub fn record_hash(header: &Header, previous: &Hash, commitment: &Hash) -> Hash {
    sha256([
        &[RECORD, FORMAT, header.kind.number()],
        header.stream.as_bytes(),
        &header.seq.to_be_bytes(),
        &header.position.to_be_bytes(),
        &header.time.0.to_be_bytes(),
        &previous.0,
        &commitment.0,
    ])
}

/// The initial state of SHA-256: FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// The number of 64-byte blocks that are hashed with one call.
const BLOCKS: usize = 8;
/// The minimum padding of a message: a byte and the length.
const PADDING: usize = 1 + 8;

/// SHA-256 of the concatenated parts. Lays out a short message in whole blocks and hashes them with one call, which is
/// faster than feeding the parts one by one; most messages here are short.
pub(crate) fn sha256<const N: usize>(parts: [&[u8]; N]) -> Hash {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let count = (length + PADDING).div_ceil(64);
    if count > BLOCKS {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        return Hash(hasher.finalize().into());
    }
    let mut blocks = [[0; 64]; BLOCKS];
    let message = &mut blocks.as_flattened_mut()[..count * 64];
    let mut at = 0;
    for part in parts {
        message[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    message[at] = 0x80;
    if let Some(bits) = message.last_chunk_mut() {
        *bits = (length as u64 * 8).to_be_bytes();
    }
    let mut state = INITIAL;
    compress256(&mut state, &blocks[..count]);
    let mut hash = [0; 32];
    for (bytes, word) in hash.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Hash(hash)
}

/// Checks a record against its own hash.
///
/// # Errors
/// The hash of the record's header, `previous` and body, if it differs from the stored one.
///
/// # Examples
/// ```
/// use cloacina_store::record::{Body, Hash, Record, StreamId, StreamKind, Timestamp};
/// use cloacina_store::seal::{check, commitment, record_hash, Header};
///
/// let header = Header {
///     stream: StreamId::from_bytes([7; 16]),
///     kind: StreamKind::Execution,
///     seq: 0,
///     position: 1,
///     time: Timestamp(0),
/// };
/// let salt = [0; 16];
/// let mut record = Record {
///     stream: header.stream,
///     kind: header.kind,
///     seq: header.seq,
///     position: header.position,
///     time: header.time,
///     previous: Hash::ZERO,
///     hash: record_hash(&header, &Hash::ZERO, &commitment(&salt, b"hello")),
///     body: Body::Present { salt, bytes: b"hello".as_slice().into() },
/// };
/// assert!(check(&record).is_ok());
/// record.position = 2;
/// assert!(check(&record).is_err());
/// ```
pub fn check(record: &Record) -> Result<(), Hash> {
    let hash = record_hash(&record.header(), &record.previous, &record.body.commitment());
    if hash == record.hash { Ok(()) } else { Err(hash) }
}

/// Checks each record against its own hash.
///
/// # Errors
/// The index of the first mismatch, and a description of it.
pub(crate) fn check_all(records: &[Record]) -> Result<(), (usize, String)> {
    records.iter().enumerate().try_for_each(|(at, record)| {
        check(record).map_err(|found| (at, format!("its hash is {}, its content gives {found}", record.hash)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            stream: StreamId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
            kind: StreamKind::Execution,
            seq: 3,
            position: 70_000,
            time: Timestamp(1_700_000_000_000_000),
        }
    }

    // Every log that was ever written depends on these. If one of them changes, the format has changed.
    #[test]
    fn the_hashes_of_format_1_are_what_they_always_were() {
        let commitment = commitment(&[0x5a; SALT_LENGTH], b"the body of a record");
        assert_eq!(commitment.to_string(), "a849dc3976a5ee2777b29ff60e55cac6894725e2dc32ac7221e4911b30e7d1ac");
        let record = record_hash(&header(), &Hash([0xab; 32]), &commitment);
        assert_eq!(record.to_string(), "f3286d1186eda4018bef0ca41cf2ddf4cb117f5b88ffc2d70e01d993fa893d62");
        assert_eq!(fingerprint(b"").to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn a_message_of_any_length_is_hashed_as_by_the_library() {
        let bytes: Vec<u8> = (0..1_000_u32).map(|byte| byte.to_le_bytes()[0]).collect();
        for length in 0..bytes.len() {
            let expected = Hash(Sha256::digest(&bytes[..length]).into());
            assert_eq!(sha256([&bytes[..length]]), expected, "{length} bytes");
            assert_eq!(
                sha256([&bytes[..length / 3], &[], &bytes[length / 3..length]]),
                expected,
                "{length} bytes in parts"
            );
        }
    }

    #[test]
    fn every_field_of_a_record_is_sealed() {
        let sealed = record_hash(&header(), &Hash::ZERO, &Hash::ZERO);
        let changed = [
            Header { stream: StreamId::LOG, ..header() },
            Header { kind: StreamKind::Trigger, ..header() },
            Header { seq: 4, ..header() },
            Header { position: 70_001, ..header() },
            Header { time: Timestamp(-1), ..header() },
        ];
        for header in changed {
            assert_ne!(record_hash(&header, &Hash::ZERO, &Hash::ZERO), sealed);
        }
        assert_ne!(record_hash(&header(), &Hash([1; 32]), &Hash::ZERO), sealed);
        assert_ne!(record_hash(&header(), &Hash::ZERO, &Hash([1; 32])), sealed);
    }
}
