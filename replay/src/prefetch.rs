//! Prefetching the records of an execution: a separate thread reads and checks them while the consumer folds the
//! events. Whichever of the two has time decodes the records.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::vec::IntoIter;

use cloacina_engine::core::event::{ExecutionId, Seq};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::paging::Records;
use cloacina_store::record::Record;

use crate::reading::{Decoder, Entry, HistoryError, stream_of, up_to_trouble};

/// How many records are handed over at once, at most.
const PAGE: usize = 512;
/// How many pages the queue holds: enough that reading continues while the consumer builds the graph that the first
/// event names, and few enough to bound the memory.
const PAGES: usize = 128;

/// Receives the progress of reading.
pub trait Watch {
    /// Called with the number of records consumed so far.
    fn reached(&self, count: u64);
}

/// The records of an execution, prefetched on another thread.
#[derive(Clone, Copy)]
pub struct Prefetch<'a> {
    reader: &'a dyn LogReader,
    id: ExecutionId,
    from: Seq,
    watch: Option<&'a dyn Watch>,
}

impl<'a> Prefetch<'a> {
    /// All records of an execution.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader, id: ExecutionId) -> Self {
        Self { reader, id, from: 0, watch: None }
    }

    /// Starts at a record instead of the first one.
    #[must_use]
    pub fn from(self, from: Seq) -> Self {
        Self { from, ..self }
    }

    /// Reports progress to `watch`, once a page.
    #[must_use]
    pub fn watched(self, watch: &'a dyn Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// Returns the execution's id.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// Returns the log's reader.
    #[must_use]
    pub fn reader(&self) -> &'a dyn LogReader {
        self.reader
    }

    /// Passes the events to `work`, in order, up to and including the first [`HistoryError`].
    pub fn entries<T>(&self, work: impl FnOnce(&mut dyn Iterator<Item = Result<Entry, HistoryError>>) -> T) -> T {
        let unchecked = |_: &Record| Ok::<(), HistoryError>(());
        self.checked(unchecked, |entries| work(&mut up_to_trouble(entries.map(Result::flatten))))
    }

    /// Passes the events to `work`, in order. `check` sees each record first, on the reading thread. Ends after the
    /// first record that cannot be read or fails `check`; a record that cannot be decoded does not end it.
    pub fn checked<E: From<ReadError> + Send, T>(
        &self,
        check: impl FnMut(&Record) -> Result<(), E> + Send,
        work: impl FnOnce(&mut dyn Iterator<Item = Result<Result<Entry, HistoryError>, E>>) -> T,
    ) -> T {
        let records = Records::new(self.reader, stream_of(self.id), self.from);
        let decoder = Decoder::new(self.reader);
        thread::scope(|scope| {
            let (send, receive) = sync_channel(PAGES);
            let reading = thread::Builder::new().name("replay-reading".to_owned());
            let started = reading.spawn_scoped(scope, move || send_pages(records, check, decoder, &send));
            if let Err(error) = started {
                let failed = ReadError::Io(format!("cannot start a thread to read the log: {error}"));
                return work(&mut std::iter::once(Err(E::from(failed))));
            }
            let decoder = Decoder::new(self.reader);
            let page = Page::Read(Vec::new().into_iter());
            work(&mut Received { receive, page, decoder, count: 0, watch: self.watch })
        })
    }
}

/// Records that were read and checked together.
enum Page {
    /// Still to be decoded, by the consumer.
    Read(IntoIter<Record>),
    /// Decoded by the reading thread.
    Decoded(IntoIter<Result<Entry, HistoryError>>),
}

impl Page {
    fn len(&self) -> usize {
        match self {
            Self::Read(records) => records.len(),
            Self::Decoded(entries) => entries.len(),
        }
    }

    fn next(&mut self, decoder: &mut Decoder<'_>) -> Option<Result<Entry, HistoryError>> {
        match self {
            Self::Read(records) => records.next().map(|record| decoder.decode(&record)),
            Self::Decoded(entries) => entries.next(),
        }
    }
}

/// Reads and sends pages until the end, the first error, or the consumer is gone.
fn send_pages<E: From<ReadError>>(
    mut records: Records<'_>,
    mut check: impl FnMut(&Record) -> Result<(), E>,
    mut decoder: Decoder<'_>,
    send: &SyncSender<Result<Page, E>>,
) {
    while let Some(page) = records.next_page() {
        let (page, wrong) = match page {
            Ok(page) => up_to_wrong(page, &mut check),
            Err(error) => (Vec::new(), Some(E::from(error))),
        };
        let mut rest = page.into_iter();
        while !rest.as_slice().is_empty() {
            // One batch of the log may hold far more records than a page.
            let page = match rest.len() {
                ..=PAGE => std::mem::take(&mut rest),
                _ => rest.by_ref().take(PAGE).collect::<Vec<_>>().into_iter(),
            };
            if !send_page(page, &mut decoder, send) {
                return;
            }
        }
        if let Some(wrong) = wrong {
            // Fails only if the consumer is gone.
            drop(send.send(Err(wrong)));
            return;
        }
    }
}

/// Sends a page. Returns `false` if the consumer is gone.
fn send_page<E>(page: IntoIter<Record>, decoder: &mut Decoder<'_>, send: &SyncSender<Result<Page, E>>) -> bool {
    match send.try_send(Ok(Page::Read(page))) {
        Ok(()) => true,
        // The consumer lags behind, so this thread has time to decode.
        Err(TrySendError::Full(Ok(Page::Read(page)))) => {
            let entries: Vec<_> = page.map(|record| decoder.decode(&record)).collect();
            send.send(Ok(Page::Decoded(entries.into_iter()))).is_ok()
        }
        Err(_) => false,
    }
}

/// Returns the records before the first one that fails `check`, and its error.
fn up_to_wrong<E>(mut page: Vec<Record>, mut check: impl FnMut(&Record) -> Result<(), E>) -> (Vec<Record>, Option<E>) {
    let wrong = page.iter().enumerate().find_map(|(at, record)| check(record).err().map(|wrong| (at, wrong)));
    if let Some((at, _)) = wrong {
        page.truncate(at);
    }
    (page, wrong.map(|(_, wrong)| wrong))
}

/// The consumer's end of the queue.
struct Received<'a, E> {
    receive: Receiver<Result<Page, E>>,
    page: Page,
    decoder: Decoder<'a>,
    count: u64,
    watch: Option<&'a dyn Watch>,
}

impl<E> Iterator for Received<'_, E> {
    type Item = Result<Result<Entry, HistoryError>, E>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.page.next(&mut self.decoder) {
                return Some(Ok(entry));
            }
            match self.receive.recv().ok()? {
                Ok(page) => self.page = page,
                Err(wrong) => return Some(Err(wrong)),
            }
            if let Some(watch) = self.watch {
                watch.reached(self.count);
            }
            self.count += self.page.len() as u64;
        }
    }
}
