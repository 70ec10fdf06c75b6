//! Messages on a stream: four bytes of length, then that many bytes.

use std::io::{self, ErrorKind, Read, Write};

use crate::bytes::usize_of;

/// The size of a read: memory grows with the received data, not with the announced length.
const CHUNK: u64 = 64 * 1024;

/// The size of the first part of a message, which is sent together with its length.
const FIRST: usize = 64 * 1024 - 4;

pub(super) fn send(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::Error::other("the message is too long"))?;
    // Together: the length alone would wake the receiver, which would then wait again.
    let (first, rest) = message.split_at(message.len().min(FIRST));
    stream.write_all(&[&length.to_be_bytes(), first].concat())?;
    stream.write_all(rest)?;
    stream.flush()
}

/// The next message, unless the other side has gone.
pub(super) fn receive(stream: &mut impl Read, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read(&mut length)? {
        0 => return Ok(None),
        read => stream.read_exact(&mut length[read..])?,
    }
    let length = usize_of(u32::from_be_bytes(length));
    if length > longest {
        let what = format!("a message of {length} bytes is longer than {longest}");
        return Err(io::Error::new(ErrorKind::InvalidData, what));
    }
    let mut message = Vec::new();
    while message.len() < length {
        let step = CHUNK.min((length - message.len()) as u64);
        if stream.by_ref().take(step).read_to_end(&mut message)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(message))
}
