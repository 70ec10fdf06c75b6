//! Finding and loading frames, commit entries and definitions, without yet judging their content.

use ::bytes::Bytes;

use super::{Core, damaged_log};
use crate::backend::{Backend, BackendError, Direction, Entry, KeyRange};
use crate::bytes::Malformed;
use crate::layout::frame::{self, FrameHeader, StoredFrame};
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::{chunk_count, keys};
use crate::log::ReadError;
use crate::record::{Hash, StreamId};

/// A frame's first `seq`, and what its header says.
pub(crate) type Located = (u64, FrameHeader);

/// Damage that the database itself has found, where it was asked for a record.
fn of_record(stream: StreamId, seq: u64) -> impl Fn(BackendError) -> ReadError {
    move |error| match error {
        BackendError::Damaged(what) => ReadError::Damaged { stream, seq, what },
        other => other.into(),
    }
}

impl<B: Backend> Core<B> {
    /// Whether there is something in the place of a frame.
    pub(crate) fn has_frame(&self, place: &FramePlace) -> Result<bool, ReadError> {
        let found = self.backend.get(&keys::frame(place.stream, place.first_seq, 0));
        Ok(found.map_err(of_record(place.stream, place.first_seq))?.is_some())
    }

    /// The frame of a stream that begins at a `seq`, if there is one.
    pub(crate) fn load_frame(&self, stream: StreamId, first_seq: u64) -> Result<Option<StoredFrame>, ReadError> {
        let first = self.backend.get(&keys::frame(stream, first_seq, 0));
        let first = first.map_err(of_record(stream, first_seq))?;
        first.map(|bytes| self.frame_of(stream, first_seq, bytes)).transpose()
    }

    /// The frame with this first chunk.
    pub(crate) fn frame_of(&self, stream: StreamId, first_seq: u64, first: Bytes) -> Result<StoredFrame, ReadError> {
        let damaged = |Malformed(what)| ReadError::Damaged { stream, seq: first_seq, what };
        let length = frame::decode_header(&first).map_err(damaged)?.length;
        let key = |chunk| keys::frame(stream, first_seq, chunk);
        let bytes = self.load_chunks(first, length, key).map_err(|error| match error {
            ReadError::DamagedLog(what) => ReadError::Damaged { stream, seq: first_seq, what },
            other => other,
        })?;
        frame::decode(&bytes.map_err(damaged)?).map_err(damaged)
    }

