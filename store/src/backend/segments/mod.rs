//! The segments: files that whatever was put is written to once, one value behind the other, and that only grow.
//!
//! sled writes a value anew each time that a neighbour of it is put, some three times in all, and reads it piece by piece. So
//! what there is most of, frames and commit entries, is kept here, and sled knows where ([`indexed`](super::indexed)). Everything
//! else that is put stands here as well: what is in the segments is the log, and the index can be lost.
//!
//! A frame or a commit entry is wiped, and its key stays, where it was replaced or deleted: what was erased is not in the files
//! any more.

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod search;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use ::bytes::Bytes;

pub(crate) use self::search::each_value;
use super::BackendError;
use crate::bytes::Malformed;
use crate::directory::files::{self, Access};
use crate::directory::sync_directory;
use crate::layout::MAX_VALUE;
use crate::layout::run::End;
use crate::layout::segment::{self, HEADER, Place};
use crate::sync::{read_lock, write_lock};

/// The directory of the segments, in that of a log.
pub(crate) const DIRECTORY: &str = "segments";
/// A segment that is as long as this is not written to any more. What is read is read from open files: there are few of them.
const LONGEST: u32 = 1024 * 1024 * 1024;
/// How much is written at once.
const WRITTEN_AT_ONCE: usize = 1024 * 1024;
/// How much is read at once where values stand close to each other, and how much of it may be of no use.
const READ_AT_ONCE: u64 = 256 * 1024;
const READ_IN_VAIN: u64 = 1024;

/// The segments of a log, for reading.
pub(crate) struct Segments {
    directory: PathBuf,
    open: RwLock<BTreeMap<u32, Arc<File>>>,
}

/// What is wrong with what stands at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It was wiped.
    Wiped,
    /// It is not what was written.
    Damaged(String),
    /// It could not be read.
    Failed(String),
}

impl Segments {
    /// The segments of the log in a directory, which may have none. Files are opened when they are read.
    pub(crate) fn of(directory: &Path) -> Self {
        Self { directory: directory.join(DIRECTORY), open: RwLock::default() }
    }

    /// Opens all that there are, so that they can be read whatever becomes of their names.
    pub(crate) fn open_all(&self) -> io::Result<()> {
        numbers(&self.directory)?.into_iter().try_for_each(|number| match self.file(number) {
            Ok(_) | Err(Unread::Damaged(_) | Unread::Wiped) => Ok(()),
            Err(Unread::Failed(why)) => Err(io::Error::other(why)),
        })
    }

