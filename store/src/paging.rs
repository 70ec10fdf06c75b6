//! Reading a stream from one record on to its end, some records at a time.

use crate::log::{LogReader, ReadError};
use crate::record::{Record, StreamId};

/// How many records are asked for at once. What is read at once is to stay in the cache of a processor until it is used.
const PAGE: usize = 512;
/// How many at most. Records that were appended together are checked together, all of them for each page: so a page of which
/// all may have been is followed by one of twice its length.
const LONGEST_PAGE: usize = 16 * 1024;

/// The records of a stream, read page by page. Those before a damaged one are still returned, but for those that were
/// appended together with it; then its error, and nothing more.
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
    /// Whether a page could not be read.
    failed: bool,
    over: bool,
}

impl<'a> Records<'a> {
    /// The records of a stream from a `seq` on.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader, stream: StreamId, from: u64) -> Self {
        let page = Vec::new().into_iter();
        Self { reader, stream, next: from, page, limit: PAGE, failed: false, over: false }
    }

    /// The records that are left of the page that was read last, or those of the next one. `None` at the end.
    ///
    /// # Errors
    /// As the next record's. It ends after the first one.
    pub fn next_page(&mut self) -> Option<Result<Vec<Record>, ReadError>> {
        if let Err(error) = self.come_to_record()? {
            return Some(Err(error));
        }
        let page = std::mem::take(&mut self.page).collect::<Vec<_>>();
        self.next = page.last()?.seq + 1;
        Some(Ok(page))
    }

    /// Reads on if there is no record left. `None` at the end.
    fn come_to_record(&mut self) -> Option<Result<(), ReadError>> {
        if self.page.as_slice().is_empty()
            && !self.over
            && let Err(error) = self.turn()
        {
            self.over = true;
            return Some(Err(error));
        }
        (!self.page.as_slice().is_empty()).then_some(Ok(()))
    }

    /// Reads on. A page that cannot be read as a whole is followed by ones of half its length, down to the record that is at
    /// fault. One by one would take too long: each read checks all records that were appended together with the one it is for.
    fn turn(&mut self) -> Result<(), ReadError> {
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
            self.limit = (self.limit * 2).min(LONGEST_PAGE);
        }
        self.over = page.is_empty();
        self.page = page.into_iter();
        Ok(())
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.come_to_record()? {
            return Some(Err(error));
        }
        let record = self.page.next()?;
        self.next = record.seq + 1;
        Some(Ok(record))
    }
}
