//! Opening and making the files of a log: never through a symbolic link, and never for more people than the log is for.
//!
//! A directory that others can write to may hold a link where a log has a file, and what is written there is a file of
//! somebody else. So no link is followed in the directory of a log, and a file that is made must be new.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown};

use super::format_file;
use crate::descriptors::above_standard_streams;

/// The mode of a file in a log that nobody has changed the mode of: for its owner alone.
const PRIVATE: u32 = 0o600;

/// Whom the files of a log are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    mode: u32,
    uid: u32,
    gid: u32,
}

impl Access {
    /// That of the log in a directory: whoever changes the mode of its files changes that of its format file, and the owner of the
    /// directory owns them. While a log is made, those of a group get access to whom alone the directory was opened.
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let about = fs::metadata(directory)?;
        let (uid, gid) = (about.uid(), about.gid());
        let mode = match fs::symlink_metadata(directory.join(format_file::NAME)) {
            Ok(format) => format.mode() & 0o666 | PRIVATE,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Err(_) if about.mode() & 0o007 == 0 => about.mode() & 0o060 | PRIVATE,
            Err(_) => PRIVATE,
        };
        Ok(Self { mode, uid, gid })
    }

    /// That of a file or directory that is replaced.
    pub(crate) fn like(about: &fs::Metadata) -> Self {
        Self { mode: about.mode() & 0o7777, uid: about.uid(), gid: about.gid() }
    }

    /// The mode of a directory: who may read the files may list it.
    fn of_directory(self) -> u32 {
        self.mode | (self.mode & 0o444) >> 2
    }

    /// Gives a file to whom it is for. Only the superuser can give one away; others keep what they have made.
    pub(crate) fn give(self, file: &File) -> io::Result<()> {
        self.give_as(file, self.mode)
    }

    /// Gives a directory to whom it is for.
    pub(crate) fn give_directory(self, directory: &File) -> io::Result<()> {
        self.give_as(directory, self.of_directory())
    }

    /// Gives a file or directory that replaces another one to whom that one was for, and says where that cannot be done.
    pub(crate) fn keep(self, file: &File) -> io::Result<()> {
        let about = file.metadata()?;
        if (about.uid(), about.gid()) != (self.uid, self.gid) {
            fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).map_err(|error| {
                io::Error::new(
                    io::Error::from(error).kind(),
                    format!("they belong to user {} and group {}: do it as that user", self.uid, self.gid),
                )
            })?;
        }
        Ok(fchmod(file, Mode::from_raw_mode(self.mode))?)
    }

    fn give_as(self, file: &File, mode: u32) -> io::Result<()> {
        let about = file.metadata()?;
        // New directories in one that hands its group down do so too.
        let mode = mode | about.mode() & 0o7000;
        if (about.uid(), about.gid()) != (self.uid, self.gid) {
            let given = fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
                .or_else(|_| fchown(file, None, Some(Gid::from_raw(self.gid))));
            if given.is_err() && self.gid != about.gid() {
                // It would be for those of another group.
                let mode = Mode::from_raw_mode(mode & !0o070);
                return if about.mode() & 0o7777 == mode.as_raw_mode() { Ok(()) } else { Ok(fchmod(file, mode)?) };
            }
        }
        if file.metadata()?.mode() & 0o7777 != mode {
            fchmod(file, Mode::from_raw_mode(mode))?;
        }
        Ok(())
    }
}

/// Without waiting, where something else than a file stands there, such as a pipe.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.custom_flags(flags.bits().cast_signed()).mode(PRIVATE);
    options
}

fn open(options: &OpenOptions, path: &Path) -> io::Result<File> {
    options.open(path).map_err(explain).and_then(above_standard_streams)
}

/// Opens a file to read it.
pub(crate) fn to_read(path: &Path) -> io::Result<File> {
    open(options().read(true), path)
}

/// Opens a file that is there to write to it.
pub(crate) fn to_write(path: &Path) -> io::Result<File> {
    open(options().write(true), path)
}

/// Opens a file that is there to read and write it.
pub(crate) fn to_change(path: &Path) -> io::Result<File> {
    open(options().read(true).write(true), path)
}

/// Opens a file to read and write it, and makes it where there is none.
pub(crate) fn to_read_and_write(path: &Path, access: Access) -> io::Result<File> {
    match create(path, access) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => open(options().read(true).write(true), path),
        made => made,
    }
}

/// Makes a file where there is nothing.
pub(crate) fn create(path: &Path, access: Access) -> io::Result<File> {
    let file = open(options().read(true).write(true).create_new(true), path)?;
    access.give(&file)?;
    Ok(file)
}

/// Makes a file, in the place of one that an earlier attempt has left.
pub(crate) fn create_anew(path: &Path, access: Access) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => create(path, access),
    }
}

/// Makes a directory in a log, where there is none.
pub(crate) fn create_directory(path: &Path, access: Access) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    access.give_directory(&directory(path)?)
}

/// Opens a directory in a log.
pub(crate) fn directory(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::DIRECTORY;
    open(OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()), path)
}

/// Gives a file or directory in a log to whom it is for, if it is there: one that sled has made.
pub(crate) fn give(path: &Path, access: Access) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => access.give_directory(&directory(path)?),
        Ok(_) => access.give(&to_read(path)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// That there is no symbolic link in a directory, whatever it is called: what opens files there by itself would follow it.
pub(crate) fn check_no_links(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_symlink() {
            return Err(link(&entry.file_name()));
        }
    }
    Ok(())
}

fn link(name: &OsStr) -> io::Error {
    let name = Path::new(name).display();
    let advice = "which is not followed: replace it with what it leads to";
    io::Error::other(format!("`{name}` in it is a symbolic link, {advice}"))
}

/// Opening says of a symbolic link that there are too many of them.
fn explain(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        io::Error::other("it is a symbolic link, which is not followed: replace it with what it leads to")
    } else {
        error
    }
}