    /// The file of a segment, once its header was checked.
    fn file(&self, number: u32) -> Result<Arc<File>, Unread> {
        if let Some(file) = read_lock(&self.open).get(&number) {
            return Ok(Arc::clone(file));
        }
        let failed = |error: &io::Error| Unread::Failed(format!("segment {number}: {error}"));
        let file = match files::to_read(&path_of(&self.directory, number)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Unread::Damaged(format!("segment {number} (the file {}) is missing", name_of(number))));
            }
            Err(error) => return Err(failed(&error)),
        };
        let mut header = [0; HEADER];
        let length = read_up_to(&file, &mut header, 0).map_err(|error| failed(&error))?;
        segment::check_header(number, &header[..length])
            .map_err(|Malformed(why)| Unread::Damaged(format!("segment {number}: {why}")))?;
        let file = Arc::new(file);
        write_lock(&self.open).insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// The value at a place, which must be that of a key.
    pub(crate) fn read(&self, key: &[u8], place: Place) -> Result<Bytes, Unread> {
        let mut bytes = vec![0; place.span(key)];
        self.read_at(place.segment, place.offset, &mut bytes)?;
        value_of(key, place, &bytes.into(), 0)
    }

    /// What stands at the place of a key, whatever its checksum says: for a frame, whose hashes say which of its records differs.
    pub(crate) fn read_as_it_is(&self, key: &[u8], place: Place) -> Option<Bytes> {
        let mut bytes = vec![0; place.span(key)];
        self.read_at(place.segment, place.offset, &mut bytes).ok()?;
        let bytes = Bytes::from(bytes);
        let (found, _) = segment::peek(&bytes).ok()?;
        let value = found.value.filter(|_| (found.key, found.length) == (key, place.length))?;
        Some(bytes.slice_ref(value))
    }

    /// The values at some places, in the order of the places.
    pub(crate) fn read_some(&self, places: &[(Bytes, Place)]) -> Vec<Result<Bytes, Unread>> {
        let mut values = Vec::with_capacity(places.len());
        while let Some((first, place)) = places.get(values.len()) {
            let (from, mut end) = (u64::from(place.offset), u64::from(place.offset) + place.span(first) as u64);
            let mut count = 1;
            for (key, next) in &places[values.len() + 1..] {
                let (offset, after) = (u64::from(next.offset), u64::from(next.offset) + next.span(key) as u64);
                let is_close = next.segment == place.segment && offset >= end && offset <= end + READ_IN_VAIN;
                if !is_close || after > from + READ_AT_ONCE {
                    break;
                }
                end = after;
                count += 1;
            }
            let mut bytes = vec![0; usize::try_from(end - from).unwrap_or(usize::MAX)];
            let together = &places[values.len()..values.len() + count];
            match self.read_at(place.segment, place.offset, &mut bytes) {
                Ok(()) => {
                    let bytes = Bytes::from(bytes);
                    values.extend(together.iter().map(|(key, next)| {
                        value_of(key, *next, &bytes, crate::bytes::usize_of(next.offset - place.offset))
                    }));
                }
                // What stands before the damaged place may be whole.
                Err(_) if count > 1 => values.extend(together.iter().map(|(key, next)| self.read(key, *next))),
                Err(error) => values.push(Err(error)),
            }
        }
        values
    }

    fn read_at(&self, number: u32, offset: u32, bytes: &mut [u8]) -> Result<(), Unread> {
        let wanted = bytes.len();
        let read = read_up_to(&*self.file(number)?, bytes, u64::from(offset))
            .map_err(|error| Unread::Failed(format!("segment {number} at byte {offset}: {error}")))?;
        if read == wanted {
            return Ok(());
        }
        Err(Unread::Damaged(format!("segment {number} ends before byte {}", u64::from(offset) + wanted as u64)))
    }

    /// That the segments go as far as the index says.
    pub(crate) fn check_end(&self, end: End) -> Result<(), Unread> {
        if end == End::default() {
            return Ok(());
        }
        let failed = |error: io::Error| Unread::Failed(format!("segment {}: {error}", end.segment));
        let length = self.file(end.segment)?.metadata().map_err(failed)?.len();
        if length >= u64::from(end.offset) {
            return Ok(());
        }
        Err(Unread::Damaged(format!("segment {} has {length} bytes, and should have {}", end.segment, end.offset)))
    }
}

/// The value that a place has in bytes that were read.
fn value_of(key: &[u8], place: Place, bytes: &Bytes, at: usize) -> Result<Bytes, Unread> {
    let Place { segment: number, offset, length } = place;
    let damaged = |why: &str| Unread::Damaged(format!("segment {number} at byte {offset}: {why}"));
    let found =
        segment::read(number, offset, &bytes[at..at + place.span(key)]).map_err(|Malformed(why)| damaged(&why))?;
    if (found.key, found.length) != (key, length) {
        return Err(damaged("something else is there"));
    }
    found.value.map(|value| bytes.slice_ref(value)).ok_or(Unread::Wiped)
}

impl Unread {
    /// The error of a backend; of a log that is called so.
    pub(crate) fn of(self, name: &Path) -> BackendError {
        let place = name.display();
        match self {
            Self::Wiped => BackendError::Damaged(format!(
                "reading {place}: what was there was erased, and is still in the index; open it again"
            )),
            Self::Damaged(what) => BackendError::Damaged(format!("reading {place}: {what}")),
            Self::Failed(why) => BackendError::Failed(format!("reading {place}: {why}")),
        }
    }
}

/// Where the segments of the log in a directory end.
pub(crate) fn end(directory: &Path) -> io::Result<End> {
    let segments = directory.join(DIRECTORY);
    let Some(segment) = numbers(&segments)?.pop() else { return Ok(End::default()) };
    let length = fs::symlink_metadata(path_of(&segments, segment))?.len();
    Ok(End { segment, offset: u32::try_from(length).unwrap_or(u32::MAX) })
}

/// The files of the segments of the log in a directory.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let segments = directory.join(DIRECTORY);
    Ok(numbers(&segments)?.into_iter().map(|number| path_of(&segments, number)).collect())
}

fn name_of(number: u32) -> String {
    format!("{DIRECTORY}/{number:010}")
}

fn path_of(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("{number:010}"))
}

/// The numbers of the segments that there are, in order.
fn numbers(directory: &Path) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        // A file that is called otherwise is none of ours.
        numbers.extend(
            name.to_str()
                .and_then(|name| name.parse().ok())
                .filter(|number| path_of(directory, *number).file_name() == Some(&*name)),
        );
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// The segments of a log, for the one who writes.
pub(crate) struct Appender {
    directory: PathBuf,
    number: u32,
    file: File,
    /// How long the segment is with what waits in the buffer.
    length: u32,
    buffer: Vec<u8>,
    longest: u32,
}

