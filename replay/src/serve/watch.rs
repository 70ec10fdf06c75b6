//! The present state of the log: read through the engine that has it, or from its files if no engine has it.
//!
//! While at least one page listens, a thread waits for the log to grow and then wakes all pages. The engine that has
//! the log answers the thread's request only when the log has grown. If no engine has the log open, the thread polls its
//! files, which show whether an engine has opened it since.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::graph::Graph;
use cloacina_store::log::{LogReader, Notices, OpenError, ReadError};
use serde::Serialize;
use tokio::sync::watch::{Receiver, Sender};

use crate::reading::{Definitions, HistoryError};

/// How long to wait for the log to grow before asking again.
const WAIT: Duration = Duration::from_secs(10);

/// The polling interval for a log that no engine has, or whose engine has too many waiting readers.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether the page is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Liveness {
    /// Whether an engine has the log open, so that changes are shown at once.
    pub live: bool,
    /// The reason, if it is not live.
    pub why: String,
}

impl Liveness {
    fn of(live: bool) -> Self {
        let why = if live { "" } else { "no engine has the log open; this is its last state" };
        Self { live, why: why.to_owned() }
    }
}

/// The state of the log that wakes waiting pages when it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// How many records the log has.
    pub position: u64,
    /// Whether an engine has it.
    pub liveness: Liveness,
    /// How often the log was reopened. After that, anything known of it may have changed.
    pub opened: u64,
    /// The engine's notices about executions.
    pub notices: Arc<Notices>,
}

/// A log that is watched for changes.
pub struct LogWatch {
    path: PathBuf,
    /// The name of the log on pages.
    pub location: String,
    reader: Mutex<Arc<dyn LogReader>>,
    /// The files of the log at the last open.
    files: Mutex<Vec<FileState>>,
    /// The lock file at the last refresh. Every engine that opens or closes the log changes it.
    lock: Mutex<Option<FileState>>,
    ticks: Sender<Tick>,
    /// Whether watching has ended. `changed` is notified when this or the number of listeners has changed.
    over: Mutex<bool>,
    changed: Condvar,
}

/// Ends the watching when dropped.
pub struct WatchGuard(Arc<LogWatch>);

impl Drop for WatchGuard {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl LogWatch {
    /// Opens a log.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: PathBuf, location: String) -> Result<Self, OpenError> {
        let (files, lock) = (Mutex::new(files(&path)), Mutex::new(lock_file(&path)));
        let reader: Arc<dyn LogReader> = cloacina_store::open_reader(&path)?.into();
        let (position, live) = reader.head().map_or((0, false), |head| (head.position, head.durability.is_some()));
        let notices = notices(&*reader);
        let (ticks, _) =
            tokio::sync::watch::channel(Tick { position, liveness: Liveness::of(live), opened: 0, notices });
        let (over, changed) = (Mutex::new(false), Condvar::new());
        Ok(Self { path, location, reader: Mutex::new(reader), files, lock, ticks, over, changed })
    }

    /// Returns a reader of the log's present state.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn LogReader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Subscribes to changes of the log.
    #[must_use]
    pub fn ticks(&self) -> Receiver<Tick> {
        let ticks = self.ticks.subscribe();
        // Taking the lock once makes sure that the watching thread either sees this listener or is already waiting on
        // `changed`.
        drop(self.over.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        ticks
    }

    /// Refreshes the state of the log. Necessary for each new page, since nothing may have watched the log before.
    pub fn refresh(&self) -> Tick {
        // The lock serializes concurrent refreshes, so that only one of them reopens the log.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.ticks.borrow().clone();
        let is_held_as_before = {
            let (now, mut last) = (lock_file(&self.path), self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            std::mem::replace(&mut *last, now.clone()) == now
        };
        match self.reader().head() {
            Ok(head) if head.durability.is_some() && is_held_as_before => {
                let notices = notices(&*self.reader());
                self.publish(Tick { position: head.position, liveness: Liveness::of(true), notices, ..last });
            }
            // Reopening a log that no engine has means scanning it: only if its files have changed since.
            Ok(head) if head.durability.is_none() && !last.liveness.live && *files == self::files(&self.path) => {}
            Ok(_) | Err(ReadError::Gone) => {
                *files = self::files(&self.path);
                self.reopen(last);
            }
            Err(error) => {
                let liveness = Liveness { live: false, why: error.to_string() };
                self.publish(Tick { liveness, ..last });
            }
        }
        self.ticks.borrow().clone()
    }

    fn reopen(&self, last: Tick) {
        match cloacina_store::open_reader(&self.path) {
            Ok(reader) => {
                let (position, live) =
                    reader.head().map_or((last.position, false), |head| (head.position, head.durability.is_some()));
                let notices = notices(&*reader);
                *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = reader.into();
                self.publish(Tick { position, liveness: Liveness::of(live), opened: last.opened + 1, notices });
            }
            Err(error) => self.publish(Tick { liveness: Liveness { live: false, why: error.to_string() }, ..last }),
        }
    }

    /// Wakes the listeners if the state has changed.
    fn publish(&self, tick: Tick) {
        self.ticks.send_if_modified(|last| {
            let is_new = *last != tick;
            *last = tick;
            is_new
        });
    }

    /// Starts the watching thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(watch: &Arc<Self>) -> std::io::Result<WatchGuard> {
        let watched = watch.clone();
        thread::Builder::new().name("replay-watch".to_owned()).spawn(move || watched.run())?;
        Ok(WatchGuard(watch.clone()))
    }

    fn run(&self) {
        while self.wait_for_listeners() {
            let Tick { position, liveness, .. } = self.refresh();
            let began = Instant::now();
            let grown = liveness.live && {
                let head = self.reader().wait(position, WAIT);
                head.is_ok_and(|head| head.position > position)
            };
            if !grown && began.elapsed() < PAUSE {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Waits until a page listens. Returns `false` once watching has ended.
    fn wait_for_listeners(&self) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.changed.wait_while(over, |over| !*over && self.ticks.receiver_count() == 0);
        !*waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the notices of the engine that has the log open; none if it does not answer at the moment.
fn notices(reader: &dyn LogReader) -> Arc<Notices> {
    Arc::new(reader.notices().unwrap_or_default())
}

/// A file: path, size and modification time.
type FileState = (PathBuf, u64, Option<SystemTime>);

/// Returns the state of a log's lock file.
fn lock_file(path: &Path) -> Option<FileState> {
    let path = path.join("lock");
    let data = fs::metadata(&path).ok()?;
    Some((path, data.len(), data.modified().ok()))
}

/// Returns the states of a log's files, which show whether a process has written to the log.
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

impl Definitions for Arc<LogWatch> {
    fn load(&self, fingerprint: Fingerprint) -> Result<Arc<Graph>, HistoryError> {
        let reader = self.reader();
        (&*reader as &dyn LogReader).load(fingerprint)
    }
}
