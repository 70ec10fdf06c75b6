//! Verification of a whole log.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Core;
use super::fold::{Fold, events_of};
use super::read::{Before, checked_records};
use super::scan::LoadError;
use crate::disk::Disk;
use crate::index::Part;
use crate::layout::definition;
use crate::layout::frame::{FrameHeader, FrameOrigin, StoredFrame};
use crate::layout::head::{LogId, Tip};
use crate::layout::segment::{HEADER, Place, SegmentHeader};
use crate::log::{Definition, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::merkle::Tree;
use crate::record::{Body, Hash, StreamId, StreamKind};
use crate::seal;
use crate::segments::walk::{Group, Item, LocatedItem, Walk, WalkStep};
use crate::segments::{SegmentError, Segments, name_of, numbers};

/// The result of verifying a log.
#[derive(Clone, Debug, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Verified {
    /// The number of verified records.
    pub records: u64,
    /// The number of their streams.
    pub streams: u64,
    /// The damage that was found; empty if the log is intact.
    pub findings: Vec<ReadError>,
}

/// The state of a stream during the walk.
#[derive(Clone, Debug)]
struct SeenStream {
    before: Before,
    /// Whether a part of the stream was unreadable, so that the next frame cannot be checked against it.
    broken: bool,
    pruned: bool,
    imported: bool,
}

impl SeenStream {
    const NEW: Self = Self { before: Before::START, broken: false, pruned: false, imported: false };
}

/// Verifies a whole log: positions leave no gap, every hash matches and chains, every frame, stream and definition is
/// intact, nothing was removed without an event that records it, and the index agrees.
pub(crate) fn verify(core: &Core) -> Verified {
    walk(core, &AtomicBool::new(false))
}

/// The same; `None` if `stopping` was set before the end.
pub(crate) fn verify_unless(core: &Core, stopping: &AtomicBool) -> Option<Verified> {
    let verified = walk(core, stopping);
    (!stopping.load(Ordering::Acquire)).then_some(verified)
}

/// How often a log that keeps changing is walked through.
const WALKS: usize = 5;

/// Walks through the log until the end or until `stopping` is set. Keeps a finding only if the log did not change
/// during the walk, or if the next walk has a finding about the same stream.
fn walk(core: &Core, stopping: &AtomicBool) -> Verified {
    let mut suspected: Option<HashSet<Suspect>> = None;
    for _ in 1..WALKS {
        let before = core.rewrite_count();
        let mut verified = walk_once(core, stopping);
        if let Some(suspected) = &suspected {
            verified.findings.retain(|finding| suspected.contains(&Suspect::of(finding)));
        }
        let is_settled = verified.findings.is_empty() || !core.was_rewritten_since(before);
        if is_settled || stopping.load(Ordering::Acquire) {
            return verified;
        }
        suspected = Some(verified.findings.iter().map(Suspect::of).collect());
    }
    let mut verified = walk_once(core, stopping);
    verified.findings.retain(|finding| suspected.iter().flatten().any(|suspect| *suspect == Suspect::of(finding)));
    verified
}

/// Identifies the subject of a finding, regardless of its wording.
#[derive(PartialEq, Eq, Hash)]
struct Suspect(std::mem::Discriminant<ReadError>, Option<StreamId>);

impl Suspect {
    fn of(finding: &ReadError) -> Self {
        Self(std::mem::discriminant(finding), finding.stream())
    }
}

fn walk_once(core: &Core, stopping: &AtomicBool) -> Verified {
    let mut verifier = Verifier {
        core,
        stopping,
        verified: Verified::default(),
        streams: HashMap::new(),
        missing_bodies: HashSet::new(),
        reported_erased: HashSet::new(),
        imports: HashMap::new(),
        tree: Tree::default(),
        is_broken: false,
    };
    let end = core.tip();
    verifier.check_log(&end);
    verifier.check_streams(&end);
    let streams = verifier.streams.values().filter(|seen| !seen.pruned).count();
    verifier.verified.streams = streams as u64;
    verifier.verified
}

