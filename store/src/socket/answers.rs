//! The encoding of answers: the protocol's version, the reply, and any stored data after it.

use std::sync::Arc;

use bincode::config::{Configuration, Limit, LittleEndian, Varint};
use bincode::{Decode, Encode};

use ::bytes::Bytes;

use super::requests::{VERSION, content};
use crate::bytes::Malformed;
use crate::core::verify::Verified;
use crate::keeper::{ChangeError, Changed};
use crate::layout::MAX_ITEM;
use crate::layout::frame::{FrameHeader, StoredFrame};
use crate::log::{LogHead, Notices, ReadError, StreamEntry, StreamsSince};
use crate::merkle::Node;

/// The maximum length of an answer: a frame of the maximum length (frames are not split), and others beside it.
pub(super) const MAX_LENGTH: usize = 2 * MAX_ITEM;

/// The maximum size of a reply, not counting frames and definitions.
pub(super) const MAX_REPLY: usize = 16 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Varint, Limit<{ 4 * MAX_REPLY }>> =
    bincode::config::standard().with_limit::<{ 4 * MAX_REPLY }>();

/// An answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Frames as they are stored: the client decodes them and verifies each record. The first may begin before the
    /// requested record.
    Frames(Vec<StoredFrame>),
    Definition(Option<Arc<[u8]>>),
    Reply(Reply),
}

/// The part of an answer that is not stored data.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(super) enum Reply {
    /// Frames follow.
    Frames,
    /// A definition follows, if true.
    Definition(bool),
    Streams(Vec<StreamEntry>),
    Head(LogHead),
    Verified(Verified),
    Error(ReadError),
    Tree(Vec<Node>),
    StreamsSince(StreamsSince),
    Notices(Notices),
    Changed(Result<Changed, ChangeError>),
}

impl Answer {
    pub(super) fn error(error: ReadError) -> Self {
        Self::Reply(Reply::Error(error))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Reply(reply) => put(&mut bytes, reply),
            Self::Definition(definition) => {
                put(&mut bytes, &Reply::Definition(definition.is_some()));
                bytes.extend_from_slice(definition.as_deref().unwrap_or_default());
            }
            Self::Frames(frames) => {
                // Reserved at once: growing would copy a page several times.
                bytes.reserve(1 + frames.iter().map(|frame| frame.bytes().len()).sum::<usize>());
                put(&mut bytes, &Reply::Frames);
                frames.iter().for_each(|frame| bytes.extend_from_slice(frame.bytes()));
            }
        }
        bytes
    }

    /// Decodes an answer. The bodies of records are slices of its bytes, which stay in memory as long as any of them.
    pub(super) fn decode(bytes: &Bytes) -> Result<Self, Malformed> {
        let content = content(bytes, "the process that holds the log answers in")?;
        let (reply, used) =
            bincode::decode_from_slice(content, CONFIG).map_err(|error| Malformed(error.to_string()))?;
        let rest = bytes.slice(bytes.len() - content.len() + used..);
        match reply {
            Reply::Frames => frames(rest).map(Self::Frames),
            Reply::Definition(true) => Ok(Self::Definition(Some(rest[..].into()))),
            _ if !rest.is_empty() => Err(Malformed(format!("{} bytes are left over", rest.len()))),
            Reply::Definition(false) => Ok(Self::Definition(None)),
            reply => Ok(Self::Reply(reply)),
        }
    }
}

/// Encodes a reply. One that is too large is replaced by an error.
fn put(bytes: &mut Vec<u8>, reply: &Reply) {
    let encode = |reply: &Reply| bincode::encode_to_vec(reply, CONFIG);
    let content = encode(reply).or_else(|error| encode(&Reply::Error(ReadError::Io(error.to_string()))));
    bytes.extend(content.unwrap_or_default());
}

fn frames(mut rest: Bytes) -> Result<Vec<StoredFrame>, Malformed> {
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let length = FrameHeader::decode(&rest)?.length;
        if length > rest.len() {
            return Err(Malformed(format!(
                "a frame of {length} bytes is longer than the {} that are left",
                rest.len()
            )));
        }
        frames.push(StoredFrame::decode(rest.split_to(length))?);
    }
    Ok(frames)
}
