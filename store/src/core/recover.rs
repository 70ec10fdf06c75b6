//! What an open checks for itself: from where the head file says that the log was whole, to its end.
//!
//! sled can lose a part of a damaged log, or all of it, without an error. So an open follows the commit entries from
//! the head file's position on: they leave no gap, their hashes chain, the frames that they name are there and fit
//! their hashes, and time never goes back.

use std::path::Path;

use super::Core;
use crate::backend::Backend;
use crate::layout::group::GroupEntry;
use crate::layout::head::Tip;
use crate::log::{OpenError, ReadError};
use crate::record::Hash;

/// How many commit entries are looked at together.
const PAGE: usize = 64;

/// Why a log is not taken up again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It is not what was written.
    Damaged(String),
    /// It could not be read or written: nothing is known of it.
    Failed(String),
}

impl Unfit {
    /// The error of whoever opens the log at a path.
    pub(crate) fn refuse(self, path: &Path) -> OpenError {
        match self {
            Self::Damaged(what) => OpenError::Damaged { path: path.to_owned(), what },
            Self::Failed(reason) => OpenError::Io { path: path.to_owned(), doing: "taking it up".to_owned(), reason },
        }
    }
}

impl From<ReadError> for Unfit {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(_) | ReadError::Gone => Self::Failed(error.to_string()),
            // It is said where this is shown, too.
            ReadError::DamagedLog(what) => Self::Damaged(what),
            other => Self::Damaged(other.to_string()),
        }
    }
}

impl From<Unfit> for ReadError {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Damaged(what) => Self::DamagedLog(what),
            Unfit::Failed(reason) => Self::Io(reason),
        }
    }
}

/// The head that was saved last, [`Tip::EMPTY`] if none was.
pub(crate) fn saved_head(backend: &impl Backend) -> Result<Tip, Unfit> {
    let Some(bytes) = backend.load_head().map_err(ReadError::from)? else {
        return Ok(Tip::EMPTY);
    };
    Tip::decode(&bytes).map_err(|why| Unfit::Damaged(format!("the head file: {why}")))
}

/// How closely an open looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// At every frame: what is written next goes on from it.
    Frames,
    /// At the commit entries. Whoever reads a frame checks it then, and those that are whole can still be read.
    Groups,
}

/// Follows the log from its saved head to its end.
pub(crate) fn follow<B: Backend>(core: &Core<B>, head: Tip, care: Care) -> Result<Tip, Unfit> {
    check_start(core, &head)?;
    let mut tip = head;
    loop {
        let entries = core.groups_from(tip.position, u64::MAX, PAGE)?;
        if entries.is_empty() {
            return Ok(tip);
        }
        for (position, entry) in entries {
            check_gapless(&tip, position)?;
            tip = match care {
                Care::Frames => follow_group(core, &tip, position, &entry)?,
                Care::Groups => skip_group(core, &tip, &entry),
            };
        }
    }
}

/// That the log goes as far as its head file says, with the hash that it says.
pub(crate) fn check_start<B: Backend>(core: &Core<B>, head: &Tip) -> Result<(), Unfit> {
    let found = match core.group_before(head.position)? {
        Some((position, entry)) => (position.saturating_add(entry.records()), entry.hash),
        None => (0, Hash::ZERO),
    };
    if found.0 < head.position {
        return Err(Unfit::Damaged(format!(
            "it ends at position {}, its head file says that {} records were durable ({} lost)",
            found.0,
            head.position,
            head.position - found.0
        )));
    }
    if found != (head.position, head.hash) {
        return Err(Unfit::Damaged(format!(
            "at position {} its hash is {}, its head file says {} at {}",
            found.0, found.1, head.hash, head.position
        )));
    }
    Ok(())
}

fn check_gapless(tip: &Tip, position: u64) -> Result<(), Unfit> {
    if position == tip.position {
        return Ok(());
    }
    Err(Unfit::Damaged(format!(
        "the records from position {} to {position} are missing, though later ones are there",
        tip.position
    )))
}

/// Where the log is after a commit entry, on its word.
fn skip_group<B: Backend>(core: &Core<B>, tip: &Tip, entry: &GroupEntry) -> Tip {
    let last = entry.frames.last();
    let frame = last.and_then(|place| core.load_frame(place.stream, place.first_seq).ok().flatten());
    Tip {
        position: tip.position.saturating_add(entry.records()),
        time: frame.map_or(tip.time, |frame| frame.header.time),
        hash: entry.hash,
    }
}

/// Checks one commit entry and the frames that it names.
fn follow_group<B: Backend>(core: &Core<B>, tip: &Tip, position: u64, entry: &GroupEntry) -> Result<Tip, Unfit> {
    let mut at = position;
    let mut time = tip.time;
    let mut heads = Vec::with_capacity(entry.frames.len());
    for place in &entry.frames {
        let frame = core.load_named(place, at)?;
        if frame.header.time < time {
            return Err(Unfit::Damaged(format!("time goes back at position {at}")));
        }
        time = frame.header.time;
        heads.push(frame.header.head);
        core.check_frame(place.stream, place.first_seq, frame)?;
        at += u64::from(place.count);
    }
    let hash = entry.expected_hash(position, &tip.hash, &heads);
    if hash == entry.hash {
        Ok(Tip { position: at, time, hash })
    } else {
        Err(Unfit::Damaged(format!("the log hash after position {at} is {}, its content gives {hash}", entry.hash)))
    }
}
