//! The scan of a log to its end, which every open performs.
//!
//! Everything up to the position in the head file must be there. After that, the log ends with the first incomplete
//! group, unless a later group proves that it was once complete.

use super::fold::{Fold, Unfolded};
use crate::index::{Index, Lost, Part};
use crate::layout::frame::Standing;
use crate::layout::head::{Head, Tip};
use crate::layout::segment::{HEADER, Place};
use crate::log::ReadError;
use crate::merkle::{Node, Tree};
use crate::segments::walk::{Group, Item, Step, Walk};
use crate::segments::{Segments, Unread, name_of};

/// How many bytes are scanned before progress is logged.
const A_WHILE: u64 = 512 * 1024 * 1024;

/// A log could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// The log is damaged.
    Damaged(String),
    /// A read or write failed: the state of the log is unknown.
    Failed(String),
    /// The index does not belong to this log, or is damaged.
    Lost(String),
}

impl From<Unread> for Unfit {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Damaged(what) => Self::Damaged(what),
            Unread::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Lost> for Unfit {
    fn from(Lost(why): Lost) -> Self {
        Self::Lost(why)
    }
}

impl From<Unfolded> for Unfit {
    fn from(unfolded: Unfolded) -> Self {
        match unfolded {
            Unfolded::Unread(unread) => unread.into(),
            Unfolded::Lost(lost) => lost.into(),
        }
    }
}

impl From<ReadError> for Unfit {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(_) | ReadError::Gone => Self::Failed(error.to_string()),
            // The caller adds that the log is damaged.
            ReadError::DamagedLog(what) => Self::Damaged(what),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<Unfit> for ReadError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Damaged(what) => Self::DamagedLog(what),
            Unfit::Failed(reason) | Unfit::Lost(reason) => Self::Io(reason),
        }
    }
}

/// The result of a step of the scan.
pub(crate) enum Next {
    Group(Group),
    End,
    Unfit(Unread),
}

/// A scan through a log, group by group. Each group must continue the one before it.
pub(crate) struct Follow<'a> {
    segments: &'a Segments,
    numbers: &'a [u32],
    walk: Walk<'a>,
    pub(crate) tip: Tip,
    /// The end of the last group.
    pub(crate) place: Place,
    /// Groups whose contents do not match their checksums, although they were complete once.
    suspects: Vec<(Place, Unread)>,
}

impl<'a> Follow<'a> {
    pub(crate) fn new(segments: &'a Segments, numbers: &'a [u32], tip: Tip, place: Place) -> Self {
        Self { segments, numbers, walk: Walk::new(segments, place), tip, place, suspects: Vec::new() }
    }

    /// A scan from the beginning of the log.
    pub(crate) fn all(segments: &'a Segments, numbers: &'a [u32]) -> Self {
        Self::new(segments, numbers, Tip::empty(), Place { segment: 1, offset: HEADER as u32 })
    }

    pub(crate) fn next(&mut self) -> Next {
        loop {
            match self.walk.step() {
                Step::Group(group) => return self.take(group),
                Step::Unfit(unread) => return Next::Unfit(unread),
                Step::End => {}
            }
            match self.walk.next_segment(self.numbers) {
                None => return Next::End,
                Some(Err(unread)) => return Next::Unfit(unread),
                Some(Ok(header)) if header.before != self.tip => {
                    let (segment, position) = (header.number, header.before.position);
                    return Next::Unfit(Unread::Damaged(format!(
                        "segment {segment} continues from position {position}, but the log before it ends at {}",
                        self.tip.position
                    )));
                }
                Some(Ok(_)) => {}
            }
        }
    }

    fn take(&mut self, group: Group) -> Next {
        let (first, before) = (group.header.first, group.header.before);
        if (first, before) != (self.tip.position, self.tip.hash) || group.header.time < self.tip.time {
            let at = format!("segment {} at byte {}", group.place.segment, group.place.offset);
            return Next::Unfit(Unread::Damaged(if first == self.tip.position {
                format!("{at}: the group at position {first} does not match the hash or the time of the log before it")
            } else {
                format!(
                    "{at}: the group begins at position {first}, but the log before it ends at {}",
                    self.tip.position
                )
            }));
        }
        (self.tip, self.place) = (group.tip(), group.end());
        Next::Group(group)
    }

