//! What can be found out about a log and the ground it lies on, without changing anything of it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::descriptors::reserve_standard_streams;
use crate::directory::looking::{Found, look};
use crate::directory::{self, lock_file};
use crate::log::OpenError;
use crate::socket::client::SocketReader;

/// How many syncs are timed.
const SYNCS: usize = 32;

/// How much is written before each: about what a decision takes.
const WRITTEN: usize = 4_096;

/// A sync that is done in less has reached no disk: the fastest take some ten microseconds.
const TOO_FAST: Duration = Duration::from_micros(10);

/// What was found out.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The file system.
    pub file_system: FileSystem,
    /// What a sync costs beside the log; the error where it could not be tried.
    pub sync: Result<SyncCost, String>,
    /// Who has the log.
    pub holder: Option<Holder>,
    /// The bytes of its index, which can be made anew.
    pub index: u64,
    /// The bytes of all its files.
    pub files: u64,
}

/// Where a log lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its kind, by name where that is known.
    pub kind: String,
    /// What has to be known of it, if something has to.
    pub warning: Option<&'static str>,
    /// The bytes that this user may still write.
    pub free: u64,
    /// Its size.
    pub size: u64,
}

/// What a sync costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncCost {
    /// The middle one of those that were timed.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
    /// Whether it can have reached a disk.
    pub seems_real: bool,
}

/// A process that has a log, or had it and died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process; 0 if it is not named.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// Whether it has the log now.
    pub holds: bool,
    /// Whether it answers readers: the error where it does not.
    pub answers: Result<(), String>,
}

/// Looks at a log in a directory. What a sync costs is tried on a file without a name beside the log (in it, where it is a mount
/// point), which is gone at once.
///
/// # Errors
/// As [`open_reader`](crate::open_reader): there must be a log.
pub fn examine(path: &Path) -> Result<Diagnosis, OpenError> {
    if look(path)? == Found::Nothing {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |error: &io::Error| directory::io_error(path, "looking at its files", error);
    reserve_standard_streams().map_err(|error| failed(&error))?;
    let path = &path.canonicalize().map_err(|error| failed(&error))?;
    let files = size_of(path).map_err(|error| failed(&error))?;
    let index = size_of(&path.join(crate::index::store::DIRECTORY)).unwrap_or(0);
    Ok(Diagnosis {
        file_system: file_system(path).map_err(|error| failed(&error))?,
        sync: time_syncs(&beside(path)).map_err(|error| error.to_string()),
        holder: holder(path),
        index,
        files,
    })
}

/// A directory on the file system of a log: the one above it, unless the log is a mount point.
fn beside(path: &Path) -> PathBuf {
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev()).ok();
    path.parent().filter(|above| device(above) == device(path)).unwrap_or(path).to_owned()
}

fn size_of(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // What is on the disk: a file can have holes.
        sum += if metadata.is_file() { metadata.blocks() * 512 } else { 0 };
        sum += if metadata.is_dir() { size_of(&entry.path())? } else { 0 };
    }
    Ok(sum)
}

fn file_system(path: &Path) -> io::Result<FileSystem> {
    let found = rustix::fs::statvfs(path)?;
    let magic = rustix::fs::statfs(path)?.f_type as u64;
    let (kind, warning) = match magic & 0xffff_ffff {
        0xef53 => ("ext2/3/4", None),
        0x5846_5342 => ("xfs", None),
        0x9123_683e => ("btrfs", None),
        0x2fc1_2fc1 => ("zfs", None),
        0xf2f5_2010 => ("f2fs", None),
        0x794c_7630 => ("overlayfs", Some("a container's own layer: the log may go with the container")),
        0x0102_1994 | 0x8584_58f6 => ("tmpfs", Some("it is in memory: nothing survives a restart of the machine")),
        0x6969 => ("nfs", Some("locks and syncs depend on the server: use a local disk")),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", Some("locks and syncs depend on the server: use a local disk")),
        0x6573_5546 => ("fuse", Some("locks and syncs depend on the program behind it")),
        _ => ("", None),
    };
    let kind = if kind.is_empty() { format!("unknown ({magic:#x})") } else { kind.to_owned() };
    let block = found.f_frsize;
    Ok(FileSystem { kind, warning, free: found.f_bavail * block, size: found.f_blocks * block })
}

/// Times syncs of a growing file in a directory.
fn time_syncs(directory: &Path) -> io::Result<SyncCost> {
    let mut file: File = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0x5a; WRITTEN])?;
        let begin = Instant::now();
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    times.sort_unstable();
    let median = times[SYNCS / 2];
    Ok(SyncCost { median, longest: times[SYNCS - 1], seems_real: median >= TOO_FAST })
}

fn holder(path: &Path) -> Option<Holder> {
    let (pid, host) = lock_file::holder(path);
    let holds = lock_file::is_held(path);
    if pid == 0 && !holds {
        return None;
    }
    let answers = SocketReader::connect(path).map(drop).map_err(|error| error.to_string());
    Some(Holder { pid, host, holds, answers })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `doctor` measured the disk above the log, which is another one where the log is a mount point.
    #[test]
    fn a_sync_is_timed_on_the_file_system_of_the_log() {
        assert_eq!(beside(Path::new("/proc")), Path::new("/proc"), "it is mounted there");
        assert_eq!(beside(Path::new("/proc/sys")), Path::new("/proc"));
        assert_eq!(beside(Path::new("/")), Path::new("/"));
    }
}
