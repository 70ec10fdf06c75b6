//! A simulated disk, driven by a recording: the durable state of each file and directory, the changes since, and the
//! states that a power cut at this moment could leave.
//!
//! - The content of a file is durable as far as a finished fsync or fdatasync of it covers; the entries of a directory as far as
//!   an fsync of the directory does. A synced file in an unsynced directory can be lost.
//! - Of later changes, each write and each hole is dropped, kept, or torn at 512 bytes; each change of a directory is
//!   present or not, a rename or an exchange of two names atomically, also between directories; the size of a file is any
//!   that it had since. Kept changes are applied in order: a sector that was written twice has one of its three states,
//!   whichever was written back last.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::rc::Rc;

use super::dice::Dice;
use super::recording::{Event, FileRef, Sync};

const SECTOR: usize = 512;
const O_CREAT: i64 = 0o100;
const O_TRUNC: i64 = 0o1000;
const O_TMPFILE: i64 = 0o20_000_000;
const KEEP_SIZE: i32 = 1;
const PUNCH_HOLE: i32 = 2;
const ZERO_RANGE: i32 = 16;

type NodeId = usize;
type Entries = BTreeMap<String, NodeId>;

/// An atomic change of a directory: names, and the nodes that they refer to from then on. A change of two directories is in both,
/// with the same number.
#[derive(Clone, Debug)]
struct DirectoryChange {
    number: usize,
    names: Names,
}

type Names = Vec<(String, Option<NodeId>)>;

#[derive(Clone, Debug)]
enum FileChange {
    Write {
        offset: usize,
        data: Rc<[u8]>,
    },
    Truncate(usize),
    /// Extends the file to at least this length.
    Grow(usize),
    /// Zeros a range, which may extend the file.
    Zero {
        range: Range<usize>,
        grows: bool,
    },
}

#[derive(Debug)]
enum Node {
    Symlink(String),
    File { durable: Vec<u8>, since: Since<FileChange> },
    Directory { durable: Entries, seen: Entries, since: Since<DirectoryChange> },
}

/// Changes that are not durable.
#[derive(Debug)]
struct Since<Change> {
    /// The number of earlier changes, which are durable.
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

    /// Takes the changes that a sync covers: those before `end`, the number of changes when the sync began.
    fn take_until(&mut self, end: usize) -> Vec<Change> {
        let count = end.saturating_sub(self.base);
        self.base += count;
        self.changes.drain(..count).collect()
    }
}

/// The syncs that the disk honours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HonouredSyncs {
    /// All of them, like an honest disk.
    All,
    /// All but fdatasync: simulates a log without its own sync.
    AllButFdatasync,
    /// All but the fsync of a directory: simulates a log that never syncs one.
    AllButDirectories,
    /// None: a disk that lies.
    Nothing,
}

/// The disk under a directory.
pub struct Disk {
    /// The directory that the recording was made in.
    root: String,
    honoured: HonouredSyncs,
    nodes: Vec<Node>,
    files: HashMap<i32, NodeId>,
    /// For each thread the node that it syncs, and the number of changes when the sync began.
    syncing: HashMap<i64, (NodeId, usize)>,
    directory_changes: usize,
    /// Changes of two directories that are durable in one of them, and therefore in both.
    settled: HashSet<usize>,
}

