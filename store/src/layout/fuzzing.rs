//! See [`crate::fuzzing`].

use ::bytes::Bytes;

use super::frame::{self, FrameHeader, FrameOrigin, ListingChange, StoredFrame};
use super::gap::Gap;
use super::group::{self, GroupHeader};
use super::head::{Head, LogId};
use super::segment::{self, Place, SegmentHeader};
use super::{CHECKSUM_AT, definition, peek_item, put_checksum};
use crate::fuzzing::checked;
use crate::log::Listing;
use crate::merkle::Tree;
use crate::record::{Hash, Record};
use crate::seal;

/// The log and the place in which groups are decoded.
pub(crate) const LOG: LogId = LogId([7; 16]);
pub(crate) const PLACE: Place = Place { segment: 3, offset: 84 };

/// The bytes with a valid checksum for their place.
fn with_checksum(bytes: &[u8], place: &[u8]) -> Vec<u8> {
    let mut summed = bytes.to_vec();
    if summed.len() >= CHECKSUM_AT + 4 {
        put_checksum(&mut summed, place);
    }
    summed
}

/// A frame.
pub fn frame(bytes: &[u8]) {
    let bytes = Bytes::from(with_checksum(bytes, &[]));
    let header = FrameHeader::decode(&bytes);
    let Ok(frame) = StoredFrame::decode(bytes.clone()) else { return };
    assert_eq!(header.as_ref(), Ok(&frame.header), "the header decodes the same on its own");
    assert_eq!(peek_item(&bytes), Ok((frame::MAGIC, bytes.len())));
    assert_eq!(frame.check(), Ok(()));
    let mut records = Vec::new();
    let read = frame.records_into(&mut records, 0);
    let Ok(hashes) = frame.hashes() else {
        return assert!(read.is_err() || frame.header.pruned, "readable records have hashes");
    };
    assert_eq!(hashes.last(), Some(&frame.header.head));
    if read.is_ok() && !frame.header.pruned {
        assert_eq!(records.len(), hashes.len());
        // Its hashes are arbitrary, so it may be rejected.
        let _ = seal::check_all(&records);
        encodes_again(&frame, &records);
    }
    let gone = [frame.erased_bytes(|seq| (seq % 2 == 0).then_some(Hash([5; 32]))), frame.pruned_bytes()];
    for wiped in gone.into_iter().flatten() {
        assert_eq!(wiped.len(), bytes.len(), "an overwritten frame keeps its length");
        let wiped = StoredFrame::decode(wiped.into()).map(|wiped| (wiped.check(), wiped.hashes()));
        assert_eq!(wiped, Ok((Ok(()), Ok(hashes.clone()))), "and its hashes");
    }
}

/// Checks that an imported frame encodes to the same bytes.
fn encodes_again(frame: &StoredFrame, records: &[Record]) {
    let label = frame.label().to_vec();
    let listing = match frame.header.listing {
        ListingChange::Keep if label.is_empty() => Listing::Keep,
        ListingChange::Keep => return,
        ListingChange::Open => Listing::Open(label),
        ListingChange::Closed => Listing::Closed(label),
    };
    if frame.header.origin == FrameOrigin::Imported {
        let again = frame::imported(records, frame.header.bytes, &listing);
        assert_eq!(again.as_deref(), Ok(&frame.bytes()[..]), "a frame encodes to the bytes it was decoded from");
    }
}

/// The other items of a segment, the headers of segments and groups, and a head file.
pub fn layout(bytes: &[u8]) {
    let summed_alone = Bytes::from(with_checksum(bytes, &[]));
    if let Ok((fingerprint, text)) = definition::decode(&summed_alone) {
        let mut again = Vec::new();
        definition::put(&mut again, fingerprint, &text);
        assert_eq!(again, summed_alone, "a definition encodes to the bytes it was decoded from");
        assert_eq!(definition::fingerprint_of(&summed_alone), Ok(fingerprint));
    }
    if let Ok(gap) = Gap::decode(&summed_alone) {
        let mut again = Vec::new();
        gap.put(&mut again);
        assert_eq!(again, summed_alone, "a gap encodes to the bytes it was decoded from");
        assert_eq!(Gap::positions(&summed_alone), Ok((gap.first, gap.end)));
    }
    if let Some(header) = bytes.get(..segment::HEADER).map(|header| with_checksum(header, &[]))
        && let Ok(decoded) = SegmentHeader::decode(&header)
    {
        assert_eq!(decoded.encode(), header, "the header of a segment encodes to the bytes it was decoded from");
    }
    if let Some(header) = bytes.get(..group::HEADER).map(|header| with_place_checksum(header, LOG, PLACE))
        && let Ok(decoded) = GroupHeader::decode(&header, LOG, PLACE)
    {
        let mut again = vec![0; group::HEADER];
        decoded.write(&mut again, LOG, PLACE);
        assert_eq!(again, header, "the header of a group encodes to the bytes it was decoded from");
    }
    let head = with_valid_root(bytes);
    if let Ok(decoded) = Head::decode(&head) {
        assert_eq!(decoded.encode(), head, "a head encodes to the bytes it was decoded from");
    }
    let _ = (SegmentHeader::decode(bytes), Head::decode(bytes), peek_item(bytes));
    let _ = (Gap::positions(bytes), definition::fingerprint_of(bytes));
}

/// The header of a group with the checksum for a place.
pub(crate) fn with_place_checksum(header: &[u8], log: LogId, place: Place) -> Vec<u8> {
    let at = [&log.0[..], &place.segment.to_be_bytes(), &place.offset.to_be_bytes()].concat();
    with_checksum(header, &at)
}

/// A head file with the root of its tree as its hash, and a valid checksum.
fn with_valid_root(bytes: &[u8]) -> Vec<u8> {
    /// The offsets of the position, the hash, and the number of peaks.
    const POSITION: usize = 20;
    const HASH: usize = 36;
    const PEAKS: usize = 88;
    let mut head = bytes.split_last_chunk::<8>().map_or(bytes, |(content, _)| content).to_vec();
    let peaks = head.get(PEAKS + 1..).unwrap_or_default().chunks_exact(32);
    let peaks: Vec<Hash> = peaks.filter_map(|peak| peak.try_into().ok()).map(Hash).collect();
    let position = head.get(POSITION..POSITION + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    if let Some(tree) = position.and_then(|position| Tree::resume(position, peaks))
        && let Some(hash) = head.get_mut(HASH..HASH + 32)
    {
        hash.copy_from_slice(&tree.root().0);
    }
    checked(&head)
}
