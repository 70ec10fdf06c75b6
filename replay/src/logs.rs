//! Selection of the log: the named one, else the one in the working directory, else the most recently opened ones.
//! Also maintains the small file with the recently opened logs.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cloacina_store::is_left_by_compact;
use cloacina_store::log::{LogReader, OpenError};

/// A function that opens a log for reading.
pub type Opener<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn LogReader>, OpenError>;

/// Where to look for executions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// The logs, in the order in which they are searched; at least one.
    pub paths: Vec<PathBuf>,
    /// How they were chosen.
    pub by: ChosenBy,
}

/// How a log was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChosenBy {
    /// `--log`.
    Option,
    /// `$CLOACA_LOG`.
    Variable,
    /// It is in the working directory, or is the working directory.
    Directory,
    /// It was opened recently.
    Recent,
}

/// No log could be selected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoLog {
    /// None was named, and none was found.
    #[error(
        "no log found: neither --log nor $CLOACA_LOG is given, {directory} has none, and no runner of this user has opened one yet"
    )]
    None {
        /// The searched directory.
        directory: String,
    },
    /// There are several in the working directory.
    #[error("several logs found in {directory}: {}", .paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", "))]
    Several {
        /// The working directory.
        directory: String,
        /// The logs.
        paths: Vec<PathBuf>,
    },
}

/// Selects the logs to search.
///
/// # Errors
/// [`NoLog`].
pub fn choose(
    option: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
    directory: &Path,
) -> Result<Logs, NoLog> {
    if let Some(path) = option {
        return Ok(Logs { paths: vec![from_url(path)], by: ChosenBy::Option });
    }
    if let Some(path) = variable("CLOACA_LOG").filter(|path| !path.is_empty()) {
        return Ok(Logs { paths: vec![from_url(Path::new(&path))], by: ChosenBy::Variable });
    }
    let shown = || directory.display().to_string();
    match in_directory(directory) {
        found if found.len() == 1 => return Ok(Logs { paths: found, by: ChosenBy::Directory }),
        found if found.len() > 1 => return Err(NoLog::Several { directory: shown(), paths: found }),
        _ => {}
    }
    match recent(variable) {
        paths if paths.is_empty() => Err(NoLog::None { directory: shown() }),
        paths => Ok(Logs { paths, by: ChosenBy::Recent }),
    }
}

/// Returns the path in a runner's URL: `cloaca:///log` is relative, `cloaca:////log` absolute. Keeps a plain path.
fn from_url(path: &Path) -> PathBuf {
    let inside = path.to_str().and_then(|text| {
        let rest = text.strip_prefix("cloaca:///").or_else(|| text.strip_prefix("sqlite:///"))?;
        rest.split('?').next()
    });
    inside.map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Returns the logs in a directory, sorted by name, or the directory itself if it is a log.
fn in_directory(directory: &Path) -> Vec<PathBuf> {
    if is_log(directory) {
        return vec![PathBuf::from(".")];
    }
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok().map(|entry| entry.file_name()));
    let mut found: Vec<PathBuf> = names
        .filter(|name| !is_left_by_compact(Path::new(name)) && is_log(&directory.join(name)))
        .map(|name| Path::new(".").join(name))
        .collect();
    found.sort();
    found
}

/// Whether a directory holds a log: its `format` file says so.
fn is_log(path: &Path) -> bool {
    const MAGIC: &[u8] = b"cloacina-log";
    let mut start = [0; MAGIC.len()];
    let read = File::open(path.join("format")).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == MAGIC
}

/// How many logs are remembered.
const MAX_RECENT: usize = 20;

/// Remembers that this user opened a log, so that `replay` finds it from any directory. Ignores errors.
pub fn remember_log(path: &Path) {
    if let Some(file) = recent_logs_file(&|name| std::env::var_os(name)) {
        let _ = remember(&file, path);
    }
}

/// Puts a log at the top of the file with the recently opened logs: one absolute path a line, newest first, each once.
///
/// # Errors
/// I/O errors, and `InvalidInput` for a path with a line break.
pub fn remember(file: &Path, log: &Path) -> io::Result<()> {
    let log = std::path::absolute(log)?;
    // A path is bytes and need not be UTF-8.
    let log = log.as_os_str().as_bytes();
    if log.contains(&b'\n') {
        return Err(ErrorKind::InvalidInput.into());
    }
    let before = fs::read(file).unwrap_or_default();
    if lines(&before).next() == Some(log) {
        return Ok(());
    }
    let others = lines(&before).filter(|line| *line != log);
    let lines: Vec<&[u8]> =
        std::iter::once(log).chain(others).take(MAX_RECENT).flat_map(|line| [line, b"\n"]).collect();
    let lines = lines.concat();
    if let Some(directory) = file.parent() {
        create_private(directory)?;
    }
    // The rename is atomic for readers. Of two concurrent writers, one entry is lost.
    let new = file.with_extension(format!("{}.new", std::process::id()));
    let written = fs::write(&new, lines).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Creates a directory with mode 0700, as the XDG specification demands.
fn create_private(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(directory)
}

/// Returns the file with the recently opened logs: `$XDG_STATE_HOME/cloaca/logs`, by default below `~/.local/state`.
fn recent_logs_file(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // The specification says to ignore a relative path.
    let state = set("XDG_STATE_HOME").filter(|path| path.is_absolute());
    Some(state.or_else(|| Some(set("HOME")?.join(".local/state")))?.join("cloaca/logs"))
}

/// Returns the recently opened logs that still exist, newest first.
fn recent(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let text = recent_logs_file(variable).and_then(|file| fs::read(file).ok()).unwrap_or_default();
    lines(&text).map(|line| PathBuf::from(OsStr::from_bytes(line))).filter(|path| is_log(path)).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}