impl Disk {
    /// A disk with the contents of a directory, all of them durable.
    pub fn of(root: &Path, honoured: HonouredSyncs) -> Self {
        let mut disk = Self {
            root: String::new(),
            honoured,
            nodes: Vec::new(),
            files: HashMap::new(),
            syncing: HashMap::new(),
            directory_changes: 0,
            settled: HashSet::new(),
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
            } else if kind.is_symlink() {
                self.add(Node::Symlink(fs::read_link(entry.path()).unwrap().into_os_string().into_string().unwrap()))
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

    /// Resolves a path: its parent directory, its name there, and its node.
    fn find(&self, path: &str) -> (NodeId, String, Option<NodeId>) {
        let below = path.strip_prefix(&self.root).unwrap().trim_matches('/');
        let (mut directory, mut name, mut found) = (0, String::new(), Some(0));
        for part in below.split('/').filter(|part| !part.is_empty()) {
            directory = found.unwrap_or_else(|| panic!("{path} is in a directory that does not exist"));
            let Node::Directory { seen, .. } = &self.nodes[directory] else { panic!("{path} is below a file") };
            name = part.to_owned();
            found = seen.get(part).copied();
        }
        (directory, name, found)
    }

    fn change_directory(&mut self, directory: NodeId, names: Names) {
        self.directory_changes += 1;
        self.change_names(directory, names);
    }

    fn change_names(&mut self, directory: NodeId, names: Names) {
        let Node::Directory { seen, since, .. } = &mut self.nodes[directory] else { panic!("a file has no entries") };
        change_entries(seen, &names);
        since.changes.push(DirectoryChange { number: self.directory_changes, names });
    }

    /// Changes two names atomically.
    fn change_two(&mut self, one: (NodeId, String, Option<NodeId>), other: (NodeId, String, Option<NodeId>)) {
        let (first, second) = ((one.1, one.2), (other.1, other.2));
        if one.0 == other.0 {
            return self.change_directory(one.0, vec![first, second]);
        }
        self.change_directory(one.0, vec![first]);
        self.change_names(other.0, vec![second]);
    }

    fn change_file(&mut self, id: NodeId, change: FileChange) {
        let Node::File { since, .. } = &mut self.nodes[id] else { panic!("only a file has content") };
        since.changes.push(change);
    }

    fn file(&self, file: &FileRef) -> NodeId {
        match file {
            FileRef::Opened(file) => self.files[file],
            FileRef::At(path) => self.find(path).2.unwrap_or_else(|| panic!("{path} does not exist")),
        }
    }

    /// Applies a recorded event.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Open { file, flags, path } => self.open(*file, *flags, path),
            Event::Write { file, offset, data } => {
                self.change_file(self.files[file], FileChange::Write { offset: *offset, data: Rc::clone(data) });
            }
            Event::Truncate { file, length } => self.change_file(self.file(file), FileChange::Truncate(*length)),
            Event::Allocate { file, range, mode } => self.allocate(self.files[file], range.clone(), *mode),
            Event::Rename { from, to } => self.rename(from, to),
            Event::Exchange { one, other } => {
                let ((directory, name, node), (other_directory, other_name, other)) =
                    (self.find(one), self.find(other));
                self.change_two((directory, name, other), (other_directory, other_name, node));
            }
            Event::Link { file, to } => {
                let (directory, name, _) = self.find(to);
                self.change_directory(directory, vec![(name, Some(self.file(file)))]);
            }
            Event::Symlink { target, path } => self.make(path, Node::Symlink(target.clone())),
            Event::Unlink { path } => {
                let (directory, name, _) = self.find(path);
                self.change_directory(directory, vec![(name, None)]);
            }
            Event::MakeDirectory { path } => self.make(path, empty_directory()),
            Event::SyncBegins { file, thread } => {
                let id = self.files[file];
                let end = match &self.nodes[id] {
                    Node::File { since, .. } => since.end(),
                    Node::Directory { since, .. } => since.end(),
                    Node::Symlink(_) => 0,
                };
                self.syncing.insert(*thread, (id, end));
            }
            Event::SyncEnds { thread, by } => self.synced(*thread, *by),
            Event::Root(root) => root.clone_into(&mut self.root),
            Event::Range | Event::Mark(_) | Event::Fault(_) => {}
        }
    }

    fn open(&mut self, file: i32, flags: i64, path: &str) {
        let found = if flags & O_TMPFILE == 0 { self.find(path).2 } else { None };
        let node = found.unwrap_or_else(|| {
            assert!(flags & (O_CREAT | O_TMPFILE) != 0, "{path} was opened and does not exist");
            let made = self.add(Node::File { durable: Vec::new(), since: Since::new() });
            if flags & O_TMPFILE == 0 {
                let (directory, name, _) = self.find(path);
                self.change_directory(directory, vec![(name, Some(made))]);
            }
            made
        });
        self.files.insert(file, node);
        if flags & O_TRUNC != 0 {
            self.change_file(node, FileChange::Truncate(0));
        }
    }

    fn make(&mut self, path: &str, node: Node) {
        let (directory, name, _) = self.find(path);
        let made = self.add(node);
        self.change_directory(directory, vec![(name, Some(made))]);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let ((directory, old, node), (target, new, replaced)) = (self.find(from), self.find(to));
        // A rename between two links of one file does nothing.
        if node != replaced {
            self.change_two((directory, old, None), (target, new, node));
        }
    }

    fn allocate(&mut self, file: NodeId, range: Range<usize>, mode: i32) {
        let change = match mode {
            0 => FileChange::Grow(range.end),
            KEEP_SIZE => return,
            mode if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 => FileChange::Zero { range, grows: mode & KEEP_SIZE == 0 },
            other => panic!("fallocate with mode {other} is not supported"),
        };
        self.change_file(file, change);
    }

