//! Opening and creating the files of a log: never through a symbolic link, and never with wider access than the log
//! has.
//!
//! In a directory that others can write to, a symbolic link could redirect the log's writes to any file. So links in
//! the directory of a log are not followed, and a created file must be new.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown};

use super::format_file;
use crate::descriptors::above_standard_streams;

/// The default mode of the files in a log: for the owner alone.
const PRIVATE: u32 = 0o600;

/// The mode, owner and group of a log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Access {
    /// The access of the log in a directory: the mode of its format file, which users change along with the other
    /// files, and the owner of the directory. During creation, the group gets access if the directory is open to the
    /// group but not to others.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(directory)?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let mode = match fs::symlink_metadata(directory.join(format_file::NAME)) {
            Ok(format) => format.mode() & 0o666 | PRIVATE,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) if metadata.mode() & 0o007 == 0 => metadata.mode() & 0o060 | PRIVATE,
            Err(_) => PRIVATE,
        };
        Ok(Self { mode, uid, gid })
    }

    /// The access of a file or directory that is about to be replaced.
    pub(crate) fn of_metadata(metadata: &fs::Metadata) -> Self {
        Self { mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
    }

    /// The mode of a directory: listable by those who may read the files.
    fn of_directory(self) -> u32 {
        self.mode | (self.mode & 0o444) >> 2
    }

    /// Applies the access to a file. Only the superuser can change the owner; for others, the file keeps its own.
    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        self.set(file, self.mode)
    }

    /// Applies the access to a directory.
    pub(crate) fn apply_to_directory(self, directory: &File) -> io::Result<()> {
        self.set(directory, self.of_directory())
    }

    /// Applies the access of a replaced file or directory to its replacement, and fails if that is not possible.
    pub(crate) fn restore(self, file: &File) -> io::Result<()> {
        let metadata = file.metadata()?;
        if (metadata.uid(), metadata.gid()) != (self.uid, self.gid) {
            fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).map_err(|error| {
                io::Error::new(
                    io::Error::from(error).kind(),
                    format!("they belong to user {} and group {}: run this as that user", self.uid, self.gid),
                )
            })?;
        }
        Ok(fchmod(file, Mode::from_raw_mode(self.mode))?)
    }

    fn set(self, file: &File, mode: u32) -> io::Result<()> {
        let metadata = file.metadata()?;
        // Keep setgid: new directories in a setgid directory inherit it.
        let mode = mode | metadata.mode() & 0o7000;
        if (metadata.uid(), metadata.gid()) != (self.uid, self.gid) {
            let given = fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
                .or_else(|_| fchown(file, None, Some(Gid::from_raw(self.gid))));
            if given.is_err() && self.gid != metadata.gid() {
                // The group could not be set, so the group bits would apply to another group.
                let mode = Mode::from_raw_mode(mode & !0o070);
                return if metadata.mode() & 0o7777 == mode.as_raw_mode() { Ok(()) } else { Ok(fchmod(file, mode)?) };
            }
        }
        if file.metadata()?.mode() & 0o7777 != mode {
            fchmod(file, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }
}

/// Open options that do not follow links, and do not block on a pipe.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed()).mode(PRIVATE);
    options
}

fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path).map_err(explain).and_then(above_standard_streams)
}

/// Opens an existing file for reading.
pub(crate) fn open_read(path: &Path) -> io::Result<File> {
    open(options().read(true), path)
}

/// Opens an existing file for writing.
pub(crate) fn open_write(path: &Path) -> io::Result<File> {
    open(options().write(true), path)
}

/// Opens an existing file for reading and writing.
pub(crate) fn open_read_write(path: &Path) -> io::Result<File> {
    open(options().read(true).write(true), path)
}

/// Opens a file for reading and writing, and creates it if it does not exist.
pub(crate) fn open_or_create(path: &Path, access: Access) -> io::Result<File> {
    match create(path, access) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open(options().read(true).write(true), path),
        made => made,
    }
}

/// Creates a file, which must not exist.
pub(crate) fn create(path: &Path, access: Access) -> io::Result<File> {
    let file = open(options().read(true).write(true).create_new(true), path)?;
    access.apply(&file)?;
    Ok(file)
}

/// Creates a file; replaces one that an earlier attempt left.
pub(crate) fn create_anew(path: &Path, access: Access) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => create(path, access),
    }
}

/// Creates a directory in a log.
pub(crate) fn create_directory(path: &Path, access: Access) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    access.apply_to_directory(&open_directory(path)?)
}

/// Opens a directory of a log.
pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    open(OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()), path)
}

/// Applies the access of a log to a file or directory that sled created, if it exists.
pub(crate) fn apply_access(path: &Path, access: Access) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => access.apply_to_directory(&open_directory(path)?),
        Ok(_) => access.apply(&open_read(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Fails if a directory contains a symbolic link of any name: sled would follow it.
pub(crate) fn check_no_links(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            return Err(link_error(&entry.file_name()));
        }
    }
    Ok(())
}

fn link_error(name: &OsStr) -> io::Error {
    let name = Path::new(name).display();
    let advice = "and links are not followed: replace it with its target";
    io::Error::other(format!("`{name}` in it is a symbolic link, {advice}"))
}

/// Replaces the error for a symbolic link, which says that there are too many levels of them.
fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        io::Error::other("it is a symbolic link, and links are not followed: replace it with its target")
    } else {
        error
    }
}
