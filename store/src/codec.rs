//! The bodies of the log's own stream. The only module that uses bincode for them.
//!
//! bincode encodes neither a type nor a version, so a fixed header precedes each body: a magic byte, the codec, the
//! format of the body, and the number of its kind (little-endian). Numbers are never reused. Decoding is bounded and
//! must consume every byte.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::bytes::{Cursor, Malformed};

/// The decoder's allocation limit, larger than any body of the log's own stream.
const LIMIT: usize = 64 * 1024;

const MAGIC: u8 = b'L';
const BINCODE: u8 = 1;

type Config = Configuration<LittleEndian, Varint, Limit<LIMIT>>;

fn config() -> Config {
    bincode::config::standard().with_limit::<LIMIT>()
}

/// The header before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyHeader {
    /// The version of this kind's fields.
    pub(crate) format: u8,
    /// The kind of the body.
    pub(crate) kind: u16,
}

/// Encodes a body after its header.
pub(crate) fn encode(header: BodyHeader, body: &impl Encode) -> Result<Vec<u8>, Malformed> {
    let [low, high] = header.kind.to_le_bytes();
    let mut bytes = vec![MAGIC, BINCODE, header.format, low, high];
    let body = bincode::encode_to_vec(body, config()).map_err(|error| Malformed(error.to_string()))?;
    if body.len() > LIMIT / 2 {
        return Err(Malformed(format!("{} bytes are too many for an event of the log", body.len())));
    }
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes the header, and returns it with the bytes of the body.
pub(crate) fn split(bytes: &[u8]) -> Result<(BodyHeader, &[u8]), Malformed> {
    let mut cursor = Cursor::new(bytes);
    let [magic, codec, format, low, high] = cursor.array()?;
    if magic != MAGIC {
        return Err(Malformed(format!("it begins with byte {magic}, an event of the log begins with {MAGIC}")));
    }
    if codec != BINCODE {
        return Err(Malformed(format!("it has codec {codec}, this version knows {BINCODE}; upgrade to read it")));
    }
    Ok((BodyHeader { format, kind: u16::from_le_bytes([low, high]) }, cursor.all()))
}

/// Decodes a body, which must consume every byte.
pub(crate) fn decode<Body: Decode<()>>(bytes: &[u8]) -> Result<Body, Malformed> {
    let (body, used) = bincode::decode_from_slice(bytes, config()).map_err(|error| Malformed(error.to_string()))?;
    if used == bytes.len() { Ok(body) } else { Err(Malformed(format!("{} bytes are left over", bytes.len() - used))) }
}