struct Verifier<'a> {
    core: &'a Core,
    /// Whether to abort. Every loop over the log checks it.
    stopping: &'a AtomicBool,
    verified: Verified,
    streams: HashMap<StreamId, SeenStream>,
    /// Records without a body, and those that events report as erased.
    missing_bodies: HashSet<(StreamId, u64)>,
    reported_erased: HashSet<(StreamId, u64)>,
    /// The number of records and the head hash with which streams were imported.
    imports: HashMap<StreamId, (u64, Hash)>,
    tree: Tree,
    /// Whether a part of the log is missing, so that its hash cannot be computed.
    is_broken: bool,
}

impl Verifier<'_> {
    fn is_running(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    fn report(&mut self, error: ReadError) {
        // Several checks may find the same broken frame.
        if !self.verified.findings.contains(&error) {
            self.verified.findings.push(error);
        }
    }

    fn report_broken(&mut self, error: ReadError) {
        self.is_broken = true;
        self.report(error);
    }

    /// Verifies all groups, up to the end of the log at the start of the walk.
    fn check_log(&mut self, end: &Tip) {
        let last = self.core.index.place().segment;
        let mut scan = LenientWalk::new(&self.core.segments, (1..=last).collect());
        let mut tip = Tip::empty();
        while tip.position < end.position && self.is_running() {
            match scan.next() {
                Some(Ok(group)) => {
                    self.check_continuity(&tip, &group);
                    self.group(&group);
                    tip = group.tip();
                }
                Some(Err(error)) => self.report_broken(error.into()),
                None => break,
            }
        }
        if tip.position < end.position && self.is_running() {
            let what = format!("it ends at position {}, but went to {}", tip.position, end.position);
            self.report_broken(ReadError::DamagedLog(what));
        }
    }

    fn check_continuity(&mut self, tip: &Tip, group: &Group) {
        let (first, before) = (group.header.first, group.header.before);
        if first != tip.position {
            let what = format!("the records from position {} to {first} are missing", tip.position);
            return self.report_broken(ReadError::DamagedLog(what));
        }
        if before != tip.hash {
            let what =
                format!("the hash of the log at position {first} is {}, but the next group has {before}", tip.hash);
            self.report_broken(ReadError::DamagedLog(what));
        }
        if group.header.time < tip.time {
            self.report(ReadError::DamagedLog(format!("time goes back at position {first}")));
        }
    }

    fn group(&mut self, group: &Group) {
        let mut position = group.header.first;
        for found in group.items() {
            if !self.is_running() {
                return;
            }
            match found.map_err(ReadError::from).and_then(|found| self.item(&found, &mut position)) {
                Ok(()) => {}
                Err(error) => self.report_broken(error),
            }
        }
        if position != group.header.end && !self.is_broken {
            let what = format!(
                "the group at position {} ends at {position}, but its header says {}",
                group.header.first, group.header.end
            );
            return self.report_broken(ReadError::DamagedLog(what));
        }
        // If something is missing, a wrong hash adds no information.
        if !self.is_broken && self.tree.root() != group.header.after {
            let (found, said) = (self.tree.root(), group.header.after);
            let what = format!("the hash of the log at position {position} is {said}, but its content gives {found}");
            self.report_broken(ReadError::DamagedLog(what));
        }
    }

    fn item(&mut self, found: &LocatedItem, position: &mut u64) -> Result<(), ReadError> {
        match &found.item {
            Item::Frame(header) => {
                let (stream, seq) = (header.stream, header.first_seq);
                let damaged = |what: String| ReadError::Damaged { stream, seq, what };
                let Some(frame) = found.frame() else { return Ok(()) };
                let frame = self.core.pending.apply_to(found.place, frame);
                let hashes = frame.hashes().map_err(|why| damaged(why.to_string()))?;
                if header.origin == FrameOrigin::Appended {
                    if header.first_position != *position {
                        let at = header.first_position;
                        self.report(damaged(format!("its frame says position {at}, but is at {position}")));
                    }
                    *position += u64::from(header.count);
                    hashes.iter().for_each(|hash| self.tree.push(hash));
                }
                let Place { segment, offset } = found.place;
                let sound = frame.check().map_err(|why| damaged(format!("segment {segment} at byte {offset}: {why}")));
                if let Err(error) = self.frame(&frame).and(sound) {
                    self.streams.entry(stream).or_insert(SeenStream::NEW).broken = true;
                    self.report(error);
                }
                Ok(())
            }
            Item::Definition => {
                found.check()?;
                let damaged = |what: String| ReadError::DamagedLog(format!("a definition: {what}"));
                let (fingerprint, text) = definition::decode(&found.bytes).map_err(|why| damaged(why.to_string()))?;
                let content = seal::fingerprint(&text);
                if content != fingerprint {
                    let what = format!("the definition {fingerprint} has contents with fingerprint {content}");
                    self.report(ReadError::DamagedLog(what));
                }
                Ok(())
            }
            Item::Gap(..) => {
                found.check()?;
                let gap = found.gap()?;
                let is_here = gap.first == *position;
                *position = gap.end;
                if !is_here || !gap.nodes.iter().all(|node| self.tree.push_node(node)) {
                    return Err(ReadError::DamagedLog(format!(
                        "a gap does not match the log's tree at position {}",
                        gap.first
                    )));
                }
                Ok(())
            }
        }
    }

    fn frame(&mut self, frame: &StoredFrame) -> Result<(), ReadError> {
        let header = &frame.header;
        let stream = header.stream;
        let mut seen = self.streams.get(&stream).cloned().unwrap_or(SeenStream::NEW);
        if header.origin == FrameOrigin::Imported && header.first_seq == 0 {
            seen = SeenStream { imported: true, ..SeenStream::NEW };
        }
        if !seen.broken {
            seen.before.followed_by(frame)?;
        }
        seen.before = Before::after(frame);
        seen.broken = false;
        // A later event must report the pruning.
        seen.pruned |= header.pruned;
        self.streams.insert(stream, seen);
        if header.pruned {
            return Ok(());
        }
        let records = checked_records(std::slice::from_ref(frame), 0)?;
        self.verified.records += records.len() as u64;
        for record in &records {
            match &record.body {
                Body::Erased { .. } => drop(self.missing_bodies.insert((record.stream, record.seq))),
                Body::Present { .. } => {}
            }
        }
        if header.kind == StreamKind::Log {
            events_of(frame).iter().for_each(|event| self.event(event));
        }
        Ok(())
    }

    fn event(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Erased(erased) => {
                self.reported_erased.extend(erased.records.iter().map(|record| (erased.stream, record.seq)));
            }
            LogEvent::Pruned(pruned) => {
                for dropped in &pruned.streams {
                    self.imports.remove(&dropped.stream);
                    let seen = self.streams.remove(&dropped.stream);
                    let is_it = seen.is_none_or(|seen| {
                        seen.broken || (seen.before.seq, seen.before.head) == (dropped.records, dropped.head)
                    });
                    if !is_it {
                        let (stream, seq) = (dropped.stream, dropped.records);
                        let what = "it was pruned with another end than its records have".to_owned();
                        self.report(ReadError::Damaged { stream, seq, what });
                    }
                }
            }
            LogEvent::Imported(imported) => {
                self.imports.insert(imported.stream, (imported.records, imported.head));
            }
            LogEvent::Opened(_) | LogEvent::Closed | LogEvent::Checkpoint(_) => {}
        }
    }

    /// The checks that need the whole log.
    fn check_streams(&mut self, end: &Tip) {
        for (stream, seen) in self.streams.clone() {
            if !self.is_running() {
                return;
            }
            if seen.broken {
                continue;
            }
            let seq = seen.before.seq.saturating_sub(1);
            if seen.pruned {
                let what = "its records are gone, but no event reports that it was pruned".to_owned();
                self.report(ReadError::Damaged { stream, seq: 0, what });
                continue;
            }
            if let Some((records, head)) = self.imports.get(&stream).copied().filter(|_| seen.imported)
                && seen.before.seq == records
                && seen.before.head != head
            {
                let what = format!("its hash is {}, but it was imported with {head}", seen.before.head);
                self.report(ReadError::Damaged { stream, seq, what });
            }
            if let Err(error) = self.check_index(stream, &seen, end) {
                self.report(error);
            }
        }
        for (stream, (records, _)) in self.imports.clone() {
            if !self.streams.contains_key(&stream) && !self.is_broken {
                self.report(ReadError::TailCut { stream, head: records, found: 0 });
            }
        }
        self.check_erasures();
    }

    /// Checks the index entry of a stream against the log.
    fn check_index(&self, stream: StreamId, seen: &SeenStream, end: &Tip) -> Result<(), ReadError> {
        let state = self.core.query(|index| index.stream(stream))?;
        let Some(state) = state else {
            return Err(ReadError::DamagedLog(format!("stream {stream} is missing in the index")));
        };
        // The stream may have been appended to, or pruned, since the walk began.
        let is_it = state.end > end.position
            || state.pruned
            || (state.records, state.head, state.bytes) == (seen.before.seq, seen.before.head, seen.before.bytes);
        if is_it {
            return Ok(());
        }
        let (found, head) = (seen.before.seq, state.records);
        Err(if found < head {
            ReadError::TailCut { stream, head, found }
        } else {
            let what = format!(
                "the index has {head} records and hash {}, but the stream has {found} and {}",
                state.head, seen.before.head
            );
            ReadError::Damaged { stream, seq: found.saturating_sub(1), what }
        })
    }

    /// Checks that every missing body was reported as erased, and that no erased body is still there. Reads the events
    /// up to the current end, to include erasures since the start of the walk.
    fn check_erasures(&mut self) {
        let mut reported = std::mem::take(&mut self.reported_erased);
        let visited = crate::own_stream::visit(self.core, |_, event| {
            if let LogEvent::Erased(erased) = event {
                reported.extend(erased.records.iter().map(|record| (erased.stream, record.seq)));
            }
            true
        });
        if let Err(error) = visited {
            self.report(error);
        }
        for (stream, seq) in std::mem::take(&mut self.missing_bodies) {
            if !reported.contains(&(stream, seq)) {
                let what = "its body is gone, but no event reports that it was erased".to_owned();
                self.report(ReadError::Damaged { stream, seq, what });
            }
        }
        self.core.wait_for_rewrite();
        for (stream, seq) in reported {
            if !self.is_running() {
                break;
            }
            if let Ok(records) = self.core.read(stream, seq, 1)
                && records.iter().any(|record| record.body.bytes().is_some())
            {
                let what = "its body is still there, although it was erased".to_owned();
                self.report(ReadError::Damaged { stream, seq, what });
            }
        }
    }
}

