//! The head file, beside the database: see [`crate::layout::head`].

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{files, write_whole};

pub(crate) const NAME: &str = "head";

/// More than any head file has.
const LONGEST: u64 = 4096;

pub(crate) fn load(directory: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut content = Vec::new();
    match files::to_read(&directory.join(NAME)).and_then(|file| file.take(LONGEST).read_to_end(&mut content)) {
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(error)),
    }
}

pub(crate) fn save(directory: &Path, head: &[u8]) -> io::Result<()> {
    write_whole(directory, NAME, "head.new", head).map_err(named)
}

fn named(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the head file: {error}"))
}
