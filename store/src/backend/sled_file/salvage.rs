//! What can still be read of a damaged log, whatever sled says of it.
//!
//! Each value in the segments has a checksum of its own, and so has each message in sled's data file. So all are gathered that are
//! whole, wherever they are, and of each key the newest value counts; one in a segment before one in sled, which only has what
//! an earlier version has put there. That loses what only a damaged message said, and nothing else. It can
//! bring back a value that was replaced: what must not come back (an erased body, a pruned stream) is for the caller to
//! see to, who knows what was erased.
//!
//! Messages are looked for only where a message can begin: behind another one, or where a snapshot says so. Content that
//! merely looks like a message is never taken for one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::Path;

use ::bytes::Bytes;

use super::message::{Data, Kind, Message, SEGMENT_HEADER, peek_length};
use super::node::{Content, Link, Node};
use super::pages::Pages;
use super::{Unreadable, failed, open_data, read_only};
use crate::backend::segments;
use crate::backend::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::directory::head_file;
use crate::layout::keys;
use crate::layout::run::End;

/// What is whole of a damaged log, as an ordered map in memory.
pub(crate) struct Salvage {
    values: BTreeMap<Vec<u8>, Bytes>,
    head: Option<Vec<u8>>,
}

/// A message about a page, by its page and its place in the log of pages.
type Found = BTreeMap<(u64, u64), (Kind, Bytes)>;
/// What was said of a key last, and when.
type Newest = BTreeMap<Vec<u8>, (u64, Option<Bytes>)>;

impl Salvage {
    /// Gathers what is whole. The values are held in memory: as much as the log has.
    pub(crate) fn gather(directory: &Path) -> Result<Self, Unreadable> {
        let mut values = gather_database(directory).or_else(|unreadable| match unreadable {
            Unreadable::Strange(why) => {
                tracing::debug!(log = %directory.display(), why, "nothing can be found in its database");
                Ok(BTreeMap::new())
            }
            failed @ Unreadable::Failed(_) => Err(failed),
        })?;
        let end = segments::end(directory).map_err(|error| failed("reading its segments", &error))?;
        segments::each_value(directory, End::default(), end, |_, key, value| {
            // One that was wiped was replaced by another, or is gone.
            match value.filter(|_| keys::is_key(key)) {
                Some(value) => drop(values.insert(key.to_vec(), Bytes::copy_from_slice(value))),
                None => drop(values.remove(key)),
            }
        })
        .map_err(|error| failed("reading its segments", &error))?;
        drop_moved(&mut values);
        Ok(Self { values, head: head_file::load(directory).ok().flatten() })
    }
}

/// What is whole in the database.
fn gather_database(directory: &Path) -> Result<BTreeMap<Vec<u8>, Bytes>, Unreadable> {
    let data = open_data(directory)?;
    let known = Pages::snapshot(directory).unwrap_or_default();
    let mut found = Found::new();
    let mut bytes = Vec::new();
    for number in 0..data.segments() {
        let offset = number * data.segment;
        data.read_segment(offset, &mut bytes).map_err(|error| failed("reading its database", &error))?;
        gather_segment(&data, &bytes, known.within(offset, data.segment), &mut found);
    }
    Ok(newest(&found).into_iter().filter_map(|(key, (_, value))| Some((key, value?))).collect())
}

/// Gathers the messages of a segment: from its beginning on as far as they follow each other, and those that are known.
fn gather_segment(data: &Data, bytes: &[u8], known: impl Iterator<Item = u64>, found: &mut Found) {
    // Where whole messages begin and end. There is none within another one.
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut at = SEGMENT_HEADER;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let whole = take(data, rest, at, found);
        taken.extend(whole.map(|length| (at, at + length)));
        match whole.or_else(|| peek_length(rest)) {
            Some(length) => at += length,
            None => break,
        }
    }
    for place in known.collect::<BTreeSet<_>>() {
        let at = usize::try_from(place).unwrap_or(usize::MAX);
        let within = taken.range(..=at).next_back().is_some_and(|(_, end)| at < *end);
        if let Some(rest) = bytes.get(at..).filter(|_| !within) {
            taken.extend(take(data, rest, at, found).map(|length| (at, at + length)));
        }
    }
}