/// A walk through all segments that continues after damage.
struct LenientWalk<'a> {
    walk: Walk<'a>,
    segments: &'a Segments,
    numbers: Vec<u32>,
    is_started: bool,
    /// Whether the rest of this segment is skipped.
    skips_segment: bool,
}

impl<'a> LenientWalk<'a> {
    fn new(segments: &'a Segments, numbers: Vec<u32>) -> Self {
        let first = Place { segment: numbers.first().copied().unwrap_or(1), offset: HEADER as u32 };
        Self { walk: Walk::new(segments, first), segments, numbers, is_started: false, skips_segment: false }
    }

    /// The next intact group, or the damage in its place; `None` at the end.
    fn next(&mut self) -> Option<Result<Group, SegmentError>> {
        if !std::mem::replace(&mut self.is_started, true)
            && let Some(Err(error)) = self.numbers.first().map(|first| self.segments.header(*first))
        {
            return Some(Err(error));
        }
        loop {
            let step = if self.skips_segment { WalkStep::End } else { self.walk.step() };
            match step {
                WalkStep::Group(group) => return Some(Ok(group)),
                WalkStep::Invalid(error) => {
                    // There may be intact groups after it.
                    self.skips_segment = !matches!(self.walk.search(), Ok(Some(_)));
                    return Some(Err(error));
                }
                WalkStep::End => {
                    self.skips_segment = false;
                    let after = self.numbers.iter().copied().find(|number| *number > self.walk.place.segment)?;
                    self.walk.place = Place { segment: after, offset: HEADER as u32 };
                    if let Err(error) = self.segments.header(after) {
                        return Some(Err(error));
                    }
                }
            }
        }
    }
}

