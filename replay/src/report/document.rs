//! The documents of a report, and the file that contains them.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cloacina_engine::core::codec::fingerprint;
use cloacina_engine::core::event::{ExecutionId, Seq};
use cloacina_store::log::{LogReader, ReadError};

use super::frames::{Frame, Framer};
use super::layout::{Layout, layout};
use super::page::{self, Origin};
use crate::json::document::{NotWritten, Object, write_history};
use crate::json::facts::{ExecutionJson, VerificationJson};
use crate::reading::{Definitions, HistoryError, entries};
use crate::source;
use crate::story::tell;
use crate::verify::verify;

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NotReported {
    /// There is no such execution, or none of it can be read.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// Writing failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The events can no longer be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl From<NotWritten> for NotReported {
    fn from(error: NotWritten) -> Self {
        match error {
            NotWritten::Output(error) => Self::Output(error),
            NotWritten::History(trouble) => Self::History(trouble),
        }
    }
}

/// Writes an execution as one HTML file, with any read or fold errors. `location` is where the log was found.
///
/// # Errors
/// [`NotReported`].
pub fn write_report(
    out: &mut dyn Write,
    reader: &dyn LogReader,
    id: ExecutionId,
    location: &str,
) -> Result<(), NotReported> {
    let (mut history, mut report) = (Vec::new(), Vec::new());
    write_documents(reader, id, location, &mut history, &mut report)?;
    let title = source::head(reader, id)?;
    let title = format!("{} …{}", title.workflow(), crate::ids::short(id));
    page::write(out, Origin::File, &title, &[("history", &history), ("report", &report)])?;
    Ok(())
}

/// Writes the two documents of an execution. Returns the `seq` after their last event.
///
/// # Errors
/// [`NotReported`].
pub fn write_documents(
    reader: &dyn LogReader,
    id: ExecutionId,
    location: &str,
    history: &mut dyn Write,
    report: &mut dyn Write,
) -> Result<Seq, NotReported> {
    let mut head = source::head(reader, id)?;
    // A running execution grows while it is read. All parts must end with the same event.
    let until = head.entry.records;
    let some = || entries(reader, id).take_while(move |entry| entry.as_ref().map_or(true, |entry| entry.seq < until));
    let story = tell(id, reader, some());
    head.note(story.trouble.as_ref());
    let story = story.standing(&head.standing);
    let execution = ExecutionJson::new(&head, location);
    write_history(history, &execution, &story, some(), &reader)?;
    let mut framer = Framer::new(id, reader);
    let mut layouts = Layouts::default();
    let mut frames: Vec<Frame> = Vec::new();
    // The `trouble` of the history document reports read and fold errors.
    for entry in some().map_while(Result::ok) {
        let Ok(Some(frame)) = framer.step(&entry) else { break };
        layouts.add(&framer);
        frames.push(frame);
    }
    let verification = verify(reader, id)?;
    let mut object = Object::begin(report, "report")?;
    object.member("made", &crate::time::rfc3339(cloacina_engine::core::time::Timestamp(now())))?;
    object.member("verification", &VerificationJson::from(&verification))?;
    object.list("layouts", layouts.found.iter().map(Ok::<_, io::Error>))?;
    object.list("frames", frames.iter().map(Ok::<_, io::Error>))?;
    object.end()?;
    Ok(until)
}

fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}

/// The layouts of the definitions of an execution.
#[derive(Default)]
pub struct Layouts {
    known: BTreeSet<[u8; 32]>,
    /// Each once, in order of appearance.
    pub found: Vec<Layout>,
}

impl Layouts {
    /// Adds the layout of the execution's present graph, unless it is known.
    pub fn add<D: Definitions>(&mut self, framer: &Framer<D>) {
        if let Some(state) = framer.state()
            && self.known.insert(state.fingerprint().0)
        {
            debug_assert_eq!(fingerprint(state.graph().definition()), state.fingerprint());
            self.found.push(layout(state.graph()));
        }
    }
}
