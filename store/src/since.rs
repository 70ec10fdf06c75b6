//! Which streams were appended to since a position.

use std::collections::HashSet;

use crate::log::{LogReader, ReadError, StreamsSince};
use crate::record::StreamId;

/// How many records are looked at for one answer: the one who asks comes again.
pub(crate) const MOST_RECORDS: usize = 16_384;

/// Some streams, in the order in which they were last written to (each with the position after its last record), as a reader shows them.
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
            // It says so to whoever asks for it.
            Err(ReadError::NoStream(_) | ReadError::Pruned { .. }) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(since)
}

/// The streams of records, which stand in the order of the log, each once, with the position after its last one, in that order.
pub(crate) fn last_written(records: impl DoubleEndedIterator<Item = (u64, StreamId)>) -> Vec<(u64, StreamId)> {
    let mut seen = HashSet::new();
    let mut written: Vec<_> = records.rev().filter(|(_, stream)| seen.insert(*stream)).collect();
    written.reverse();
    written
}

/// The same for a reader that has nothing but records to tell it.
pub(crate) fn by_records<R: LogReader + ?Sized>(
    reader: &R,
    from: u64,
    limit: usize,
) -> Result<StreamsSince, ReadError> {
    if limit == 0 {
        return Ok(StreamsSince { streams: Vec::new(), next: from });
    }
    let records = reader.tail(from, MOST_RECORDS)?;
    let end = records.last().map_or(from, |last| last.position + 1);
    let written = last_written(records.iter().map(|record| (record.position + 1, record.stream)));
    streams_of(reader, from, limit, &written, end)
}
