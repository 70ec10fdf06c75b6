//! The environment of a command: everything it uses besides its arguments. Tests replace it.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cloacina_engine::core::time::Timestamp;

use super::paging::{Paging, Sharing, Stderr, is_dumb};
pub use crate::logs::Opener;

/// The width of output that does not go to a terminal.
pub const PLAIN_WIDTH: usize = 100;

/// Waits for a duration, and returns whether to continue: false after Ctrl-C.
pub type Pause<'a> = &'a dyn Fn(Duration) -> bool;

/// The streams, environment variables, directory, clock and log opener of a command.
pub struct Surroundings<'a> {
    /// Standard output: results.
    pub out: &'a mut dyn Write,
    /// Standard error: messages.
    pub err: &'a mut dyn Write,
    /// The width of the terminal; `None` if `out` is not a terminal.
    pub terminal: Option<usize>,
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The current time.
    pub now: Timestamp,
    /// Opens a log.
    pub open: Opener<'a>,
    /// Waits for new events.
    pub pause: Pause<'a>,
    /// State shared by the writers to the terminal.
    pub sharing: &'a Sharing,
    /// Whether to show progress: `err` is a terminal.
    pub shows_progress: bool,
}

impl Surroundings<'_> {
    /// Returns the absolute form of a path: `./log` is `/srv/log` in the directory `/srv`.
    #[must_use]
    pub fn absolute(&self, path: &Path) -> PathBuf {
        self.directory.join(path.strip_prefix(".").unwrap_or(path))
    }
}

/// Calls `run` with the surroundings of this process.
pub fn with_process<T>(run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let terminal = io::stdout().is_terminal().then(|| {
        terminal_size::terminal_size().map_or(PLAIN_WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns))
    });
    let now = chrono::Utc::now().timestamp_micros();
    let variable = |name: &str| std::env::var_os(name);
    let sharing = Sharing::default();
    let mut out = Paging::new(terminal.is_some(), &variable, &sharing);
    let mut err = Stderr::new(&sharing);
    let mut surroundings = Surroundings {
        out: &mut out,
        err: &mut err,
        terminal,
        variable: &variable,
        directory: std::env::current_dir().unwrap_or_default(),
        now: Timestamp(now),
        open: &cloacina_store::open_reader,
        pause: &pause,
        sharing: &sharing,
        shows_progress: io::stderr().is_terminal() && !is_dumb(&variable),
    };
    let result = run(&mut surroundings);
    // Quitting the pager early is not an error, and `run` has reported all others.
    let _ = out.finish();
    err.finish();
    result
}

/// Waits for `span` or until Ctrl-C, and returns whether to continue. After the first call, Ctrl-C no longer ends the
/// process.
fn pause(span: Duration) -> bool {
    static PRESSED: OnceLock<Option<Mutex<Receiver<()>>>> = OnceLock::new();
    let pressed = PRESSED.get_or_init(|| {
        let (send, receive) = sync_channel(1);
        // The channel is full only if Ctrl-C was pressed before. Without a handler, Ctrl-C ends the process.
        let pressed = move || {
            let _ = send.try_send(());
        };
        ctrlc::set_handler(pressed).is_ok().then(|| Mutex::new(receive))
    });
    match pressed {
        Some(receive) => {
            let receive = receive.lock().unwrap_or_else(PoisonError::into_inner);
            !matches!(receive.recv_timeout(span), Ok(()))
        }
        None => {
            std::thread::sleep(span);
            true
        }
    }
}
