//! sled's files, read without sled.
//!
//! sled cannot open a database without writing to it, and it gives up a database of which one page is damaged. Whoever
//! only reads a log that was closed in order needs neither a copy of it nor sled: this finds a page as sled's own
//! recovery would, and reads it where it lies. It takes what is simple for granted, which is what an orderly close leaves,
//! and refuses everything else ([`Unreadable`]); then a copy is opened with sled, which knows better.
//!
//! The layout is that of sled 0.34, whose releases have ended; its sources `src/serialization.rs`, `src/pagecache` and
//! `src/node.rs` are where it is written down.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod message;
mod node;
mod pages;
pub(crate) mod salvage;
mod scalars;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ::bytes::Bytes;
use message::{Data, Kind, Message};
use node::{Content, Link, Node};
use pages::Pages;
use scalars::{bytes, number};

use super::sled::DATA_FILE;
use super::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::bytes::{Cursor, Malformed};
use crate::directory::{files, head_file};
use crate::sync::lock;

/// Why sled's files are not read here.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// They are not what an orderly close leaves, or not what was written.
    Strange(String),
    /// The operating system refused.
    Failed(String),
}

impl From<Malformed> for Unreadable {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Strange(why)
    }
}

fn failed(doing: &str, error: &io::Error) -> Unreadable {
    Unreadable::Failed(format!("{doing}: {error}"))
}

/// The page that says where the trees begin.
const META: u64 = 0;
/// The tree that has no name.
const DEFAULT_TREE: &[u8] = b"__sled__default";
/// How many bytes of pages are kept in memory, about.
const KEPT: usize = 16 * 1024 * 1024;
/// A tree is never as high as this, nor does a row have as many pages that the row above does not know.
const STEPS: usize = 1_000;

/// A database of sled that was closed in order, read where it lies. Nothing may be written to it meanwhile.
pub(crate) struct SledFile {
    data: Data,
    pages: Pages,
    root: u64,
    directory: PathBuf,
    kept: Mutex<Kept>,
}

/// Pages that were read.
#[derive(Default)]
struct Kept {
    nodes: HashMap<u64, Arc<Node>>,
    weight: usize,
}

