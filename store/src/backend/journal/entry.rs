//! An entry of the journal: the changes of one group, as bytes.
//!
//! ```text
//! end u64 | follows u8 | changes u32 | for each: 0 (delete) or 1 (put) | key behind its length u16 | of a put: value behind its length u16
//! ```
//! `end` is the position after the group's last record; the first one is in the sectors. `follows` is 1 where all before it was on
//! the disk when it was written.

use std::ops::Range;

use ::bytes::Bytes;

use crate::backend::Changes;
use crate::bytes::{Cursor, Malformed, Put};
use crate::layout::MAX_VALUE;

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// A group as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// The positions that it appends.
    pub(crate) positions: Range<u64>,
    /// Whether all before it was on the disk when it was written. What lies before such a group is there, or is damaged.
    pub(crate) follows: bool,
    pub(crate) changes: Changes,
}

/// The bytes of some changes that append from a position on; the position is returned with them. `None` for changes that
/// append nothing: nobody could tell whether they are in the database already.
pub(crate) fn encode(changes: &Changes, follows: bool) -> Option<(u64, Vec<u8>)> {
    let positions = changes.positions()?;
    let length: usize = changes.iter().map(|(key, value)| 5 + key.len() + value.map_or(0, Bytes::len)).sum();
    let mut bytes = Vec::with_capacity(13 + length);
    bytes.put_u64(positions.end);
    bytes.push(u8::from(follows));
    bytes.put_u32(u32::try_from(changes.len()).ok()?);
    for (key, value) in changes.iter() {
        bytes.push(if value.is_some() { PUT } else { DELETE });
        for part in [Some(key), value].into_iter().flatten() {
            bytes.put_u16(u16::try_from(part.len()).ok()?);
            bytes.put(part);
        }
    }
    Some((positions.start, bytes))
}

/// The group of an entry, which begins at a position.
pub(crate) fn decode(start: u64, entry: &Bytes) -> Result<Group, Malformed> {
    let mut cursor = Cursor::new(entry);
    let end = cursor.u64()?;
    if end <= start {
        return Err(Malformed(format!("a group that begins at {start} cannot end at {end}")));
    }
    let follows = cursor.flag()?;
    let mut changes = Changes::default();
    for _ in 0..cursor.u32()? {
        let kind = cursor.u8()?;
        let key = part(&mut cursor, entry)?;
        match kind {
            PUT => changes.put(key, part(&mut cursor, entry)?),
            DELETE => changes.delete(key),
            other => return Err(Malformed(format!("a change is 0 or 1, this one is {other}"))),
        }
    }
    cursor.end()?;
    changes.append(start..end);
    Ok(Group { positions: start..end, follows, changes })
}

/// A key or a value, which shares the bytes of the entry.
fn part(cursor: &mut Cursor<'_>, entry: &Bytes) -> Result<Bytes, Malformed> {
    let length = usize::from(cursor.u16()?);
    if length > MAX_VALUE {
        return Err(Malformed(format!("{length} bytes are longer than {MAX_VALUE}")));
    }
    Ok(entry.slice_ref(cursor.take(length)?))
}
