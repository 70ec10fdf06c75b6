//! The log's listing of its streams, page by page.

use cloacina_store::log::{LogReader, ReadError, StreamEntry, StreamFilter};
use cloacina_store::record::StreamKind;

/// Entries of the listing that are read at once.
pub(crate) const LISTING_PAGE: usize = 1_000;

/// The streams of a kind, newest first.
pub(crate) fn streams(log: &dyn LogReader, kind: StreamKind, open_only: bool) -> Result<Vec<StreamEntry>, ReadError> {
    let mut found = Vec::new();
    let mut filter = StreamFilter { kind: Some(kind), open_only, before: None, limit: LISTING_PAGE };
    loop {
        let page = log.streams(&filter)?;
        let Some(last) = page.last() else { return Ok(found) };
        filter.before = Some(last.listing_key());
        found.extend(page);
    }
}
