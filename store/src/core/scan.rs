//! The scan of a log to its end, which every open performs.
//!
//! Everything up to the position in the head file must be there. After that, the log ends with the first incomplete
//! group, unless a later group proves that it was once complete.

use std::collections::BTreeMap;

use super::fold::{Fold, FoldError};
use crate::index::{Index, IndexError, Part};
use crate::layout::frame::FrameOrigin;
use crate::layout::head::{Head, Tip};
use crate::layout::segment::{HEADER, Place};
use crate::log::ReadError;
use crate::merkle::{Node, Tree};
use crate::record::{StreamId, StreamKind};
use crate::segments::walk::{Group, Item, Walk, WalkStep};
use crate::segments::{SegmentError, Segments, name_of};

/// How many bytes are scanned before progress is logged.
const PROGRESS_EVERY: u64 = 512 * 1024 * 1024;

/// A log could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadError {
    /// The log is damaged.
    Damaged(String),
    /// A read or write failed: the state of the log is unknown.
    Failed(String),
    /// The index does not belong to this log, or is damaged.
    Index(String),
}

impl From<SegmentError> for LoadError {
    fn from(error: SegmentError) -> Self {
        match error {
            SegmentError::Damaged(what) => Self::Damaged(what),
            SegmentError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<IndexError> for LoadError {
    fn from(IndexError(why): IndexError) -> Self {
        Self::Index(why)
    }
}

impl From<FoldError> for LoadError {
    fn from(error: FoldError) -> Self {
        match error {
            FoldError::Segment(error) => error.into(),
            FoldError::Index(error) => error.into(),
        }
    }
}

impl From<ReadError> for LoadError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(_) | ReadError::Gone => Self::Failed(error.to_string()),
            // The caller adds that the log is damaged.
            ReadError::DamagedLog(what) => Self::Damaged(what),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<LoadError> for ReadError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Damaged(what) => Self::DamagedLog(what),
            LoadError::Failed(reason) | LoadError::Index(reason) => Self::Io(reason),
        }
    }
}

/// The result of a step of the scan.
pub(crate) enum ScanStep {
    Group(Group),
    End,
    Invalid(SegmentError),
}

/// A scan through a log, group by group. Each group must continue the one before it.
pub(crate) struct GroupScan<'a> {
    segments: &'a Segments,
    numbers: &'a [u32],
    walk: Walk<'a>,
    pub(crate) tip: Tip,
    /// The end of the last group.
    pub(crate) place: Place,
    /// Groups whose contents do not match their checksums, although they were complete once.
    suspects: Vec<(Place, SegmentError)>,
}

impl<'a> GroupScan<'a> {
    pub(crate) fn new(segments: &'a Segments, numbers: &'a [u32], tip: Tip, place: Place) -> Self {
        Self { segments, numbers, walk: Walk::new(segments, place), tip, place, suspects: Vec::new() }
    }

    /// A scan from the beginning of the log.
    pub(crate) fn all(segments: &'a Segments, numbers: &'a [u32]) -> Self {
        Self::new(segments, numbers, Tip::empty(), Place { segment: 1, offset: HEADER as u32 })
    }

    pub(crate) fn next(&mut self) -> ScanStep {
        loop {
            match self.walk.step() {
                WalkStep::Group(group) => return self.take(group),
                WalkStep::Invalid(error) => return ScanStep::Invalid(error),
                WalkStep::End => {}
            }
            match self.walk.next_segment(self.numbers) {
                None => return ScanStep::End,
                Some(Err(error)) => return ScanStep::Invalid(error),
                Some(Ok(header)) if header.before != self.tip => {
                    let (segment, position) = (header.number, header.before.position);
                    return ScanStep::Invalid(SegmentError::Damaged(format!(
                        "segment {segment} continues from position {position}, but the log before it ends at {}",
                        self.tip.position
                    )));
                }
                Some(Ok(_)) => {}
            }
        }
    }

    fn take(&mut self, group: Group) -> ScanStep {
        let (first, before) = (group.header.first, group.header.before);
        if (first, before) != (self.tip.position, self.tip.hash) || group.header.time < self.tip.time {
            let at = format!("segment {} at byte {}", group.place.segment, group.place.offset);
            return ScanStep::Invalid(SegmentError::Damaged(if first == self.tip.position {
                format!("{at}: the group at position {first} does not match the hash or the time of the log before it")
            } else {
                format!(
                    "{at}: the group begins at position {first}, but the log before it ends at {}",
                    self.tip.position
                )
            }));
        }
        (self.tip, self.place) = (group.tip(), group.end());
        ScanStep::Group(group)
    }

