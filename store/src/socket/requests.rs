//! The encoding of requests: the protocol's version, then the request.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::bytes::Malformed;
use crate::keeper::Change;
use crate::log::StreamFilter;
use crate::record::{Hash, StreamId};

/// The version of requests and answers. Both sides must use the same one; others are rejected before anything else is
/// decoded.
pub(super) const VERSION: u8 = 4;

/// The maximum length of a request. The longest are those that erase or prune.
pub(super) const MAX_LENGTH: usize = 256 * 1024;

/// A request. Limits are the client's; a server may answer with a shorter page.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Request {
    Read {
        stream: StreamId,
        from: u64,
        limit: u32,
    },
    Stream {
        stream: StreamId,
    },
    Streams {
        filter: StreamFilter,
    },
    Tail {
        from: u64,
        limit: u32,
    },
    Definition {
        fingerprint: Hash,
    },
    Head,
    /// Returns the head once the log has more than `after` records, at the latest after some milliseconds.
    Wait {
        after: u64,
        milliseconds: u32,
    },
    Verify,
    Tree {
        from: u64,
        limit: u32,
    },
    StreamsSince {
        from: u64,
        limit: u32,
    },
    /// The notices of the process that holds the log.
    Notices,
    Change(Change),
}

const CONFIG: Configuration<LittleEndian, Varint, Limit<{ 4 * MAX_LENGTH }>> =
    bincode::config::standard().with_limit::<{ 4 * MAX_LENGTH }>();

impl Request {
    pub(super) fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let content = bincode::encode_to_vec(self, CONFIG).map_err(|error| Malformed(error.to_string()))?;
        Ok([&[VERSION][..], &content].concat())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let content = content(bytes, "the request has")?;
        let (request, used) =
            bincode::decode_from_slice(content, CONFIG).map_err(|error| Malformed(error.to_string()))?;
        if used == content.len() {
            return Ok(request);
        }
        Err(Malformed(format!("{} bytes are left over", content.len() - used)))
    }
}

/// Checks the version, and returns the bytes after it.
pub(super) fn content<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], Malformed> {
    match bytes.split_first() {
        Some((&VERSION, content)) => Ok(content),
        Some((version, _)) => Err(Malformed(format!(
            "{what} version {version}, this process uses {VERSION}; use the same version of cloaca in both processes"
        ))),
        None => Err(Malformed::new("it is empty")),
    }
}
