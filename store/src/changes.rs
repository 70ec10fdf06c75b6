//! Splits a requested change into pieces of work for the writer.

use crossbeam_channel::Sender;

use crate::archive::{ArchiveReader, open_archive};
use crate::core::change::Work;
use crate::core::import::ImportedStream;
use crate::keeper::{Change, ChangeError, Changed, Import};
use crate::log::{LogReader, StreamFilter};
use crate::writer_thread::Message;

/// Has the writer thread make a change.
pub(crate) fn on_thread(messages: &Sender<Message>, change: Change) -> Result<Changed, ChangeError> {
    perform(change, |piece| work(messages, piece))
}

/// Has the writer thread do a piece of work.
pub(crate) fn work(messages: &Sender<Message>, work: Work) -> Result<Changed, ChangeError> {
    let (reply, changed) = crossbeam_channel::bounded(1);
    messages.send(Message::Change(Box::new(work), reply)).map_err(|_| ChangeError::Closed)?;
    changed.recv().unwrap_or(Err(ChangeError::Closed))
}

/// Makes a change by calling `work` for each piece of it. Reads the archive of an import here, so that the writer does
/// not wait for it.
pub(crate) fn perform(
    change: Change,
    mut work: impl FnMut(Work) -> Result<Changed, ChangeError>,
) -> Result<Changed, ChangeError> {
    let import = match change {
        Change::Erase(erase) => return work(Work::Erase(erase)),
        Change::Prune(prune) => return work(Work::Prune(prune)),
        Change::Sign(checkpoint) => return work(Work::Sign(checkpoint)),
        Change::Import(import) => import,
    };
    let archive = open_expected(&import)?;
    let all = StreamFilter { limit: usize::MAX, ..StreamFilter::default() };
    let mut sum = Changed::default();
    // Oldest first, since ids of executions sort by time.
    for entry in archive.streams(&all)?.into_iter().rev() {
        let Changed { streams, records, already } =
            work(Work::Import(Box::new(ImportedStream::load(&archive, entry.stream)?)))?;
        sum.streams += streams;
        sum.records += records;
        sum.already += already;
    }
    Ok(sum)
}

fn open_expected(import: &Import) -> Result<ArchiveReader, ChangeError> {
    let archive = open_archive(&import.archive).map_err(|error| ChangeError::Refused(error.to_string()))?;
    if archive.digest() == import.digest {
        return Ok(archive);
    }
    Err(ChangeError::Refused(format!(
        "{} has the digest {}, not {}: it is not the requested archive",
        import.archive.display(),
        archive.digest(),
        import.digest
    )))
}
