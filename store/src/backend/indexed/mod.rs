//! A database that says where things are, and the [segments](super::segments) that have them.
//!
//! Of a frame and of a commit entry the database has the place in the segments, together with those of its neighbours
//! ([`Run`]); all else it has itself, and so do the segments. What an earlier version has put into the database stays there, and
//! is found.
//!
//! What is appended is on the disk in the segments before the database leads to it. So it never leads to what is not there.

mod streams;
#[cfg(test)]
mod tests;
mod update;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ::bytes::Bytes;

use self::streams::Streams;
use self::update::Update;
use super::overlay::merge;
use super::segments::{self, Appender, Segments, Unread};
use super::{Backend, BackendError, Changes, Direction, Entry, KeyRange};
use crate::bytes::Malformed;
use crate::layout::keys::{self, INDEXED, Kept};
use crate::layout::run::{self, End, Run};
use crate::layout::segment::Place;
use crate::sync::lock;

/// How many bytes a database takes before it is made durable. sled uses its segments, of 512 KiB, again as soon as it takes
/// what replaced them for safe, and it writes some three times what it is given.
const PIECE: usize = 128 * 1024;

/// How often a value is looked up that was wiped meanwhile.
const TRIES: usize = 100;

/// How many entries of the index are read at once.
const RUNS_AT_ONCE: usize = 64;

/// A database that leads into segments.
pub(crate) struct Indexed<B> {
    index: B,
    segments: Segments,
    name: PathBuf,
    /// Whether the database has frames and commit entries itself, which an earlier version has put there.
    has_values: bool,
    /// `None` for a reader.
    appender: Mutex<Option<Appender>>,
    replaced: Mutex<Replaced>,
    streams: Streams,
}

/// Keys, and where their values stand.
type Placed = Vec<(Bytes, Place)>;

/// What was replaced by changes that are not known to be durable yet.
#[derive(Default)]
struct Replaced {
    applied: Placed,
    written_out: Placed,
}

impl<B: Backend> Indexed<B> {
    /// A database and the segments in a directory, for reading. In messages the log has a name.
    ///
    /// # Errors
    /// Of the database. Whether the segments go as far as they should is for [`Indexed::check_end`] to say.
    pub(crate) fn over(index: B, directory: &Path, name: &Path) -> Result<Self, BackendError> {
        let has_values = [keys::groups(0, None), keys::frames_after(None)]
            .iter()
            .try_fold(false, |has, range| Ok(has || !index.scan(range, 1, Direction::Up)?.is_empty()))?;
        let segments = Segments::of(directory);
        Ok(Self {
            index,
            segments,
            name: name.to_owned(),
            has_values,
            appender: Mutex::default(),
            replaced: Mutex::default(),
            streams: Streams::default(),
        })
    }

    /// That the segments go as far as the index does.
    pub(crate) fn check_end(&self) -> Result<(), BackendError> {
        self.segments.check_end(self.end()?).map_err(|unread| self.unread(unread))
    }

    /// Opens all segments that there are, so that they can be read whatever becomes of their names.
    pub(crate) fn open_all(&self) -> Result<(), BackendError> {
        self.segments.open_all().map_err(|error| self.failed("opening", &error))
    }

    /// Goes on to write, and takes groups that the index may lack. What else is in the segments behind the end of the index does not count
    /// from here on.
    pub(crate) fn begin(&self, directory: &Path, groups: &[Changes]) -> Result<(), BackendError> {
        let indexed = self.end()?;
        let appender = Appender::open(directory, indexed).map_err(|error| self.failed("opening", &error))?;
        let end = appender.end();
        *lock(&self.appender) = Some(appender);
        if end != indexed || !groups.is_empty() {
            self.bring(groups)?;
        }
        let mut waste = self.waste()?;
        waste.extend(self.left_behind(directory, indexed, end)?);
        self.wipe(&waste)
    }

    /// What a process has replaced that did not come to wipe it.
    fn waste(&self) -> Result<Placed, BackendError> {
        let entries = self.index.scan(&keys::wastes(), usize::MAX, Direction::Up)?;
        let decoded = entries.iter().map(|(key, value)| run::decode_waste(key, value));
        decoded.collect::<Result<_, _>>().map_err(|why| self.damaged("what is to be wiped", &why))
    }

