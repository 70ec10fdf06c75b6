//! The format file: a line of text that identifies a directory as a log and names its format.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use super::{files, io_error, replace_file};
use crate::log::OpenError;

pub(crate) const NAME: &str = "format";
pub(super) const TEMPORARY: &str = "format.new";
const PREFIX: &str = "cloacina-log";

/// The newest directory format that this version reads, and the one that it writes.
const FORMAT: u32 = 1;

/// The maximum number of bytes to read; no format file is longer.
const MAX_LENGTH: u64 = 64;

pub(super) fn write(directory: &Path) -> io::Result<()> {
    replace_file(directory, NAME, TEMPORARY, format!("{PREFIX} {FORMAT}\n").as_bytes())
}

/// Whether a directory is a log of a known format.
pub(super) fn check(directory: &Path) -> Result<bool, OpenError> {
    let path = directory.join(NAME);
    let mut content = Vec::new();
    let read = files::open_read(&path).and_then(|file| file.take(MAX_LENGTH).read_to_end(&mut content));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io_error(directory, "reading its format file", &error)),
    }
    match parse(&content) {
        Some(found) if (1..=FORMAT).contains(&found) => Ok(true),
        Some(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { path: directory.to_owned(), found, known: FORMAT })
        }
        _ if content.starts_with(PREFIX.as_bytes()) => Err(OpenError::Damaged {
            path: directory.to_owned(),
            what: format!("its format file contains {:?}, not `{PREFIX} {FORMAT}`", String::from_utf8_lossy(&content)),
        }),
        _ => Err(OpenError::NotALog {
            path: directory.to_owned(),
            found: "a directory with an unrelated file `format`".to_owned(),
        }),
    }
}

/// The number in a format file; `None` unless it is written canonically (`01` and `+1` are rejected).
pub(crate) fn parse(content: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(content).ok()?;
    let digits = text.strip_prefix(PREFIX)?.strip_prefix(' ')?.strip_suffix('\n')?;
    digits.parse().ok().filter(|number: &u32| number.to_string() == digits)
}

#[cfg(test)]
mod tests {
    use super::parse;

    /// The fuzzer found that `01` was accepted as 1.
    #[test]
    fn one_number_is_written_in_one_way() {
        assert_eq!(parse(b"cloacina-log 1\n"), Some(1));
        assert_eq!(parse(b"cloacina-log 4294967295\n"), Some(u32::MAX));
        for other in ["01", "+1", "-0", "00", "", " 1", "4294967296"] {
            assert_eq!(parse(format!("cloacina-log {other}\n").as_bytes()), None, "{other}");
        }
    }
}
