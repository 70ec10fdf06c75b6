//! A disk as a recording has it: what of each file and directory is durable, what was changed since, and what a power
//! cut at this moment could leave.
//!
//! - A file's content is durable as far as a finished fsync or fdatasync of it covers; a directory's entries as far as an
//!   fsync of the directory does. A file that was synced in a directory that was not can be gone.
//! - Of what came later, each write is dropped, kept, or torn at 512 bytes; each change of a directory is there or not,
//!   a rename as a whole; the size of a file is any that it had since. What is kept is applied in order: a sector that
//!   was written twice has one of its three states, whichever was written back last.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::rc::Rc;

use crate::dice::Dice;
use crate::recording::{Event, Sync};

const SECTOR: usize = 512;
const O_CREAT: i64 = 0o100;
const O_TRUNC: i64 = 0o1000;

type NodeId = usize;
type Entries = BTreeMap<String, NodeId>;

/// A change of a directory, as a whole: names, and what they lead to from then on.
type DirectoryChange = Vec<(String, Option<NodeId>)>;

#[derive(Clone, Debug)]
enum FileChange {
    Write { offset: usize, data: Rc<[u8]> },
    Truncate(usize),
}

#[derive(Debug)]
enum Node {
    File { durable: Vec<u8>, since: Since<FileChange> },
    Directory { durable: Entries, seen: Entries, since: Since<DirectoryChange> },
}

/// Changes that are not durable.
#[derive(Debug)]
struct Since<Change> {
    /// How many were made durable before them.
    base: usize,
    changes: Vec<Change>,
}

impl<Change> Since<Change> {
    fn new() -> Self {
        Self { base: 0, changes: Vec::new() }
    }

    fn end(&self) -> usize {
        self.base + self.changes.len()
    }

    /// Takes those that a sync covers which began when there were so many.
    fn take_until(&mut self, end: usize) -> Vec<Change> {
        let count = end.saturating_sub(self.base);
        self.base += count;
        self.changes.drain(..count).collect()
    }
}

/// Which syncs the disk believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Believes {
    /// All, as disks do.
    All,
    /// All but fdatasync: what a log without its own sync would leave.
    AllButFdatasync,
    /// None: it lies.
    Nothing,
}

/// The disk under a directory.
pub struct Disk {
    /// The directory that the recording was made in.
    root: String,
    believes: Believes,
    nodes: Vec<Node>,
    descriptors: HashMap<i32, NodeId>,
    /// How many changes there were when a sync of a descriptor began.
    syncing: HashMap<i32, usize>,
}

impl Disk {
    /// What stands in a directory, all of it durable.
    pub fn of(root: &Path, believes: Believes) -> Self {
        let mut disk = Self {
            root: String::new(),
            believes,
            nodes: Vec::new(),
            descriptors: HashMap::new(),
            syncing: HashMap::new(),
        };
        disk.load(root);
        disk
    }

    fn load(&mut self, directory: &Path) -> NodeId {
        let id = self.add(empty_directory());
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let kind = entry.file_type().unwrap();
            let child = if kind.is_dir() {
                self.load(&entry.path())
            } else if kind.is_file() {
                self.add(Node::File { durable: fs::read(entry.path()).unwrap(), since: Since::new() })
            } else {
                continue;
            };
            if let Node::Directory { durable, seen, .. } = &mut self.nodes[id] {
                durable.insert(name.clone(), child);
                seen.insert(name, child);
            }
        }
        id
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// The directory that a path stands in, its name there, and what it leads to.
    fn find(&self, path: &str) -> (NodeId, String, Option<NodeId>) {
        let below = path.strip_prefix(&self.root).unwrap().trim_matches('/');
        let (mut directory, mut name, mut found) = (0, String::new(), Some(0));
        for part in below.split('/').filter(|part| !part.is_empty()) {
            directory = found.unwrap_or_else(|| panic!("{path} stands in a directory that is not there"));
            let Node::Directory { seen, .. } = &self.nodes[directory] else { panic!("{path} stands below a file") };
            name = part.to_owned();
            found = seen.get(part).copied();
        }
        (directory, name, found)
    }

    fn change_directory(&mut self, directory: NodeId, change: DirectoryChange) {
        let Node::Directory { seen, since, .. } = &mut self.nodes[directory] else { panic!("a file has no entries") };
        change_entries(seen, &change);
        since.changes.push(change);
    }

    fn change_file(&mut self, descriptor: i32, change: FileChange) {
        let id = self.descriptors[&descriptor];
        let Node::File { since, .. } = &mut self.nodes[id] else { panic!("a directory has no content") };
        since.changes.push(change);
    }

