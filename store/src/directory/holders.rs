//! Finds the processes that have a file open, to name who still holds a lock that its owner left behind.
//!
//! An `flock` lock belongs to the open file, which a fork shares with its parent. So a lock can outlive the process
//! that took it, and the name in the lock file does not help then.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The maximum length of a command line in messages.
const MAX_COMMAND: usize = 120;

/// A process and its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line, truncated; empty if it cannot be read.
    pub command: String,
}

impl Process {
    /// The process with this id, with its command line from `/proc`.
    pub(crate) fn with_id(pid: u32) -> Self {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
        let mut command: String = String::from_utf8_lossy(&words.join(&b' ')).chars().map(printable).collect();
        if let Some((end, _)) = command.char_indices().nth(MAX_COMMAND) {
            command.truncate(end);
            command.push('…');
        }
        Self { pid, command }
    }

    /// Whether the process is stopped: by Ctrl-Z, SIGSTOP, or a debugger.
    pub(crate) fn is_suspended(&self) -> bool {
        matches!(state(self.pid), Some('T' | 't'))
    }
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "process {}", self.pid)?;
        if self.command.is_empty() { Ok(()) } else { write!(out, " ({})", self.command) }
    }
}

/// The state letter of a process: `R`, `S`, `T`, `Z` … `None` if there is no such process, or no `/proc`.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Whether a process has a file open; `None` if unknown.
pub(crate) fn has_open(pid: u32, file: &File) -> Option<bool> {
    let wanted = file.metadata().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let is_it = |path: &Path| fs::metadata(path).is_ok_and(|found| is_same(&found, &wanted));
    Some(descriptors.flatten().any(|descriptor| is_it(&descriptor.path())))
}

/// The processes, except this one, that have a file open. If none is visible, those that `/proc/locks` lists for the
/// file.
pub(crate) fn of(file: &File) -> Vec<Process> {
    let Ok(wanted) = file.metadata() else { return Vec::new() };
    let this = std::process::id();
    let seen: Vec<u32> =
        processes().into_iter().filter(|pid| *pid != this && has_open(*pid, file) == Some(true)).collect();
    let named = || -> Vec<u32> {
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let owners = locks.lines().filter_map(|line| owner_of(line, &wanted));
        owners.filter(|pid| *pid != this && state(*pid).is_some()).collect()
    };
    let found = if seen.is_empty() { named() } else { seen };
    found.into_iter().map(Process::with_id).collect()
}

/// The process in a line of `/proc/locks`, if the line is about this file:
/// `1: FLOCK  ADVISORY  WRITE 708 08:01:131074 0 EOF`.
fn owner_of(line: &str, wanted: &fs::Metadata) -> Option<u32> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
    let pid = words.next()?.parse().ok()?;
    let mut place = words.next()?.split(':');
    let mut number = |radix| place.next().and_then(|part| u64::from_str_radix(part, radix).ok());
    let (major, minor, inode) = (number(16)?, number(16)?, number(10)?);
    let device = wanted.dev();
    let same = u64::from(rustix::fs::major(device)) == major && u64::from(rustix::fs::minor(device)) == minor;
    (same && inode == wanted.ino()).then_some(pid)
}

fn processes() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_same(one: &fs::Metadata, other: &fs::Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Lists processes for a message.
pub(crate) fn list(processes: &[Process]) -> String {
    let names: Vec<String> = processes.iter().take(5).map(ToString::to_string).collect();
    match processes.len().checked_sub(names.len()) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names.join(", ")),
    }
}

/// Adds advice to the error of a file system without locks.
pub(crate) fn explain_unsupported(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Unsupported {
        io::Error::new(error.kind(), format!("{error}; this file system does not support locks: use a local disk"))
    } else {
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_names_the_owner_of_this_file_only() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
        let line = |inode: u64| format!("1: FLOCK  ADVISORY  WRITE 708 {major:02x}:{minor:02x}:{inode} 0 EOF");
        assert_eq!(owner_of(&line(metadata.ino()), &metadata), Some(708));
        assert_eq!(owner_of(&line(metadata.ino() + 1), &metadata), None);
        assert_eq!(owner_of("2: POSIX  ADVISORY  WRITE 708 00:00:1 0 EOF", &metadata), None);
        assert_eq!(owner_of("", &metadata), None);
    }

    #[test]
    fn a_process_that_has_a_file_open_is_seen_and_described() {
        let file = tempfile::tempfile().unwrap();
        let this = std::process::id();
        assert_eq!(has_open(this, &file), Some(true));
        assert_eq!(of(&file), [], "this process is not listed");
        let described = Process::with_id(this);
        assert!(!described.command.is_empty() && !described.is_suspended());
        assert!(described.to_string().starts_with(&format!("process {this} (")), "{described}");
    }
}
