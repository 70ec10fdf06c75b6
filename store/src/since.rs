//! Which streams were appended to since a position.

use std::collections::BTreeSet;

use crate::log::{LogReader, ReadError, StreamsSince};
use crate::record::StreamId;

/// How many records are looked at for one answer: the one who asks comes again.
pub(crate) const MOST_RECORDS: usize = 16_384;

/// The streams among those that were named with their positions, in the order of the log, as a reader shows them.
pub(crate) fn streams_of<R: LogReader + ?Sized>(
    reader: &R,
    from: u64,
    limit: usize,
    named: impl Iterator<Item = (StreamId, u64)>,
    end: u64,
) -> Result<StreamsSince, ReadError> {
    let mut seen = BTreeSet::new();
    let mut since = StreamsSince { streams: Vec::new(), next: end.max(from) };
    for (stream, position) in named {
        if seen.contains(&stream) {
            continue;
        }
        if seen.len() == limit {
            since.next = position.max(from);
            break;
        }
        seen.insert(stream);
        match reader.stream(stream) {
            Ok(entry) => since.streams.push(entry),
            // It says so to whoever asks for it.
            Err(ReadError::NoStream(_) | ReadError::Pruned { .. }) => {}
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(since)
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
    streams_of(reader, from, limit, records.iter().map(|record| (record.stream, record.position)), end)
}
