//! The index in sled.
//!
//! It can be deleted at any time, because everything in it can be rebuilt from the segments. So nothing waits for it,
//! and it is never synced. Any fault (it does not open, panics, lacks an entry or has one too many) is reported as
//! [`IndexError`], and the index is rebuilt.

use std::any::Any;
use std::fs::{self, TryLockError};
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use bincode::{Decode, Encode};
use rustc_hash::FxHashSet;

use super::entries::{self, END, End};
use super::part::{Part, StreamDelta};
use super::process;
use super::state::{self, FrameAt, FrameDelta, StoredStream, StreamState};
use crate::bytes::Malformed;
use crate::directory::files::{self, Access};
use crate::layout::head::{LogId, Tip};
use crate::layout::segment::Place;
use crate::log::ListingKey;
use crate::record::{Hash, StreamId, StreamKind};
use crate::segments::Span;
use crate::sync::lock;

/// The directory of the index, in that of the log.
pub(crate) const DIRECTORY: &str = "index";

/// The number of frames in an entry of about 400 bytes. The rest, fewer, are in the entry of their stream.
const FRAMES: usize = 64;

/// The file that sled locks, in the directory of the index.
const DATABASE: &str = "db";

/// How long sled may take to close its files, and how often to check whether it has.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// The time that sled gets to apply and flush a batch.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(12);

/// The name of the threads that call sled.
const THREAD: &str = "cloacina-index-sled";

/// The time that sled gets to open: this, and a second for every 10 MB of its file, far more than it needs on a slow disk.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
const RECOVERED_PER_MICROSECOND: u64 = 10;

/// The index is unusable, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexError(pub(crate) String);

impl From<Malformed> for IndexError {
    fn from(Malformed(why): Malformed) -> Self {
        Self(why)
    }
}

/// The index in a directory.
pub(crate) struct Store {
    /// `None` after it was closed.
    database: Mutex<Option<::sled::Db>>,
    end: Mutex<End>,
}

impl Store {
    /// Opens the index in a directory, or creates an empty one.
    pub(crate) fn open(directory: &Path, log: LogId, cache: u64) -> Result<Self, IndexError> {
        let lost = |doing: &str, error: io::Error| IndexError(format!("{doing}: {error}"));
        process::check(process::INDEX_THREADS).map_err(|error| lost("starting its threads", error))?;
        prepare(directory).map_err(|error| lost("creating its directory", error))?;
        wait_until_free(&directory.join(DATABASE)).map_err(|error| lost("waiting for its lock", error))?;
        let config = ::sled::Config::new().path(directory).cache_capacity(cache).flush_every_ms(None);
        let timeout = OPEN_TIMEOUT + Duration::from_micros(length_of(directory) / RECOVERED_PER_MICROSECOND);
        let database = within(timeout, move || config.open()).ok_or_else(no_answer)??;
        let end = End { log, tip: Tip::empty(), place: Place::default(), entries: 0, sum: 0 };
        let store = Self { database: Mutex::new(Some(database)), end: Mutex::new(end) };
        apply_access(directory).map_err(|error| lost("setting the owner of its files", error))?;
        match store.get::<End>(END)? {
            Some(end) if end.log != log => return Err(IndexError("it is the index of another log".to_owned())),
            Some(end) => *lock(&store.end) = end,
            None if store.with(|database| Ok(database.is_empty()))? => {}
            None => return Err(IndexError("its end entry is missing".to_owned())),
        }
        Ok(store)
    }

    /// The end of the indexed log.
    pub(crate) fn end(&self) -> End {
        *lock(&self.end)
    }

    /// Checks that no entry is missing and none is unexpected.
    pub(crate) fn check(&self) -> Result<(), IndexError> {
        let (mut entries, mut sum) = (0_u64, 0_u64);
        self.with(|database| {
            for entry in database.iter() {
                let (key, value) = entry?;
                if key != END {
                    entries += 1;
                    sum = sum.wrapping_add(entries::weight(&key, &value));
                }
            }
            Ok(())
        })?;
        let end = self.end();
        if (entries, sum) == (end.entries, end.sum) {
            return Ok(());
        }
        Err(IndexError(format!("its {entries} entries do not add up to the {} that it should have", end.entries)))
    }

    fn with<T>(&self, work: impl FnOnce(&::sled::Db) -> Result<T, ::sled::Error>) -> Result<T, IndexError> {
        let database = self.database()?;
        catch_panics(|| work(&database))
    }

