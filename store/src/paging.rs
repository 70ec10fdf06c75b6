//! Reading a stream from one record on to its end, some records at a time.

use crate::log::{LogReader, ReadError};
use crate::record::{Record, StreamId};

/// How many records are asked for at once at first, and at most. A page that is full is followed by one of twice its length:
/// records that were appended together are checked together, all of them for each page.
const PAGE: usize = 512;
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
        if !self.failed && page.len() >= self.limit {
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
        if self.page.as_slice().is_empty()
            && !self.over
            && let Err(error) = self.turn()
        {
            self.over = true;
            return Some(Err(error));
        }
        let record = self.page.next()?;
        self.next = record.seq + 1;
        Some(Ok(record))
    }
}
