//! A log's directory as a disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Disk, DiskFile};
use crate::directory::files::{self, Access};
use crate::directory::lock_file::{DirectoryLock, WeakLock};
use crate::directory::open_directory::OpenDirectory;
use crate::directory::{replace_file, sync_directory};

/// The files in a directory.
pub(crate) struct DirectoryDisk {
    path: PathBuf,
    /// The directory, open for writing, and its lock; `None` for a reader.
    opened: Option<(OpenDirectory, WeakLock)>,
}

impl DirectoryDisk {
    /// A disk for reading only.
    pub(crate) fn reading(path: &Path) -> Self {
        Self { path: path.to_owned(), opened: None }
    }

    /// A disk for writing, through the open directory, as long as this process holds the lock.
    pub(crate) fn writing(directory: &OpenDirectory, lock: &DirectoryLock) -> Self {
        Self { path: directory.path().to_owned(), opened: Some((directory.clone(), lock.downgrade())) }
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Durably creates the directory in a name.
    fn make_directory_of(&self, path: &Path) -> io::Result<()> {
        let Some(parent) = path.parent().filter(|parent| *parent != self.path) else { return Ok(()) };
        match files::create_directory(parent, Access::of(&self.path)?) {
            Ok(()) => sync_directory(&self.path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => files::open_directory(parent).map(drop),
            Err(error) => Err(error),
        }
    }
}

impl DiskFile for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut read = 0;
        while read < bytes.len() {
            match FileExt::read_at(self, &mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        // Writes through the descriptor would succeed forever, and be lost when it is closed.
        if self.metadata()?.nlink() == 0 {
            let what =
                "a file of the log was removed while this process had the log open: nothing more is written to it";
            return Err(io::Error::other(what));
        }
        self.sync_data()
    }
}

impl Disk for DirectoryDisk {
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(files::open_read(&self.path_of(name))?))
    }

    fn open_to_write(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(files::open_read_write(&self.path_of(name))?))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path_of(name);
        self.make_directory_of(&path)?;
        let file = files::create_anew(&path, Access::of(&self.path)?)?;
        file.sync_all()?;
        sync_directory(path.parent().unwrap_or(&self.path))?;
        Ok(Arc::new(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.and_then(|()| sync_directory(path.parent().unwrap_or(&self.path))),
        }
    }

    fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        replace_file(&self.path, name, &format!("{name}.new"), content)
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.path_of(directory)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn check_in_place(&self) -> io::Result<()> {
        let Some((directory, lock)) = &self.opened else { return Ok(()) };
        directory.check_in_place()?;
        lock.upgrade().map_or(Ok(()), |lock| lock.check_in_place(directory))
    }
}
