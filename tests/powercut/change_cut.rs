//! Power cuts during a change of a log: the recording of the change, and the check of each image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloacina_store::record::StreamId;
use tempfile::TempDir;

use super::checker::{Answer, Checker, Seen};
use super::disk::HonouredSyncs;
use super::images::{Recorded, copy, times};
use super::judge::{self, Written};
use super::recording::Event;
use super::{load, victim};

pub type Checked = Result<(), String>;

/// The phase of the batches that are appended after a cut.
pub const AFTERWARDS: u64 = 7;

/// The contents of each execution as a line, without phases that are checked separately.
pub type Streams = BTreeMap<StreamId, String>;

fn phase_of(line: &str) -> (StreamId, u64) {
    let stream: StreamId = line.split(' ').next().unwrap().parse().unwrap();
    (stream, u64::from_be_bytes(stream.as_bytes()[..8].try_into().unwrap()))
}

pub fn streams_of(seen: &Seen, except_phases: &[u64]) -> Streams {
    let lines = seen.streams.iter().map(|line| (phase_of(line), line));
    let lines = lines.filter(|((stream, phase), _)| *stream != StreamId::LOG && !except_phases.contains(phase));
    lines.map(|((stream, _), line)| (stream, line.clone())).collect()
}

/// The records of one phase only.
fn of_phase(seen: &Seen, phase: u64) -> Seen {
    let records = seen.records.iter().filter(|line| phase_of(line) == (phase_of(line).0, phase));
    let records = records.filter(|line| phase_of(line).0 != StreamId::LOG).cloned().collect();
    Seen { records, ..Seen::default() }
}

pub fn seen(answer: Answer) -> Result<Seen, String> {
    match answer {
        Answer::Seen(seen) => Ok(seen),
        other => Err(format!("{other:?}")),
    }
}

/// A recorded change, with the log before and after it.
pub struct Scene {
    pub name: &'static str,
    pub place: TempDir,
    pub events: Vec<Event>,
    pub before: PathBuf,
    pub old: Streams,
    pub new: Streams,
    /// The load that was appended during the change, and must not be lost either.
    appended: Option<load::Load>,
    rules: Rules,
}

/// Additional checks of a change. In any case the log must verify, and each stream must be in its old or its new state.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Returns the streams whose change is acknowledged by these marks.
    pub changed: fn(&[&str]) -> Vec<StreamId>,
    /// Checks an image that was not opened yet.
    pub image: fn(&Cut<'_>) -> Checked,
    /// Checks an image whose log was opened, written to, and closed.
    pub opened: fn(&Cut<'_>) -> Checked,
}

impl Default for Rules {
    fn default() -> Self {
        Self { changed: |_| Vec::new(), image: |_| Ok(()), opened: |_| Ok(()) }
    }
}

impl Scene {
    /// Records a change of a log. `before` creates the disk with the log.
    pub fn record(
        name: &'static str,
        what: &str,
        appended: Option<load::Load>,
        rules: Rules,
        before: impl FnOnce(&Path, &Path) -> PathBuf,
    ) -> Option<Self> {
        let recorder = victim::recorder()?;
        let place = tempfile::tempdir().unwrap();
        let before = before(recorder, place.path());
        let disk = place.path().join("changed");
        copy(&before, &disk);
        let run = victim::change(recorder, what, &disk).unwrap();
        assert!(run.status.success(), "{name}: {} {}", run.status, run.stderr);
        let mut checker = Checker::new();
        let except_phases: &[u64] = if appended.is_some() { &[1] } else { &[] };
        let mut contents = |disk: &Path| {
            let seen = seen(checker.read(&disk.join(victim::LOG))).unwrap();
            judge::is_intact(&seen).unwrap();
            streams_of(&seen, except_phases)
        };
        let (old, new) = (contents(&before), contents(&disk));
        Some(Self { name, place, events: run.events, before, old, new, appended, rules })
    }

    /// Cuts the power once for each image; returns a description of each wrong image.
    pub fn cut(&self, honoured: HonouredSyncs, images: Range<usize>) -> Vec<String> {
        let (mut wrong, mut checker) = (Vec::new(), Checker::new());
        let recorded = Recorded { events: &self.events, before: &self.before };
        recorded.each(honoured, images, |image, moment, root| {
            let marks: Vec<&str> = recorded.marks(moment).collect();
            let kept = self.place.path().join("image");
            let _ = fs::remove_dir_all(&kept);
            copy(root, &kept);
            let acknowledged = (self.rules.changed)(&marks);
            let mut cut = Cut { scene: self, root, acknowledged, marks, after: Seen::default() };
            if let Err(what) = cut.check(&mut checker) {
                let mut reported = format!("image {image}, cut after event {moment} of {}: {what}", self.events.len());
                if wrong.is_empty() && honoured == HonouredSyncs::All {
                    reported.push_str(&format!("\n  image: {}", self.keep(&kept).display()));
                }
                wrong.push(reported);
            }
        });
        wrong
    }

    /// Asserts that the change survives a power cut at any moment.
    pub fn survives(&self, images: usize) {
        let images = times(images);
        let wrong = self.cut(HonouredSyncs::All, 0..images);
        println!("{}: {} of {images} images are correct", self.name, images - wrong.len());
        let reported = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{}: {} of {images} images are wrong:\n{reported}", self.name, wrong.len());
    }

    /// Keeps a wrong image and its recording after the test.
    fn keep(&self, image: &Path) -> PathBuf {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-cut-{}", self.name));
        let _ = fs::remove_dir_all(&kept);
        copy(&self.before, &kept.join("before"));
        copy(image, &kept.join("image"));
        fs::copy(self.place.path().join("changed.recording"), kept.join("recording")).unwrap();
        kept
    }
}

/// The disk after a power cut.
pub struct Cut<'a> {
    pub scene: &'a Scene,
    pub root: &'a Path,
    marks: Vec<&'a str>,
    /// These streams must be in their new state.
    acknowledged: Vec<StreamId>,
    /// The contents of the log after it was opened and appended to.
    pub after: Seen,
}

