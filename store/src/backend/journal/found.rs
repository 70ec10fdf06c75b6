//! What a journal is found to have by whoever takes up a log that was not closed.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;
use std::path::Path;

use ::bytes::Bytes;

use super::entry::{self, Group};
use super::sector::{self, CONTENT, Part, SECTOR, Sector};
use super::{LENGTH, MISSING, NAME};
use crate::directory::files;

/// The entries of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Those that are whole, in the order of positions. An entry that is not whole was never acknowledged, or is of a time
    /// before what was written over it; where it is neither, it is missing between others, or a sector is damaged.
    pub(crate) groups: Vec<Group>,
    /// What is not as it was written.
    pub(crate) damage: Vec<String>,
    was_left_in_order: bool,
}

impl Found {
    /// Reads the journal in the directory of a log. That of one that was left in order should have nothing: what it has counts
    /// all the same, and what is wrong with it does not.
    pub(crate) fn read(directory: &Path, was_left_in_order: bool) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match files::to_read(&directory.join(NAME)) {
            // One byte more tells that it is too long.
            Ok(file) => file.take(LENGTH + 1).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let mut found = Self::of(&bytes);
        if bytes.is_empty() {
            found.damage = vec![MISSING.to_owned()];
        }
        found.was_left_in_order = was_left_in_order;
        if was_left_in_order {
            found.damage.clear();
        }
        Ok(found)
    }

    /// The entries in the bytes of a journal.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut found = Self::default();
        if bytes.len() as u64 != LENGTH {
            found.damage.push(format!("its journal has {} bytes, not {LENGTH}", bytes.len()));
        }
        let mut sectors = Vec::with_capacity(bytes.len() / SECTOR);
        for (number, bytes) in (0..).zip(bytes.chunks(SECTOR)) {
            sectors.push(match sector::read(number, bytes) {
                Ok(Sector::Empty) => None,
                Ok(Sector::Part(part)) => Some(part),
                Err(why) => {
                    found.damage.push(format!("sector {number} of its journal: {why}"));
                    None
                }
            });
        }
        for at in 0..sectors.len() {
            if let Some(begin) = sectors[at].filter(|part| part.begins)
                && let Some(content) = whole(&begin, &sectors[at..])
            {
                match entry::decode(begin.start, &content) {
                    Ok(group) => found.groups.push(group),
                    Err(why) => found.damage.push(format!("the entry at sector {at} of its journal: {why}")),
                }
            }
        }
        found.groups.sort_by_key(|group| group.positions.start);
        found
    }

    /// The groups that a database lacks which has everything up to a position, in order. What is missing between them is damage,
    /// unless it was acknowledged before it was on the disk: then all that comes behind is lost with it.
    pub(crate) fn behind(self, end: u64) -> Self {
        let Self { groups, mut damage, was_left_in_order } = self;
        let mut behind = Vec::new();
        let mut expected = end;
        for group in groups {
            let Range { start, end } = group.positions;
            if end <= expected {
                continue;
            }
            if start > expected && (was_left_in_order || !group.follows) {
                break;
            }
            if start > expected {
                damage.push(format!("the records from position {expected} to {start} are in no entry of its journal"));
            }
            expected = end;
            behind.push(group);
        }
        Self { groups: behind, damage, was_left_in_order }
    }
}

/// The bytes of an entry, if all of its sectors follow the first one.
fn whole(begin: &Part<'_>, sectors: &[Option<Part<'_>>]) -> Option<Bytes> {
    let length = crate::bytes::usize_of(begin.left);
    let mut content = Vec::new();
    for (index, part) in sectors.get(..sector::count_for(length))?.iter().enumerate() {
        let left = length - index * CONTENT;
        let part = part.filter(|part| {
            part.start == begin.start && part.begins == (index == 0) && crate::bytes::usize_of(part.left) == left
        })?;
        content.extend_from_slice(part.bytes());
    }
    Some(content.into())
}
