//! What can be told of a log through any reader: what its own stream says, and the leaves of its tree.

use crate::log::{Erasure, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::merkle::Node;
use crate::record::{Record, StreamId};

/// How many records are read at once.
const PAGE: usize = 512;

/// Goes through the events of the log's own stream, with the record that each is in, until `visit` returns `false`. Bodies
/// that cannot be understood are passed over: what is wrong with them is for a check of the log to say.
pub(crate) fn visit<R: LogReader + ?Sized>(
    reader: &R,
    mut visit: impl FnMut(&Record, LogEvent) -> bool,
) -> Result<(), ReadError> {
    let mut next = 0;
    loop {
        let page = match reader.read(StreamId::LOG, next, PAGE) {
            Err(ReadError::NoStream(_)) => return Ok(()),
            page => page?,
        };
        for record in &page {
            if let Some(Ok(event)) = record.body.bytes().map(LogEvent::decode)
                && !visit(record, event)
            {
                return Ok(());
            }
        }
        match page.last() {
            Some(last) => next = last.seq.saturating_add(1),
            None => return Ok(()),
        }
    }
}

/// What was erased from a stream.
pub(crate) fn erasures<R: LogReader + ?Sized>(reader: &R, stream: StreamId) -> Result<Vec<Erasure>, ReadError> {
    let mut found = Vec::new();
    visit(reader, |record, event| {
        if let LogEvent::Erased(erased) = event
            && erased.stream == stream
        {
            found.extend(erased.erasures(record.time));
        }
        true
    })?;
    Ok(found)
}

/// The leaves of the records from a position on, which must all be at hand.
pub(crate) fn tree<R: LogReader + ?Sized>(reader: &R, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
    let records = reader.tail(from, limit)?;
    match (from..).zip(&records).find(|(position, record)| *position != record.position) {
        None => Ok(records.iter().map(|record| Node::of_record(record.position, &record.hash)).collect()),
        Some((position, _)) => Err(ReadError::Io(format!(
            "{} does not have the record at position {position}; ask the log that it was made from",
            reader.location()
        ))),
    }
}
