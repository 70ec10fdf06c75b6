//! A progress bar on standard error, for commands that take more than a second.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::prefetch::Watch;

/// How long a command runs before the bar appears.
const DELAY: Duration = Duration::from_secs(1);

/// The progress of a command.
#[derive(Debug)]
pub struct Progress {
    began: Instant,
    /// The number of items.
    total: u64,
    /// The plural noun for the items.
    noun: &'static str,
    /// Whether to show the bar.
    shown: bool,
    bar: RefCell<Option<ProgressBar>>,
}

impl Progress {
    /// Begins to count up to `total` items, which `noun` names. `shown` says whether standard error is a terminal.
    #[must_use]
    pub fn new(shown: bool, total: u64, noun: &'static str) -> Self {
        Self { began: Instant::now(), total, noun, shown, bar: RefCell::new(None) }
    }
}

impl Watch for Progress {
    fn reached(&self, count: u64) {
        if !self.shown || self.began.elapsed() < DELAY {
            return;
        }
        let mut bar = self.bar.borrow_mut();
        let bar = bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} {msg}, {eta} left") {
                bar.set_style(style);
            }
            bar.set_message(self.noun);
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