/// The id of the log on a disk, from the first readable segment.
pub(crate) fn find_log_id(disk: &dyn Disk) -> Option<LogId> {
    let numbers = numbers(disk).ok()?;
    numbers.into_iter().find_map(|number| {
        let mut bytes = vec![0; HEADER];
        disk.open(&name_of(number)).ok()?.read_at(&mut bytes, 0).ok()?;
        SegmentHeader::decode(&bytes).ok().map(|header| header.log)
    })
}

/// Builds the index of the intact parts of a log, and returns it with the end of the last intact group.
pub(crate) fn index_intact_groups(segments: &Segments) -> Result<(Part, Tip, Place), LoadError> {
    let numbers = segments.open_all().map_err(|error| LoadError::Failed(error.to_string()))?;
    let mut scan = LenientWalk::new(segments, numbers);
    let mut fold = Fold::new(|_| Ok(None));
    let (mut tip, mut place) = (Tip::empty(), Place::default());
    while let Some(next) = scan.next() {
        match next {
            Ok(group) => {
                fold.part.note_group(group.header.first, group.place);
                for found in group.items().flatten() {
                    // A frame with a damaged body still identifies its stream; one with a damaged header does not.
                    if found.check().is_ok() || matches!(fold.continues_stream(&found), Ok(true)) {
                        let _ = fold.item(&found, group.header.end);
                    }
                }
                (tip, place) = (group.tip(), group.end());
            }
            Err(SegmentError::Failed(why)) => return Err(LoadError::Failed(why)),
            Err(SegmentError::Damaged(_)) => {}
        }
    }
    Ok((fold.part, tip, place))
}

