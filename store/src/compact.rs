//! Compaction: rewriting a log without its pruned records and without the space of erased bodies.
//!
//! Pruned data is overwritten in place and keeps its length, because segments only grow. Compaction writes the
//! remaining contents to a new log beside the old one, verifies it, and swaps the two atomically. Adjacent pruned
//! records are replaced by a few hashes, from which the Merkle tree can still be computed. Record hashes, positions and
//! the hash of the log do not change.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, RenameFlags};

use crate::core::fold::events_of;
use crate::core::open::{LoadedLog, each_group, load, load_head, open_for_verifying, save_head};
use crate::core::scan::LoadError;
use crate::core::{Core, verify, wiping};
use crate::descriptors::reserve_standard_streams;
use crate::directory::detect::{Presence, detect};
use crate::directory::files::{self, Access};
use crate::directory::lock_file::{self, DirectoryLock};
use crate::directory::open_directory::OpenDirectory;
use crate::directory::{creation, io_error};
use crate::disk::Disk;
use crate::disk::directory::DirectoryDisk;
use crate::layout::frame::FrameOrigin;
use crate::layout::gap::Gap;
use crate::layout::group::{self, GroupHeader};
use crate::layout::head::{Head, LogId, Tip};
use crate::layout::segment::{Place, SegmentHeader};
use crate::leftover;
use crate::log::{OpenError, ReadError};
use crate::log_event::LogEvent;
use crate::merkle::{Node, Tree, largest};
use crate::record::StreamId;
use crate::segments::appender::{Appender, MAX_SEGMENT};
use crate::segments::walk::{Group, Item, LocatedItem};
use crate::segments::{self, name_of};
use crate::sled_log::new_id;

/// The approximate size of a group in the new log.
const GROUP: usize = 1024 * 1024;

/// The result of a compaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The total length of the segments before.
    pub before: u64,
    /// The total length of the segments after.
    pub after: u64,
    /// The path of the old files and the error, if they could not be removed: [`open`](crate::open) removes them later.
    pub left: Option<(PathBuf, String)>,
}

/// Rewrites a log that no process holds, and swaps in the new one, with the modes, owners and groups of the old one.
/// Overwrites the old files before removing them; copies that the disk, the file system, snapshots or backups keep are
/// out of reach.
///
/// Needs as much free space beside the log as the new log takes. If it is interrupted, the log is either the old or the
/// new one, and the next process that opens it for writing removes the other.
///
/// # Errors
/// [`OpenError::Locked`] if a process holds the log, [`OpenError::Damaged`] if the log is not intact; otherwise as
/// [`open`](crate::open). Nothing was changed then.
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    if detect(path)? != Presence::Log {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |doing: &'static str| move |error: io::Error| io_error(path, doing, &error);
    reserve_standard_streams().map_err(failed("reserving the standard streams"))?;
    let name = path.canonicalize().map_err(failed("resolving its path"))?;
    let directory = OpenDirectory::open(&name).map_err(failed("opening the directory"))?;
    rewrite(&directory, &name).map_err(|error| error.with_path(directory.path(), path))
}

fn rewrite(directory: &OpenDirectory, name: &Path) -> Result<Compacted, OpenError> {
    let path = directory.path();
    let failed = |doing: &'static str| move |error: io::Error| io_error(name, doing, &error);
    let lock = lock_file::acquire(path, |_| Ok(()))?;
    leftover::remove(name).map_err(failed("removing the leftovers of an earlier attempt"))?;
    let other = leftover::path_of(name);
    let length = |directory: &Path| -> u64 {
        files_of(directory).iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
    };
    let before = length(path);
    let exchange = || -> Result<u64, OpenError> {
        wipe_pending(directory, &lock)?;
        copy_log(path, &other)?;
        copy_access(path, &other).map_err(failed("copying the owner and mode to the new files"))?;
        let after = length(&other);
        // Another process that finds the old log under its new name must not touch it.
        leftover::claim(directory.file()).map_err(failed("locking the directory"))?;
        directory
            .check_in_place()
            .and_then(|()| lock.check_in_place(directory))
            .map_err(failed("swapping in the new log"))?;
        rustix::fs::renameat_with(CWD, name, CWD, &other, RenameFlags::EXCHANGE)
            .map_err(|error| failed("swapping in the new log")(error.into()))?;
        Ok(after)
    };
    match exchange() {
        Ok(after) => {
            let left = leftover::wipe(&other).err().map(|error| (other, error.to_string()));
            Ok(Compacted { before, after, left })
        }
        Err(error) => {
            let _ = fs::remove_dir_all(&other);
            Err(error)
        }
    }
}