impl Cut<'_> {
    pub fn log(&self) -> PathBuf {
        self.root.join(victim::LOG)
    }

    pub fn has_mark(&self, mark: &str) -> bool {
        self.marks.contains(&mark)
    }

    /// Checks that the log verifies, each stream is in its old or new state, and the log can be appended to.
    fn check(&mut self, checker: &mut Checker) -> Checked {
        (self.scene.rules.image)(self)?;
        if self.has_mark("finished") {
            let changed = self.changed_streams(|stream| self.acknowledged.contains(stream));
            no_text_of(&changed, self.root).map_err(|what| format!("reported as finished: {what}"))?;
        }
        let before = seen(checker.read(&self.log())).map_err(|what| format!("read: {what}"))?;
        self.check_streams(&before).map_err(|what| format!("read: {what}"))?;
        let after = checker.append_and_read(&self.log(), AFTERWARDS);
        self.after = seen(after).map_err(|what| format!("written to: {what}"))?;
        self.check_streams(&self.after).map_err(|what| format!("written to: {what}"))?;
        let more = [Written::all(&load::named("more").unwrap(), AFTERWARDS)];
        judge::is_history(&of_phase(&self.after, AFTERWARDS), &more)?;
        (self.scene.rules.opened)(self)
    }

    fn check_streams(&self, seen: &Seen) -> Checked {
        judge::is_intact(seen)?;
        if let Some(load) = &self.scene.appended {
            let acknowledged = judge::acknowledged(self.marks.iter().copied());
            judge::is_history(&of_phase(seen, 1), &[Written::new(load, 1, acknowledged)])?;
        }
        let except_phases = if self.scene.appended.is_some() { &[1, AFTERWARDS][..] } else { &[AFTERWARDS] };
        let (found, old, new) = (streams_of(seen, except_phases), &self.scene.old, &self.scene.new);
        for stream in found.keys().chain(old.keys()).chain(new.keys()).collect::<BTreeSet<_>>() {
            let (is, was, becomes) = (found.get(stream), old.get(stream), new.get(stream));
            if is != becomes && (is != was || self.acknowledged.contains(stream)) {
                return Err(format!("a stream is {is:?}; expected {was:?} or {becomes:?}"));
            }
        }
        Ok(())
    }

    /// The numbers of the changed streams that match.
    fn changed_streams(&self, matches: impl Fn(&StreamId) -> bool) -> Vec<u64> {
        let streams = load::streams(&load::named("closed").unwrap(), 0);
        (0..).zip(&streams).filter(|(_, stream)| matches(stream)).map(|(number, _)| number).collect()
    }

    /// Checks that no text of the changed streams is left once the log was opened for writing.
    pub fn erased_text_is_gone(&self) -> Checked {
        let found = streams_of(&self.after, &[1, AFTERWARDS]);
        let (old, new) = (&self.scene.old, &self.scene.new);
        let is_changed = |stream: &StreamId| old.get(stream) != new.get(stream) && found.get(stream) == new.get(stream);
        no_text_of(&self.changed_streams(is_changed), self.root)
    }
}

pub fn no_text_of(streams: &[u64], directory: &Path) -> Checked {
    let texts: Vec<String> = streams.iter().map(|stream| load::named_text(0, *stream)).collect();
    each_file(directory, &mut |path, content| {
        let content = String::from_utf8_lossy(content);
        match texts.iter().find(|text| content.contains(text.as_str())) {
            Some(text) => Err(format!("{text} is still in {}", path.strip_prefix(directory).unwrap().display())),
            None => Ok(()),
        }
    })
}

fn each_file(directory: &Path, contents: &mut dyn FnMut(&Path, &[u8]) -> Checked) -> Checked {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_file(&entry.path(), contents)?;
        } else if kind.is_file() {
            contents(&entry.path(), &fs::read(entry.path()).unwrap())?;
        }
    }
    Ok(())
}

pub fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let _ = each_file(directory, &mut |path, content| {
        found.insert(path.strip_prefix(directory).unwrap().to_owned(), content.to_owned());
        Ok(())
    });
    found
}
