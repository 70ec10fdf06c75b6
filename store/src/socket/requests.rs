//! What a client can ask, as bytes: the protocol's version, then the request.

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use crate::bytes::Malformed;
use crate::keeper::Change;
use crate::log::StreamFilter;
use crate::record::{Hash, StreamId};

/// The version of requests and answers. Both sides must speak the same: another one is refused before anything else is read.
pub(super) const VERSION: u8 = 4;

/// More than any request needs: what can be erased or dropped at once is the most.
pub(super) const LONGEST: usize = 256 * 1024;

/// A request. Limits are the client's wish; a server answers in pages.
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
    /// The head, once the log has more than so many records, at the latest after so many milliseconds.
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
    /// What the process that has the log says of streams.
    Notices,
    Change(Change),
}

const CONFIG: Configuration<LittleEndian, Varint, Limit<{ 4 * LONGEST }>> =
    bincode::config::standard().with_limit::<{ 4 * LONGEST }>();

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

/// What stands behind the version, if it is ours.
pub(super) fn content<'a>(bytes: &'a [u8], what: &str) -> Result<&'a [u8], Malformed> {
    match bytes.split_first() {
        Some((&VERSION, content)) => Ok(content),
        Some((version, _)) => Err(Malformed(format!(
            "{what} version {version}, this process speaks {VERSION}; use the same version of cloaca in both processes"
        ))),
        None => Err(Malformed::new("it is empty")),
    }
}
