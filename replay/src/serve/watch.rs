//! The log as it is now, whoever has it: through the engine that holds it, or as the last one left it.
//!
//! Readers of a log are not called back. So one thread asks for the log's head every [`PAUSE`], as long as a page is open,
//! and wakes those who wait when it has moved. Where no engine has the log, its files tell whether one has come since.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::graph::Graph;
use cloacina_store::log::{LogReader, OpenError, ReadError};
use serde::Serialize;
use tokio::sync::watch::{Receiver, Sender};

use crate::reading::{Definitions, Trouble};

/// How long to wait between two looks at the log's head. An answer takes some ten microseconds of the engine's time.
const PAUSE: Duration = Duration::from_millis(100);

/// Whether what is shown moves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Whether an engine has the log, so that what happens is seen at once.
    pub live: bool,
    /// If not, why.
    pub why: String,
}

impl Standing {
    fn of(live: bool) -> Self {
        let why = if live { "" } else { "no engine has the log; it is shown as it was left" };
        Self { live, why: why.to_owned() }
    }
}

/// Where the log ends now. Whoever waits is woken when this is another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// How many records the log has.
    pub position: u64,
    /// Whether it moves.
    pub standing: Standing,
    /// How often the log was opened anew: what was known of it may be no longer so.
    pub opened: u64,
}

/// A log that is watched.
pub struct Watch {
    path: PathBuf,
    /// What pages say the log is.
    pub location: String,
    reader: Mutex<Arc<dyn LogReader>>,
    /// The files of the log when it was opened last.
    files: Mutex<Vec<FileState>>,
    ticks: Sender<Tick>,
}

/// What ends the watching when it is dropped.
pub struct Watching(Arc<AtomicBool>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Watch {
    /// Opens a log.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: PathBuf, location: String) -> Result<Self, OpenError> {
        let files = Mutex::new(files(&path));
        let reader: Arc<dyn LogReader> = cloacina_store::open_reader(&path)?.into();
        let (position, live) = reader.head().map_or((0, false), |head| (head.position, head.durability.is_some()));
        let (ticks, _) = tokio::sync::watch::channel(Tick { position, standing: Standing::of(live), opened: 0 });
        Ok(Self { path, location, reader: Mutex::new(reader), files, ticks })
    }

    /// Reads the log as it is now.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn LogReader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Is woken when the log has moved.
    #[must_use]
    pub fn ticks(&self) -> Receiver<Tick> {
        self.ticks.subscribe()
    }

    /// Looks at the log now: a page that is opened shows what is there, though nobody was looking before.
    pub fn look(&self) -> Tick {
        // Of two that look at once, one opens it.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.ticks.borrow().clone();
        match self.reader().head() {
            Ok(head) if head.durability.is_some() => {
                self.tell(Tick { position: head.position, standing: Standing::of(true), ..last });
            }
            // To read a log that nobody has is to copy it: only if somebody has been at it since.
            Ok(_) if *files == self::files(&self.path) => {}
            Ok(_) | Err(ReadError::Gone) => {
                *files = self::files(&self.path);
                self.open_again(last);
            }
            Err(error) => {
                let standing = Standing { live: false, why: error.to_string() };
                self.tell(Tick { standing, ..last });
            }
        }
        self.ticks.borrow().clone()
    }

    fn open_again(&self, last: Tick) {
        match cloacina_store::open_reader(&self.path) {
            Ok(reader) => {
                let (position, live) =
                    reader.head().map_or((last.position, false), |head| (head.position, head.durability.is_some()));
                *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = reader.into();
                self.tell(Tick { position, standing: Standing::of(live), opened: last.opened + 1 });
            }
            Err(error) => self.tell(Tick { standing: Standing { live: false, why: error.to_string() }, ..last }),
        }
    }

    fn tell(&self, tick: Tick) {
        self.ticks.send_if_modified(|last| {
            let is_new = *last != tick;
            *last = tick;
            is_new
        });
    }

    /// Begins to watch.
    ///
    /// # Errors
    /// Whatever starting a thread gives.
    pub fn start(watch: &Arc<Self>) -> std::io::Result<Watching> {
        let stop = Arc::new(AtomicBool::new(false));
        let (watch, stopped) = (watch.clone(), stop.clone());
        thread::Builder::new().name("replay-watch".to_owned()).spawn(move || watch.run(&stopped))?;
        Ok(Watching(stop))
    }

    fn run(&self, stopped: &AtomicBool) {
        while !stopped.load(Ordering::Acquire) {
            thread::sleep(PAUSE);
            if self.ticks.receiver_count() > 0 {
                self.look();
            }
        }
    }
}

/// A file: its path, its size, and when it was changed.
type FileState = (PathBuf, u64, Option<SystemTime>);

/// What tells whether somebody has been at a log: its files, their sizes and their times.
fn files(path: &Path) -> Vec<FileState> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let mut found: Vec<FileState> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let data = entry.metadata().ok()?;
            Some((entry.path(), data.len(), data.modified().ok()))
        })
        .collect();
    found.sort();
    found
}

impl Definitions for Arc<Watch> {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, Trouble> {
        let reader = self.reader();
        (&*reader as &dyn LogReader).load(fingerprint)
    }
}