    fn database(&self) -> Result<::sled::Db, IndexError> {
        lock(&self.database).clone().ok_or_else(|| IndexError("it was closed".to_owned()))
    }

    fn get<Value: Decode<()>>(&self, key: &[u8]) -> Result<Option<Value>, IndexError> {
        let found = self.with(|database| database.get(key))?;
        Ok(found.map(|value| entries::decode(key, &value)).transpose()?)
    }

    pub(crate) fn stream(&self, stream: StreamId) -> Result<Option<StreamState>, IndexError> {
        Ok(self.stored(stream)?.map(|stored| stored.state))
    }

    fn stored(&self, stream: StreamId) -> Result<Option<StoredStream>, IndexError> {
        self.get(&entries::stream(stream))
    }

    pub(crate) fn definition(&self, fingerprint: Hash) -> Result<Option<Span>, IndexError> {
        self.get(&entries::definition(fingerprint))
    }

    /// Frames of a stream, starting with the one that contains a `seq`: more than `limit` if there are as many,
    /// otherwise all.
    pub(crate) fn frames(&self, stream: StreamId, seq: u64, limit: usize) -> Result<Vec<FrameAt>, IndexError> {
        // Read first: frames that move to an entry of their own meanwhile are read twice, never missed.
        let Some(StoredStream { newest, .. }) = self.stored(stream)? else { return Ok(Vec::new()) };
        let newest: Vec<FrameAt> = state::frames(&newest).collect();
        let end = newest.first().map_or(u64::MAX, |frame| frame.first_seq);
        if end <= seq {
            return Ok(newest);
        }
        let (mut found, is_all) = self.older_frames(stream, seq..end, limit)?;
        if is_all {
            found.extend(newest);
        }
        Ok(found)
    }

    /// Frames in entries of their own, starting with the one that contains the first `seq`, and whether these are all up
    /// to the last `seq`. Otherwise they are more than `limit`.
    fn older_frames(
        &self,
        stream: StreamId,
        seqs: Range<u64>,
        limit: usize,
    ) -> Result<(Vec<FrameAt>, bool), IndexError> {
        let key = |seq: u64| entries::frames(stream, seq);
        let (first, sought, end) = (key(0), key(seqs.start), key(seqs.end));
        let found = self.with(|database| {
            let before = database.range(&first[..]..=&sought[..]).next_back().transpose()?;
            let from = before.map_or_else(|| ::sled::IVec::from(&first[..]), |(key, _)| key);
            let mut found: Vec<FrameAt> = Vec::new();
            for entry in database.range(&from[..]..&end[..]) {
                let (key, value) = entry?;
                match entries::decode::<Vec<FrameDelta>>(&key, &value) {
                    Ok(some) => found.extend(state::frames(&some)),
                    Err(malformed) => return Ok(Err(malformed)),
                }
                let passed = found.partition_point(|frame| frame.first_seq <= seqs.start).saturating_sub(1);
                if found.len() - passed > limit {
                    return Ok(Ok((found.split_off(passed), false)));
                }
            }
            Ok(Ok((found, true)))
        })?;
        Ok(found?)
    }

    /// The keys of streams of a kind that started before a key, newest first.
    pub(crate) fn keys_before(
        &self,
        open_only: bool,
        kind: StreamKind,
        before: Option<ListingKey>,
        limit: usize,
    ) -> Result<Vec<ListingKey>, IndexError> {
        let listed = |open: bool| {
            let from = entries::listed(open, kind, ListingKey::FIRST);
            let mut below = entries::listed(open, kind, before.unwrap_or(ListingKey::LAST));
            if before.is_none() {
                below.push(0);
            }
            self.with(|database| {
                let entries = database.range(&from[..]..&below[..]).rev();
                entries.take(limit).map(|entry| entry.map(|(key, _)| key)).collect::<Result<Vec<_>, _>>()
            })
        };
        let mut keys = listed(true)?;
        if !open_only {
            keys.extend(listed(false)?);
        }
        let mut found = keys.iter().map(|key| entries::parse_listed(key)).collect::<Result<Vec<_>, _>>()?;
        // A stream that finishes meanwhile can be in both listings.
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.dedup();
        found.truncate(limit);
        Ok(found)
    }

