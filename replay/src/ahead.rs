//! Reading ahead: a thread of its own reads, checks and decodes records, while whoever wants the events folds them.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use cloacina_engine::core::event::{ExecutionId, Seq};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::paging::Records;
use cloacina_store::record::Record;

use crate::reading::{Decoder, Entry, Trouble, stream_of};

/// How many records are handed over at once.
const PAGE: usize = 512;
/// How many pages wait at most: enough that neither side waits for the other's every page, nor reading for the graph to be
/// made that the first event names.
const PAGES: usize = 64;

/// Who wants to know how far reading is.
pub trait Watch {
    /// So many records were taken so far.
    fn reached(&self, count: u64);
}

/// The records of an execution, read on another thread.
#[derive(Clone, Copy)]
pub struct Ahead<'a> {
    reader: &'a dyn LogReader,
    id: ExecutionId,
    from: Seq,
    watch: Option<&'a dyn Watch>,
}

impl<'a> Ahead<'a> {
    /// All records of an execution.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader, id: ExecutionId) -> Self {
        Self { reader, id, from: 0, watch: None }
    }

    /// The same from a record on.
    #[must_use]
    pub fn from(self, from: Seq) -> Self {
        Self { from, ..self }
    }

    /// The same, and `watch` is told now and then how many records were taken.
    #[must_use]
    pub fn watched(self, watch: &'a dyn Watch) -> Self {
        Self { watch: Some(watch), ..self }
    }

    /// The execution.
    #[must_use]
    pub fn id(&self) -> ExecutionId {
        self.id
    }

    /// The log.
    #[must_use]
    pub fn reader(&self) -> &'a dyn LogReader {
        self.reader
    }

    /// Gives the events to `work`, in order, up to the first [`Trouble`].
    pub fn entries<T>(&self, work: impl FnOnce(&mut dyn Iterator<Item = Result<Entry, Trouble>>) -> T) -> T {
        let mut decoder = Decoder::new(self.reader);
        self.records(move |record| decoder.decode(&record), work)
    }

    /// Gives the records to `work`, in order, each after `prepare` had it on the thread that reads. Ends after the first
    /// error.
    pub fn records<P: Send, E: From<ReadError> + Send, T>(
        &self,
        mut prepare: impl FnMut(Record) -> Result<P, E> + Send,
        work: impl FnOnce(&mut dyn Iterator<Item = Result<P, E>>) -> T,
    ) -> T {
        let records = Records::new(self.reader, stream_of(self.id), self.from);
        let prepared = records.map(move |record| record.map_err(E::from).and_then(&mut prepare));
        thread::scope(|scope| {
            let (send, receive) = sync_channel(PAGES);
            let reading = thread::Builder::new().name("replay-reading".to_owned());
            let started = reading.spawn_scoped(scope, move || hand_over(prepared, &send));
            if let Err(error) = started {
                // What was to be read went with the thread that could not be.
                let failed = ReadError::Io(format!("no thread to read with: {error}"));
                return work(&mut std::iter::once(Err(E::from(failed))));
            }
            let mut taken = Taken { receive, page: Vec::new().into_iter(), count: 0, watch: self.watch };
            work(&mut taken)
        })
    }
}

/// Reads until the end, the first error, or nobody takes any more.
fn hand_over<P, E>(mut records: impl Iterator<Item = Result<P, E>>, send: &SyncSender<Vec<Result<P, E>>>) {
    loop {
        let mut page = Vec::with_capacity(PAGE);
        let mut failed = false;
        while page.len() < PAGE && !failed {
            let Some(record) = records.next() else { break };
            failed = record.is_err();
            page.push(record);
        }
        let over = failed || page.len() < PAGE;
        if send.send(page).is_err() || over {
            return;
        }
    }
}

struct Taken<'a, P, E> {
    receive: Receiver<Vec<Result<P, E>>>,
    page: std::vec::IntoIter<Result<P, E>>,
    count: u64,
    watch: Option<&'a dyn Watch>,
}

impl<P, E> Iterator for Taken<'_, P, E> {
    type Item = Result<P, E>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.as_slice().is_empty() {
            self.page = self.receive.recv().ok()?.into_iter();
            if let Some(watch) = self.watch {
                watch.reached(self.count);
            }
            self.count += self.page.as_slice().len() as u64;
        }
        self.page.next()
    }
}
