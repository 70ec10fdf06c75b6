//! How events and definitions become bytes, and back.

use bincode::config;
use sha2::{Digest, Sha256};

use super::definition::{Definition, Fingerprint};

/// SHA-256.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// The fingerprint of a definition.
#[must_use]
pub fn fingerprint(definition: &Definition) -> Fingerprint {
    Fingerprint(sha256(&encode_definition(definition)))
}

/// The canonical encoding of a definition.
#[must_use]
pub fn encode_definition(definition: &Definition) -> Vec<u8> {
    let mut bytes = vec![b'D', 1, 1];
    let body = bincode::encode_to_vec(definition, config::standard());
    bytes.extend(body.unwrap_or_default());
    bytes
}