impl Appender {
    /// Goes on behind the last segment, of a log whose index knows the segments up to an end.
    pub(crate) fn open(directory: &Path, indexed: End) -> io::Result<Self> {
        Self::open_with(directory, indexed, LONGEST)
    }

    fn open_with(directory: &Path, indexed: End, longest: u32) -> io::Result<Self> {
        let segments = directory.join(DIRECTORY);
        match files::create_directory(&segments, Access::of(directory)?) {
            Ok(()) => sync_directory(directory)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => files::directory(&segments).map(drop)?,
            Err(error) => return Err(error),
        }
        let last = numbers(&segments)?.last().copied().unwrap_or(0);
        // One that has no header and nothing that anybody knows of was being made when something stopped it.
        let appender = match last.max(1) {
            number if number > indexed.segment => Self::begin(segments, number, longest)?,
            number => Self::go_on(segments, number, longest)?,
        };
        Ok(appender)
    }

    /// Begins a segment; where its file is there, and has more than a header, it goes on behind that.
    fn begin(directory: PathBuf, number: u32, longest: u32) -> io::Result<Self> {
        let path = path_of(&directory, number);
        if fs::symlink_metadata(&path).is_ok_and(|file| file.len() > HEADER as u64) {
            return Self::go_on(directory, number, longest);
        }
        let log = directory.parent().unwrap_or(&directory);
        let file = files::create_anew(&path, Access::of(log)?)?;
        file.write_all_at(&segment::encode_header(number), 0)?;
        file.sync_all()?;
        sync_directory(&directory)?;
        Ok(Self { directory, number, file, length: HEADER as u32, buffer: Vec::new(), longest })
    }

    fn go_on(directory: PathBuf, number: u32, longest: u32) -> io::Result<Self> {
        let file = files::to_write(&path_of(&directory, number))?;
        match u32::try_from(file.metadata()?.len()) {
            Ok(length) if length < longest => Ok(Self { directory, number, file, length, buffer: Vec::new(), longest }),
            _ => Self::begin(directory, next(number)?, longest),
        }
    }

    /// Writes a value behind all others, in its own time: see [`Appender::sync`].
    pub(crate) fn append(&mut self, key: &[u8], value: &[u8]) -> io::Result<Place> {
        if self.length >= self.longest {
            self.sync()?;
            let next = Self::begin(self.directory.clone(), next(self.number)?, self.longest)?;
            *self = next;
        }
        let length = u16::try_from(value.len()).ok().filter(|length| usize::from(*length) <= MAX_VALUE);
        let length = length.ok_or_else(|| io::Error::other("a value is too long"))?;
        let place = Place { segment: self.number, offset: self.length, length };
        segment::put(&mut self.buffer, self.number, self.length, key, value);
        self.length += u32::try_from(place.span(key)).unwrap_or(u32::MAX);
        if self.buffer.len() >= WRITTEN_AT_ONCE {
            self.write()?;
        }
        Ok(place)
    }

    fn write(&mut self) -> io::Result<()> {
        let from = u64::from(self.length) - self.buffer.len() as u64;
        self.file.write_all_at(&self.buffer, from)?;
        self.buffer.clear();
        Ok(())
    }

    /// Waits until all that was appended is on the disk.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.write()?;
        // Through the descriptor it would go on for ever, and be gone with it.
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other(format!("{} was removed", name_of(self.number))));
        }
        self.file.sync_data()
    }

    /// Where the segments end.
    pub(crate) fn end(&self) -> End {
        End { segment: self.number, offset: self.length }
    }

    /// Writes zeros over values that nothing leads to any more, each under its key, and waits for the disk.
    pub(crate) fn wipe(&self, values: &[(Bytes, Place)]) -> io::Result<()> {
        let mut written: BTreeMap<u32, File> = BTreeMap::new();
        for (key, place) in values {
            let file = match written.entry(place.segment) {
                std::collections::btree_map::Entry::Occupied(file) => file.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    new.insert(files::to_write(&path_of(&self.directory, place.segment))?)
                }
            };
            file.write_all_at(&segment::wiped(*place, key), u64::from(place.offset))?;
        }
        written.values().try_for_each(File::sync_data)
    }
}

fn next(number: u32) -> io::Result<u32> {
    number.checked_add(1).ok_or_else(|| io::Error::other("there are too many segments"))
}