    /// The place of the last indexed group at or before a position.
    pub(crate) fn group_before(&self, position: u64) -> Result<Option<Place>, IndexError> {
        let (from, to) = (entries::group(0), entries::group(position));
        let found = self.with(|database| database.range(&from[..]..=&to[..]).next_back().transpose())?;
        Ok(found.map(|(key, value)| entries::decode(&key, &value)).transpose()?)
    }

    /// Adds the following part of the log, up to an end, atomically.
    pub(crate) fn apply(&self, part: &Part, tip: Tip, place: Place) -> Result<(), IndexError> {
        let mut changes =
            StoreBatch { store: self, batch: ::sled::Batch::default(), removed: FxHashSet::default(), end: self.end() };
        for (stream, delta) in &part.streams {
            changes.stream(*stream, delta)?;
        }
        for (fingerprint, span) in &part.definitions {
            changes.replace(entries::definition(*fingerprint), span)?;
        }
        for (first, place) in &part.groups {
            changes.replace(entries::group(*first), place)?;
        }
        let StoreBatch { mut batch, end, .. } = changes;
        let end = End { tip, place, ..end };
        batch.insert(END, entries::encode(END, &end)?);
        let database = self.database()?;
        // Flushed, so that it helps after the process is killed; never synced.
        let applied = within(FLUSH_TIMEOUT, move || database.apply_batch(batch).and_then(|()| database.flush()));
        let Some(applied) = applied else {
            // Nobody else may call sled: it would wait, too. The abandoned thread holds the database, so this does not close it.
            lock(&self.database).take();
            return Err(no_answer());
        };
        applied?;
        *lock(&self.end) = end;
        Ok(())
    }

    /// Flushes all entries to sled's files and closes them. Returns whether they are complete.
    pub(crate) fn close(&self) -> bool {
        let Some(database) = lock(&self.database).take() else { return false };
        let close = move || {
            let flushed = database.flush();
            drop(database);
            flushed
        };
        within(CLOSE_TIMEOUT, close).is_some_and(|closed| closed.is_ok())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// A batch of changes.
struct StoreBatch<'a> {
    store: &'a Store,
    batch: ::sled::Batch,
    removed: FxHashSet<Vec<u8>>,
    end: End,
}

impl StoreBatch<'_> {
    fn stream(&mut self, stream: StreamId, delta: &StreamDelta) -> Result<(), IndexError> {
        let StreamDelta { state, frames, is_reset } = delta;
        let (before, mut newest) = match self.store.stored(stream)? {
            Some(StoredStream { state, newest }) => (Some(state), state::frames(&newest).collect()),
            None => (None, Vec::new()),
        };
        let listed =
            |state: &StreamState| (!state.pruned).then(|| entries::listed(state.open, state.kind, state.key(stream)));
        let (old, new) = (before.as_ref().and_then(listed), listed(state));
        if old != new {
            old.into_iter().try_for_each(|key| self.remove(key))?;
            new.into_iter().try_for_each(|key| self.replace(key, &()))?;
        }
        if *is_reset {
            self.remove_frames(stream)?;
            newest.clear();
        }
        newest.extend(frames);
        let whole = newest.chunks_exact(FRAMES);
        let rest = state::deltas(whole.remainder());
        for some in whole {
            self.replace(entries::frames(stream, some[0].first_seq), &state::deltas(some))?;
        }
        self.replace(entries::stream(stream), &StoredStream { state: state.clone(), newest: rest })
    }

    fn remove_frames(&mut self, stream: StreamId) -> Result<(), IndexError> {
        let (from, end) = (entries::frames(stream, 0), entries::frames_end(stream));
        let keys: Vec<_> = self.store.with(|database| database.range(&from[..]..&end[..]).keys().collect())?;
        keys.into_iter().try_for_each(|key| self.remove(key.to_vec()))
    }

    /// Subtracts the old value of a key from the sum, once.
    fn subtract(&mut self, key: &[u8]) -> Result<(), IndexError> {
        if self.removed.contains(key) {
            return Ok(());
        }
        if let Some(old) = self.store.with(|database| database.get(key))? {
            self.end.entries = self.end.entries.wrapping_sub(1);
            self.end.sum = self.end.sum.wrapping_sub(entries::weight(key, &old));
        }
        Ok(())
    }

    fn remove(&mut self, key: Vec<u8>) -> Result<(), IndexError> {
        self.subtract(&key)?;
        self.batch.remove(&key[..]);
        self.removed.insert(key);
        Ok(())
    }