    /// Builds the index of a log up to a known end.
    pub(crate) fn index_up_to(segments: &Segments, tip: Tip, place: Place) -> Result<Part, Unfit> {
        let numbers = segments.open_all().map_err(|error| Unfit::Failed(error.to_string()))?;
        let mut follow = Follow::all(segments, &numbers);
        let mut fold = Fold::new(|_| Ok(None));
        while follow.tip.position < tip.position || follow.place < place {
            match follow.next() {
                Next::Group(group) => fold.group(&group)?,
                Next::Unfit(unread) => return Err(unread.into()),
                Next::End => {
                    let found = follow.tip.position;
                    return Err(Unfit::Damaged(format!("it ends at position {found}, but went to {}", tip.position)));
                }
            }
        }
        Ok(fold.part)
    }

    /// Adds the groups up to the head to an index.
    fn reach_head(&mut self, head: &Head, index: &Index, progress: &mut Progress) -> Result<(), Unfit> {
        while self.place < head.place {
            if self.enters(head.place)? {
                break;
            }
            match self.next() {
                Next::Group(group) => {
                    self.suspects.extend(group.check().err().map(|unread| (group.place, unread)));
                    self.index(&group, index)?;
                    progress.passed(group.header.length as u64);
                }
                Next::Unfit(unread) => return Err(unread.into()),
                Next::End => return Err(short_of(head, &self.tip)),
            }
        }
        if (self.tip, self.place) != (head.tip, head.place) {
            return Err(Unfit::Damaged(format!(
                "at position {} its hash is {}, but its head file has {} at {}",
                self.tip.position, self.tip.hash, head.tip.hash, head.tip.position
            )));
        }
        Ok(())
    }

    /// Enters the segment of the head if the log before it is complete and the segment was still empty when the head
    /// was written.
    fn enters(&mut self, place: Place) -> Result<bool, Unread> {
        let next = Place { segment: self.place.segment.saturating_add(1), offset: HEADER as u32 };
        if place != next || self.segments.header(place.segment)?.length_before != self.place.offset {
            return Ok(false);
        }
        (self.place, self.walk.place) = (place, place);
        Ok(true)
    }

    /// Adds a group to an index, unless the index already has it.
    fn index(&self, group: &Group, index: &Index) -> Result<(), Unfit> {
        if self.place <= index.place() {
            return Ok(());
        }
        let mut fold = Fold::small(|stream| index.stream(stream));
        fold.group(group)?;
        index.append(fold.part, self.tip, self.place);
        Ok(())
    }

    /// Scans from the head to the end of the log, and extends the tree.
    fn reach_end(&mut self, head: &Head, index: &Index) -> Result<Tree, Unfit> {
        let mut tree = head.tree.clone();
        let known = index.place();
        // The index may reach further than the head while the log is written. Then its end must be the end of a group.
        let mut is_met = known < self.place || (known, index.tip()) == (self.place, self.tip);
        loop {
            let (tip, place) = (self.tip, self.place);
            let unfit = match self.next() {
                // Zeros are the preallocated end, or overwrote a group.
                Next::End => Unread::Damaged("there are zeros".to_owned()),
                Next::Unfit(unread) => unread,
                Next::Group(group) => match grown(&tree, &group).and_then(|grown| {
                    self.check(&group, (tip, place))?;
                    Ok(grown)
                }) {
                    Ok(grown) => {
                        tree = grown;
                        if self.place == known {
                            is_met = index.tip() == self.tip;
                        }
                        self.index(&group, index)?;
                        continue;
                    }
                    Err(unread) => unread,
                },
            };
            let Unread::Damaged(what) = unfit else { return Err(unfit.into()) };
            (self.tip, self.place) = (tip, place);
            self.check_unfinished(place, tip.position, &what)?;
            break;
        }
        if !is_met {
            return Err(Unfit::Lost("it does not end with the log".to_owned()));
        }
        Ok(tree)
    }

    /// Verifies the contents of a group. If a later group proves that it was complete once, it is only a suspect:
    /// completing a pending erasure may repair it.
    fn check(&mut self, group: &Group, (tip, place): (Tip, Place)) -> Result<(), Unread> {
        let Err(unread) = group.check() else { return Ok(()) };
        let what = match &unread {
            Unread::Damaged(what) => what.clone(),
            Unread::Failed(_) => return Err(unread),
        };
        if self.check_unfinished(place, tip.position, &what).is_ok() {
            return Err(unread);
        }
        self.suspects.push((group.place, unread));
        Ok(())
    }

    /// Checks that the data from `place` on was never complete: a group is only written after everything before it is
    /// on the disk.
    fn check_unfinished(&self, place: Place, end: u64, what: &str) -> Result<(), Unfit> {
        let mut walk = Walk::new(self.segments, place);
        loop {
            while let Some(header) = walk.search()? {
                if header.synced > place {
                    return Err(Unfit::Damaged(format!(
                        "it ends at position {end}, but has later records, from {} on: the data between them is damaged ({what})",
                        header.first
                    )));
                }
            }
            // A segment whose creation was interrupted has nothing after its header.
            if walk.next_segment(self.numbers).is_none() {
                return Ok(());
            }
        }
    }
}

