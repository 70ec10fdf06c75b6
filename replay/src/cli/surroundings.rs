//! Everything that the command line touches besides its arguments, so that tests can put something else in its place.

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cloacina_engine::core::time::Timestamp;

use super::paging::{Aside, Paging, Sharing, is_dumb};
pub use crate::logs::Opener;

/// The width that is written for when it is not a terminal that reads.
pub const PLAIN_WIDTH: usize = 100;

/// What waits so long, and says whether to go on: not after Ctrl-C.
pub type Pause<'a> = &'a dyn Fn(Duration) -> bool;

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
    /// Waits for more to come.
    pub pause: Pause<'a>,
    /// What those who write to the terminal know of each other.
    pub sharing: &'a Sharing,
    /// Whether somebody sees how far a command is: `err` is a terminal.
    pub shows_progress: bool,
}

impl Surroundings<'_> {
    /// A path as it is from anywhere: `./log` is `/srv/log` in the directory `/srv`.
    #[must_use]
    pub fn whole(&self, path: &Path) -> PathBuf {
        self.directory.join(path.strip_prefix(".").unwrap_or(path))
    }
}

/// Runs with the surroundings of this process.
pub fn with_process<T>(run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let terminal = io::stdout().is_terminal().then(|| {
        terminal_size::terminal_size().map_or(PLAIN_WIDTH, |(terminal_size::Width(columns), _)| usize::from(columns))
    });
    let now = chrono::Utc::now().timestamp_micros();
    let variable = |name: &str| std::env::var_os(name);
    let sharing = Sharing::default();
    let mut out = Paging::new(terminal.is_some(), &variable, &sharing);
    let mut err = Aside::new(&sharing);
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
    let ended = run(&mut surroundings);
    // That a pager was left before its end is no error, and all else that could be was told by `run`.
    let _ = out.finish();
    err.finish();
    ended
}

/// Waits, unless Ctrl-C comes or has come. From the first call on, Ctrl-C no longer ends the process.
fn pause(span: Duration) -> bool {
    static PRESSED: OnceLock<Option<Mutex<Receiver<()>>>> = OnceLock::new();
    let pressed = PRESSED.get_or_init(|| {
        let (send, receive) = sync_channel(1);
        // One that cannot be delivered is a second one; where there can be no handler, Ctrl-C ends the process.
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