    /// Builds the index of a log up to a known end.
    pub(crate) fn index_up_to(segments: &Segments, tip: Tip, place: Place) -> Result<Part, LoadError> {
        let numbers = segments.open_all().map_err(|error| LoadError::Failed(error.to_string()))?;
        let mut scan = GroupScan::all(segments, &numbers);
        let mut fold = Fold::new(|_| Ok(None));
        while scan.tip.position < tip.position || scan.place < place {
            match scan.next() {
                ScanStep::Group(group) => fold.group(&group)?,
                ScanStep::Invalid(error) => return Err(error.into()),
                ScanStep::End => {
                    let found = scan.tip.position;
                    return Err(LoadError::Damaged(format!(
                        "it ends at position {found}, but went to {}",
                        tip.position
                    )));
                }
            }
        }
        Ok(fold.part)
    }

    /// Adds the groups up to the head to an index.
    fn scan_to_head(&mut self, head: &Head, index: &Index, progress: &mut Progress) -> Result<(), LoadError> {
        while self.place < head.place {
            if self.enter_empty_segment(head.place)? {
                break;
            }
            match self.next() {
                ScanStep::Group(group) => {
                    self.suspects.extend(group.check().err().map(|error| (group.place, error)));
                    self.index(&group, index)?;
                    progress.add(group.header.length as u64);
                }
                ScanStep::Invalid(error) => return Err(error.into()),
                ScanStep::End => return Err(shorter_than_head(head, &self.tip)),
            }
        }
        if (self.tip, self.place) != (head.tip, head.place) {
            return Err(LoadError::Damaged(format!(
                "at position {} its hash is {}, but its head file has {} at {}",
                self.tip.position, self.tip.hash, head.tip.hash, head.tip.position
            )));
        }
        Ok(())
    }

    /// Enters the segment of the head if the log before it is complete and the segment was still empty when the head
    /// was written.
    fn enter_empty_segment(&mut self, place: Place) -> Result<bool, SegmentError> {
        let next = Place { segment: self.place.segment.saturating_add(1), offset: HEADER as u32 };
        if place != next || self.segments.header(place.segment)?.length_before != self.place.offset {
            return Ok(false);
        }
        (self.place, self.walk.place) = (place, place);
        Ok(true)
    }

    /// Adds a group to an index, unless the index already has it.
    fn index(&self, group: &Group, index: &Index) -> Result<(), LoadError> {
        if self.place <= index.place() {
            return Ok(());
        }
        let mut fold = Fold::unordered(|stream| index.stream(stream));
        fold.group(group)?;
        index.append(fold.part, self.tip, self.place);
        Ok(())
    }

    /// Scans from the head to the end of the log, and extends the tree.
    fn scan_to_end(&mut self, head: &Head, index: &Index) -> Result<Tree, LoadError> {
        let mut tree = head.tree.clone();
        let known = index.place();
        // The index may reach further than the head while the log is written. Then its end must be the end of a group.
        let mut is_met = known < self.place || (known, index.tip()) == (self.place, self.tip);
        loop {
            let (tip, place) = (self.tip, self.place);
            let error = match self.next() {
                // Zeros are the preallocated end, or overwrote a group.
                ScanStep::End => SegmentError::Damaged("there are zeros".to_owned()),
                ScanStep::Invalid(error) => error,
                ScanStep::Group(group) => match extended(&tree, &group).and_then(|extended| {
                    self.check(&group, (tip, place))?;
                    Ok(extended)
                }) {
                    Ok(extended) => {
                        tree = extended;
                        if self.place == known {
                            is_met = index.tip() == self.tip;
                        }
                        self.index(&group, index)?;
                        continue;
                    }
                    Err(error) => error,
                },
            };
            let SegmentError::Damaged(what) = error else { return Err(error.into()) };
            (self.tip, self.place) = (tip, place);
            self.check_unfinished(place, tip.position, &what)?;
            break;
        }
        if !is_met {
            return Err(LoadError::Index("it does not end with the log".to_owned()));
        }
        Ok(tree)
    }

    /// Verifies the contents of a group. If a later group proves that it was complete once, it is only a suspect:
    /// completing a pending erasure may repair it.
    fn check(&mut self, group: &Group, (tip, place): (Tip, Place)) -> Result<(), SegmentError> {
        let Err(error) = group.check() else { return Ok(()) };
        let what = match &error {
            SegmentError::Damaged(what) => what.clone(),
            SegmentError::Failed(_) => return Err(error),
        };
        if self.check_unfinished(place, tip.position, &what).is_ok() {
            return Err(error);
        }
        self.suspects.push((group.place, error));
        Ok(())
    }

