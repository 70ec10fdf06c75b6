//! A page of sled's tree: its key range, and its entries or the pages below it.
//!
//! A page that has become small is put together with the one to its left, in steps that any later write may go on with: the
//! page above writes down which page is to go, that page takes no more changes, its entries are put into the left one, and
//! the page above lets go of it. A database can be closed between any two of them. Until the last one the page that is
//! to go has all that belongs to it, and the page above leads there: so it is read as if nothing were going on.

use ::bytes::Bytes;

use super::scalars::{bytes, number};
use crate::bytes::{Cursor, Malformed};

/// A page of the tree. Its keys are whole, where sled leaves out what they share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// The page to the right.
    pub(super) next: Option<u64>,
    /// The page below that is about to be put together with the one to its left.
    leaving: Option<u64>,
    pub(super) low: Vec<u8>,
    /// Above all keys; empty for the last page of its row.
    pub(super) high: Vec<u8>,
    /// How many bytes of `low` all keys begin with.
    shared: usize,
    pub(super) content: Content,
}

/// What is in a page of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Keys with their values.
    Leaf(Vec<(Bytes, Bytes)>),
    /// The least key of each page below, and that page.
    Index(Vec<(Bytes, u64)>),
}

/// A change of a page of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Link<'a> {
    /// A key, without what all keys of the page begin with, has a value.
    Set(&'a [u8], &'a [u8]),
    /// A key is there no more.
    Delete(&'a [u8]),
    /// A page below is about to be put together with the one to its left.
    Leaves(u64),
    /// It was, and is no longer below.
    Left,
    /// The page is the one that is to go: it changes no more.
    Closes,
}

impl Node {
    /// Its keys and values are slices: the values of what is read here, which stays in memory as long as one of them.
    pub(super) fn read(page: &Bytes) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(page);
        let next = number(&mut cursor)?;
        let leaving = number(&mut cursor)?;
        // Whether it is the one that is to go.
        cursor.u8()?;
        let shared = usize::from(cursor.u8()?);
        let (low, high) = (bytes(&mut cursor)?.to_vec(), bytes(&mut cursor)?.to_vec());
        let prefix = low.get(..shared).ok_or_else(|| Malformed::new("a page shares more of its keys than it has"))?;
        let content = Content::read(page, &mut cursor, prefix)?;
        cursor.end()?;
        let page = |number| (number != 0).then_some(number);
        Ok(Self { next: page(next), leaving: page(leaving), shared, low, high, content })
    }

    /// What all keys begin with.
    pub(super) fn prefix(&self) -> &[u8] {
        &self.low[..self.shared]
    }

    /// Whether a key is to the right of the page.
    pub(super) fn is_left_of(&self, key: &[u8]) -> bool {
        !self.high.is_empty() && key >= &self.high[..]
    }

    pub(super) fn apply(&mut self, link: &Link<'_>) -> Result<(), Malformed> {
        let whole = |key: &[u8]| Bytes::from([&self.low[..self.shared], key].concat());
        match (link, &mut self.content) {
            (Link::Set(key, value), Content::Leaf(entries)) => {
                let key = whole(key);
                match entries.binary_search_by(|(other, _)| other.cmp(&key)) {
                    Ok(at) => entries[at].1 = Bytes::copy_from_slice(value),
                    Err(at) => entries.insert(at, (key, Bytes::copy_from_slice(value))),
                }
            }
            (Link::Delete(key), Content::Leaf(entries)) => {
                let key = whole(key);
                if let Ok(at) = entries.binary_search_by(|(other, _)| other.cmp(&key)) {
                    entries.remove(at);
                }
            }
            (Link::Leaves(page), Content::Index(_)) => self.leaving = Some(*page),
            (Link::Left, Content::Index(pages)) => {
                let left = self.leaving.take().ok_or_else(|| Malformed::new("no page was about to leave"))?;
                pages.retain(|(_, page)| *page != left);
            }
            (Link::Closes, _) => {}
            (change, _) => return Err(Malformed::new(format!("the change {change:?} does not fit the page"))),
        }
        Ok(())
    }

    /// How many bytes it takes in memory, about.
    pub(super) fn weight(&self) -> usize {
        const EACH: usize = 64;
        match &self.content {
            Content::Leaf(entries) => entries.iter().map(|(key, value)| EACH + key.len() + value.len()).sum(),
            Content::Index(pages) => pages.iter().map(|(key, _)| EACH + key.len()).sum(),
        }
    }
}

impl Content {
    fn read(page: &Bytes, cursor: &mut Cursor<'_>, prefix: &[u8]) -> Result<Self, Malformed> {
        let kind = cursor.u8()?;
        let count = number(cursor)?;
        if count > cursor.remaining() as u64 {
            return Err(Malformed::new(format!("a page of {count} entries in {} bytes", cursor.remaining())));
        }
        let keys = read_keys(cursor, count, prefix)?;
        if !keys.is_sorted() {
            return Err(Malformed::new("the keys of a page are not in order"));
        }
        let keys = keys.into_iter();
        match kind {
            0 => keys.map(|key| Ok((key, page.slice_ref(bytes(cursor)?)))).collect::<Result<_, _>>().map(Self::Leaf),
            1 => keys.map(|key| Ok((key, number(cursor)?))).collect::<Result<_, _>>().map(Self::Index),
            other => Err(Malformed::new(format!("a page of kind {other}"))),
        }
    }
}

/// The keys of a page, behind what they share. They are slices of one piece of memory.
fn read_keys(cursor: &mut Cursor<'_>, count: u64, prefix: &[u8]) -> Result<Vec<Bytes>, Malformed> {
    let own = (0..count).map(|_| bytes(cursor)).collect::<Result<Vec<_>, _>>()?;
    // In one piece of the right length: there is a page for every few records of a log.
    let mut all = Vec::with_capacity(own.iter().map(|key| prefix.len() + key.len()).sum());
    for key in &own {
        all.extend_from_slice(prefix);
        all.extend_from_slice(key);
    }
    let all = Bytes::from(all);
    let mut end = 0;
    let whole = own.iter().map(|key| {
        let start = end;
        end += prefix.len() + key.len();
        all.slice(start..end)
    });
    Ok(whole.collect())
}

impl<'a> Link<'a> {
    pub(super) fn read(content: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(content);
        match cursor.u8()? {
            0 => Ok(Self::Set(bytes(&mut cursor)?, bytes(&mut cursor)?)),
            1 => Ok(Self::Delete(bytes(&mut cursor)?)),
            2 => Ok(Self::Leaves(number(&mut cursor)?)),
            3 => Ok(Self::Left),
            4 => Ok(Self::Closes),
            other => Err(Malformed::new(format!("a change of kind {other}"))),
        }
    }
}
