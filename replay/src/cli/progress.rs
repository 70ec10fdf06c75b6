//! A bar on standard error for what takes more than a second.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::prefetch::Watch;

/// Nothing is shown before this.
const PATIENCE: Duration = Duration::from_secs(1);

/// How far a command is.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// How many there are, and of what.
    all: u64,
    what: &'static str,
    /// Whether anybody would see it.
    shown: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    /// Begins to count `all` of what `what` names. `shown` says whether standard error is a terminal.
    #[must_use]
    pub fn new(shown: bool, all: u64, what: &'static str) -> Self {
        Self { began: Instant::now(), all, what, shown, bar: RefCell::new(None) }
    }
}

impl Watch for Progress {
    fn reached(&self, count: u64) {
        if !self.shown || self.began.elapsed() < PATIENCE {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(self.all), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} {msg}, {eta} left") {
                bar.set_style(style);
            }
            bar.set_message(self.what);
            bar
        });
        bar.set_position(count);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get_mut().take() {
            bar.finish_and_clear();
        }
    }
}