/// Completes recorded changes that were interrupted, such as erasures. Changes nothing in a damaged
/// log.
fn wipe_pending(directory: &OpenDirectory, lock: &DirectoryLock) -> Result<(), OpenError> {
    let disk: Arc<dyn Disk> = Arc::new(DirectoryDisk::writing(directory, lock));
    let wipe = || -> Result<(), LoadError> {
        let Some(head) = load_head(&*disk)? else { return Ok(()) };
        let (closed, wiped) = (head.closed, head.wiped);
        if closed && wiped == head.tip.position {
            return Ok(());
        }
        let LoadedLog { segments, index, scanned, .. } = load(&disk, head, None, false)?;
        let core = Core::new(segments, index, None, directory.path().display().to_string());
        wiping::wipe_pending(&core, wiped)?;
        scanned.check_suspects(&core.segments)
    };
    wipe().map_err(|error| error.at(directory.path()))
}

/// The paths of a log's segments.
pub(crate) fn files_of(directory: &Path) -> Vec<PathBuf> {
    let numbers = segments::numbers(&DirectoryDisk::reading(directory)).unwrap_or_default();
    numbers.into_iter().map(|number| directory.join(name_of(number))).collect()
}

/// Copies mode, owner and group of the old log and its files to the new ones.
fn copy_access(old: &Path, new: &Path) -> io::Result<()> {
    let unlike = Access::of(old)?;
    for relative in [".", segments::DIRECTORY] {
        let new = new.join(relative);
        for entry in fs::read_dir(&new)? {
            let name = entry?.file_name();
            let before = fs::symlink_metadata(old.join(relative).join(&name)).ok();
            let access = before.map_or(unlike, |before| Access::of_metadata(&before));
            access.restore(&files::open_read(&new.join(name))?)?;
        }
    }
    Access::of_metadata(&fs::metadata(old)?).restore(&files::open_directory(new)?)
}

/// Verifies a log, writes its contents to a new one, and verifies that too.
fn copy_log(path: &Path, new: &Path) -> Result<(), OpenError> {
    let old = open_intact(path)?;
    creation::make_directory(new)?;
    creation::begin(new)?;
    let unwritten = |error: LoadError| error.at(new);
    let disk: Arc<dyn Disk> = Arc::new(DirectoryDisk::reading(new));
    let (keeping, checkpoints) = kept_items(&old).map_err(unwritten)?;
    let mut writer = CompactWriter::begin(disk, checkpoints).map_err(unwritten)?;
    each_group(&old.segments, |group| writer.add_group(group, &keeping)).map_err(unwritten)?;
    writer.finish(old.tip()).map_err(unwritten)?;
    creation::finish(new)?;
    let copy = open_intact(new)?;
    if copy.tip() == old.tip() {
        return Ok(());
    }
    Err(OpenError::Damaged { path: new.to_owned(), what: "the new log does not end like the old one".to_owned() })
}

/// Opens and verifies a log; fails if it is damaged.
fn open_intact(path: &Path) -> Result<Core, OpenError> {
    let damaged = |finding: ReadError| OpenError::Damaged { path: path.to_owned(), what: finding.to_string() };
    let disk: Arc<dyn Disk> = Arc::new(DirectoryDisk::reading(path));
    if load_head(&*disk).map_err(|error| error.at(path))?.is_none() {
        return Err(creation::missing_head(path));
    }
    let opened = open_for_verifying(&disk, path.display().to_string());
    let (core, findings) = opened.map_err(|error| error.at(path))?;
    match findings.into_iter().chain(verify::verify(&core).findings).next() {
        Some(finding) => Err(damaged(finding)),
        None => Ok(core),
    }
}

/// Which items of a log are kept, and the sizes of its checkpoints: no subtree hash may span one of those.
fn kept_items(core: &Core) -> Result<(impl Fn(&LocatedItem) -> bool, Vec<u64>), LoadError> {
    let mut checkpoints = Vec::new();
    core.each_frame(StreamId::LOG, 0, |_, frame| {
        for event in events_of(&frame) {
            if let LogEvent::Checkpoint(checkpoint) = event {
                checkpoints.push(checkpoint.size);
            }
        }
        Ok(true)
    })?;
    checkpoints.sort_unstable();
    let is_kept = |found: &LocatedItem| match &found.item {
        Item::Frame(header) => !header.pruned,
        Item::Definition => true,
        Item::Gap(..) => false,
    };
    Ok((is_kept, checkpoints))
}

/// Writes the new log.
struct CompactWriter {
    disk: Arc<dyn Disk>,
    log: LogId,
    appender: Appender,
    checkpoints: Vec<u64>,
    bytes: Vec<u8>,
    items: u32,
    /// The end of the log before the current group, and the tree including it.
    before: Tip,
    tip: Tip,
    tree: Tree,
    /// The nodes of the most recent records that are dropped.
    gap: Vec<Node>,
}

