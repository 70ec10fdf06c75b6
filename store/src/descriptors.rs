//! Keeps the files of a log off the descriptors 0, 1 and 2.
//!
//! A process that was started with closed standard streams (`program >&- 2>&-`, many daemons) assigns these numbers to
//! the next files that it opens. Output of a C library or a panic then overwrites such a file. So opening a log first
//! opens `/dev/null` on the free ones among them, permanently, and moves a file that gets such a number all the same to
//! a higher one.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use rustix::io::{FdFlags, dup2, fcntl_dupfd_cloexec, fcntl_setfd};

/// The first descriptor that is no standard stream.
const FIRST: RawFd = 3;

/// Opens `/dev/null` for each closed standard stream, and keeps it open. The functions of this crate that open files
/// call this; a program should call it before it opens anything.
///
/// # Errors
/// Of the system.
///
/// # Examples
/// ```
/// use std::os::fd::AsRawFd;
///
/// cloacina_store::reserve_standard_streams()?;
/// assert!(std::fs::File::open("/dev/null")?.as_raw_fd() > 2);
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn reserve_standard_streams() -> io::Result<()> {
    loop {
        let null = null_device()?;
        if null.as_raw_fd() >= FIRST {
            return Ok(());
        }
        keep(null)?;
    }
}

/// A file that cannot be damaged: `/dev/null`, or a directory on systems without it.
fn null_device() -> io::Result<OwnedFd> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null");
    Ok(null.or_else(|_| File::open("/"))?.into())
}

/// Leaks a descriptor and lets child processes inherit it.
fn keep(stream: OwnedFd) -> io::Result<()> {
    fcntl_setfd(&stream, FdFlags::empty())?;
    let _ = stream.into_raw_fd();
    Ok(())
}

/// Moves a file to a descriptor above the standard streams.
pub(crate) fn above_standard_streams<F: AsRawFd + Into<OwnedFd> + From<OwnedFd>>(opened: F) -> io::Result<F> {
    if opened.as_raw_fd() >= FIRST {
        return Ok(opened);
    }
    let mut low: OwnedFd = opened.into();
    let high = fcntl_dupfd_cloexec(&low, FIRST)?;
    // `dup2` is atomic: between a close and an open, another thread could take the number.
    let null = null_device()?;
    dup2(&null, &mut low)?;
    keep(low)?;
    if null.as_raw_fd() < FIRST {
        keep(null)?;
    }
    Ok(high.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_file_with_a_high_number_is_left_as_it_is() {
        let file = tempfile::tempfile().unwrap();
        let number = file.as_raw_fd();
        assert!(number >= FIRST);
        let mut file = above_standard_streams(file).unwrap();
        assert_eq!(file.as_raw_fd(), number);
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, "content");
    }
}
