//! Finds the streams that were appended to since a position.

use std::collections::HashSet;

use crate::log::{LogReader, ReadError, StreamsSince};
use crate::record::StreamId;

/// The maximum number of records that one answer covers; the caller continues from there.
pub(crate) const MAX_RECORDS: usize = 16_384;

/// Returns the entries of streams, given in the order of their last appends, each with the position after its last
/// record.
pub(crate) fn streams_of<R: LogReader + ?Sized>(
    reader: &R,
    from: u64,
    limit: usize,
    written: &[(u64, StreamId)],
    end: u64,
) -> Result<StreamsSince, ReadError> {
    let shown = &written[..limit.min(written.len())];
    let next = if shown.len() < written.len() { shown.last().map_or(from, |(end, _)| *end) } else { end };
    let mut since = StreamsSince { streams: Vec::new(), next: next.max(from) };
    for (_, stream) in shown {
        match reader.stream(*stream) {
            Ok(entry) => since.streams.push(entry),
            // A request for the stream itself returns the error.
            Err(ReadError::NoStream(_) | ReadError::Pruned { .. }) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(since)
}

/// The streams of records in log order, each once, with the position after its last record, in the order of those.
pub(crate) fn last_written(records: impl DoubleEndedIterator<Item = (u64, StreamId)>) -> Vec<(u64, StreamId)> {
    let mut seen = HashSet::new();
    let mut written: Vec<_> = records.rev().filter(|(_, stream)| seen.insert(*stream)).collect();
    written.reverse();
    written
}

/// The same for a reader without an index.
pub(crate) fn by_records<R: LogReader + ?Sized>(
    reader: &R,
    from: u64,
    limit: usize,
) -> Result<StreamsSince, ReadError> {
    if limit == 0 {
        return Ok(StreamsSince { streams: Vec::new(), next: from });
    }
    let records = reader.tail(from, MAX_RECORDS)?;
    let end = records.last().map_or(from, |last| last.position + 1);
    let written = last_written(records.iter().map(|record| (record.position + 1, record.stream)));
    streams_of(reader, from, limit, &written, end)
}
