//! Listing streams, and reading the events of schedules and triggers.

use cloacina_store::log::{LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::record::{StreamId, StreamKind};

use super::fault::LogFault;
use crate::core::codec::DecodeError;
use crate::core::fold::Recorded;
use crate::core::time::Timestamp;

/// Number of listing entries per read.
pub(super) const LISTING_PAGE: usize = 1_000;

/// Returns the streams of a kind, newest first.
pub(super) fn streams(log: &dyn LogReader, kind: StreamKind, open_only: bool) -> Result<Vec<StreamEntry>, ReadError> {
    let mut found = Vec::new();
    let mut filter = StreamFilter { kind: Some(kind), open_only, before: None, limit: LISTING_PAGE };
    loop {
        let page = log.streams(&filter)?;
        let Some(last) = page.last() else { return Ok(found) };
        filter.before = Some(last.listing_key());
        found.extend(page);
    }
}

/// Reads up to `count` events of a stream from `from` on. An erased event is an error: the state is unknown without it.
pub(super) fn read_page<E>(
    log: &dyn LogReader,
    stream: StreamId,
    from: u64,
    count: usize,
    decode: fn(&[u8]) -> Result<E, DecodeError>,
) -> Result<Vec<Recorded<E>>, LogFault> {
    let records = log.read(stream, from, count)?;
    let mut page = Vec::with_capacity(records.len());
    for record in records {
        let seq = record.seq;
        let bytes = record.body.bytes().ok_or(LogFault::Erased { stream, seq })?;
        let event = decode(bytes).map_err(|error| LogFault::Decode { stream, seq, error })?;
        page.push(Recorded { seq, time: Timestamp(record.time.0), event });
    }
    Ok(page)
}
