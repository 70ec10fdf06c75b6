//! Reading frames that commit entries name, in two parts at once where there are many: each of other streams.
//!
//! What a page takes is a way to each frame, its bytes from the disk and the hashes of its records. None of it needs anything of
//! another stream, so two threads do it in half the time. Streams stand one behind the other in what is brought into the
//! segments at once; each part has those up to the middle one, or those from there on, so that it reads pieces as long as the
//! whole would.

use super::Core;
use super::ahead::{Named, NamedAhead};
use super::ends::PageEnds;
use super::read::{Before, Budget, Hashes, check_bytes};
use crate::backend::Backend;
use crate::layout::frame::{Standing, StoredFrame};
use crate::layout::group::FramePlace;
use crate::log::ReadError;
use crate::parallel::{self, FOR_TWO};
use crate::record::Record;

/// Records in the order of their positions, each checked.
struct Part {
    /// Of those in front of what is wrong, all are there.
    records: Vec<Record>,
    /// What is wrong first, and at which position.
    wrong: Option<(u64, ReadError)>,
}

impl Part {
    fn with(mut self, other: Self) -> Self {
        self.records.extend(other.records);
        // Two runs in order: they are merged.
        self.records.sort_by_key(|record| record.position);
        let wrong = [self.wrong, other.wrong].into_iter().flatten().min_by_key(|(position, _)| *position);
        Self { records: self.records, wrong }
    }

    fn all(self) -> Result<Vec<Record>, ReadError> {
        self.wrong.map_or(Ok(self.records), |(_, error)| Err(error))
    }
}

impl<B: Backend> Core<B> {
    /// The records of frames, each checked, in the order of the log, as far as there is room for them.
    pub(super) fn records_named(&self, named: &[Named], budget: Budget) -> Result<Vec<Record>, ReadError> {
        // Where there is no room for all of them, only who reads them in order knows for how many there is.
        let may_part = budget.hashes == Hashes::Checked && budget.bytes == u64::MAX;
        let part = match halves(named).filter(|_| may_part) {
            Some((one, other)) => {
                let (one, other) = parallel::both(|| self.part(&one, budget), || self.part(&other, budget));
                one.with(other)
            }
            None => self.part(named, budget),
        };
        part.all()
    }

    fn part(&self, named: &[Named], budget: Budget) -> Part {
        let (mut records, mut bytes, mut wrong) = (Vec::new(), 0, None);
        let mut frames = NamedAhead::new(self, named);
        let mut ends = PageEnds::of(&self.ends);
        for (place, position) in named {
            if bytes >= budget.bytes {
                break;
            }
            let loaded = frames.load(place, *position).and_then(|frame| {
                bytes += frame.own_bytes();
                self.records_of(&mut records, place, frame, &mut ends)
            });
            if let Err(error) = loaded {
                wrong = Some((*position, error));
                break;
            }
        }
        // What is wrong with an earlier record is told before what is wrong with a later one.
        if let Err((at, error)) = self.check_hashes(&records, budget.hashes) {
            wrong = Some((records[at].position, error));
        }
        Part { records, wrong }
    }

    /// Puts the records of a frame that a commit entry names behind others, without a look at their hashes. A pruned one has none.
    pub(super) fn records_of(
        &self,
        records: &mut Vec<Record>,
        place: &FramePlace,
        frame: StoredFrame,
        ends: &mut PageEnds<'_>,
    ) -> Result<(), ReadError> {
        if frame.header.standing == Standing::Pruned {
            return Ok(());
        }
        let FramePlace { stream, first_seq, count, .. } = *place;
        let before = match ends.get(stream, first_seq) {
            Some(before) => before,
            None => self.before(stream, first_seq)?,
        };
        let (header, own) = (frame.header.clone(), frame.own_bytes());
        let cannot_be = |(seq, what)| ReadError::Damaged { stream, seq, what };
        frame.records_into(records, stream, first_seq, before.head).map_err(cannot_be)?;
        check_bytes(stream, first_seq, before, own, &header)?;
        ends.remember(stream, first_seq.saturating_add(u64::from(count)), Before::after(&header));
        Ok(())
    }
}

/// Frames in two parts, each of other streams and with about half of the records; `None` if they are too few for that.
fn halves(named: &[Named]) -> Option<(Vec<Named>, Vec<Named>)> {
    let mut counts: Vec<_> = named.iter().map(|(place, _)| (place.stream, u64::from(place.count))).collect();
    let all: u64 = counts.iter().map(|(_, count)| count).sum();
    if all < FOR_TWO as u64 {
        return None;
    }
    counts.sort_unstable();
    let mut passed = 0;
    let (middle, _) = counts.into_iter().find(|(_, count)| {
        passed += count;
        passed * 2 > all
    })?;
    let (one, other): (Vec<_>, Vec<_>) = named.iter().partition(|(place, _)| place.stream < middle);
    (!one.is_empty()).then_some((one, other))
}