/// Takes the message at a place in a segment, if it is whole, and says how long it is.
fn take(data: &Data, bytes: &[u8], at: usize, found: &mut Found) -> Option<usize> {
    let message = Message::read(bytes).ok()?;
    if matches!(message.kind, Kind::Node | Kind::Link | Kind::Free) {
        let lsn = message.segment_number.saturating_mul(data.segment).saturating_add(at as u64);
        found.insert((message.page, lsn), (message.kind, Bytes::copy_from_slice(&bytes[message.content.clone()])));
    }
    Some(message.content.end)
}

/// Of each key what was said last. A change is only understood behind the page that it changes.
fn newest(found: &Found) -> Newest {
    let mut newest = Newest::new();
    let mut say = |lsn: u64, key: Vec<u8>, value: Option<&[u8]>| {
        // A key that was put together wrongly, for want of the page it belongs to, has a length that no key has.
        if keys::is_key(&key) && newest.get(&key).is_none_or(|(last, _)| *last < lsn) {
            newest.insert(key, (lsn, value.map(Bytes::copy_from_slice)));
        }
    };
    let mut current: Option<(u64, Node)> = None;
    for (&(page, lsn), (kind, content)) in found {
        let node = current.take().filter(|(of, _)| *of == page);
        current = match kind {
            Kind::Node => Node::read(content).ok().map(|node| (page, node)),
            Kind::Link => node,
            _ => None,
        };
        let Some((_, node)) = &current else { continue };
        match (kind, &node.content) {
            (Kind::Node, Content::Leaf(entries)) => {
                entries.iter().for_each(|(key, value)| say(lsn, key.to_vec(), Some(value)));
            }
            (Kind::Link, Content::Leaf(_)) => match Link::read(content) {
                Ok(Link::Set(key, value)) => say(lsn, [node.prefix(), key].concat(), Some(value)),
                Ok(Link::Delete(key)) => say(lsn, [node.prefix(), key].concat(), None),
                Ok(_) | Err(_) => {}
            },
            _ => {}
        }
    }
    newest
}

/// A stream that is listed as closed is no longer open, though the entry of when it was may have been found, too.
fn drop_moved(values: &mut BTreeMap<Vec<u8>, Bytes>) {
    let moved: Vec<_> = values
        .keys()
        .filter_map(|key| match keys::parse_listing(key) {
            Ok((false, kind, stream)) => Some(keys::listing(true, kind, stream)),
            _ => None,
        })
        .collect();
    for key in moved {
        values.remove(&key);
    }
}

impl Backend for Salvage {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        Ok(self.values.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        if range.from >= range.below {
            return Ok(Vec::new());
        }
        let entries =
            self.values.range::<[u8], _>((Bound::Included(&range.from[..]), Bound::Excluded(&range.below[..])));
        let copy = |(key, value): (&Vec<u8>, &Bytes)| (Bytes::copy_from_slice(key), value.clone());
        Ok(match direction {
            Direction::Up => entries.take(limit).map(copy).collect(),
            Direction::Down => entries.rev().take(limit).map(copy).collect(),
        })
    }

    fn apply(&self, _: &Changes) -> Result<(), BackendError> {
        Err(read_only())
    }

    fn write_out(&self) -> Result<(), BackendError> {
        Err(read_only())
    }

    fn sync(&self) -> Result<(), BackendError> {
        Err(read_only())
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.head.clone())
    }

    fn save_head(&self, _: &[u8]) -> Result<(), BackendError> {
        Err(read_only())
    }

    fn close(&self) -> Result<(), BackendError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::written;
    use super::*;

    /// Messages within messages, each known to a snapshot, took memory for each of them: far more than the file has.
    #[test]
    fn there_is_no_message_within_another_one() {
        let inner = written(10, 0, 7, b"inner");
        let bytes =
            [vec![0; SEGMENT_HEADER], written(10, 0, 6, &inner), vec![0; 9], written(10, 0, 8, b"apart")].concat();
        let file = tempfile::tempfile().unwrap();
        let data = Data { file, segment: 256, length: bytes.len() as u64 };
        let within = SEGMENT_HEADER as u64 + 8;
        let apart = (bytes.len() - written(10, 0, 8, b"apart").len()) as u64;
        let mut found = Found::new();
        gather_segment(&data, &bytes, [apart, within].into_iter(), &mut found);
        assert_eq!(found.keys().map(|(page, _)| *page).collect::<Vec<_>>(), [6, 8]);
    }
}