impl SledFile {
    /// Finds the pages of the database in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self, Unreadable> {
        let data = open_data(directory)?;
        let pages = Pages::find(directory, &data)?;
        let file = Self { data, pages, root: 0, directory: directory.to_owned(), kept: Mutex::default() };
        let root = file.find_root()?;
        Ok(Self { root, ..file })
    }

    fn find_root(&self) -> Result<u64, Unreadable> {
        let Some(place) = self.pages.of(META).last() else {
            return Err(Unreadable::Strange("it has no page that says where its trees begin".to_owned()));
        };
        let content = self.content(META, *place, &[Kind::Meta]).map_err(Unreadable::Strange)?;
        let mut cursor = Cursor::new(&content);
        while cursor.remaining() > 0 {
            let (name, root) = (bytes(&mut cursor)?, number(&mut cursor)?);
            if name == DEFAULT_TREE {
                return Ok(root);
            }
        }
        Err(Unreadable::Strange("it does not say where its tree begins".to_owned()))
    }

    /// The content of the message about a page at a place.
    fn content(&self, page: u64, place: pages::Place, kinds: &[Kind]) -> Result<Bytes, String> {
        let damaged = |what: &str| format!("page {page} at byte {} of {DATA_FILE}: {what}", place.offset);
        let outside = place.offset.checked_add(place.length).is_none_or(|end| end > self.data.length);
        if place.length > self.data.segment || outside {
            return Err(damaged("it is outside of the file"));
        }
        let mut buffer = vec![0; usize::try_from(place.length).unwrap_or(usize::MAX)];
        self.data.file.read_exact_at(&mut buffer, place.offset).map_err(|error| damaged(&error.to_string()))?;
        let message = Message::read(&buffer).map_err(|Malformed(what)| damaged(&what))?;
        let expected = (page, place.lsn / self.data.segment);
        if (message.page, message.segment_number) != expected || !kinds.contains(&message.kind) {
            return Err(damaged("something else is there"));
        }
        Ok(Bytes::from(buffer).slice(message.content))
    }

    fn read_node(&self, page: u64) -> Result<Node, String> {
        let damaged = |Malformed(what): Malformed| format!("page {page} of {DATA_FILE}: {what}");
        let Some((base, changes)) = self.pages.of(page).split_first() else {
            return Err(format!("page {page} of {DATA_FILE}: it is missing"));
        };
        let mut node = Node::read(&self.content(page, *base, &[Kind::Node])?).map_err(damaged)?;
        for change in changes {
            let content = self.content(page, *change, &[Kind::Link])?;
            node.apply(&Link::read(&content).map_err(damaged)?).map_err(damaged)?;
        }
        Ok(node)
    }

    fn node(&self, page: u64) -> Result<Arc<Node>, BackendError> {
        if let Some(node) = lock(&self.kept).nodes.get(&page) {
            return Ok(Arc::clone(node));
        }
        let node = Arc::new(self.read_node(page).map_err(BackendError::Damaged)?);
        let mut kept = lock(&self.kept);
        kept.weight += node.weight();
        if kept.weight > KEPT {
            *kept = Kept { weight: node.weight(), ..Kept::default() };
        }
        kept.nodes.insert(page, Arc::clone(&node));
        Ok(node)
    }

    /// The leaf that a key belongs to.
    fn leaf(&self, key: &[u8]) -> Result<Arc<Node>, BackendError> {
        let mut page = self.root;
        for _ in 0..STEPS {
            let node = self.node(page)?;
            if node.is_left_of(key) {
                // It was split, and the row above does not know yet.
                page = node.next.ok_or_else(|| astray(page))?;
                continue;
            }
            match &node.content {
                Content::Leaf(_) => return Ok(node),
                Content::Index(pages) => {
                    let after = pages.partition_point(|(low, _)| &low[..] <= key);
                    page = after.checked_sub(1).map(|at| pages[at].1).ok_or_else(|| astray(page))?;
                }
            }
        }
        Err(astray(page))
    }

    fn scan_up(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, BackendError> {
        let mut found = Vec::new();
        let mut leaf = self.leaf(&range.from)?;
        loop {
            let entries = entries(&leaf);
            let first = entries.partition_point(|(key, _)| *key < range.from);
            for (key, value) in &entries[first..] {
                if *key >= range.below || found.len() >= limit {
                    return Ok(found);
                }
                found.push((key.clone(), value.clone()));
            }
            let next = match leaf.next {
                Some(next) if leaf.high < range.below && found.len() < limit => next,
                _ => return Ok(found),
            };
            let right = self.node(next)?;
            // So each page is come to once, however they are linked.
            if !right.high.is_empty() && right.high <= leaf.high {
                return Err(astray(next));
            }
            leaf = right;
        }
    }

    fn scan_down(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, BackendError> {
        let mut found = Vec::new();
        let mut below = range.below.clone();
        loop {
            let leaf = self.leaf_before(&below)?;
            let entries = entries(&leaf);
            let end = entries.partition_point(|(key, _)| *key < below);
            for (key, value) in entries[..end].iter().rev() {
                if *key < range.from || found.len() >= limit {
                    return Ok(found);
                }
                found.push((key.clone(), value.clone()));
            }
            if leaf.low <= range.from || leaf.low.is_empty() || found.len() >= limit {
                return Ok(found);
            }
            // So each page is come to once.
            if leaf.low >= below {
                return Err(BackendError::Damaged(format!("the pages of {DATA_FILE} are not in order")));
            }
            below.clone_from(&leaf.low);
        }
    }

    /// The leaf that the greatest key below a key would belong to.
    fn leaf_before(&self, below: &[u8]) -> Result<Arc<Node>, BackendError> {
        let mut page = self.root;
        for _ in 0..STEPS {
            let node = self.node(page)?;
            if !node.high.is_empty() && below > &node.high[..] {
                page = node.next.ok_or_else(|| astray(page))?;
                continue;
            }
            match &node.content {
                Content::Leaf(_) => return Ok(node),
                Content::Index(pages) => {
                    let after = pages.partition_point(|(low, _)| &low[..] < below);
                    page = pages.get(after.saturating_sub(1)).map(|(_, page)| *page).ok_or_else(|| astray(page))?;
                }
            }
        }
        Err(astray(page))
    }
}

fn open_data(directory: &Path) -> Result<Data, Unreadable> {
    let reading = |error| failed("reading its database", &error);
    let conf = files::content(&directory.join("conf")).map_err(reading)?;
    let segment = segment_size(&conf)?;
    let file = files::to_read(&directory.join(DATA_FILE)).map_err(reading)?;
    let length = file.metadata().map_err(reading)?.len();
    Ok(Data { file, segment, length })
}

/// The size of a segment, by sled's configuration file: lines of text, then their checksum.
fn segment_size(conf: &[u8]) -> Result<u64, Malformed> {
    let strange = || Malformed::new("its configuration is not one of sled 0.34");
    let (text, checksum) = conf.split_last_chunk::<4>().ok_or_else(strange)?;
    let text = std::str::from_utf8(text).map_err(|_| strange())?;
    let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let plain = value("version") == Some("0.34") && value("use_compression") == Some("false");
    let size = value("segment_size").and_then(|size| size.parse().ok()).filter(|size: &u64| size.is_power_of_two());
    match size {
        Some(size @ 256..=16_777_216) if plain && crc32fast::hash(text.as_bytes()).to_le_bytes() == *checksum => {
            Ok(size)
        }
        _ => Err(strange()),
    }
}

fn entries(leaf: &Node) -> &[Entry] {
    match &leaf.content {
        Content::Leaf(entries) => entries,
        Content::Index(_) => &[],
    }
}

fn astray(page: u64) -> BackendError {
    BackendError::Damaged(format!("page {page} of {DATA_FILE} leads nowhere"))
}

/// A log that is only read is not written to.
fn read_only() -> BackendError {
    BackendError::Failed("the log was opened to be read".to_owned())
}

impl Backend for SledFile {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        let leaf = self.leaf(key)?;
        let entries = entries(&leaf);
        let found = entries.binary_search_by(|(other, _)| other[..].cmp(key));
        Ok(found.ok().map(|at| entries[at].1.clone()))
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        if range.from >= range.below || limit == 0 {
            return Ok(Vec::new());
        }
        match direction {
            Direction::Up => self.scan_up(range, limit),
            Direction::Down => self.scan_down(range, limit),
        }
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
        head_file::load(&self.directory).map_err(|error| BackendError::Failed(error.to_string()))
    }

    fn save_head(&self, _: &[u8]) -> Result<(), BackendError> {
        Err(read_only())
    }

    fn close(&self) -> Result<(), BackendError> {
        Ok(())
    }
}
