//! Going through a segment from a place on, whatever is damaged in it.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{DIRECTORY, numbers, path_of, read_up_to};
use crate::directory::files;
use crate::layout::run::End;
use crate::layout::segment::{self, Found, HEADER, LONGEST, Place};

/// How much is in memory at a time.
const WINDOW: usize = 4 * 1024 * 1024;

/// Gives each whole value in the segments of the log in a directory between two places, in the order that they were written; of one that
/// was wiped, that it was. What is damaged is passed over, byte by byte, up to the next whole value; content that only looks like a
/// value is none, for its checksum is also over where it stands.
pub(crate) fn each_value(
    directory: &Path,
    from: End,
    to: End,
    mut each: impl FnMut(Place, &[u8], Option<&[u8]>),
) -> io::Result<()> {
    let segments = directory.join(DIRECTORY);
    for number in numbers(&segments)?.into_iter().filter(|number| (from.segment..=to.segment).contains(number)) {
        let begin = if number == from.segment { (from.offset as usize).max(HEADER) } else { HEADER };
        let file = files::to_read(&path_of(&segments, number))?;
        let mut before_end = |place: Place, key: &[u8], value: Option<&[u8]>| {
            if (place.segment, place.offset) < (to.segment, to.offset) {
                each(place, key, value);
            }
        };
        each_of(number, &file, begin as u64, &mut before_end)?;
    }
    Ok(())
}

fn each_of(number: u32, file: &File, begin: u64, each: &mut impl FnMut(Place, &[u8], Option<&[u8]>)) -> io::Result<()> {
    let mut window = vec![0; WINDOW];
    let mut start = begin;
    loop {
        let length = read_up_to(file, &mut window, start)?;
        let is_last = length < WINDOW;
        // A value that begins before this is whole in the window.
        let searched = if is_last { length } else { length - LONGEST };
        let at = each_in(number, start, &window[..length], searched, each);
        if is_last {
            return Ok(());
        }
        start += at as u64;
    }
}

/// Gives each whole value that begins in the first bytes of a window, and says where the next one can begin.
pub(crate) fn each_in(
    number: u32,
    start: u64,
    window: &[u8],
    searched: usize,
    each: &mut impl FnMut(Place, &[u8], Option<&[u8]>),
) -> usize {
    let mut at = 0;
    while at < searched {
        // A segment is far shorter than what does not fit.
        let offset = u32::try_from(start + at as u64).unwrap_or(u32::MAX);
        match segment::read(number, offset, &window[at..]) {
            Ok(Found { key, value, length, span }) => {
                each(Place { segment: number, offset, length }, key, value);
                at += span;
            }
            Err(_) => at += 1,
        }
    }
    at
}