    /// Lets happen what happened.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Open { descriptor, flags, path } => self.open(*descriptor, *flags, path),
            Event::Close { descriptor } => {
                self.descriptors.remove(descriptor);
            }
            Event::Write { descriptor, offset, data } => {
                self.change_file(*descriptor, FileChange::Write { offset: *offset, data: Rc::clone(data) });
            }
            Event::Truncate { descriptor, length } => self.change_file(*descriptor, FileChange::Truncate(*length)),
            Event::Rename { from, to } => {
                let ((directory, old, node), (target, new, _)) = (self.find(from), self.find(to));
                assert_eq!(directory, target, "a rename between directories is not understood");
                self.change_directory(directory, vec![(old, None), (new, node)]);
            }
            Event::Unlink { path } => {
                let (directory, name, _) = self.find(path);
                self.change_directory(directory, vec![(name, None)]);
            }
            Event::MakeDirectory { path } => {
                let (directory, name, _) = self.find(path);
                let made = self.add(empty_directory());
                self.change_directory(directory, vec![(name, Some(made))]);
            }
            Event::SyncBegins { descriptor, .. } => {
                let end = match &self.nodes[self.descriptors[descriptor]] {
                    Node::File { since, .. } => since.end(),
                    Node::Directory { since, .. } => since.end(),
                };
                self.syncing.insert(*descriptor, end);
            }
            Event::SyncEnds { descriptor, by } => self.synced(*descriptor, *by),
            Event::Root(root) => root.clone_into(&mut self.root),
            Event::Range | Event::Mark(_) | Event::Fault(_) => {}
        }
    }

    fn open(&mut self, descriptor: i32, flags: i64, path: &str) {
        let (directory, name, found) = self.find(path);
        let node = found.unwrap_or_else(|| {
            assert!(flags & O_CREAT != 0, "{path} was opened and is not there");
            let made = self.add(Node::File { durable: Vec::new(), since: Since::new() });
            self.change_directory(directory, vec![(name, Some(made))]);
            made
        });
        self.descriptors.insert(descriptor, node);
        if flags & O_TRUNC != 0 {
            self.change_file(descriptor, FileChange::Truncate(0));
        }
    }

    fn synced(&mut self, descriptor: i32, by: Sync) {
        let Some(end) = self.syncing.remove(&descriptor) else { return };
        match self.believes {
            Believes::All => {}
            Believes::AllButFdatasync if by == Sync::Fsync => {}
            Believes::AllButFdatasync | Believes::Nothing => return,
        }
        match &mut self.nodes[self.descriptors[&descriptor]] {
            Node::File { durable, since } => {
                for change in since.take_until(end) {
                    change_content(durable, &change);
                }
            }
            Node::Directory { durable, since, .. } => {
                for change in since.take_until(end) {
                    change_entries(durable, &change);
                }
            }
        }
    }

    /// Writes what a power cut could leave into a directory, which is made.
    pub fn cut(&self, dice: &mut Dice, to: &Path) {
        // Most cuts leave some of everything; some leave nothing that was not synced, or all of it.
        let kept = [0, 20, 50, 80, 95, 100][usize::try_from(dice.below(6)).unwrap()];
        self.cut_node(0, kept, dice, to);
    }

    fn cut_node(&self, node: NodeId, kept: u64, dice: &mut Dice, to: &Path) {
        match &self.nodes[node] {
            Node::File { durable, since } => {
                fs::write(to, cut_content(durable.clone(), &since.changes, kept, dice)).unwrap();
            }
            Node::Directory { durable, since, .. } => {
                fs::create_dir(to).unwrap();
                let mut entries = durable.clone();
                for change in &since.changes {
                    if dice.percent(kept) {
                        change_entries(&mut entries, change);
                    }
                }
                for (name, child) in entries {
                    self.cut_node(child, kept, dice, &to.join(name));
                }
            }
        }
    }
}

fn empty_directory() -> Node {
    Node::Directory { durable: Entries::new(), seen: Entries::new(), since: Since::new() }
}

fn change_entries(entries: &mut Entries, change: &DirectoryChange) {
    for (name, node) in change {
        match node {
            Some(node) => entries.insert(name.clone(), *node),
            None => entries.remove(name),
        };
    }
}

fn change_content(content: &mut Vec<u8>, change: &FileChange) {
    match change {
        FileChange::Write { offset, data } => write_at(content, *offset, data),
        FileChange::Truncate(length) => content.resize(*length, 0),
    }
}

fn write_at(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

/// A file after a power cut.
fn cut_content(mut content: Vec<u8>, changes: &[FileChange], kept: u64, dice: &mut Dice) -> Vec<u8> {
    if changes.is_empty() {
        return content;
    }
    let mut size = content.len();
    let mut sizes = vec![size];
    for change in changes {
        match change {
            FileChange::Truncate(length) => {
                size = *length;
                if dice.percent(kept) {
                    content.resize(size, 0);
                }
            }
            FileChange::Write { offset, data } => {
                size = size.max(offset + data.len());
                match dice.below(3) {
                    0 if kept < 100 && kept > 0 => tear(&mut content, *offset, data, kept, dice),
                    _ if dice.percent(kept) => write_at(&mut content, *offset, data),
                    _ => {}
                }
            }
        }
        sizes.push(size);
    }
    // A file system can be behind with the size of a file, or ahead of its content: what was not written is 0 then.
    if kept < 100 && dice.percent(50) {
        let size = sizes[usize::try_from(dice.below(sizes.len() as u64)).unwrap()];
        content.resize(size, 0);
    }
    content
}

/// Keeps some sectors of a write.
fn tear(content: &mut Vec<u8>, offset: usize, data: &[u8], kept: u64, dice: &mut Dice) {
    let mut at = offset;
    let mut rest = data;
    while !rest.is_empty() {
        let (sector, after) = rest.split_at(rest.len().min(SECTOR - at % SECTOR));
        if dice.percent(kept) {
            write_at(content, at, sector);
        }
        at += sector.len();
        rest = after;
    }
}