impl Core {
    /// All streams that the log contains or contained, except its own, in the order of their ids.
    pub(crate) fn all_streams(&self) -> Vec<StreamId> {
        let all = self.index.all().into_iter().map(|(stream, _)| stream);
        all.filter(|stream| *stream != StreamId::LOG).collect()
    }

    /// The ranges of positions that readable records and gaps cover.
    pub(crate) fn known_positions(&self) -> Vec<(u64, u64)> {
        let Ok(numbers) = self.segments.open_all() else { return Vec::new() };
        let mut scan = LenientWalk::new(&self.segments, numbers);
        let mut known = Vec::new();
        while let Some(next) = scan.next() {
            let Ok(group) = next else { continue };
            for found in group.items().flatten() {
                match &found.item {
                    Item::Frame(header)
                        if header.origin == FrameOrigin::Appended && self.is_trustworthy(&found, header) =>
                    {
                        known.push((header.first_position, header.end()));
                    }
                    Item::Gap(first, end) if found.check().is_ok() => known.push((*first, *end)),
                    _ => {}
                }
            }
        }
        known
    }

    /// Whether the header of a frame is trustworthy: the frame is intact, or the index assigned it to its stream.
    fn is_trustworthy(&self, found: &LocatedItem, header: &FrameHeader) -> bool {
        let is_indexed = || {
            let frames = self.index.frames(header.stream, header.first_seq, 0);
            frames.is_ok_and(|frames| frames.first().is_some_and(|frame| frame.span.place == found.place))
        };
        found.check().is_ok() || is_indexed()
    }

    /// The intact definitions. Adds a finding for each of the others.
    pub(crate) fn intact_definitions(&self, findings: &mut Vec<ReadError>) -> Vec<Definition> {
        let mut intact = Vec::new();
        for fingerprint in self.index.definitions() {
            match self.definition(fingerprint) {
                Ok(bytes) => intact.extend(bytes.map(|bytes| Definition { fingerprint, bytes })),
                Err(error) => findings.push(error),
            }
        }
        intact
    }
}
