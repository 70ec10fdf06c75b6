//! Puts and deletes that belong together.

use std::ops::Range;

use ::bytes::Bytes;

use super::BackendError;
use crate::layout::MAX_VALUE;

/// Puts and deletes that are applied together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    list: Vec<(Bytes, Option<Bytes>)>,
    bytes: usize,
    positions: Option<Range<u64>>,
}

impl Changes {
    /// Puts a value under a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.list.push((key, Some(value)));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.list.push((key, None));
    }

    /// Adds others behind these. What they append is not known any more.
    pub(crate) fn extend(&mut self, others: &Self) {
        self.list.extend(others.list.iter().cloned());
        self.bytes += others.bytes;
        self.positions = None;
    }

    /// Says which positions of the log these changes append.
    pub(crate) fn append(&mut self, positions: Range<u64>) {
        self.positions = Some(positions);
    }

    /// The positions of the log that they append; `None` if they append none.
    pub(crate) fn positions(&self) -> Option<Range<u64>> {
        self.positions.clone().filter(|positions| !positions.is_empty())
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The bytes of all keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The changes, in order: a value to put, or `None` to delete.
    pub fn iter(&self) -> impl Iterator<Item = (&Bytes, Option<&Bytes>)> {
        self.list.iter().map(|(key, value)| (key, value.as_ref()))
    }

    /// That no value is longer than the store keeps safe.
    ///
    /// # Errors
    /// [`BackendError::Failed`], naming the key.
    pub(crate) fn check_lengths(&self) -> Result<(), BackendError> {
        let too_long = self
            .iter()
            .find_map(|(key, value)| value.filter(|value| value.len() > MAX_VALUE).map(|value| (key, value.len())));
        match too_long {
            None => Ok(()),
            Some((key, length)) => Err(BackendError::Failed(format!(
                "a value of {length} bytes under {:02x?} is longer than {MAX_VALUE}: it should have been cut into chunks",
                &key[..]
            ))),
        }
    }
}
