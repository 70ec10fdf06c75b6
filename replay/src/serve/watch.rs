//! The log as it is now, whoever has it: through the engine that holds it, or as the last one left it.
//!
//! One thread waits for the log, as long as a page listens, and wakes all pages when it has moved: the engine that has the
//! log answers it then, and not before. Where no engine has the log, its files tell whether one has come since, and they are
//! looked at now and then.

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

use crate::reading::{Definitions, Trouble};

/// How long to wait for the log to move before asking again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait between two looks at the files of a log that no engine has, or where the engine lets nobody more wait.
const PAUSE: Duration = Duration::from_millis(500);

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
    /// What the engine says of executions beside their events.
    pub notices: Arc<Notices>,
}

/// A log that is watched.
pub struct Watch {
    path: PathBuf,
    /// What pages say the log is.
    pub location: String,
    reader: Mutex<Arc<dyn LogReader>>,
    /// The files of the log when it was opened last.
    files: Mutex<Vec<FileState>>,
    /// Its lock file, which each engine changes that opens or closes it, when it was looked at last.
    lock: Mutex<Option<FileState>>,
    ticks: Sender<Tick>,
    /// Whether the watching is over; and what says that this, or the number of those who listen, has changed.
    over: Mutex<bool>,
    changed: Condvar,
}

/// What ends the watching when it is dropped.
pub struct Watching(Arc<Watch>);

impl Drop for Watching {
    fn drop(&mut self) {
        *self.0.over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_all();
    }
}

impl Watch {
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
            tokio::sync::watch::channel(Tick { position, standing: Standing::of(live), opened: 0, notices });
        let (over, changed) = (Mutex::new(false), Condvar::new());
        Ok(Self { path, location, reader: Mutex::new(reader), files, lock, ticks, over, changed })
    }

    /// Reads the log as it is now.
    #[must_use]
    pub fn reader(&self) -> Arc<dyn LogReader> {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Is woken when the log has moved.
    #[must_use]
    pub fn ticks(&self) -> Receiver<Tick> {
        let ticks = self.ticks.subscribe();
        // Who sleeps because nobody listens holds this lock until it does.
        drop(self.over.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        ticks
    }

    /// Looks at the log now: a page that is opened shows what is there, though nobody was looking before.
    pub fn look(&self) -> Tick {
        // Of two that look at once, one opens it.
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let last = self.ticks.borrow().clone();
        let is_held_as_before = {
            let (now, mut last) = (lock_file(&self.path), self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            std::mem::replace(&mut *last, now.clone()) == now
        };
        match self.reader().head() {
            Ok(head) if head.durability.is_some() && is_held_as_before => {
                let notices = notices(&*self.reader());
                self.tell(Tick { position: head.position, standing: Standing::of(true), notices, ..last });
            }
            // A log that nobody has is gone through anew only if somebody has been at it since it was said so.
            Ok(head) if head.durability.is_none() && !last.standing.live && *files == self::files(&self.path) => {}
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
                let notices = notices(&*reader);
                *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = reader.into();
                self.tell(Tick { position, standing: Standing::of(live), opened: last.opened + 1, notices });
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
        let watched = watch.clone();
        thread::Builder::new().name("replay-watch".to_owned()).spawn(move || watched.run())?;
        Ok(Watching(watch.clone()))
    }

    fn run(&self) {
        while self.is_wanted() {
            let Tick { position, standing, .. } = self.look();
            let began = Instant::now();
            let moved = standing.live && {
                let head = self.reader().wait(position, PATIENCE);
                head.is_ok_and(|head| head.position > position)
            };
            if !moved && began.elapsed() < PAUSE {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Waits until a page listens. `false` once the watching is over.
    fn is_wanted(&self) -> bool {
        let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = self.changed.wait_while(over, |over| !*over && self.ticks.receiver_count() == 0);
        !*waiting.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the engine that has a log says of executions; nothing where it does not answer now.
fn notices(reader: &dyn LogReader) -> Arc<Notices> {
    Arc::new(reader.notices().unwrap_or_default())
}

/// A file: its path, its size, and when it was changed.
type FileState = (PathBuf, u64, Option<SystemTime>);

/// The lock file of a log.
fn lock_file(path: &Path) -> Option<FileState> {
    let path = path.join("lock");
    let data = fs::metadata(&path).ok()?;
    Some((path, data.len(), data.modified().ok()))
}

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
