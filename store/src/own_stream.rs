//! Queries that work through any reader: the events of the log's own stream, and the leaves of its tree.

use crate::log::{Erasure, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::merkle::Node;
use crate::record::{Record, StreamId};

/// The number of records that are read at once.
const PAGE: usize = 512;

/// Visits the events of the log's own stream, each with its record, until `visit` returns `false`. Skips bodies that
/// cannot be decoded: verifying the log reports those.
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

/// Returns the erasures of a stream.
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

/// Returns the leaves of records from a position on, none of which may be missing.
pub(crate) fn tree<R: LogReader + ?Sized>(reader: &R, from: u64, limit: usize) -> Result<Vec<Node>, ReadError> {
    let records = reader.tail(from, limit)?;
    match (from..).zip(&records).find(|(position, record)| *position != record.position) {
        None => Ok(records.iter().map(|record| Node::of_record(record.position, &record.hash)).collect()),
        Some((position, _)) => Err(ReadError::Io(format!(
            "{} does not have the record at position {position}; use the log that it was made from",
            reader.location()
        ))),
    }
}
