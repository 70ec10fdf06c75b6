//! The disk images that are made from a recording, the same ones each time.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::checker::scratch;
use super::dice::Dice;
use super::disk::{Disk, HonouredSyncs};
use super::recording::Event;

/// A recording and its initial disk.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    pub events: &'a [Event],
    /// The disk at the beginning.
    pub before: &'a Path,
}

impl<'a> Recorded<'a> {
    /// The number of events before the cut of an image: every second cut falls right after an acknowledgement.
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

    /// The marks of the program up to that moment.
    pub fn marks(self, moment: usize) -> impl Iterator<Item = &'a str> {
        self.events[..moment].iter().filter_map(|event| match event {
            Event::Mark(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Creates images in the order of their moments, and calls `check` with the root of each.
    pub fn each(self, honoured: HonouredSyncs, images: Range<usize>, mut check: impl FnMut(usize, usize, &Path)) {
        let mut disk = Disk::of(self.before, honoured);
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

/// The number of images to check: `CLOACA_POWER_CUT_TIMES=20` checks twenty times as many.
pub fn times(images: usize) -> usize {
    images * std::env::var("CLOACA_POWER_CUT_TIMES").map_or(1, |times| times.parse().unwrap())
}
