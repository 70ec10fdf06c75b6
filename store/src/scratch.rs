//! Private directories for copies of an index, in the directory for temporary files.
//!
//! Nobody but this user can look into one, and its names are removed as soon as what is in it is open. What a process leaves
//! that was killed before is removed by the next one that makes such a directory: whoever uses one holds a lock of it.

use std::fs::{self, File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::descriptors::above_standard_streams;
use crate::directory::files;

const PREFIX: &str = "cloacina-copy-";

/// How often another process may take a new directory for one that was left.
const TRIES: usize = 16;

/// A directory that is removed when it is dropped, with all that is in it.
pub(crate) struct Scratch {
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes an empty one, once those of dead processes are removed.
    pub(crate) fn new() -> io::Result<Self> {
        let place = std::env::temp_dir();
        // What cannot be removed is somebody else's.
        let _ = remove_left(&place);
        for _ in 0..TRIES {
            let mut builder = tempfile::Builder::new();
            builder.prefix(PREFIX).permissions(Permissions::from_mode(0o700));
            let directory = builder.tempdir_in(&place)?;
            let lock = match File::open(directory.path()) {
                // Another process took it for one that was left, before it could be locked.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                opened => above_standard_streams(opened?)?,
            };
            if lock.try_lock().is_ok() && directory.path().try_exists()? {
                return Ok(Self { directory, _lock: lock });
            }
        }
        Err(io::Error::other("other processes remove what is made there"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Removes what is in it, and its own name: files that are open can still be read.
    pub(crate) fn remove_names(&self) {
        if let Err(error) = fs::remove_dir_all(self.path()) {
            tracing::debug!(directory = %self.path().display(), %error, "removed later");
        }
    }

    /// The place of all such directories, and what helps where it is full.
    pub(crate) fn explain(error: &dyn std::fmt::Display) -> String {
        let place = std::env::temp_dir();
        format!("{error} (in {}; free some space there, or name another directory in TMPDIR)", place.display())
    }
}

/// Removes the directories of processes that have died.
fn remove_left(place: &Path) -> io::Result<()> {
    let this_user = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(place)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        match remove_if_left(entry.path(), this_user) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::debug!(directory = %entry.path().display(), %error, "not removed");
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_if_left(path: PathBuf, this_user: u32) -> io::Result<()> {
    let left = files::directory(&path)?;
    // The lock is held until it is gone: who is about to use it looks for another one then.
    if left.metadata()?.uid() == this_user && left.try_lock().is_ok() { fs::remove_dir_all(path) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interrupted reader once left its copy of an index for good, for everybody to read.
    #[test]
    fn what_a_dead_process_left_is_removed_and_what_is_in_use_is_not() {
        let place = tempfile::tempdir().unwrap();
        let [left, used, other] =
            [format!("{PREFIX}left"), format!("{PREFIX}used"), "other".to_owned()].map(|name| place.path().join(name));
        for directory in [&left, &used, &other] {
            fs::create_dir(directory).unwrap();
            fs::write(directory.join("db"), b"a secret").unwrap();
        }
        std::os::unix::fs::symlink(&other, place.path().join(format!("{PREFIX}link"))).unwrap();
        let lock = File::open(&used).unwrap();
        lock.lock().unwrap();
        remove_left(place.path()).unwrap();
        assert!(!left.exists() && used.join("db").exists() && other.join("db").exists());
        drop(lock);
        remove_left(place.path()).unwrap();
        assert!(!used.exists());
    }

    /// Processes that started together removed each other's new directories, and failed.
    #[test]
    fn those_who_make_one_at_once_each_get_their_own() {
        let make = || (0..50).map(|_| Scratch::new().unwrap()).collect::<Vec<_>>();
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|_| scope.spawn(make)).collect();
            for made in all.into_iter().flat_map(|thread| thread.join().unwrap()) {
                assert!(made.path().exists());
            }
        });
    }

    #[test]
    fn a_copy_is_for_this_user_alone_and_loses_its_name_while_it_is_read() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        fs::write(path.join("db"), b"content").unwrap();
        let open = File::open(path.join("db")).unwrap();
        scratch.remove_names();
        assert!(!path.exists());
        assert_eq!(io::read_to_string(open).unwrap(), "content");
    }
}