/// Extends a tree by the records of a group, and checks its root against the hash in the group.
fn grown(tree: &Tree, group: &Group) -> Result<Tree, Unread> {
    let mut tree = tree.clone();
    for found in group.items() {
        let found = found?;
        match &found.item {
            Item::Frame(header) if header.standing == Standing::Own => {
                found.hashes()?.iter().for_each(|hash| tree.push(hash));
            }
            Item::Gap(..) => {
                let fits = |node: &Node| tree.push_node(node);
                if !found.gap()?.nodes.iter().all(fits) {
                    return Err(crate::segments::damaged_at(found.place, "a gap does not match the log's tree"));
                }
            }
            Item::Frame(_) | Item::Definition => {}
        }
    }
    if (tree.size(), tree.root()) == (group.header.end, group.header.after) {
        return Ok(tree);
    }
    let (found, at) = (tree.root(), group.header.end);
    Err(Unread::Damaged(format!(
        "the hash of the log at position {at} is {}, but its content gives {found}",
        group.header.after
    )))
}

fn short_of(head: &Head, tip: &Tip) -> Unfit {
    let (found, known) = (tip.position, head.tip.position);
    Unfit::Damaged(format!(
        "it ends at position {found}, but its head file says that {known} records were durable ({} lost)",
        known.saturating_sub(found)
    ))
}

/// Logs the progress of a scan that takes long.
#[derive(Default)]
pub(crate) struct Progress {
    bytes: u64,
    told: u64,
}

impl Progress {
    fn passed(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes - self.told >= A_WHILE {
            self.told = self.bytes;
            tracing::info!(mebibytes = self.bytes >> 20, "rebuilding the index from the log");
        }
    }
}

/// Checks that all segments up to the one in the head exist, each at least as long as its successor says.
pub(crate) fn check_segments(segments: &Segments, head: &Head) -> Result<Vec<u32>, Unfit> {
    let numbers = segments.open_all().map_err(|error| Unfit::Failed(format!("opening its segments: {error}")))?;
    let last = numbers.last().copied().unwrap_or(0).max(head.place.segment);
    if let Some(missing) = (1..=last).find(|number| !numbers.contains(number)) {
        return Err(Unfit::Damaged(format!("segment {missing} (the file {}) is missing", name_of(missing))));
    }
    let length = |number: u32| -> Result<u64, Unfit> {
        segments.file(number)?.length().map_err(|error| Unfit::Failed(format!("segment {number}: {error}")))
    };
    for number in 1..=head.place.segment {
        let wanted =
            if number == head.place.segment { head.place.offset } else { segments.header(number + 1)?.length_before };
        let found = length(number)?;
        if found < u64::from(wanted) {
            let name = name_of(number);
            return Err(Unfit::Damaged(format!(
                "segment {number} (the file {name}) has {found} bytes, but should have {wanted}"
            )));
        }
        segments.header(number)?;
    }
    Ok(numbers)
}

/// The result of a scan to the end of a log.
pub(crate) struct Followed {
    pub(crate) tree: Tree,
    pub(crate) place: Place,
    suspects: Vec<(Place, Unread)>,
}

impl Followed {
    /// Checks that the suspects are intact, after all pending erasures are complete.
    pub(crate) fn check_suspects(&self, segments: &Segments) -> Result<(), Unfit> {
        for (place, unread) in &self.suspects {
            let is_whole = match Walk::new(segments, *place).step() {
                Step::Group(group) => group.check().is_ok(),
                Step::End | Step::Unfit(_) => false,
            };
            if !is_whole {
                return Err(unread.clone().into());
            }
        }
        Ok(())
    }
}

/// Scans a log from the end of its index, or from its beginning, to its end.
pub(crate) fn follow(segments: &Segments, numbers: &[u32], head: &Head, index: &Index) -> Result<Followed, Unfit> {
    let (tip, place) = (index.tip(), index.place());
    let mut follow = if place < head.place {
        let from = if place == Place::default() { Place { segment: 1, offset: HEADER as u32 } } else { place };
        let mut follow = Follow::new(segments, numbers, tip, from);
        follow.reach_head(head, index, &mut Progress::default())?;
        follow
    } else {
        Follow::new(segments, numbers, head.tip, head.place)
    };
    let tree = follow.reach_end(head, index)?;
    let Follow { place, suspects, .. } = follow;
    Ok(Followed { tree, place, suspects })
}
