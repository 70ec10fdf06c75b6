//! What the log needs of the outside world: an ordered map with atomic batches, and a way to make it durable.
//!
//! All that makes a log (order, sealing, conflicts, the listing) is written once over this trait; a new place to keep
//! a log in is a new implementation of it, and `tests/suite` says whether it is a good one.

mod changes;
pub(crate) mod indexed;
pub(crate) mod journal;
pub(crate) mod journaled;
pub(crate) mod memory;
#[cfg(test)]
mod model;
mod overlay;
mod patience;
pub(crate) mod segments;
pub(crate) mod sled;
pub(crate) mod sled_file;

use ::bytes::Bytes;

pub use self::changes::Changes;
pub use crate::layout::keys::KeyRange;

/// A key and its value.
pub type Entry = (Bytes, Bytes);

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

    /// The values under some keys, in their order. To ask for many at once can take far less time than to ask for each.
    ///
    /// # Errors
    /// [`BackendError`], for the first of them that cannot be read.
    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, BackendError> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    /// At most `limit` entries of a range.
    ///
    /// # Errors
    /// [`BackendError`].
    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError>;

    /// The keys of at most `limit` entries of a range. What is wrong with their values is not found here.
    ///
    /// # Errors
    /// [`BackendError`].
    fn keys(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Bytes>, BackendError> {
        Ok(self.scan(range, limit, direction)?.into_iter().map(|(key, _)| key).collect())
    }

    /// Waits until changes can be applied at once. Need not be called.
    ///
    /// # Errors
    /// [`BackendError`]; nothing was applied.
    fn make_room(&self, changes: &Changes) -> Result<(), BackendError> {
        changes.check_lengths()
    }

    /// Applies changes: after a crash all of them are there or none is. Readers see them at once.
    ///
    /// # Errors
    /// [`BackendError`]; whether the changes are there is then unknown.
    fn apply(&self, changes: &Changes) -> Result<(), BackendError>;

    /// Applies groups of changes that are kept elsewhere as well, and makes them durable. After a crash some of them may be there, or
    /// a part of one: whoever calls this applies them again then.
    ///
    /// # Errors
    /// [`BackendError`], and nothing may be relied on from then on.
    fn bring(&self, groups: &[Changes]) -> Result<(), BackendError> {
        groups.iter().try_for_each(|group| self.apply(group))?;
        self.write_out()?;
        self.sync()
    }

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

    /// Lets go of everything, once. Whatever is asked later is [`BackendError::Closed`], unless it can still be answered.
    ///
    /// # Errors
    /// [`BackendError`]: what was applied is safe as far as it was synced, but it was not left in order.
    fn close(&self) -> Result<(), BackendError>;
}

/// Whichever backend a log was found in.
impl Backend for Box<dyn Backend> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, BackendError> {
        (**self).get(key)
    }

    fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, BackendError> {
        (**self).get_many(keys)
    }

    fn scan(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Entry>, BackendError> {
        (**self).scan(range, limit, direction)
    }

    fn keys(&self, range: &KeyRange, limit: usize, direction: Direction) -> Result<Vec<Bytes>, BackendError> {
        (**self).keys(range, limit, direction)
    }

    fn make_room(&self, changes: &Changes) -> Result<(), BackendError> {
        (**self).make_room(changes)
    }

    fn apply(&self, changes: &Changes) -> Result<(), BackendError> {
        (**self).apply(changes)
    }

    fn bring(&self, groups: &[Changes]) -> Result<(), BackendError> {
        (**self).bring(groups)
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

    fn close(&self) -> Result<(), BackendError> {
        (**self).close()
    }
}
