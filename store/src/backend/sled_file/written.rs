//! What was written to a database, whether or not sled still finds it.

use std::io;
use std::path::Path;

use super::message::{Message, SEGMENT_HEADER, peek_length};
use super::{Unreadable, open_data};

/// Gives the contents of the messages in each segment of a data file, in the order in which they were written. A segment that
/// was used before still has messages of then behind those of now: only the latter count.
///
/// Behind a damaged message the next one is looked for at every byte. So content that looks like a message may be among
/// them: good for an alarm, not to be taken for what was written.
pub(crate) fn each_segment(directory: &Path, mut each: impl FnMut(&[&[u8]])) -> io::Result<()> {
    let data = match open_data(directory) {
        Ok(data) => data,
        // Whoever opens it says what is wrong with it.
        Err(Unreadable::Strange(_)) => return Ok(()),
        Err(Unreadable::Failed(why)) => return Err(io::Error::other(why)),
    };
    let mut bytes = Vec::new();
    for number in 0..data.segments() {
        data.read_segment(number * data.segment, &mut bytes)?;
        each(&newest(&bytes));
    }
    Ok(())
}

/// How many times the bytes of a segment are read to look for messages: content that seems a long message at each byte would
/// be read over and over.
const READ_OVER: usize = 64;

fn newest(bytes: &[u8]) -> Vec<&[u8]> {
    let mut contents: Vec<(u64, &[u8])> = Vec::new();
    let mut at = SEGMENT_HEADER;
    let mut read = 0;
    while at < bytes.len() && read <= READ_OVER * bytes.len() {
        let rest = &bytes[at..];
        let length = peek_length(rest).unwrap_or(0);
        read += length;
        match (length > 0).then(|| Message::read(rest).ok()).flatten() {
            Some(message) => {
                contents.push((message.segment_number, &rest[message.content.clone()]));
                at += message.content.end;
            }
            None => at += 1,
        }
    }
    let last = contents.iter().map(|(number, _)| *number).max();
    contents.into_iter().filter(|(number, _)| Some(*number) == last).map(|(_, content)| content).collect()
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::written;
    use super::*;

    /// What a segment had held before it was used again was taken for the end of what it holds now. So a log that had lost
    /// its last segment passed for whole.
    #[test]
    fn what_a_segment_held_before_does_not_count() {
        let mut segment = vec![0; SEGMENT_HEADER];
        for (number, content) in [(9, &b"now"[..]), (9, b"and now"), (4, b"before"), (4, b"long before")] {
            segment.extend(written(10, number, 1, content));
        }
        assert_eq!(newest(&segment), [&b"now"[..], b"and now"]);
    }

    #[test]
    fn behind_a_damaged_message_the_next_one_is_found() {
        let mut segment = vec![0; SEGMENT_HEADER];
        segment.extend(written(10, 9, 1, b"first"));
        let damaged = segment.len() + 6;
        segment.extend(written(10, 9, 1, b"damaged"));
        segment.extend(written(10, 9, 1, b"last"));
        segment[damaged] ^= 0x40;
        assert_eq!(newest(&segment), [&b"first"[..], b"last"]);
    }

    /// Content that seems the beginning of a long message at every place was read over and over, for minutes.
    #[test]
    fn content_full_of_what_seems_messages_is_given_up() {
        let mut segment = vec![0; SEGMENT_HEADER];
        let seeming = [0, 0, 0, 0, 8, 249, 0x60, 0, 1, 1];
        segment.extend(seeming.repeat(6_000));
        segment.extend(written(10, 9, 1, b"last"));
        assert_eq!(newest(&segment), [&b""[..]; 0]);
    }
}