    /// What was on its way between two places when a process died, and stands elsewhere now, byte by byte: it was brought once more.
    fn left_behind(&self, directory: &Path, from: End, to: End) -> Result<Placed, BackendError> {
        let mut found = Vec::new();
        segments::each_value(directory, from, to, |place, key, value| {
            if let (Kept::Placed { shared }, Some(_)) = (Kept::of(key), value) {
                found.push((Bytes::copy_from_slice(key), place, shared));
            }
        })
        .map_err(|error| self.failed("reading", &error))?;
        let mut left = Placed::new();
        for (key, place, shared) in found {
            let now = self.place(&key, shared)?;
            if now.is_none_or(|now| now == place) {
                continue;
            }
            if self.segments.read(&key, place).ok() == self.read(&key, shared, now)? {
                left.push((key, place));
            }
        }
        Ok(left)
    }

    /// Up to where the segments are in the index.
    fn end(&self) -> Result<End, BackendError> {
        match self.index.get(INDEXED)? {
            Some(bytes) => End::decode(&bytes).map_err(|why| self.damaged("where the segments end", &why)),
            None => Ok(End::default()),
        }
    }

    fn unread(&self, unread: Unread) -> BackendError {
        unread.of(&self.name)
    }

    fn failed(&self, doing: &str, error: &std::io::Error) -> BackendError {
        BackendError::Failed(format!("{doing} the segments of {}: {error}", self.name.display()))
    }

    fn damaged(&self, what: &str, Malformed(why): &Malformed) -> BackendError {
        BackendError::Damaged(format!("the index of {}: {what}: {why}", self.name.display()))
    }

