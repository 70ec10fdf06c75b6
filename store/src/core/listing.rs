//! The listing: which streams there are, newest first, without reading the log.

use std::collections::BTreeMap;

use super::{Core, Listed, View, damaged_log};
use crate::backend::{Backend, Direction};
use crate::layout::frame::FrameHeader;
use crate::layout::keys;
use crate::layout::listing::ListingEntry;
use crate::log::{ReadError, StreamEntry, StreamFilter};
use crate::record::{StreamId, StreamKind};

/// How many streams are read while the writer may have to wait.
const PAGE: usize = 256;

impl<B: Backend> Core<B> {
    /// A stream's durable entry in the listing.
    pub(crate) fn listed(&self, view: &View, kind: StreamKind, stream: StreamId) -> Result<Option<Listed>, ReadError> {
        if let Some(before) = view.hidden.listings.get(&stream) {
            return Ok(before.clone());
        }
        for open in [true, false] {
            let key = keys::listing(open, kind, stream);
            if let Some(value) = self.backend.get(&key)? {
                return decode_listed(&key, &value).map(Some);
            }
        }
        Ok(None)
    }

    /// What the listing shows of a stream. An open one grows without its entry being written, so its last frame says
    /// how far it is; the one of a closed stream is what the stream is held against.
    pub(crate) fn stream_entry(listed: Listed, last: Option<&(u64, FrameHeader)>) -> StreamEntry {
        let Listed { stream, kind, open, entry } = listed;
        let mut shown = StreamEntry {
            stream,
            kind,
            open,
            started: entry.started,
            last: entry.last,
            records: entry.records,
            bytes: entry.bytes,
            head: entry.head,
            label: entry.label,
        };
        if let (true, Some((first_seq, frame))) = (open, last) {
            shown.last = frame.time;
            shown.records = first_seq.saturating_add(u64::from(frame.count));
            shown.bytes = frame.bytes;
            shown.head = frame.head;
        }
        shown
    }

    /// The streams that a filter takes, highest id first.
    pub(crate) fn list(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let mut shown = Vec::new();
        let mut before = filter.before;
        while shown.len() < filter.limit {
            let page = PAGE.min(filter.limit - shown.len());
            // The writer cannot move a stream from the open to the closed ones while a page is read.
            let (entries, next) = self.with_view(|view| self.list_page(view, filter, before, page))?;
            shown.extend(entries);
            match next {
                Some(_) => before = next,
                None => break,
            }
        }
        shown.truncate(filter.limit);
        Ok(shown)
    }

    /// Some of the streams below an id, and the id to go on below.
    fn list_page(
        &self,
        view: &View,
        filter: &StreamFilter,
        before: Option<StreamId>,
        page: usize,
    ) -> Result<(Vec<StreamEntry>, Option<StreamId>), ReadError> {
        let mut found = BTreeMap::new();
        // Below this id, some range has streams that were not read.
        let mut known_down_to = None;
        for (open, kind) in ranges(filter) {
            let range = keys::listings(open, kind, before);
            let entries = self.backend.scan(&range, page, Direction::Down)?;
            let full = entries.len() == page;
            for (index, (key, value)) in entries.iter().enumerate() {
                let listed = decode_listed(key, value)?;
                if full && index + 1 == page {
                    known_down_to = known_down_to.max(Some(listed.stream));
                }
                found.insert(listed.stream, listed);
            }
        }
        hide(view, filter, before, &mut found);
        let mut entries = Vec::with_capacity(page);
        for (stream, listed) in found.into_iter().rev() {
            if known_down_to.is_some_and(|down_to| stream < down_to) {
                break;
            }
            let last = match listed.open {
                true => self.last_frame(stream, u64::MAX, view.tip.position)?,
                false => None,
            };
            entries.push(Self::stream_entry(listed, last.as_ref()));
        }
        Ok((entries, known_down_to))
    }
}

/// Puts back what the unfinished group has changed.
fn hide(view: &View, filter: &StreamFilter, before: Option<StreamId>, found: &mut BTreeMap<StreamId, Listed>) {
    for (stream, old) in &view.hidden.listings {
        found.remove(stream);
        let Some(old) = old else { continue };
        let wanted = filter.kind.is_none_or(|kind| kind == old.kind)
            && (old.open || !filter.open_only)
            && before.is_none_or(|before| *stream < before);
        if wanted {
            found.insert(*stream, old.clone());
        }
    }
}

/// The parts of the listing that a filter takes.
fn ranges(filter: &StreamFilter) -> impl Iterator<Item = (bool, StreamKind)> {
    let (kind, open_only) = (filter.kind, filter.open_only);
    StreamKind::ALL
        .into_iter()
        .filter(move |candidate| kind.is_none_or(|kind| kind == *candidate))
        .flat_map(move |kind| [(true, kind), (false, kind)])
        .filter(move |(open, _)| *open || !open_only)
}

/// A stream's entry, from its key and value.
pub(crate) fn decode_listed(key: &[u8], value: &[u8]) -> Result<Listed, ReadError> {
    let (open, kind, stream) = keys::parse_listing(key).map_err(|why| damaged_log("a key of the listing", why))?;
    let entry = ListingEntry::decode(key, value)
        .map_err(|why| damaged_log(&format!("the entry of stream {stream} in the listing"), why))?;
    Ok(Listed { stream, kind, open, entry })
}
