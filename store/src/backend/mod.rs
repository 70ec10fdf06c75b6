//! What the log needs of the outside world: an ordered map with atomic batches, and a way to make it durable.
//!
//! All that makes a log (order, sealing, conflicts, the listing) is written once over this trait; a new place to keep
//! a log in is a new implementation of it, and `tests/suite` says whether it is a good one.

pub(crate) mod memory;
mod patience;
pub(crate) mod sled;
pub(crate) mod sled_file;

use ::bytes::Bytes;

use crate::layout::MAX_VALUE;
pub use crate::layout::keys::KeyRange;

/// A key and its value.
pub type Entry = (Bytes, Bytes);

/// Puts and deletes that are applied together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    changes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Changes {
    /// Puts a value under a key.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push((key, Some(value)));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.changes.push((key, None));
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes, in order: a value to put, or `None` to delete.
    pub fn into_parts(self) -> impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)> {
        self.changes.into_iter()
    }

    /// That no value is longer than the store keeps safe.
    ///
    /// # Errors
    /// [`BackendError::Failed`], naming the key.
    pub(crate) fn check_lengths(&self) -> Result<(), BackendError> {
        let too_long = self.changes.iter().find_map(|(key, value)| {
            value.as_ref().filter(|value| value.len() > MAX_VALUE).map(|value| (key, value.len()))
        });
        match too_long {
            None => Ok(()),
            Some((key, length)) => Err(BackendError::Failed(format!(
                "a value of {length} bytes under {key:02x?} is longer than {MAX_VALUE}: it should have been cut into chunks"
            ))),
        }
    }
}

/// In which order keys are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Lowest first.
    Up,
    /// Highest first.
    Down,
}

/// Why a backend did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// It was closed.
    #[error("it was closed")]
    Closed,
    /// It failed.
    #[error("{0}")]
    Failed(String),
    /// What is there is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Where a log is kept.
pub trait Backend: Send + Sync + 'static {
    /// The value under a key.
    ///
    /// # Errors
    /// [`BackendError`], as for all of these.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError>;

    /// At most `limit` entries of a range.
    ///
    /// # Errors
    /// [`BackendError`].
    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError>;

    /// Applies changes: after a crash all of them are there or none is. Readers see them at once.
    ///
    /// # Errors
    /// [`BackendError`]; whether the changes are there is then unknown.
    fn apply(&self, changes: Changes) -> Result<(), BackendError>;

    /// Hands all that was applied to the operating system: it survives this process.
    ///
    /// # Errors
    /// [`BackendError`], and nothing may be relied on from then on.
    fn write_out(&self) -> Result<(), BackendError>;

    /// Makes all that was written out survive a power cut.
    ///
    /// # Errors
    /// [`BackendError`], and nothing may be relied on from then on.
    fn sync(&self) -> Result<(), BackendError>;

    /// The bytes that [`Backend::save_head`] saved last.
    ///
    /// # Errors
    /// [`BackendError`].
    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError>;

    /// Saves a few bytes beside the map, atomically and durably.
    ///
    /// # Errors
    /// [`BackendError`]; the bytes that were saved before are still there.
    fn save_head(&self, head: &[u8]) -> Result<(), BackendError>;

    /// Lets go of everything. Whatever is asked later is [`BackendError::Closed`], unless it can still be answered.
    fn close(&self);
}

/// Whichever backend a log was found in.
impl Backend for Box<dyn Backend> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        (**self).get(key)
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        (**self).scan(range, limit, direction)
    }

    fn apply(&self, changes: Changes) -> Result<(), BackendError> {
        (**self).apply(changes)
    }

    fn write_out(&self) -> Result<(), BackendError> {
        (**self).write_out()
    }

    fn sync(&self) -> Result<(), BackendError> {
        (**self).sync()
    }

    fn load_head(&self) -> Result<Option<Vec<u8>>, BackendError> {
        (**self).load_head()
    }

    fn save_head(&self, head: &[u8]) -> Result<(), BackendError> {
        (**self).save_head(head)
    }

    fn close(&self) {
        (**self).close();
    }
}