    /// An entry of the index, and what all of its keys begin with.
    fn run<'a>(&self, key: &[u8], shared: usize, value: &'a [u8]) -> Result<(Vec<u8>, Run<'a>), BackendError> {
        let mut first = keys::first_of_run(key);
        let rest = first.len().saturating_sub(shared);
        let run = Run::decode(rest, value).map_err(|why| self.damaged("some places", &why))?;
        if run.iter().next().is_none_or(|(rest, _)| Some(rest) != first.get(shared..)) {
            return Err(self.damaged("some places", &Malformed::new("they belong elsewhere")));
        }
        first.truncate(shared);
        Ok((first, run))
    }

    /// The entry of the index in which a key is, if it is in any.
    fn run_before(&self, from: &[u8], key: &[u8]) -> Result<Option<Entry>, BackendError> {
        let mut below = keys::run(key);
        below.push(0);
        let range = KeyRange { from: keys::run(from), below };
        Ok(self.index.scan(&range, 1, Direction::Down)?.pop())
    }

    /// Where the value of a key stands.
    fn place(&self, key: &[u8], shared: usize) -> Result<Option<Place>, BackendError> {
        let Some(from) = key.get(..shared) else { return Ok(None) };
        if shared > 1
            && let Some(stream) = self.stream(from)?
        {
            return Ok(stream.place(&key[shared..]));
        }
        let Some((first, value)) = self.run_before(from, key)? else { return Ok(None) };
        let (_, run) = self.run(&first, shared, &value)?;
        Ok(run.get(&key[shared..]))
    }

    /// The value at a place. One that was wiped meanwhile was replaced before: its place is looked up again.
    fn read(&self, key: &[u8], shared: usize, place: Option<Place>) -> Result<Option<Bytes>, BackendError> {
        let mut place = place;
        for _ in 0..TRIES {
            let Some(found) = place else { return self.value_of_its_own(key) };
            match self.segments.read(key, found) {
                Ok(value) => return Ok(Some(value)),
                Err(unread) => {
                    place = self.place(key, shared)?;
                    if place == Some(found) {
                        let as_it_is = keys::is_frame(key).then(|| self.segments.read_as_it_is(key, found)).flatten();
                        return as_it_is.map_or_else(|| Err(self.unread(unread)), |value| Ok(Some(value)));
                    }
                }
            }
        }
        Err(BackendError::Failed(format!("reading {}: it changes all the time", self.name.display())))
    }

    /// What the database itself has under a key of which it has no place.
    fn value_of_its_own(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        if self.has_values { self.index.get(key) } else { Ok(None) }
    }

    /// The places of a range, all of whose keys are kept alike.
    fn places(
        &self,
        range: &KeyRange,
        shared: usize,
        limit: usize,
        direction: Direction,
    ) -> Result<Placed, BackendError> {
        if shared > 1
            && let Some(alike) = range.from.get(..shared)
            && range.below.starts_with(alike)
            && let Some(stream) = self.stream(alike)?
        {
            return Ok(stream.places(range, limit, direction));
        }
        let mut found = Placed::new();
        let mut add = |(key, value): &Entry| {
            let (before, run) = self.run(key, shared, value)?;
            let key_of = |rest: &[u8]| Bytes::from([&before[..], rest].concat());
            let all = run.iter().map(|(rest, place)| (key_of(rest), place));
            let in_range = |(key, _): &(Bytes, Place)| key[..] >= range.from[..] && key[..] < range.below[..];
            let left = limit - found.len();
            match direction {
                Direction::Up => found.extend(all.filter(in_range).take(left)),
                Direction::Down => found.extend(all.rev().filter(in_range).take(left)),
            }
            Ok::<_, BackendError>(found.len() < limit)
        };
        let mut runs = KeyRange { from: keys::run(&range.from), below: keys::run(&range.below) };
        // The entry in which the range begins has the key of one that comes before.
        let before = self.run_before(&range.from[..1], &range.from)?;
        match direction {
            Direction::Up => {
                if let Some(before) = before
                    && !add(&before)?
                {
                    return Ok(found);
                }
                runs.from.push(0);
            }
            Direction::Down => runs.from = before.map_or(runs.from, |(key, _)| key.to_vec()),
        }
        while runs.from < runs.below {
            let page = self.index.scan(&runs, limit.min(RUNS_AT_ONCE), direction)?;
            let Some((last, _)) = page.last() else { break };
            match direction {
                Direction::Up => runs.from = [last, &[0][..]].concat(),
                Direction::Down => runs.below = last.to_vec(),
            }
            for run in &page {
                if !add(run)? {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The values of some places, in order.
    fn values(&self, places: Placed, shared: usize) -> Result<Vec<Entry>, BackendError> {
        let values = self.segments.read_some(&places);
        let mut entries = Vec::with_capacity(places.len());
        for ((key, place), value) in places.into_iter().zip(values) {
            let value = match value {
                Ok(value) => Some(value),
                Err(_) => self.read(&key, shared, Some(place))?,
            };
            entries.extend(value.map(|value| (key, value)));
        }
        Ok(entries)
    }

    /// Entries of a range, whose values are what is made of places.
    fn entries(
        &self,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
        values: impl Fn(Placed, usize) -> Result<Vec<Entry>, BackendError>,
    ) -> Result<Vec<Entry>, BackendError> {
        let mut parts = keys::parts(range);
        if direction == Direction::Down {
            parts.reverse();
        }
        let mut found = Vec::new();
        for (kept, range) in parts {
            let left = limit - found.len();
            if left == 0 {
                break;
            }
            let Kept::Placed { shared } = kept else {
                found.extend(self.index.scan(&range, left, direction)?);
                continue;
            };
            let placed = values(self.places(&range, shared, left, direction)?, shared)?;
            if self.has_values {
                let over = placed.into_iter().map(|(key, value)| (key, Some(value))).collect();
                found.extend(merge(over, self.index.scan(&range, left, direction)?, left, direction));
            } else {
                found.extend(placed);
            }
        }
        Ok(found)
    }

    fn change_index(&self, changes: &Changes) -> Result<(), BackendError> {
        let changed = self.index.apply(changes);
        self.streams.change(changes);
        changed
    }

    /// Has the database take changes, durably.
    fn take(&self, changes: &Changes) -> Result<(), BackendError> {
        self.change_index(changes)?;
        self.index.write_out()?;
        self.index.sync()
    }

    /// Writes what some groups put into the segments, and finds out what becomes of the index.
    fn append<'a>(&self, groups: impl Iterator<Item = &'a Changes>) -> Result<Update, BackendError> {
        let mut appender = lock(&self.appender);
        let appender = appender.as_mut().ok_or(BackendError::Closed)?;
        let placed = update::append(groups, appender).map_err(|error| self.failed("writing", &error))?;
        self.update(placed, appender.end())
    }

    /// Wipes what was replaced, unless something leads to it, and forgets that it was to be wiped.
    fn wipe(&self, replaced: &Placed) -> Result<(), BackendError> {
        if replaced.is_empty() {
            return Ok(());
        }
        let mut waste = Placed::new();
        let mut done = Changes::default();
        for (key, place) in replaced {
            let Kept::Placed { shared } = Kept::of(key) else { continue };
            if self.place(key, shared)? != Some(*place) {
                waste.push((key.clone(), *place));
            }
            done.delete(keys::waste(place.segment, place.offset));
        }
        {
            let appender = lock(&self.appender);
            let appender = appender.as_ref().ok_or(BackendError::Closed)?;
            appender.wipe(&waste).map_err(|error| self.failed("wiping in", &error))?;
        }
        self.take(&done)
    }
}

impl<B: Backend> Backend for Indexed<B> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        match Kept::of(key) {
            Kept::Here => self.index.get(key),
            Kept::Placed { shared } => self.read(key, shared, self.place(key, shared)?),
        }
    }

    /// In the order of their places: what stands together is read together.
    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, BackendError> {
        let mut values = vec![None; keys.len()];
        let mut placed = Vec::with_capacity(keys.len());
        for (at, key) in keys.iter().enumerate() {
            let place = match Kept::of(key) {
                Kept::Here => None,
                Kept::Placed { shared } => self.place(key, shared)?,
            };
            match place {
                Some(place) => placed.push((place, at)),
                None => values[at] = self.get(key)?,
            }
        }
        placed.sort_unstable();
        let places: Placed = placed.iter().map(|(place, at)| (keys[*at].clone(), *place)).collect();
        for ((_, at), value) in placed.iter().zip(self.segments.read_some(&places)) {
            values[*at] = match value {
                Ok(value) => Some(value),
                Err(_) => self.get(&keys[*at])?,
            };
        }
        Ok(values)
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        self.entries(range, limit, direction, |places, shared| self.values(places, shared))
    }

    /// Without a look at the segments.
    fn keys(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Bytes>, BackendError> {
        let no_values = |places: Placed, _| Ok(places.into_iter().map(|(key, _)| (key, Bytes::new())).collect());
        let entries = self.entries(range, limit, direction, no_values)?;
        Ok(entries.into_iter().map(|(key, _)| key).collect())
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        changes.check_lengths()?;
        let Update { places, last, replaced } = self.append(std::iter::once(changes))?;
        let mut all = Changes::default();
        places.iter().chain([&last]).for_each(|piece| all.extend(piece));
        self.change_index(&all)?;
        lock(&self.replaced).applied.extend(replaced);
        Ok(())
    }

    fn bring(&self, groups: &[Changes]) -> Result<(), BackendError> {
        let Update { places, last, replaced } = self.append(groups.iter())?;
        // Where the frames are comes first: the commit entries say that they are there.
        places.iter().try_for_each(|piece| self.take(piece))?;
        self.take(&last)?;
        self.wipe(&replaced)
    }

    fn write_out(&self) -> Result<(), BackendError> {
        let Replaced { applied, written_out } = &mut *lock(&self.replaced);
        // Before: what is applied meanwhile is not known to be written out.
        let applied = std::mem::take(applied);
        self.index.write_out()?;
        written_out.extend(applied);
        Ok(())
    }

    fn sync(&self) -> Result<(), BackendError> {
        let written_out = std::mem::take(&mut lock(&self.replaced).written_out);
        self.index.sync()?;
        self.wipe(&written_out)
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        self.index.load_head()
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        self.index.save_head(head)
    }

    fn close(&self) -> Result<(), BackendError> {
        *lock(&self.appender) = None;
        self.index.close()
    }
}
