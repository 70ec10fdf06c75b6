//! An open directory handle of a log: stays valid if the directory is renamed.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::descriptors::above_standard_streams;

/// An open directory. Dropping the last clone closes it.
#[derive(Clone, Debug)]
pub(crate) struct OpenDirectory {
    descriptor: Arc<File>,
    path: PathBuf,
    name: PathBuf,
}

impl OpenDirectory {
    /// Opens a directory. The path to a log may contain symbolic links: it is the user's own.
    pub(crate) fn open(name: &Path) -> io::Result<Self> {
        let descriptor = above_standard_streams(File::open(name)?)?;
        // The process may change its current directory later.
        let name = std::path::absolute(name)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()));
        let leads_there = fs::metadata(&through).is_ok_and(|there| is_same(&descriptor, &there));
        // Without `/proc`, only `check_in_place` notices that the directory was replaced.
        let path = if leads_there { through } else { name.clone() };
        Ok(Self { descriptor: Arc::new(descriptor), path, name })
    }

    /// A path that leads to this directory as long as it is open.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory as an open file.
    pub(crate) fn file(&self) -> &File {
        &self.descriptor
    }

    /// Checks that the directory is still at the path where it was opened. If that cannot be determined, for example
    /// without permission, the check passes.
    ///
    /// # Errors
    /// It was removed, moved or replaced.
    pub(crate) fn check_in_place(&self) -> io::Result<()> {
        let what = match self.descriptor.metadata()?.nlink() {
            0 => Some("was removed"),
            _ => displaced(&self.descriptor, fs::metadata(&self.name)),
        };
        let advice = "nothing more is written to it. Move it back, or restart the process with the path of the log";
        in_place_unless(what, &self.name, advice)
    }

    /// Checks that the lock file is still in the directory. Without it, another process can open the log for writing.
    ///
    /// # Errors
    /// It was removed, moved or replaced.
    pub(crate) fn check_lock(&self, name: &str, lock: &File) -> io::Result<()> {
        let what = displaced(lock, fs::symlink_metadata(self.path.join(name)));
        let advice =
            "nothing more is written to the log, because another process may have opened it. Restart this process";
        in_place_unless(what, &self.name.join(name), advice)
    }
}

fn in_place_unless(what: Option<&str>, path: &Path, advice: &str) -> io::Result<()> {
    let Some(what) = what else { return Ok(()) };
    let path = path.display();
    Err(io::Error::other(format!("{path} {what} while this process had the log open: {advice}")))
}

/// What happened to an open file, judging by what is now at its path; `None` if nothing, or if that is unknown.
pub(super) fn displaced(opened: &File, there: io::Result<fs::Metadata>) -> Option<&'static str> {
    match there {
        Ok(there) if is_same(opened, &there) => None,
        Ok(_) => Some("was replaced"),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Some("was moved or removed")
        }
        Err(_) => None,
    }
}

/// Compares current metadata: on some file systems the inode number of a directory changes with the first write.
fn is_same(opened: &File, there: &fs::Metadata) -> bool {
    opened.metadata().is_ok_and(|opened| (opened.dev(), opened.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(directory: &OpenDirectory) -> String {
        directory.check_in_place().map_or_else(|error| error.to_string(), |()| "in place".to_owned())
    }

    #[test]
    fn a_directory_is_the_same_whatever_becomes_of_its_name() {
        let ground = tempfile::tempdir().unwrap();
        let (name, other) = (ground.path().join("one"), ground.path().join("other"));
        fs::create_dir(&name).unwrap();
        let opened = OpenDirectory::open(&name).unwrap();
        assert_eq!(why(&opened), "in place");
        fs::rename(&name, &other).unwrap();
        assert!(why(&opened).contains("was moved or removed while"), "{}", why(&opened));
        fs::create_dir(&name).unwrap();
        assert!(why(&opened).contains("was replaced while"), "{}", why(&opened));
        fs::write(opened.path().join("file"), b"").unwrap();
        assert!(other.join("file").exists() && !name.join("file").exists());
        fs::remove_dir(&name).unwrap();
        fs::write(&name, b"").unwrap();
        assert!(why(&opened).contains("was replaced while"), "{}", why(&opened));
        fs::remove_file(&name).unwrap();
        fs::rename(&other, &name).unwrap();
        assert_eq!(why(&opened), "in place");
        fs::remove_dir_all(&name).unwrap();
        assert!(why(&opened).contains("was removed while"), "{}", why(&opened));
        assert!(fs::write(opened.path().join("file"), b"").is_err());
    }

    #[test]
    fn a_log_may_be_reached_by_a_symbolic_link_until_it_leads_elsewhere() {
        let ground = tempfile::tempdir().unwrap();
        let [one, two, link] = ["one", "two", "link"].map(|name| ground.path().join(name));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&two).unwrap();
        std::os::unix::fs::symlink(&one, &link).unwrap();
        let opened = OpenDirectory::open(&link).unwrap();
        assert_eq!(why(&opened), "in place");
        fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&two, &link).unwrap();
        assert!(why(&opened).contains("was replaced while"), "{}", why(&opened));
    }
}
