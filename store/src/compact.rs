//! Writing a log anew, without what it does not hold any more: erased bodies, pruned records, and what sled has written over.
//!
//! The segments only grow, and what sled replaces stays in its file until it happens to write over it: a pruned stream leaves
//! both as long as they were. So all that the log holds is copied into a new one
//! beside it, that is checked, and both change places in one step of the file system. Nothing of the log changes: not a hash,
//! not a position.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::backend::indexed::Indexed;
use crate::backend::journal;
use crate::backend::journaled::Journaled;
use crate::backend::segments;
use crate::backend::sled::DATA_FILE;
use crate::backend::{Backend, BackendError, Changes, Direction, KeyRange};
use crate::core::open::open_for_verifying;
use crate::core::verify;
use crate::directory::{self, creation, io_error, lock_file, sync_directory};
use crate::log::{OpenError, ReadError};
use crate::sled_log::{find_journal, open_sled};

/// How many entries are copied at once.
const PAGE: usize = 4_096;

/// How much of both databases sled may keep in memory.
const CACHE: u64 = 64 * 1024 * 1024;

/// What writing a log anew came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// How long its database and its segments were.
    pub before: u64,
    /// How long they are.
    pub after: u64,
}

/// Writes a log anew that nobody has, and puts the new one in its place. The old database file is written over before it is
/// removed; what a disk or a file system does with that, and copies and snapshots of it, are beyond this.
///
/// It needs as much space beside the log as the log will need. Where it is stopped, the log is as it was or as it will be; a
/// directory beside it whose name ends with `.compacting` or `.compacted` may be left, and can be removed.
///
/// # Errors
/// [`OpenError::Locked`] if a process has it; [`OpenError::Damaged`] if it is not whole (nothing is changed then), and as for
/// [`open`](crate::open).
pub fn compact(path: &Path) -> Result<Compacted, OpenError> {
    if directory::look(path)? != directory::Found::Log {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |doing: &str| {
        let (path, doing) = (path.to_owned(), doing.to_owned());
        move |error: io::Error| io_error(&path, &doing, &error)
    };
    let path = &path.canonicalize().map_err(failed("finding it"))?;
    let lock = lock_file::acquire(path, journal::prepare)?;
    creation::check_made(path)?;
    directory::read_through(path)?;
    let new = beside(path, "compacting");
    if new.symlink_metadata().is_ok() {
        fs::remove_dir_all(&new).map_err(failed("removing what an earlier attempt has left"))?;
    }
    let length = |directory: &Path| -> u64 {
        files(directory).iter().map(|file| fs::metadata(file).map_or(0, |file| file.len())).sum()
    };
    let before = length(path);
    let copied = copy(path, &new, lock.was_left_in_order);
    if let Err(error) = copied {
        let _ = fs::remove_dir_all(&new);
        return Err(error);
    }
    let after = length(&new);
    rustix::fs::renameat_with(rustix::fs::CWD, path, rustix::fs::CWD, &new, rustix::fs::RenameFlags::EXCHANGE)
        .map_err(|error| failed("putting the new database in its place")(error.into()))?;
    let old = beside(path, "compacted");
    let parent = path.parent().unwrap_or(Path::new("/"));
    let removed = fs::rename(&new, &old)
        .and_then(|()| sync_directory(parent))
        .and_then(|()| files(&old).iter().chain([&old.join(journal::NAME)]).try_for_each(|file| write_over(file)))
        .and_then(|()| fs::remove_dir_all(&old))
        .and_then(|()| sync_directory(parent));
    removed.map_err(failed("removing the old database, which is beside it"))?;
    Ok(Compacted { before, after })
}

/// The files that have what is in a log, as long as nobody has it.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = segments::files(directory).unwrap_or_default();
    files.push(directory.join(DATA_FILE));
    files
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{suffix}"));
    path.with_file_name(name)
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

/// Writes zeros over a file, down to the disk. A log of an earlier version may lack its journal.
fn write_over(file: &Path) -> io::Result<()> {
    let mut left = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut opened: File = OpenOptions::new().write(true).open(file)?;
    let zeros = vec![0; 1 << 20];
    while left > 0 {
        let part = zeros.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        opened.write_all(&zeros[..part])?;
        left -= part as u64;
    }
    opened.sync_all()
}
