//! The images that a recording is cut into: the same ones each time.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::checker::scratch;
use super::dice::Dice;
use super::disk::{Believes, Disk};
use super::recording::Event;

/// What was recorded, and on what.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub events: &'a [Event],
    /// The disk at the beginning.
    pub before: &'a Path,
}

impl<'a> Recorded<'a> {
    /// After how many events an image is cut: every second one right after an acknowledgement.
    pub fn moment(self, image: usize) -> usize {
        let mut dice = Dice::new(&[1, image as u64]);
        let mut choose = |from: usize| usize::try_from(dice.below(from as u64)).unwrap();
        if image % 2 == 1 {
            return choose(self.events.len() + 1);
        }
        let marks: Vec<usize> =
            (0..self.events.len()).filter(|at| matches!(self.events[*at], Event::Mark(_))).collect();
        marks[choose(marks.len())] + 1
    }

    /// What the program had said by then.
    pub fn marks(self, moment: usize) -> impl Iterator<Item = &'a str> {
        self.events[..moment].iter().filter_map(|event| match event {
            Event::Mark(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Makes some images, in the order of their moments, each in the root of a disk.
    pub fn each(self, believes: Believes, images: Range<usize>, mut check: impl FnMut(usize, usize, &Path)) {
        let mut disk = Disk::of(self.before, believes);
        let place = tempfile::tempdir_in(scratch()).unwrap();
        let mut cuts: Vec<(usize, usize)> = images.map(|image| (self.moment(image), image)).collect();
        cuts.sort_unstable();
        let mut happened = 0;
        for (moment, image) in cuts {
            self.events[happened..moment].iter().for_each(|event| disk.apply(event));
            happened = moment;
            let root = place.path().join(image.to_string());
            disk.cut(&mut Dice::new(&[2, image as u64]), &root);
            check(image, moment, &root);
            fs::remove_dir_all(&root).unwrap();
        }
    }
}

/// Copies files and directories.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How many images are looked at: `CLOACA_POWER_CUT_TIMES=20` makes it twenty times as many.
pub fn times(images: usize) -> usize {
    images * std::env::var("CLOACA_POWER_CUT_TIMES").map_or(1, |times| times.parse().unwrap())
}
