//! Walking a whole log and checking everything in it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest, Sha256};

use super::listing::decode_listed;
use super::read::Before;
use super::{Core, damaged_log};
use crate::backend::{Backend, Direction};
use crate::layout::frame::Standing;
use crate::layout::group::{FramePlace, GroupEntry};
use crate::layout::head::Tip;
use crate::layout::keys;
use crate::layout::listing::started_value;
use crate::log::{Definition, LogReader, ReadError};
use crate::log_event::LogEvent;
use crate::record::{Hash, Record, StreamId, StreamKind};

/// How many entries are looked at together.
const PAGE: usize = 256;

/// What a walk through a whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many records were checked.
    pub records: u64,
    /// How many streams they belong to.
    pub streams: u64,
    /// What is wrong: nothing, in a sound log. Each names what it is about.
    pub findings: Vec<ReadError>,
}

/// A stream, as the commit entries tell it.
#[derive(Clone, Copy)]
struct Told {
    next_seq: u64,
    /// Where it stands, unless its last frame could not be read.
    before: Option<Before>,
}

/// Checks a whole log: that positions leave no gap, that every hash fits and chains, that every frame, stream and
/// definition is whole, and that nothing is there that no commit entry names.
pub(crate) fn verify<B: Backend>(core: &Core<B>) -> Verified {
    walk(core, &AtomicBool::new(false))
}

/// The same; `None` if `stopping` was set before all was checked.
pub(crate) fn verify_unless<B: Backend>(core: &Core<B>, stopping: &AtomicBool) -> Option<Verified> {
    let verified = walk(core, stopping);
    (!stopping.load(Ordering::Acquire)).then_some(verified)
}

/// How often a log is walked through again that was changed meanwhile.
const WALKS: usize = 5;