    fn replace(&mut self, key: Vec<u8>, value: &impl Encode) -> Result<(), IndexError> {
        self.subtract(&key)?;
        let value = entries::encode(&key, value)?;
        self.end.entries += 1;
        self.end.sum = self.end.sum.wrapping_add(entries::weight(&key, &value));
        self.batch.insert(key, value);
        Ok(())
    }
}

/// Calls sled, and catches panics: it may panic on damaged files.
fn catch_panics<T>(work: impl FnOnce() -> Result<T, ::sled::Error>) -> Result<T, IndexError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(answer) => answer.map_err(|error| IndexError(error.to_string())),
        Err(panic) => Err(IndexError(format!("sled crashed: {}", panic_text(&*panic)))),
    }
}

/// The message of a panic.
fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// Calls sled on a thread of its own: after a failed system call, sled may wait for itself forever. Then the thread is
/// abandoned, and this returns `None`.
fn within<T: Send + 'static>(
    timeout: Duration,
    work: impl FnOnce() -> Result<T, ::sled::Error> + Send + 'static,
) -> Option<Result<T, IndexError>> {
    let (done, waiting) = crossbeam_channel::bounded(1);
    // The receiver is gone if this took too long.
    let call = move || drop(done.send(catch_panics(work)));
    // If the thread cannot be started, the closure is dropped, which may drop the database, and sled may panic then.
    let spawned = catch_unwind(AssertUnwindSafe(|| thread::Builder::new().name(THREAD.to_owned()).spawn(call).is_ok()));
    if !spawned.unwrap_or(false) {
        return Some(Err(IndexError("cannot start a thread for it".to_owned())));
    }
    waiting.recv_timeout(timeout).ok()
}

fn no_answer() -> IndexError {
    IndexError("sled does not answer".to_owned())
}

/// The length of sled's file; 0 if there is none.
fn length_of(directory: &Path) -> u64 {
    fs::metadata(directory.join(DATABASE)).map_or(0, |file| file.len())
}

/// Creates the directory, and the files that sled would create in it, with the access of the log: sled would use the
/// default mode.
fn prepare(directory: &Path) -> io::Result<()> {
    let access = Access::of(directory.parent().unwrap_or(directory))?;
    let is_there = |made: io::Result<()>| match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    };
    is_there(files::create_directory(directory, access))?;
    files::open_directory(directory)?;
    files::check_no_links(directory)?;
    check_files(directory)?;
    is_there(files::create_directory(&directory.join("blobs"), access))?;
    ["conf", DATABASE].iter().try_for_each(|name| is_there(files::create(&directory.join(name), access).map(drop)))
}

/// Waits until no process holds the lock on sled's file, since sled tries only once. A forked process holds its
/// parent's locks until it runs its own program.
fn wait_until_free(database: &Path) -> io::Result<()> {
    let file = files::open_write(database)?;
    let until = Instant::now() + CLOSE_TIMEOUT;
    loop {
        match file.try_lock() {
            // Unlock explicitly: closing the file keeps the lock if another process was forked in the meantime.
            Ok(()) => return file.unlock(),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(POLL_EVERY),
            // On file systems without locks, sled reports the error.
            Err(_) => return Ok(()),
        }
    }
}

/// Checks that there are only files and directories: sled would block on a pipe.
fn check_files(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let sort = entry.file_type()?;
        if !sort.is_file() && !sort.is_dir() {
            return Err(io::Error::other(format!("`{}` in it is not a file", entry.path().display())));
        }
    }
    Ok(())
}

/// Applies the log's access to the files that sled created.
fn apply_access(directory: &Path) -> io::Result<()> {
    let access = Access::of(directory.parent().unwrap_or(directory))?;
    for entry in fs::read_dir(directory)? {
        files::apply_access(&entry?.path(), access)?;
    }
    Ok(())
}

/// Removes the index in a directory.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(directory),
        removed => removed,
    }
}

/// A checksum over all files of a closed index: their names, lengths and contents.
pub(crate) fn checksum(directory: &Path) -> io::Result<u32> {
    let mut names: Vec<PathBuf> = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    names.sort_unstable();
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1024 * 1024];
    for path in names {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        if fs::symlink_metadata(&path)?.is_dir() {
            hasher.update(&checksum(&path)?.to_be_bytes());
            continue;
        }
        let mut file = files::open_read(&path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it contains something other than files"));
        }
        hasher.update(&file.metadata()?.len().to_be_bytes());
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => break,
                read => hasher.update(&buffer[..read]),
            }
        }
    }
    Ok(hasher.finalize())
}
