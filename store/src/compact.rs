//! Writing a log anew, without what it does not hold any more: erased bodies, pruned records, and what sled has written over.
//!
//! The segments only grow, and what sled replaces stays in its file until it happens to write over it: a pruned stream leaves
//! both as long as they were. So all that the log holds is copied into a new one
//! beside it, that is checked, and both change places in one step of the file system. Nothing of the log changes: not a hash,
//! not a position.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use crate::backend::indexed::Indexed;
use crate::backend::journaled::Journaled;
use crate::backend::segments;
use crate::backend::sled::DATA_FILE;
use crate::backend::{Backend, BackendError, Changes, Direction, KeyRange};
use crate::core::open::open_for_verifying;
use crate::core::verify;
use crate::descriptors::reserve_standard_streams;
use crate::directory::files::{self, Access};
use crate::directory::opened::OpenDirectory;
use crate::directory::{self, creation, io_error, lock_file};
use crate::leftover;
use crate::log::{OpenError, ReadError};
use crate::sled_log::{find_journal, open_sled, prepare_journal};

/// How many entries are copied at once.
const PAGE: usize = 4_096;

/// How much of both databases sled may keep in memory.
const CACHE: u64 = 64 * 1024 * 1024;

/// What writing a log anew came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// How long its database and its segments were.
    pub before: u64,
    /// How long they are.
    pub after: u64,
    /// Why the old files are still there, and where, if they could not be removed: [`open`](crate::open) removes them.
    pub left: Option<(PathBuf, String)>,
}

/// Writes a log anew that nobody has, and puts the new one in its place, with the modes, owners and groups of the old one. The old
/// files are written over before they are removed; what a disk or a file system does with that, and copies and snapshots of it, are
/// beyond this.
///
/// It needs as much space beside the log as the log will need. Where it is stopped, the log is as it was or as it will be, and whoever
/// opens it next to write removes the other one.
///
/// # Errors
/// [`OpenError::Locked`] if a process has it; [`OpenError::Damaged`] if it is not whole, and as for [`open`](crate::open). Nothing is
/// changed then.
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    if directory::look(path)? != directory::Found::Log {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |doing: &'static str| move |error: io::Error| io_error(path, doing, &error);
    reserve_standard_streams().map_err(failed("reserving the standard streams"))?;
    let name = path.canonicalize().map_err(failed("finding it"))?;
    let directory = OpenDirectory::open(&name).map_err(failed("opening the directory"))?;
    rewrite(&directory, &name).map_err(|error| error.of(directory.path(), path))
}

fn rewrite(directory: &OpenDirectory, name: &Path) -> Result<Compacted, OpenError> {
    let path = directory.path();
    let failed = |doing: &'static str| move |error: io::Error| io_error(name, doing, &error);
    let lock = lock_file::acquire(path, prepare_journal)?;
    creation::check_made(path)?;
    directory::read_through(path)?;
    leftover::remove(name).map_err(failed("removing what an earlier attempt has left"))?;
    let other = leftover::path_of(name);
    let length = |directory: &Path| -> u64 {
        files_of(directory).iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
    };
    let before = length(path);
    let exchange = || -> Result<u64, OpenError> {
        copy(path, &other, lock.was_left_in_order)?;
        keep_access(path, &other).map_err(failed("giving the new files to the owner of the old ones"))?;
        let after = length(&other);
        // Whoever finds the old one under its new name leaves it to this process.
        leftover::claim(directory.file()).map_err(failed("locking the directory"))?;
        directory.check_in_place(None).map_err(failed("putting the new one in its place"))?;
        rustix::fs::renameat_with(CWD, name, CWD, &other, RenameFlags::EXCHANGE)
            .map_err(|error| failed("putting the new one in its place")(error.into()))?;
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

/// The files that have what is in a log, as long as nobody has it.
pub(crate) fn files_of(directory: &Path) -> Vec<PathBuf> {
    let mut files = segments::files(directory).unwrap_or_default();
    files.push(directory.join(DATA_FILE));
    files
}

/// Gives a new log and each file in it to those whom the old one is for.
fn keep_access(old: &Path, new: &Path) -> io::Result<()> {
    let unlike = Access::of(old)?;
    for relative in [".", segments::DIRECTORY, "blobs"] {
        let new = new.join(relative);
        for entry in fs::read_dir(&new)? {
            let name = entry?.file_name();
            let before = fs::symlink_metadata(old.join(relative).join(&name)).ok();
            let access = before.map_or(unlike, |before| Access::like(&before));
            access.keep(&files::to_read(&new.join(name))?)?;
        }
    }
    Access::like(&fs::metadata(old)?).keep(&files::directory(new)?)
}

/// Copies all that a log holds into a new one, once it was found to be whole, and checks that too.
fn copy(path: &Path, new: &Path, was_left_in_order: bool) -> Result<(), OpenError> {
    let found = find_journal(path, was_left_in_order)?;
    let unread = |error: BackendError| damaged(path, error.to_string());
    let indexed = Indexed::over(open_sled(path, path, CACHE)?, path, path).map_err(unread)?;
    indexed.check_end().map_err(unread)?;
    let (old, damage) = Journaled::reading(indexed, found).map_err(unread)?;
    let (core, findings) = open_for_verifying(old, path.display().to_string());
    let damage = damage.into_iter().map(ReadError::DamagedLog);
    whole(path, damage.chain(findings).chain(verify::verify(&core).findings))?;
    let tip = core.backend.load_head().map_err(unread)?;
    creation::make_directory(new)?;
    creation::begin(new)?;
    let unwritten = |error: BackendError| cannot_write(new, error.to_string());
    let copied = Indexed::over(open_sled(new, new, CACHE)?, new, new).map_err(unwritten)?;
    copied.begin(new, &[]).map_err(unwritten)?;
    let mut from = Vec::new();
    loop {
        let range = KeyRange { from: from.clone(), below: vec![u8::MAX] };
        let page = core.backend.scan(&range, PAGE, Direction::Up).map_err(unread)?;
        let Some((last, _)) = page.last() else { break };
        from = last.to_vec();
        from.push(0);
        let mut changes = Changes::default();
        page.into_iter().for_each(|(key, value)| changes.put(key, value));
        copied.bring(&[changes]).map_err(unwritten)?;
    }
    creation::sync_files(new)?;
    if let Some(tip) = tip {
        copied.save_head(&tip).map_err(unwritten)?;
    }
    creation::finish(new)?;
    let (copy, findings) = open_for_verifying(copied, new.display().to_string());
    let verified = verify::verify(&copy);
    whole(new, findings.into_iter().chain(verified.findings))?;
    if copy.tip().hash != core.tip().hash {
        return Err(damaged(new, "the copy does not end as the log does".to_owned()));
    }
    Ok(())
}

fn whole(path: &Path, mut findings: impl Iterator<Item = ReadError>) -> Result<(), OpenError> {
    findings.next().map_or(Ok(()), |finding| Err(damaged(path, finding.to_string())))
}

fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), what }
}

fn cannot_write(path: &Path, reason: String) -> OpenError {
    OpenError::Io { path: path.to_owned(), doing: "writing the copy".to_owned(), reason }
}
