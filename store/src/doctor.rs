//! Diagnosis of a log and of the storage under it, without changing the log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::descriptors::reserve_standard_streams;
use crate::directory::detect::{Presence, detect};
use crate::directory::{self, lock_file};
use crate::log::OpenError;
use crate::socket::client::SocketReader;

/// The number of fsyncs that are timed.
const SYNCS: usize = 32;

/// The number of bytes written before each: about the size of a decision.
const WRITTEN: usize = 4_096;

/// A faster fsync cannot have reached a disk: the fastest devices need about ten microseconds.
const TOO_FAST: Duration = Duration::from_micros(10);

/// The result of [`examine`].
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// The file system.
    pub file_system: FileSystem,
    /// The cost of an fsync on this storage, or the error of the measurement.
    pub sync: Result<SyncCost, String>,
    /// The process that holds the log, or held it and died.
    pub holder: Option<Holder>,
    /// The size of its index in bytes. The index can be rebuilt.
    pub index: u64,
    /// The size of all its files in bytes.
    pub files: u64,
}

/// The file system of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// Its type, by name where it is known.
    pub kind: String,
    /// A warning about this type, if there is one.
    pub warning: Option<&'static str>,
    /// The bytes that this user may still allocate.
    pub free: u64,
    /// The size in bytes.
    pub size: u64,
}

/// The cost of an fsync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncCost {
    /// The median of the measurements.
    pub median: Duration,
    /// The longest.
    pub longest: Duration,
    /// Whether the fsync is slow enough to have reached a disk.
    pub seems_real: bool,
}

/// A process that holds a log, or held it and died.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process, 0 if unknown.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// Whether it holds the log now.
    pub holds: bool,
    /// Whether it answers readers; the error if it does not.
    pub answers: Result<(), String>,
}

/// Examines the log in a directory. Times fsyncs on an unnamed temporary file beside the log, or in it if it is a mount
/// point.
///
/// # Errors
/// As [`open_reader`](crate::open_reader): the log must exist.
pub fn examine(path: &Path) -> Result<Diagnosis, OpenError> {
    if detect(path)? == Presence::Absent {
        return Err(OpenError::Missing { path: path.to_owned() });
    }
    let failed = |error: &io::Error| directory::io_error(path, "reading its files", error);
    reserve_standard_streams().map_err(|error| failed(&error))?;
    let path = &path.canonicalize().map_err(|error| failed(&error))?;
    let files = size_of(path).map_err(|error| failed(&error))?;
    let index = size_of(&path.join(crate::index::store::DIRECTORY)).unwrap_or(0);
    Ok(Diagnosis {
        file_system: file_system(path).map_err(|error| failed(&error))?,
        sync: time_syncs(&directory_on_same_device(path)).map_err(|error| error.to_string()),
        holder: holder(path),
        index,
        files,
    })
}

/// A directory on the file system of a log: its parent, unless the log is a mount point.
fn directory_on_same_device(path: &Path) -> PathBuf {
    let device = |path: &Path| fs::metadata(path).map(|about| about.dev()).ok();
    path.parent().filter(|above| device(above) == device(path)).unwrap_or(path).to_owned()
}

fn size_of(directory: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // The allocated size: a file can have holes.
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
        0x794c_7630 => ("overlayfs", Some("a container layer: the log may be lost with the container")),
        0x0102_1994 | 0x8584_58f6 => ("tmpfs", Some("in memory: the log does not survive a reboot")),
        0x6969 => ("nfs", Some("locks and fsync depend on the server: use a local disk")),
        0xff53_4d42 | 0xfe53_4d42 => ("smb", Some("locks and fsync depend on the server: use a local disk")),
        0x6573_5546 => ("fuse", Some("locks and fsync depend on the program that implements it")),
        _ => ("", None),
    };
    let kind = if kind.is_empty() { format!("unknown ({magic:#x})") } else { kind.to_owned() };
    let block = found.f_frsize;
    Ok(FileSystem { kind, warning, free: found.f_bavail * block, size: found.f_blocks * block })
}

/// Times fsyncs of a growing file in a directory.
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
        assert_eq!(directory_on_same_device(Path::new("/proc")), Path::new("/proc"), "it is mounted there");
        assert_eq!(directory_on_same_device(Path::new("/proc/sys")), Path::new("/proc"));
        assert_eq!(directory_on_same_device(Path::new("/")), Path::new("/"));
    }
}