    /// Puts the chunks after the first one behind it. Nothing is allocated before it is there.
    fn load_chunks(
        &self,
        first: Bytes,
        length: usize,
        key: impl Fn(u16) -> Vec<u8>,
    ) -> Result<Result<Bytes, Malformed>, ReadError> {
        let chunks = match chunk_count(length) {
            Ok(chunks) => chunks,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let mut more = Vec::new();
        for chunk in 1..chunks {
            match self.backend.get(&key(chunk))? {
                Some(found) => more.push(found),
                None => {
                    return Ok(Err(Malformed(format!("chunk {chunk} of {chunks} is missing"))));
                }
            }
        }
        let bytes = joined(first, &more);
        if bytes.len() == length {
            Ok(Ok(bytes))
        } else {
            Ok(Err(Malformed(format!("it has {} bytes, and should have {length}", bytes.len()))))
        }
    }

    /// The last frame of a stream that begins at a `seq` up to `at_most` and stands before a position.
    pub(crate) fn last_frame(
        &self,
        stream: StreamId,
        at_most: u64,
        below_position: u64,
    ) -> Result<Option<Located>, ReadError> {
        Ok(self.last_chunk(stream, at_most, below_position)?.map(|(located, _)| located))
    }

    /// The same, and the first chunk of it.
    pub(crate) fn last_chunk(
        &self,
        stream: StreamId,
        at_most: u64,
        below_position: u64,
    ) -> Result<Option<(Located, Bytes)>, ReadError> {
        let mut below = at_most.checked_add(1);
        loop {
            let range = keys::frames(stream, 0, below);
            let Some((first_seq, first)) = self.chunk_before(stream, &range)? else { return Ok(None) };
            let damaged = |Malformed(what)| ReadError::Damaged { stream, seq: first_seq, what };
            let header = frame::decode_header(&first).map_err(damaged)?;
            if header.is_before(below_position) {
                return Ok(Some(((first_seq, header), first)));
            }
            self.check_position(stream, first_seq, &header)?;
            below = Some(first_seq);
        }
    }

    /// Where the last frame in a range begins of which a chunk is there, and its first chunk.
    fn chunk_before(&self, stream: StreamId, range: &KeyRange) -> Result<Option<(u64, Bytes)>, ReadError> {
        let first_seq_of = |key: &[u8]| {
            let (_, first_seq, chunk) = keys::parse_frame(key).map_err(|why| damaged_log("the key of a frame", why))?;
            Ok::<_, ReadError>((first_seq, chunk))
        };
        // Most often the last chunk is the first one, and whole.
        if let Ok(mut found) = self.backend.scan(range, 1, Direction::Down) {
            let Some((key, value)) = found.pop() else { return Ok(None) };
            if let (first_seq, 0) = first_seq_of(&key)? {
                return Ok(Some((first_seq, value)));
            }
        }
        let Some(key) = self.backend.keys(range, 1, Direction::Down)?.pop() else { return Ok(None) };
        let (first_seq, _) = first_seq_of(&key)?;
        let damaged = |what| ReadError::Damaged { stream, seq: first_seq, what };
        let first = self.backend.get(&keys::frame(stream, first_seq, 0)).map_err(of_record(stream, first_seq))?;
        let first = first.ok_or_else(|| damaged("the first chunk of its frame is missing".to_owned()))?;
        Ok(Some((first_seq, first)))
    }

    /// The last commit entry that begins below a position.
    pub(crate) fn group_before(&self, below: u64) -> Result<Option<(u64, GroupEntry)>, ReadError> {
        let range = keys::groups(0, Some(below));
        let entries = self.backend.scan(&range, 1, Direction::Down)?;
        entries.first().map(decode_group).transpose()
    }

    /// The commit entries from the one that begins at a position on, some at a time.
    pub(crate) fn groups_from(&self, from: u64, below: u64, limit: usize) -> Result<Vec<(u64, GroupEntry)>, ReadError> {
        let range = keys::groups(from, Some(below));
        self.backend.scan(&range, limit, Direction::Up)?.iter().map(decode_group).collect()
    }

    /// The bytes of a definition, unchecked.
    pub(crate) fn load_definition(&self, fingerprint: Hash) -> Result<Option<Bytes>, ReadError> {
        use crate::layout::definition::{decode, stored_length};

        let damaged = |why| damaged_log(&format!("the definition {fingerprint}"), why);
        let Some(first) = self.backend.get(&keys::definition(fingerprint, 0))? else {
            return Ok(None);
        };
        let length = stored_length(&first).map_err(damaged)?;
        let key = |chunk| keys::definition(fingerprint, chunk);
        let bytes = self.load_chunks(first, length, key)?.map_err(damaged)?;
        Ok(Some(bytes.slice_ref(decode(&bytes).map_err(damaged)?)))
    }
}

/// Chunks in one piece. Where there is only one, nothing is copied.
pub(super) fn joined(first: Bytes, more: &[Bytes]) -> Bytes {
    if more.is_empty() {
        return first;
    }
    let mut all = Vec::with_capacity(first.len() + more.iter().map(Bytes::len).sum::<usize>());
    all.extend_from_slice(&first);
    more.iter().for_each(|chunk| all.extend_from_slice(chunk));
    all.into()
}

fn decode_group((key, value): &Entry) -> Result<(u64, GroupEntry), ReadError> {
    let position = keys::parse_group(key).map_err(|why| damaged_log("the key of a commit entry", why))?;
    let entry = GroupEntry::decode(value)
        .map_err(|why| damaged_log(&format!("the commit entry at position {position}"), why))?;
    Ok((position, entry))
}