/// What is checked and found until `stopping` is set. A finding counts where nothing was changed during the walk, or where the
/// next walk finds something wrong with the same stream.
fn walk<B: Backend>(core: &Core<B>, stopping: &AtomicBool) -> Verified {
    let mut suspected: Option<HashSet<Suspect>> = None;
    for _ in 1..WALKS {
        let before = core.rewritten();
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

/// What a finding is about, however it is worded.
#[derive(PartialEq, Eq, Hash)]
struct Suspect(std::mem::Discriminant<ReadError>, Option<StreamId>);

impl Suspect {
    fn of(finding: &ReadError) -> Self {
        Self(std::mem::discriminant(finding), finding.stream())
    }
}

fn walk_once<B: Backend>(core: &Core<B>, stopping: &AtomicBool) -> Verified {
    let mut walk = Walk {
        core,
        stopping,
        end: core.tip(),
        verified: Verified::default(),
        streams: HashMap::new(),
        imports: HashMap::new(),
        erased: HashSet::new(),
        is_ordered: core.is_ordered().unwrap_or(true),
        dropped: HashMap::new(),
    };
    walk.groups();
    for check in [Walk::imported, Walk::listing, Walk::order, Walk::strays, Walk::definitions, Walk::erasures] {
        if let Err(error) = check(&mut walk) {
            walk.verified.findings.push(error);
        }
    }
    walk.imports.retain(|stream, _| !walk.streams.contains_key(stream));
    walk.verified.streams = (walk.streams.len() + walk.imports.len()) as u64;
    walk.verified
}

struct Walk<'a, B> {
    core: &'a Core<B>,
    /// Whether nobody wants to know any more. Each loop that is as long as the log asks.
    stopping: &'a AtomicBool,
    /// Where the log ended when the walk began; what is appended meanwhile is not looked at.
    end: Tip,
    verified: Verified,
    streams: HashMap<StreamId, Told>,
    /// The streams that were imported and stand in frames of their own: how many records, and the hash of the last.
    imports: HashMap<StreamId, (u64, Hash)>,
    /// The records without a body.
    erased: HashSet<(StreamId, u64)>,
    /// Whether the log has the order in which its streams started.
    is_ordered: bool,
    /// A hash of what is left of pruned streams; `None` of one that was pruned while it was looked at.
    dropped: HashMap<StreamId, Option<Sha256>>,
}

impl<B: Backend> Walk<'_, B> {
    fn goes_on(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    fn found(&mut self, error: ReadError) {
        // One broken frame is met by several checks.
        if !self.verified.findings.contains(&error) {
            self.verified.findings.push(error);
        }
    }

    /// All commit entries, up to where the log ended when the walk began.
    fn groups(&mut self) {
        let end = self.end;
        let mut tip = Tip::EMPTY;
        while tip.position < end.position && self.goes_on() {
            let entry = self.core.groups_from(tip.position, end.position, 1).map(|mut page| page.pop());
            match entry {
                Ok(Some((position, entry))) => tip = self.group(&tip, position, &entry),
                Ok(None) => {
                    let what = format!("no commit entry has position {}", tip.position);
                    self.found(ReadError::DamagedLog(what));
                    return;
                }
                Err(error) => {
                    self.found(error);
                    // The next entry that can be read is further on.
                    tip.position += 1;
                }
            }
        }
        if (tip.position, tip.hash) != (end.position, end.hash) {
            let what =
                format!("its hash at position {} is {}, the end of the log says {}", tip.position, tip.hash, end.hash);
            self.found(ReadError::DamagedLog(what));
        }
    }

    fn group(&mut self, tip: &Tip, position: u64, entry: &GroupEntry) -> Tip {
        if position != tip.position {
            let what = format!("no commit entry has the positions from {} to {position}", tip.position);
            self.found(ReadError::DamagedLog(what));
        }
        let mut at = position;
        let mut time = tip.time;
        let mut heads = Vec::with_capacity(entry.frames.len());
        for place in &entry.frames {
            if !self.goes_on() {
                break;
            }
            match self.frame(place, at) {
                Ok((head, frame_time)) => {
                    if frame_time < time {
                        self.found(ReadError::DamagedLog(format!("time goes back at position {at}")));
                    }
                    time = frame_time;
                    heads.push(head);
                }
                Err(error) => self.found(error),
            }
            at = at.saturating_add(u64::from(place.count));
        }
        // With a frame missing, the hash says nothing more than that finding does.
        if heads.len() == entry.frames.len() && position == tip.position {
            let hash = entry.expected_hash(position, &tip.hash, &heads);
            if hash != entry.hash {
                let what = format!("the log hash after position {at} is {}, its content gives {hash}", entry.hash);
                self.found(ReadError::DamagedLog(what));
            }
        }
        Tip { position: at, time, hash: entry.hash }
    }

    fn frame(&mut self, place: &FramePlace, at: u64) -> Result<(Hash, crate::record::Timestamp), ReadError> {
        let next_seq = place.first_seq.saturating_add(u64::from(place.count));
        let told = Told { next_seq, before: None };
        let told = self.streams.insert(place.stream, told);
        let expected = told.map_or_else(|| self.imported_records(place.stream), |told| told.next_seq);
        if place.first_seq != expected {
            let what = format!("the log goes on at seq {}, it should at {expected}", place.first_seq);
            return Err(ReadError::Damaged { stream: place.stream, seq: expected, what });
        }
        let frame = self.core.load_named(place, at)?;
        let header = frame.header.clone();
        if header.standing == Standing::Pruned {
            let left = self.dropped.entry(place.stream).or_insert_with(|| told.is_none().then(Sha256::new));
            if let Some(left) = left {
                let encoded = crate::layout::frame::encode(&frame);
                left.update(encoded.map_err(|why| damaged_log("what is left of a pruned frame", why))?.0);
            }
            self.streams.insert(place.stream, Told { next_seq, before: Some(Before::after(&header)) });
            return Ok((header.head, header.time));
        }
        let before = match told.and_then(|told| told.before) {
            Some(before) => before,
            None => self.core.before(place.stream, place.first_seq)?,
        };
        let records = self.core.open_frame(place.stream, place.first_seq, frame, before)?;
        self.note(&records);
        let before = Some(Before::after(&header));
        self.streams.insert(place.stream, Told { next_seq, before });
        self.verified.records += u64::from(place.count);
        Ok((header.head, header.time))
    }

    /// Keeps what the records say of others.
    fn note(&mut self, records: &[Record]) {
        for record in records {
            let Some(bytes) = record.body.bytes() else {
                self.erased.insert((record.stream, record.seq));
                continue;
            };
            if record.kind != StreamKind::Log {
                continue;
            }
            match LogEvent::decode(bytes) {
                Ok(LogEvent::Imported(imported)) if !imported.restored => {
                    self.imports.insert(imported.stream, (imported.records, imported.head));
                }
                Ok(LogEvent::Pruned(pruned)) => drop(self.imports.remove(&pruned.stream)),
                _ => {}
            }
        }
    }

    /// How many records of a stream were imported.
    fn imported_records(&self, stream: StreamId) -> u64 {
        self.imports.get(&stream).map_or(0, |(records, _)| *records)
    }

    /// Every imported stream is what the event says that it was imported with.
    fn imported(&mut self) -> Result<(), ReadError> {
        for (stream, (records, head)) in self.imports.clone() {
            match self.imported_stream(stream, records) {
                Ok(found) if found == head => self.verified.records += records,
                Ok(found) => self.found(ReadError::Damaged {
                    stream,
                    seq: records.saturating_sub(1),
                    what: format!("its hash is {found}, it was imported with {head}"),
                }),
                Err(error) => self.found(error),
            }
        }
        Ok(())
    }

    /// The hash of the last of a stream's imported records, each of which is checked.
    fn imported_stream(&mut self, stream: StreamId, records: u64) -> Result<Hash, ReadError> {
        let (mut next, mut before, mut head) = (0, Before::START, Hash::ZERO);
        while next < records && self.goes_on() {
            let Some(frame) = self.core.load_frame(stream, next)? else {
                return Err(ReadError::TailCut { stream, head: records, found: next });
            };
            let header = frame.header.clone();
            let opened = self.core.open_frame(stream, next, frame, before)?;
            self.note(&opened);
            (before, head) = (Before::after(&header), header.head);
            next += u64::from(header.count);
        }
        Ok(head)
    }

    /// Nothing is gone without an event that says so, and no body is there that was erased. What was erased meanwhile is erased, too:
    /// so the events are read to where they end now.
    fn erasures(&mut self) -> Result<(), ReadError> {
        let (mut told, mut tombstones) = (HashSet::new(), HashMap::new());
        crate::own_stream::visit(self.core, |_, event| {
            match event {
                LogEvent::Erased(erased) => {
                    told.extend(erased.records.iter().map(|(seq, _)| (erased.stream, *seq)));
                }
                LogEvent::Pruned(pruned) => drop(tombstones.insert(pruned.stream, pruned.left)),
                _ => {}
            }
            true
        })?;
        for (stream, left) in std::mem::take(&mut self.dropped) {
            let Some(left) = left else { continue };
            let found = Hash(left.finalize().into());
            let what = match tombstones.get(&stream) {
                Some(left) if *left == found => continue,
                Some(left) => format!("what is left of it has the hash {found}, it was pruned with {left}"),
                None => "its records are gone, and no event says that it was pruned".to_owned(),
            };
            self.found(ReadError::Damaged { stream, seq: 0, what });
        }
        for (stream, seq) in std::mem::take(&mut self.erased) {
            if !told.contains(&(stream, seq)) {
                let what = "its body is gone, and no event says that it was erased".to_owned();
                self.found(ReadError::Damaged { stream, seq, what });
            }
        }
        for (stream, seq) in told {
            if !self.goes_on() {
                break;
            }
            if let Ok(records) = self.core.read(stream, seq, 1)
                && records.iter().any(|record| record.body.bytes().is_some())
            {
                let what = "its body is there, though it was erased".to_owned();
                self.found(ReadError::Damaged { stream, seq, what });
            }
        }
        Ok(())
    }

    /// Every stream of the log is listed, once, and ends where its entry says.
    fn listing(&mut self) -> Result<(), ReadError> {
        let mut unlisted: HashSet<StreamId> = self.streams.keys().chain(self.imports.keys()).copied().collect();
        for kind in StreamKind::ALL {
            for open in [true, false] {
                let mut before = None;
                while let Some(stream) = self.listing_page(open, kind, before, &mut unlisted)? {
                    before = Some(stream);
                }
            }
        }
        for stream in unlisted {
            if !self.goes_on() {
                break;
            }
            // One that was moved from the open to the closed ones meanwhile is found now. A pruned one is not listed.
            if !matches!(self.core.stored_stream(stream), Ok(_) | Err(ReadError::Pruned { .. })) {
                self.found(ReadError::DamagedLog(format!("stream {stream} is missing in the listing")));
            }
        }
        Ok(())
    }

    /// The order of starts has each stream of the listing once, and no other.
    fn order(&mut self) -> Result<(), ReadError> {
        if !self.is_ordered {
            return Ok(());
        }
        for kind in StreamKind::ALL {
            let mut before = None;
            loop {
                let page = self.core.backend.keys(&keys::started_before(kind, before), PAGE, Direction::Down)?;
                let Some(last) = page.last() else { break };
                let parse = |key: &[u8]| {
                    keys::parse_started(key).map_err(|why| damaged_log("a key of the order of streams", why))
                };
                before = Some(parse(last)?.1);
                for key in &page {
                    let place = parse(key)?.1;
                    let listed = self.core.with_view(|view| self.core.listed(view, kind, place.stream))?;
                    // There is no stream yet where its first group is unfinished.
                    let is_new = self.core.with_view(|view| view.hidden.listings.contains_key(&place.stream));
                    if listed.is_none_or(|listed| listed.key() != place) && !is_new {
                        let what = format!("the order of streams has {}, and the listing has not", place.stream);
                        self.found(ReadError::DamagedLog(what));
                    }
                }
                if !self.goes_on() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Checks some entries below an id, and says below which one to go on.
    fn listing_page(
        &mut self,
        open: bool,
        kind: StreamKind,
        before: Option<StreamId>,
        unlisted: &mut HashSet<StreamId>,
    ) -> Result<Option<StreamId>, ReadError> {
        let range = keys::listings(open, kind, before);
        let mut last = None;
        for (key, value) in self.core.backend.scan(&range, PAGE, Direction::Down)? {
            let (_, _, stream) = keys::parse_listing(&key).map_err(|why| damaged_log("a key of the listing", why))?;
            if !self.goes_on() {
                return Ok(None);
            }
            last = Some(stream);
            unlisted.remove(&stream);
            let stored = decode_listed(&key, &value).and_then(|listed| {
                let place = keys::started(kind, listed.key());
                if self.is_ordered && self.core.backend.get(&place)?.is_none_or(|value| value != started_value()) {
                    self.found(ReadError::DamagedLog(format!(
                        "stream {stream} is not in the order of streams as it was written"
                    )));
                }
                self.core.stored_stream(stream)
            });
            match stored {
                // There is no stream yet where its first group is unfinished.
                Ok(_) | Err(ReadError::NoStream(_)) => {}
                Err(error) => self.found(error),
            }
        }
        Ok(last)
    }

    /// Every frame belongs to a stream that the commit entries name, and none lies behind its end.
    fn strays(&mut self) -> Result<(), ReadError> {
        let mut after = None;
        while self.goes_on() {
            let range = keys::frames_after(after);
            let Some(key) = self.core.backend.keys(&range, 1, Direction::Up)?.pop() else {
                return Ok(());
            };
            let (stream, _, _) = keys::parse_frame(&key).map_err(|why| damaged_log("the key of a frame", why))?;
            after = Some(stream);
            let told = self.streams.get(&stream).map_or_else(|| self.imported_records(stream), |told| told.next_seq);
            match self.core.last_frame(stream, u64::MAX, self.end.position) {
                Ok(Some((first_seq, frame))) => {
                    let next = first_seq.saturating_add(u64::from(frame.count));
                    if next != told {
                        let what = format!("the stream has {next} records, the log names {told}");
                        self.found(ReadError::Damaged { stream, seq: told.min(next), what });
                    }
                }
                Ok(None) => {}
                Err(error) => self.found(error),
            }
        }
        Ok(())
    }

    /// Every definition has the content that its fingerprint says.
    fn definitions(&mut self) -> Result<(), ReadError> {
        let mut after = None;
        while self.goes_on() {
            let range = keys::definitions_after(after);
            let Some(key) = self.core.backend.keys(&range, 1, Direction::Up)?.pop() else {
                return Ok(());
            };
            let fingerprint =
                keys::parse_definition(&key).map_err(|why| damaged_log("the key of a definition", why))?;
            after = Some(fingerprint);
            match self.core.definition(fingerprint) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    // Unless it belongs to an unfinished group, and so is not shown.
                    if self.core.backend.get(&keys::definition(fingerprint, 0))?.is_none() {
                        let what = format!("the first chunk of the definition {fingerprint} is missing");
                        self.found(ReadError::DamagedLog(what));
                    }
                }
                Err(error) => self.found(error),
            }
        }
        Ok(())
    }
}

impl<B: Backend> Core<B> {
    /// The streams that the log has or had, but for its own, in the order of their ids: those of which frames are there, those
    /// that are listed, and those that commit entries name. Where one of them cannot be read, the others tell.
    pub(crate) fn all_streams(&self, findings: &mut Vec<ReadError>) -> BTreeSet<StreamId> {
        let mut streams = BTreeSet::new();
        for collect in [Self::streams_with_frames, Self::listed_streams, Self::named_streams] {
            if let Err(error) = collect(self, &mut streams) {
                findings.push(error);
            }
        }
        streams.remove(&StreamId::LOG);
        streams
    }

    fn streams_with_frames(&self, streams: &mut BTreeSet<StreamId>) -> Result<(), ReadError> {
        let mut after = None;
        while let Some(key) = self.backend.keys(&keys::frames_after(after), 1, Direction::Up)?.pop() {
            let (stream, _, _) = keys::parse_frame(&key).map_err(|why| damaged_log("the key of a frame", why))?;
            after = Some(stream);
            streams.insert(stream);
        }
        Ok(())
    }

    fn listed_streams(&self, streams: &mut BTreeSet<StreamId>) -> Result<(), ReadError> {
        let ranges = StreamKind::ALL.into_iter().flat_map(|kind| [(true, kind), (false, kind)]);
        for (open, kind) in ranges {
            let mut before = None;
            loop {
                let page = self.backend.scan(&keys::listings(open, kind, before), PAGE, Direction::Down)?;
                let Some((last, _)) = page.last() else { break };
                before = keys::parse_listing(last).ok().map(|(_, _, stream)| stream);
                streams.extend(page.iter().filter_map(|(key, _)| Some(keys::parse_listing(key).ok()?.2)));
                if before.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    fn named_streams(&self, streams: &mut BTreeSet<StreamId>) -> Result<(), ReadError> {
        self.each_group(|_, entry| streams.extend(entry.frames.iter().map(|place| place.stream)));
        Ok(())
    }

    /// Every commit entry that can be read, with its position.
    pub(crate) fn each_group(&self, mut visit: impl FnMut(u64, &GroupEntry)) {
        let (end, mut position) = (self.tip().position, 0);
        while position < end {
            match self.groups_from(position, end, 1).map(|mut page| page.pop()) {
                Ok(Some((first, entry))) => {
                    visit(first, &entry);
                    position = first.saturating_add(entry.records().max(1));
                }
                Ok(None) => break,
                // The next entry that can be read is further on.
                Err(_) => position += 1,
            }
        }
    }

    /// The definitions that have the content that their fingerprints say; of the others, findings.
    pub(crate) fn whole_definitions(&self, findings: &mut Vec<ReadError>) -> Vec<Definition> {
        let mut whole = Vec::new();
        let mut after = None;
        loop {
            let found = self.backend.scan(&keys::definitions_after(after), 1, Direction::Up).map_err(ReadError::from);
            let next = found.and_then(|mut page| {
                let key = page.pop().map(|(key, _)| keys::parse_definition(&key));
                key.transpose().map_err(|why| damaged_log("the key of a definition", why))
            });
            let fingerprint = match next {
                Ok(Some(fingerprint)) => fingerprint,
                Ok(None) => return whole,
                Err(error) => {
                    findings.push(error);
                    return whole;
                }
            };
            after = Some(fingerprint);
            match self.definition(fingerprint) {
                Ok(bytes) => whole.extend(bytes.map(|bytes| Definition { fingerprint, bytes })),
                Err(error) => findings.push(error),
            }
        }
    }
}
