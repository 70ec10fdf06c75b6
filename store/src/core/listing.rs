//! The listing: which streams there are, newest first, without reading the log.

use std::collections::BTreeMap;

use super::change::Edit;
use super::{Core, Listed, View, damaged_log};
use crate::backend::{Backend, Direction};
use crate::layout::frame::FrameHeader;
use crate::layout::keys;
use crate::layout::listing::{ListingEntry, started_value};
use crate::log::{ListingKey, ReadError, StreamEntry, StreamFilter};
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

    /// The streams that a filter takes, newest first.
    pub(crate) fn list(&self, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        // The open ones are few.
        if filter.open_only || !self.is_ordered()? {
            return self.with_view(|view| self.list_sorted(view, filter));
        }
        let mut shown = Vec::new();
        let mut before = filter.before;
        while shown.len() < filter.limit {
            let page = PAGE.min(filter.limit - shown.len());
            // The writer cannot move a stream from the open to the closed ones while a page is read.
            let (entries, next) = self.with_view(|view| self.list_page(view, filter.kind, before, page))?;
            shown.extend(entries);
            match next {
                Some(_) => before = next,
                None => break,
            }
        }
        shown.truncate(filter.limit);
        Ok(shown)
    }

    /// Whether the log has the order in which its streams started. Its own stream is the first one in it.
    pub(crate) fn is_ordered(&self) -> Result<bool, ReadError> {
        let range = keys::started_before(StreamKind::Log, None);
        Ok(!self.backend.keys(&range, 1, Direction::Up)?.is_empty())
    }

    /// Some of the streams that started before a place in the listing, and the place to go on before.
    fn list_page(
        &self,
        view: &View,
        kind: Option<StreamKind>,
        before: Option<ListingKey>,
        page: usize,
    ) -> Result<(Vec<StreamEntry>, Option<ListingKey>), ReadError> {
        let mut found = BTreeMap::new();
        // Before this place, some kind has streams that were not read.
        let mut known_down_to = None;
        for kind in StreamKind::ALL.into_iter().filter(|candidate| kind.is_none_or(|kind| kind == *candidate)) {
            let keys = self.backend.keys(&keys::started_before(kind, before), page, Direction::Down)?;
            let last = keys.len().checked_sub(1).filter(|_| keys.len() == page);
            for (at, key) in keys.iter().enumerate() {
                let (kind, place) =
                    keys::parse_started(key).map_err(|why| damaged_log("a key of the order of streams", why))?;
                if Some(at) == last {
                    known_down_to = known_down_to.max(Some(place));
                }
                found.insert(place, kind);
            }
        }
        let known = |place: &ListingKey| known_down_to.is_none_or(|down_to| *place >= down_to);
        let wanted: Vec<_> = found.into_iter().rev().filter(|(place, _)| known(place)).collect();
        let mut entries = Vec::with_capacity(wanted.len());
        for listed in self.listed_many(view, &wanted)? {
            entries.push(self.shown(view, listed)?);
        }
        Ok((entries, known_down_to))
    }

    /// The entries of streams in the listing. One that has none is left out: a check of the log says so.
    fn listed_many(&self, view: &View, wanted: &[(ListingKey, StreamKind)]) -> Result<Vec<Listed>, ReadError> {
        let mut listed: Vec<Option<Listed>> = Vec::with_capacity(wanted.len());
        let keys = |open| wanted.iter().map(move |(place, kind)| keys::listing(open, *kind, place.stream).into());
        let closed = self.backend.get_many(&keys(false).collect::<Vec<_>>())?;
        for ((place, kind), value) in wanted.iter().zip(closed) {
            listed.push(match (view.hidden.listings.get(&place.stream), value) {
                (Some(before), _) => before.clone(),
                (None, Some(value)) => Some(decode_listed(&keys::listing(false, *kind, place.stream), &value)?),
                (None, None) => self.listed(view, *kind, place.stream)?,
            });
        }
        Ok(listed.into_iter().flatten().collect())
    }

    /// The streams that a filter takes, read and sorted.
    fn list_sorted(&self, view: &View, filter: &StreamFilter) -> Result<Vec<StreamEntry>, ReadError> {
        let mut found = BTreeMap::new();
        for (open, kind) in ranges(filter) {
            let mut below = None;
            loop {
                let entries = self.backend.scan(&keys::listings(open, kind, below), PAGE, Direction::Down)?;
                let is_last = entries.len() < PAGE;
                for (key, value) in entries {
                    let listed = decode_listed(&key, &value)?;
                    below = Some(listed.stream);
                    found.insert(listed.key(), listed);
                }
                if is_last {
                    break;
                }
            }
        }
        hide(view, filter, &mut found);
        let is_wanted = |listed: &Listed| filter.before.is_none_or(|before| listed.key() < before);
        let wanted = found.into_values().rev().filter(is_wanted).take(filter.limit);
        wanted.map(|listed| self.shown(view, listed)).collect()
    }

    /// What is shown of a stream.
    fn shown(&self, view: &View, listed: Listed) -> Result<StreamEntry, ReadError> {
        let last = match listed.open {
            true => self.last_frame(listed.stream, u64::MAX, view.tip.position)?,
            false => None,
        };
        Ok(Self::stream_entry(listed, last.as_ref()))
    }

    /// The order in which the streams started, for a log that was written before logs had it.
    pub(crate) fn missing_order(&self) -> Result<Vec<Edit>, ReadError> {
        if self.is_ordered()? {
            return Ok(Vec::new());
        }
        let all = StreamFilter { limit: usize::MAX, ..StreamFilter::default() };
        let entry = |entry: StreamEntry| (keys::started(entry.kind, entry.listing_key()), Some(started_value()));
        Ok(self.list(&all)?.into_iter().map(entry).collect())
    }
}

/// Puts back what the unfinished group has changed.
fn hide(view: &View, filter: &StreamFilter, found: &mut BTreeMap<ListingKey, Listed>) {
    found.retain(|place, _| !view.hidden.listings.contains_key(&place.stream));
    for old in view.hidden.listings.values().flatten() {
        if filter.kind.is_none_or(|kind| kind == old.kind) && (old.open || !filter.open_only) {
            found.insert(old.key(), old.clone());
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
