//! A change of a log that is cut: what was recorded of it, and whether an image is as it must be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use cloacina_store::record::StreamId;
use tempfile::TempDir;

use super::checker::{Answer, Checker, Seen};
use super::disk::Believes;
use super::images::{Recorded, copy, times};
use super::judge::{self, Written};
use super::recording::Event;
use super::{load, victim};

pub type Checked = Result<(), String>;

/// The phase of what is appended after a cut.
pub const AFTERWARDS: u64 = 7;

/// Each execution, as a line that says what is in it; none of a phase that is judged otherwise.
pub type Streams = BTreeMap<StreamId, String>;

fn phase_of(line: &str) -> (StreamId, u64) {
    let stream: StreamId = line.split(' ').next().unwrap().parse().unwrap();
    (stream, u64::from_be_bytes(stream.as_bytes()[..8].try_into().unwrap()))
}

pub fn streams_of(seen: &Seen, leaving_out: &[u64]) -> Streams {
    let lines = seen.streams.iter().map(|line| (phase_of(line), line));
    let lines = lines.filter(|((stream, phase), _)| *stream != StreamId::LOG && !leaving_out.contains(phase));
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

/// A log before and after a change that was recorded.
pub struct Scene {
    pub name: &'static str,
    pub place: TempDir,
    pub events: Vec<Event>,
    pub before: PathBuf,
    pub old: Streams,
    pub new: Streams,
    /// What must not be lost though the change says nothing of it.
    appended: Option<load::Load>,
    rules: Rules,
}

/// What must hold beside that the log is whole, and every stream as it was or as it was to be.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Which streams are changed for good, after these marks.
    pub changed: fn(&[&str]) -> Vec<StreamId>,
    /// Of an image that nobody has opened yet.
    pub image: fn(&Cut<'_>) -> Checked,
    /// Of one whose log was opened, written to, and closed.
    pub opened: fn(&Cut<'_>) -> Checked,
}

impl Default for Rules {
    fn default() -> Self {
        Self { changed: |_| Vec::new(), image: |_| Ok(()), opened: |_| Ok(()) }
    }
}

impl Scene {
    /// Records a change of a log. `before` makes the disk with it.
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
        assert!(run.status.success(), "{name}: {} {}", run.status, run.said);
        let mut checker = Checker::new();
        let leaving_out: &[u64] = if appended.is_some() { &[1] } else { &[] };
        let mut look = |disk: &Path| {
            let seen = seen(checker.read(&disk.join(victim::LOG))).unwrap();
            judge::is_whole(&seen).unwrap();
            streams_of(&seen, leaving_out)
        };
        let (old, new) = (look(&before), look(&disk));
        Some(Self { name, place, events: run.events, before, old, new, appended, rules })
    }

    /// Cuts the power once for each image, and tells of which images what is not as it must be.
    pub fn cut(&self, believes: Believes, images: Range<usize>) -> Vec<String> {
        let (mut wrong, mut checker) = (Vec::new(), Checker::new());
        let recorded = Recorded { events: &self.events, before: &self.before };
        recorded.each(believes, images, |image, moment, root| {
            let marks: Vec<&str> = recorded.marks(moment).collect();
            let kept = self.place.path().join("image");
            let _ = fs::remove_dir_all(&kept);
            copy(root, &kept);
            let acknowledged = (self.rules.changed)(&marks);
            let mut cut = Cut { scene: self, root, acknowledged, marks, after: Seen::default() };
            if let Err(what) = cut.holds(&mut checker) {
                let mut told = format!("image {image}, cut after event {moment} of {}: {what}", self.events.len());
                if wrong.is_empty() && believes == Believes::All {
                    told.push_str(&format!("\n  image: {}", self.keep(&kept).display()));
                }
                wrong.push(told);
            }
        });
        wrong
    }

    /// That the change survives a power cut at any moment.
    pub fn survives(&self, images: usize) {
        let images = times(images);
        let wrong = self.cut(Believes::All, 0..images);
        println!("{}: {} of {images} images are as they must be", self.name, images - wrong.len());
        let told = wrong.iter().take(5).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{}: {} of {images} images are not:\n{told}", self.name, wrong.len());
    }

    /// Keeps an image, and what it was made from, beyond the test.
    fn keep(&self, image: &Path) -> PathBuf {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("power-cut-{}", self.name));
        let _ = fs::remove_dir_all(&kept);
        copy(&self.before, &kept.join("before"));
        copy(image, &kept.join("image"));
        fs::copy(self.place.path().join("changed.recording"), kept.join("recording")).unwrap();
        kept
    }
}