    /// Checks that the data from `place` on was never complete: a group is only written after everything before it is
    /// on the disk.
    fn check_unfinished(&self, place: Place, end: u64, what: &str) -> Result<(), LoadError> {
        let mut walk = Walk::new(self.segments, place);
        loop {
            while let Some(header) = walk.search()? {
                if header.synced > place {
                    return Err(LoadError::Damaged(format!(
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
fn extended(tree: &Tree, group: &Group) -> Result<Tree, SegmentError> {
    let mut tree = tree.clone();
    for found in group.items() {
        let found = found?;
        match &found.item {
            Item::Frame(header) if header.origin == FrameOrigin::Appended => {
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
    Err(SegmentError::Damaged(format!(
        "the hash of the log at position {at} is {}, but its content gives {found}",
        group.header.after
    )))
}

fn shorter_than_head(head: &Head, tip: &Tip) -> LoadError {
    let (found, known) = (tip.position, head.tip.position);
    LoadError::Damaged(format!(
        "it ends at position {found}, but its head file says that {known} records were durable ({} lost)",
        known.saturating_sub(found)
    ))
}

/// Logs the progress of a scan that takes long.
#[derive(Default)]
pub(crate) struct Progress {
    bytes: u64,
    reported: u64,
}

impl Progress {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if self.bytes - self.reported >= PROGRESS_EVERY {
            self.reported = self.bytes;
            tracing::info!(mebibytes = self.bytes >> 20, "rebuilding the index from the log");
        }
    }
}

/// Checks that all segments up to the one in the head exist, each at least as long as its successor says.
pub(crate) fn check_segments(segments: &Segments, head: &Head) -> Result<Vec<u32>, LoadError> {
    let numbers = segments.open_all().map_err(|error| LoadError::Failed(format!("opening its segments: {error}")))?;
    let last = numbers.last().copied().unwrap_or(0).max(head.place.segment);
    if let Some(missing) = (1..=last).find(|number| !numbers.contains(number)) {
        return Err(LoadError::Damaged(format!("segment {missing} (the file {}) is missing", name_of(missing))));
    }
    let length = |number: u32| -> Result<u64, LoadError> {
        segments.file(number)?.length().map_err(|error| LoadError::Failed(format!("segment {number}: {error}")))
    };
    for number in 1..=head.place.segment {
        let wanted =
            if number == head.place.segment { head.place.offset } else { segments.header(number + 1)?.length_before };
        let found = length(number)?;
        if found < u64::from(wanted) {
            let name = name_of(number);
            return Err(LoadError::Damaged(format!(
                "segment {number} (the file {name}) has {found} bytes, but should have {wanted}"
            )));
        }
        segments.header(number)?;
    }
    Ok(numbers)
}

/// The result of a scan to the end of a log.
pub(crate) struct ScannedLog {
    pub(crate) tree: Tree,
    pub(crate) place: Place,
    suspects: Vec<(Place, SegmentError)>,
}

impl ScannedLog {
    /// The streams with frames that do not match their checksums: the first such frame of each, and why.
    ///
    /// # Errors
    /// Something else is damaged, on which other streams depend.
    pub(crate) fn damaged_streams(&self, segments: &Segments) -> Result<BTreeMap<StreamId, (u64, String)>, LoadError> {
        let mut damaged = BTreeMap::new();
        for (place, error) in &self.suspects {
            let WalkStep::Group(group) = Walk::new(segments, *place).step() else { return Err(error.clone().into()) };
            for found in group.items() {
                let found = found?;
                match (found.check(), &found.item) {
                    (Ok(()), _) => {}
                    (Err(SegmentError::Damaged(what)), Item::Frame(header))
                        if header.kind != StreamKind::Log && header.stream != StreamId::LOG =>
                    {
                        damaged.entry(header.stream).or_insert((header.first_seq, what));
                    }
                    (Err(why), _) => return Err(why.into()),
                }
            }
        }
        Ok(damaged)
    }

    /// Checks that the suspects are intact, after all pending erasures are complete.
    pub(crate) fn check_suspects(&self, segments: &Segments) -> Result<(), LoadError> {
        for (place, error) in &self.suspects {
            let is_whole = match Walk::new(segments, *place).step() {
                WalkStep::Group(group) => group.check().is_ok(),
                WalkStep::End | WalkStep::Invalid(_) => false,
            };
            if !is_whole {
                return Err(error.clone().into());
            }
        }
        Ok(())
    }
}

/// Scans a log from the end of its index, or from its beginning, to its end.
pub(crate) fn scan(segments: &Segments, numbers: &[u32], head: &Head, index: &Index) -> Result<ScannedLog, LoadError> {
    let (tip, place) = (index.tip(), index.place());
    let mut scan = if place < head.place {
        let from = if place == Place::default() { Place { segment: 1, offset: HEADER as u32 } } else { place };
        let mut scan = GroupScan::new(segments, numbers, tip, from);
        scan.scan_to_head(head, index, &mut Progress::default())?;
        scan
    } else {
        GroupScan::new(segments, numbers, head.tip, head.place)
    };
    let tree = scan.scan_to_end(head, index)?;
    let GroupScan { place, suspects, .. } = scan;
    Ok(ScannedLog { tree, place, suspects })
}