    fn synced(&mut self, thread: i64, by: Sync) {
        let Some((id, end)) = self.syncing.remove(&thread) else { return };
        let is_directory = matches!(self.nodes[id], Node::Directory { .. });
        let is_honoured = match self.honoured {
            HonouredSyncs::All => true,
            HonouredSyncs::AllButFdatasync => by == Sync::Fsync,
            HonouredSyncs::AllButDirectories => !is_directory,
            HonouredSyncs::Nothing => false,
        };
        if !is_honoured {
            return;
        }
        match &mut self.nodes[id] {
            Node::File { durable, since } => {
                for change in since.take_until(end) {
                    change_content(durable, &change);
                }
            }
            Node::Directory { durable, since, .. } => {
                for change in since.take_until(end) {
                    change_entries(durable, &change.names);
                    self.settled.insert(change.number);
                }
            }
            Node::Symlink(_) => {}
        }
    }

    /// Writes the current state, without a power cut, into a new directory.
    pub fn write_out(&self, to: &Path) {
        self.cut_node(0, 100, &mut Dice::new(&[]), &mut HashMap::new(), to);
    }

    /// Writes a state that a power cut could leave into a new directory.
    pub fn cut(&self, dice: &mut Dice, to: &Path) {
        // Most cuts keep a part of the unsynced changes; some keep none, or all of them.
        let kept = [0, 20, 50, 80, 95, 100][usize::try_from(dice.below(6)).unwrap()];
        self.cut_node(0, kept, dice, &mut HashMap::new(), to);
    }

    /// `decided` says which changes of directories are kept.
    fn cut_node(&self, node: NodeId, kept: u64, dice: &mut Dice, decided: &mut HashMap<usize, bool>, to: &Path) {
        match &self.nodes[node] {
            Node::Symlink(target) => symlink(target, to).unwrap(),
            Node::File { durable, since } => {
                fs::write(to, cut_content(durable.clone(), &since.changes, kept, dice)).unwrap();
            }
            Node::Directory { durable, since, .. } => {
                fs::create_dir(to).unwrap();
                let mut entries = durable.clone();
                for change in &since.changes {
                    let settled = self.settled.contains(&change.number);
                    if settled || *decided.entry(change.number).or_insert_with(|| dice.percent(kept)) {
                        change_entries(&mut entries, &change.names);
                    }
                }
                for (name, child) in entries {
                    self.cut_node(child, kept, dice, decided, &to.join(name));
                }
            }
        }
    }
}

fn empty_directory() -> Node {
    Node::Directory { durable: Entries::new(), seen: Entries::new(), since: Since::new() }
}

fn change_entries(entries: &mut Entries, names: &[(String, Option<NodeId>)]) {
    for (name, node) in names {
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
        FileChange::Grow(length) => content.resize(content.len().max(*length), 0),
        FileChange::Zero { range, grows } => {
            let zeros = zeros_for(content, range, *grows);
            write_at(content, range.start, &zeros);
        }
    }
}

/// The zeros for a range: all of it, or only up to the end of the content.
fn zeros_for(content: &[u8], range: &Range<usize>, grows: bool) -> Vec<u8> {
    let end = if grows { range.end } else { range.end.min(content.len()) };
    vec![0; end.saturating_sub(range.start)]
}

fn write_at(content: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if data.is_empty() {
        return;
    }
    let end = offset + data.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(data);
}

/// The content of a file after a power cut.
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
            FileChange::Grow(length) => {
                size = size.max(*length);
                if dice.percent(kept) {
                    change_content(&mut content, change);
                }
            }
            FileChange::Write { offset, data } => {
                size = size.max(offset + data.len());
                cut_write(&mut content, *offset, data, kept, dice);
            }
            FileChange::Zero { range, grows } => {
                size = if *grows { size.max(range.end) } else { size };
                let zeros = zeros_for(&content, range, *grows);
                cut_write(&mut content, range.start, &zeros, kept, dice);
            }
        }
        sizes.push(size);
    }
    // The size that a file system has stored can be behind or ahead of the content: missing content reads as zeros.
    if kept < 100 && dice.percent(50) {
        let size = sizes[usize::try_from(dice.below(sizes.len() as u64)).unwrap()];
        content.resize(size, 0);
    }
    content
}

/// Drops, keeps or tears a write.
fn cut_write(content: &mut Vec<u8>, offset: usize, data: &[u8], kept: u64, dice: &mut Dice) {
    match dice.below(3) {
        0 if kept < 100 && kept > 0 => tear(content, offset, data, kept, dice),
        _ if dice.percent(kept) => write_at(content, offset, data),
        _ => {}
    }
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
