//! What was written to a database, whether or not sled still finds it.

use std::io;
use std::path::Path;

use ::bytes::Bytes;

use super::message::{Kind, Message, SEGMENT_HEADER, peek_length};
use super::node::{Content, Link, Node};
use super::{Unreadable, open_data};
use crate::layout::keys;

/// A value that was written.
pub(crate) struct Written {
    /// Of a change, sled writes only what not all keys of its page begin with: the key is there if that is all of it.
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Bytes,
}

/// Gives the values in each segment of a data file, the last written first. A segment that was used before still has
/// messages of then behind those of now: only the latter count.
///
/// Behind a damaged message the next one is looked for at every byte. So content that looks like a message may be among
/// them: good for an alarm, not to be taken for what was written.
pub(crate) fn each_segment(
    directory: &Path,
    mut each: impl FnMut(&mut dyn Iterator<Item = Written>),
) -> io::Result<()> {
    let data = match open_data(directory) {
        Ok(data) => data,
        // Whoever opens it says what is wrong with it.
        Err(Unreadable::Strange(_)) => return Ok(()),
        Err(Unreadable::Failed(why)) => return Err(io::Error::other(why)),
    };
    let mut bytes = Vec::new();
    for number in 0..data.segments() {
        data.read_segment(number * data.segment, &mut bytes)?;
        each(&mut newest(&bytes).into_iter().rev().flat_map(|(kind, content)| values(kind, content)));
    }
    Ok(())
}

/// What a message says of keys, the last one first.
fn values(kind: Kind, content: &[u8]) -> Vec<Written> {
    match kind {
        Kind::Link => match Link::read(content) {
            Ok(Link::Set(key, value)) => {
                let key = keys::is_key(key).then(|| Bytes::copy_from_slice(key));
                vec![Written { key, value: Bytes::copy_from_slice(value) }]
            }
            _ => Vec::new(),
        },
        Kind::Node => match Node::read(&Bytes::copy_from_slice(content)).map(|node| node.content) {
            Ok(Content::Leaf(entries)) => {
                entries.into_iter().rev().map(|(key, value)| Written { key: Some(key), value }).collect()
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// How many times the bytes of a segment are read to look for messages: content that seems a long message at each byte would
/// be read over and over.
const READ_OVER: usize = 64;

/// The messages of a segment, in the order in which they were written.
fn newest(bytes: &[u8]) -> Vec<(Kind, &[u8])> {
    let mut contents: Vec<(u64, Kind, &[u8])> = Vec::new();
    let mut at = SEGMENT_HEADER;
    let mut read = 0;
    while at < bytes.len() && read <= READ_OVER * bytes.len() {
        let rest = &bytes[at..];
        let length = peek_length(rest).unwrap_or(0);
        read += length;
        match (length > 0).then(|| Message::read(rest).ok()).flatten() {
            Some(message) => {
                contents.push((message.segment_number, message.kind, &rest[message.content.clone()]));
                at += message.content.end;
            }
            None => at += 1,
        }
    }
    let last = contents.iter().map(|(number, ..)| *number).max();
    let now = contents.into_iter().filter(|(number, ..)| Some(*number) == last);
    now.map(|(_, kind, content)| (kind, content)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::written;
    use super::*;

    fn contents(segment: &[u8]) -> Vec<&[u8]> {
        newest(segment).into_iter().map(|(_, content)| content).collect()
    }

    /// What a segment had held before it was used again was taken for the end of what it holds now. So a log that had lost
    /// its last segment passed for whole.
    #[test]
    fn what_a_segment_held_before_does_not_count() {
        let mut segment = vec![0; SEGMENT_HEADER];
        for (number, content) in [(9, &b"now"[..]), (9, b"and now"), (4, b"before"), (4, b"long before")] {
            segment.extend(written(10, number, 1, content));
        }
        assert_eq!(contents(&segment), [&b"now"[..], b"and now"]);
    }

    #[test]
    fn behind_a_damaged_message_the_next_one_is_found() {
        let mut segment = vec![0; SEGMENT_HEADER];
        segment.extend(written(10, 9, 1, b"first"));
        let damaged = segment.len() + 6;
        segment.extend(written(10, 9, 1, b"damaged"));
        segment.extend(written(10, 9, 1, b"last"));
        segment[damaged] ^= 0x40;
        assert_eq!(contents(&segment), [&b"first"[..], b"last"]);
    }

    /// Content that seems the beginning of a long message at every place was read over and over, for minutes.
    #[test]
    fn content_full_of_what_seems_messages_is_given_up() {
        let mut segment = vec![0; SEGMENT_HEADER];
        let seeming = [0, 0, 0, 0, 8, 249, 0x60, 0, 1, 1];
        segment.extend(seeming.repeat(6_000));
        segment.extend(written(10, 9, 1, b"last"));
        assert_eq!(contents(&segment), [&b""[..]; 0]);
    }

    #[test]
    fn the_key_of_a_change_is_told_where_it_is_whole() {
        let key = keys::group(7);
        let change = |key: &[u8]| [&[0, u8::try_from(key.len()).unwrap()], key, &[5], b"value"].concat();
        let told = |key| values(Kind::Link, &change(key)).pop().map(|written| (written.key, written.value)).unwrap();
        assert_eq!(told(&key), (Some(Bytes::from(key.clone())), Bytes::from_static(b"value")));
        assert_eq!(told(&key[3..]), (None, Bytes::from_static(b"value")));
    }
}