/// What a power cut left.
pub struct Cut<'a> {
    pub scene: &'a Scene,
    pub root: &'a Path,
    marks: Vec<&'a str>,
    /// These streams must be as after the change.
    acknowledged: Vec<StreamId>,
    /// What was read after the log had gone on.
    pub after: Seen,
}

impl Cut<'_> {
    pub fn log(&self) -> PathBuf {
        self.root.join(victim::LOG)
    }

    pub fn said(&self, mark: &str) -> bool {
        self.marks.contains(&mark)
    }

    /// That the log is whole, every stream is as it was or as it was to be, and it goes on.
    fn holds(&mut self, checker: &mut Checker) -> Checked {
        (self.scene.rules.image)(self)?;
        if self.said("finished") {
            let changed = self.changed_streams(|stream| self.acknowledged.contains(stream));
            no_text_of(&changed, self.root).map_err(|what| format!("said to be finished: {what}"))?;
        }
        let before = seen(checker.read(&self.log())).map_err(|what| format!("read: {what}"))?;
        self.is_as_it_must_be(&before).map_err(|what| format!("read: {what}"))?;
        let after = checker.go_on(&self.log(), AFTERWARDS);
        self.after = seen(after).map_err(|what| format!("written to: {what}"))?;
        self.is_as_it_must_be(&self.after).map_err(|what| format!("written to: {what}"))?;
        let more = [Written::all(&load::named("more").unwrap(), AFTERWARDS)];
        judge::is_history(&of_phase(&self.after, AFTERWARDS), &more)?;
        (self.scene.rules.opened)(self)
    }

    fn is_as_it_must_be(&self, seen: &Seen) -> Checked {
        judge::is_whole(seen)?;
        if let Some(load) = &self.scene.appended {
            let acknowledged = judge::acknowledged(self.marks.iter().copied());
            judge::is_history(&of_phase(seen, 1), &[Written::new(load, 1, acknowledged)])?;
        }
        let leaving_out = if self.scene.appended.is_some() { &[1, AFTERWARDS][..] } else { &[AFTERWARDS] };
        let (found, old, new) = (streams_of(seen, leaving_out), &self.scene.old, &self.scene.new);
        for stream in found.keys().chain(old.keys()).chain(new.keys()).collect::<BTreeSet<_>>() {
            let (is, was, becomes) = (found.get(stream), old.get(stream), new.get(stream));
            if is != becomes && (is != was || self.acknowledged.contains(stream)) {
                return Err(format!("a stream is {is:?}; it was {was:?} and becomes {becomes:?}"));
            }
        }
        Ok(())
    }

    /// The numbers of the changed streams that are so.
    fn changed_streams(&self, are: impl Fn(&StreamId) -> bool) -> Vec<u64> {
        let streams = load::streams(&load::named("closed").unwrap(), 0);
        (0..).zip(&streams).filter(|(_, stream)| are(stream)).map(|(number, _)| number).collect()
    }

    /// That nothing is left of the text of the streams that are changed, once the log was opened for writing.
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

fn each_file(directory: &Path, look: &mut dyn FnMut(&Path, &[u8]) -> Checked) -> Checked {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            each_file(&entry.path(), look)?;
        } else if kind.is_file() {
            look(&entry.path(), &fs::read(entry.path()).unwrap())?;
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