impl CompactWriter {
    fn begin(disk: Arc<dyn Disk>, checkpoints: Vec<u64>) -> Result<Self, LoadError> {
        let log = new_id();
        let header = SegmentHeader { number: 1, log, before: Tip::empty(), length_before: 0 };
        let appender = Appender::begin(Arc::clone(&disk), &header, MAX_SEGMENT).map_err(|error| failed(&error))?;
        Ok(Self {
            disk,
            log,
            appender,
            checkpoints,
            bytes: vec![0; group::HEADER],
            items: 0,
            before: Tip::empty(),
            tip: Tip::empty(),
            tree: Tree::default(),
            gap: Vec::new(),
        })
    }

    /// Adds the kept items of a group.
    fn add_group(&mut self, group: &Group, is_kept: &impl Fn(&LocatedItem) -> bool) -> Result<(), LoadError> {
        for found in group.items() {
            let found = found?;
            if is_kept(&found) {
                self.end_gap();
                self.keep(&found)?;
            } else {
                self.skip(&found)?;
            }
        }
        self.tip = group.tip();
        // Dropped records at the end of this group may be part of a gap that continues in the next one.
        if self.bytes.len() >= GROUP { self.write(group.tip()) } else { Ok(()) }
    }

    fn keep(&mut self, found: &LocatedItem) -> Result<(), LoadError> {
        if let Item::Frame(header) = &found.item
            && header.origin == FrameOrigin::Appended
        {
            found.hashes()?.iter().for_each(|hash| self.tree.push(hash));
        }
        self.put(&found.bytes);
        Ok(())
    }

    fn skip(&mut self, found: &LocatedItem) -> Result<(), LoadError> {
        match &found.item {
            Item::Frame(header) if header.origin == FrameOrigin::Appended => {
                let hashes = found.hashes()?;
                let leaves = (header.first_position..).zip(&hashes).map(|(at, hash)| Node::of_record(at, hash));
                self.gap.extend(leaves);
            }
            Item::Gap(..) => self.gap.extend(found.gap()?.nodes),
            // It has no positions in this log, so nothing needs its hashes.
            Item::Frame(_) | Item::Definition => {}
        }
        Ok(())
    }

    /// Writes the nodes of the dropped records as a gap, and starts a new gap at each checkpoint.
    fn end_gap(&mut self) {
        let nodes = std::mem::take(&mut self.gap);
        let mut rest = &nodes[..];
        while let Some(first) = rest.first() {
            let next = self.checkpoints.iter().copied().find(|size| *size > first.first).unwrap_or(u64::MAX);
            let (own, after) = rest.split_at(rest.partition_point(|node| node.first < next));
            rest = after;
            let nodes = largest(own.iter().copied());
            let end = nodes.last().map_or(first.first, |last| last.first + last.size);
            nodes.iter().for_each(|node| {
                // If the node does not fit, the root differs, and `write` reports that.
                let _ = self.tree.push_node(node);
            });
            let mut bytes = Vec::new();
            Gap { first: first.first, end, nodes }.put(&mut bytes);
            self.put(&bytes);
        }
    }

    fn put(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.items += 1;
    }

    /// Writes the collected items as a group that ends the log at `tip`.
    fn write(&mut self, tip: Tip) -> Result<(), LoadError> {
        self.end_gap();
        let mut bytes = std::mem::replace(&mut self.bytes, vec![0; group::HEADER]);
        let items = std::mem::take(&mut self.items);
        if items == 0 {
            return Ok(());
        }
        let found = Tip { position: self.tree.size(), hash: self.tree.root(), ..tip };
        if found != tip {
            let (size, position) = (found.position, tip.position);
            return Err(LoadError::Damaged(format!(
                "the new log has {size} records where the old one has {position}, or different ones"
            )));
        }
        if self.appender.is_full() {
            let end = self.appender.end();
            let (number, log, before, length_before) = (end.segment + 1, self.log, self.before, end.offset);
            let header = SegmentHeader { number, log, before, length_before };
            self.appender.roll(&header).map_err(|error| failed(&error))?;
        }
        let header = GroupHeader {
            length: bytes.len(),
            items,
            first: self.before.position,
            end: tip.position,
            time: tip.time,
            synced: Place::default(),
            before: self.before.hash,
            after: tip.hash,
        };
        header.write(&mut bytes, self.log, self.appender.end());
        self.appender.write(&bytes).map_err(|error| failed(&error))?;
        self.before = tip;
        Ok(())
    }

    /// Writes the remaining items durably, then the head.
    fn finish(mut self, tip: Tip) -> Result<(), LoadError> {
        self.write(tip)?;
        self.appender.finish().map_err(|error| failed(&error))?;
        let place = self.appender.end();
        let wiped = tip.position;
        let head = Head { closed: true, log: self.log, tip, place, wiped, index: 0, tree: self.tree };
        save_head(&*self.disk, &head).map_err(|error| failed(&error))
    }
}

fn failed(error: &io::Error) -> LoadError {
    LoadError::Failed(format!("writing the new log: {error}"))
}
