//! Reads a stream page by page.

use crate::log::{LogReader, ReadError};
use crate::record::{Record, StreamId};

/// The number of records per request. A page should stay in the processor's cache until it is used.
const PAGE: usize = 512;
/// The maximum number of records per request. Records that were appended together are verified together, again for each
/// page of them. So if a full page may contain only such records, the next one is twice as long.
const MAX_PAGE: usize = 16 * 1024;

/// The records of a stream, read page by page. Yields all records before a damaged one, except those that were
/// appended together with it, then its error, and then ends.
///
/// # Examples
/// ```
/// use cloacina_store::paging::Records;
/// use cloacina_store::record::StreamId;
/// use cloacina_store::{MemoryDisk, MemoryLog};
///
/// let log = MemoryLog::open(&MemoryDisk::new())?;
/// let records: Result<Vec<_>, _> = Records::new(&log, StreamId::LOG, 0).collect();
/// assert_eq!(records?.len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Records<'a> {
    reader: &'a dyn LogReader,
    stream: StreamId,
    next: u64,
    page: std::vec::IntoIter<Record>,
    limit: usize,
    /// Whether reading a page failed.
    failed: bool,
    is_done: bool,
}

impl<'a> Records<'a> {
    /// The records of a stream, starting with a `seq`.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader, stream: StreamId, from: u64) -> Self {
        let page = Vec::new().into_iter();
        Self { reader, stream, next: from, page, limit: PAGE, failed: false, is_done: false }
    }

    /// Returns the unread records of the current page, or else the next page. `None` at the end.
    ///
    /// # Errors
    /// As for a record. The iteration ends after an error.
    pub fn next_page(&mut self) -> Option<Result<Vec<Record>, ReadError>> {
        if let Err(error) = self.fill_page()? {
            return Some(Err(error));
        }
        let page = std::mem::take(&mut self.page).collect::<Vec<_>>();
        self.next = page.last()?.seq + 1;
        Some(Ok(page))
    }

    /// Reads the next page if no record is left. `None` at the end.
    fn fill_page(&mut self) -> Option<Result<(), ReadError>> {
        if self.page.as_slice().is_empty()
            && !self.is_done
            && let Err(error) = self.read_page()
        {
            self.is_done = true;
            return Some(Err(error));
        }
        (!self.page.as_slice().is_empty()).then_some(Ok(()))
    }

    /// Reads the next page. If it cannot be read, halves the page until it ends before the damaged record. Reading one
    /// record at a time would be slow: each read verifies all records that were appended together.
    fn read_page(&mut self) -> Result<(), ReadError> {
        let page = loop {
            match self.reader.read(self.stream, self.next, self.limit) {
                Err(ReadError::Damaged { .. } | ReadError::TailCut { .. }) if self.limit > 1 => {
                    self.limit /= 2;
                    self.failed = true;
                }
                other => break other?,
            }
        };
        let appended_together = page.first().map(|record| record.time) == page.last().map(|record| record.time);
        if !self.failed && page.len() >= self.limit && appended_together {
            self.limit = (self.limit * 2).min(MAX_PAGE);
        }
        self.is_done = page.is_empty();
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill_page()? {
            return Some(Err(error));
        }
        let record = self.page.next()?;
        self.next = record.seq + 1;
        Some(Ok(record))
    }
}
