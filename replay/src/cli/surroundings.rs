//! Everything that the command line touches besides its arguments, so that tests can put something else in its place.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::{LogReader, OpenError};

/// The width that is written for when it is not a terminal that reads.
pub const PLAIN_WIDTH: usize = 100;

/// What opens a log for reading.
pub type Opener<'a> = &'a dyn Fn(&Path) -> Result<Box<dyn LogReader>, OpenError>;

/// What a run of the command line sees and writes to.
pub struct Surroundings<'a> {
    /// Where data goes.
    pub out: &'a mut dyn Write,
    /// Where everything else goes.
    pub err: &'a mut dyn Write,
    /// How wide the terminal is; `None` if `out` is not a terminal.
    pub terminal: Option<usize>,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// What time it is.
    pub now: Timestamp,
    /// Opens a log.
    pub open: Opener<'a>,
}

/// Runs with the surroundings of this process.
pub fn with_process<T>(run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let terminal = stdout.is_terminal().then(|| {
        terminal_size::terminal_size().map_or(PLAIN_WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns))
    });
    let now = chrono::Utc::now().timestamp_micros();
    let mut out = io::BufWriter::new(stdout.lock());
    let mut surroundings = Surroundings {
        out: &mut out,
        err: &mut stderr.lock(),
        terminal,
        variable: &|name| std::env::var_os(name),
        directory: std::env::current_dir().unwrap_or_default(),
        now: Timestamp(now),
        open: &cloacina_store::open_reader,
    };
    run(&mut surroundings)
}
