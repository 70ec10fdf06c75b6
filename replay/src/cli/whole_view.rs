//! `replay verify --all`: a whole log, its executions one by one.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use cloacina_store::log::{OpenError, ReadError};
use cloacina_store::record::StreamId;

use super::columns::{Cell, Column, Table};
use super::failure::{Failure, code};
use super::header;
use super::progress::Progress;
use super::proof_view::not_what_was_written;
use super::screen::Screen;
use super::style::Tone;
use super::surroundings::Opener;
use super::text;
use crate::ids::short;
use crate::json::document::Object;
use crate::json::log::{CheckedJson, WholeJson};
use crate::reading::stream_of;
use crate::whole::{Checked, Whole};

/// What of it is counted.
#[derive(Default)]
struct Sums {
    executions: u64,
    not_whole: u64,
    erased: u64,
    /// The executions of which a verdict says that they are not whole.
    told: BTreeSet<StreamId>,
    /// Why not all executions could be looked at, if they could not.
    unread: Option<String>,
}

impl Sums {
    /// What could be checked; nothing more is, where the list of executions itself cannot be read.
    fn take(&mut self, checked: Result<Checked, ReadError>) -> Option<Checked> {
        match checked {
            Ok(checked) => {
                self.add(&checked);
                Some(checked)
            }
            Err(error) => {
                self.unread = Some(error.to_string());
                None
            }
        }
    }

    fn add(&mut self, checked: &Checked) {
        self.executions += 1;
        if !checked.verification.is_ok() {
            self.not_whole += 1;
            self.told.insert(stream_of(checked.head.id));
        } else if checked.first().is_some() {
            self.erased += 1;
        }
    }
}

/// Checks the log, or the archive, at a whole path, which is called `location`; `shows_progress` says whether anybody would
/// see how far it is.
///
/// # Errors
/// [`Failure`] if it cannot be read at all, or is not what was written.
pub fn write(
    screen: &mut Screen<'_>,
    (path, location): (&Path, &str),
    (open, shows_progress): (Opener<'_>, bool),
    json: bool,
) -> Result<i32, Failure> {
    let whole = Whole::check(path, open).map_err(|error| match error {
        // What `Failure::open` says to type is what was typed.
        OpenError::Damaged { .. } => not_what_was_written(location).with_details(vec![text::clean(&error.to_string())]),
        other => Failure::open(&other),
    })?;
    let progress = Progress::new(shows_progress, whole.count(), "executions");
    let mut sums = Sums { unread: whole.unreadable().map(ToString::to_string), ..Sums::default() };
    if json {
        let mut object = Object::begin(screen.out, "verify_all")?;
        object.member("log", &location)?;
        let checked = whole.executions(&progress).map_while(|checked| {
            let checked = sums.take(checked)?;
            Some(serde_json::value::to_raw_value(&CheckedJson::from(&checked)).map_err(Failure::from))
        });
        object.list("executions", checked)?;
        object.member("whole", &WholeJson::new(&whole, sums.unread.clone()))?;
        object.member("ok", &is_whole(&whole, &sums))?;
        object.end()?;
    } else {
        header::read_from(screen, location)?;
        screen.line("")?;
        let mut table = Table::new(
            vec![
                Column::left("id"),
                Column::giving_way("workflow", 16),
                Column::left("status"),
                Column::left("verdict"),
            ],
            1,
        );
        for checked in whole.executions(&progress) {
            let Some(checked) = sums.take(checked) else { break };
            if !checked.verification.is_ok() {
                row(&mut table, &checked);
            }
        }
        if sums.not_whole > 0 {
            table.write(screen)?;
            screen.line("")?;
        }
        others(screen, &whole, &sums)?;
        totals(screen, &whole, &sums)?;
    }
    drop(progress);
    if is_whole(&whole, &sums) { Ok(code::OK) } else { Err(not_what_was_written(location)) }
}

fn is_whole(whole: &Whole, sums: &Sums) -> bool {
    sums.not_whole == 0 && whole.findings.is_empty() && sums.unread.is_none()
}

fn row(table: &mut Table, checked: &Checked) {
    let says = checked.first().map(ToString::to_string).unwrap_or_default();
    table.row(vec![
        Cell::new(format!("…{}", short(checked.head.id))).tone(Tone::Strong),
        Cell::new(text::clean(checked.head.workflow())),
        Cell::new(checked.head.status()),
        Cell::new(checked.verdict()).tone(Tone::Bad),
    ]);
    table.note(Tone::Plain, text::clean(&says));
}

/// What is wrong beside what the executions' own verdicts say.
fn others(screen: &mut Screen<'_>, whole: &Whole, sums: &Sums) -> io::Result<()> {
    let others = whole.other_findings(&sums.told);
    for finding in &others {
        screen.paragraph(0, Tone::Bad, &text::clean(&finding.to_string()))?;
    }
    // Where findings say why, it is not said twice.
    let unreadable = sums.unread.as_deref().filter(|_| whole.findings.is_empty());
    if let Some(error) = unreadable {
        screen.paragraph(0, Tone::Bad, &text::clean(error))?;
    }
    if !others.is_empty() || unreadable.is_some() {
        screen.line("")?;
    }
    Ok(())
}

/// All of it in a line.
fn totals(screen: &mut Screen<'_>, whole: &Whole, sums: &Sums) -> io::Result<()> {
    let streams = whole.streams.map(|streams| format!(" in {}", text::count(streams, "stream"))).unwrap_or_default();
    let records = format!("{}{streams}", text::count(whole.records, "record"));
    let executions = text::count(sums.executions, "execution");
    let erased = match sums.erased {
        0 => String::new(),
        count => format!("; of {}, values were erased", text::count(count, "execution")),
    };
    let digest = whole.digest.map(|digest| format!("; digest {digest}")).unwrap_or_default();
    if is_whole(whole, sums) {
        let ok = screen.style.paint(Tone::Good, "ok");
        let line =
            format!("{ok}: {executions}, {records} are what was written, and nothing is missing{erased}{digest}");
        return screen.line(&line);
    }
    let sound = match (&sums.unread, sums.not_whole) {
        (Some(_), _) if sums.executions == 0 => "the executions could not be looked at one by one".to_owned(),
        (Some(_), count) => format!("{count} of {executions} not whole; the others could not be looked at"),
        (None, 0) => format!("{executions} are whole, the log is not"),
        (None, count) => format!("{count} of {executions} not whole, the others are"),
    };
    let findings = text::count(whole.findings.len() as u64, "finding");
    screen.line(&format!("{sound}; {records} checked, {findings}{erased}"))
}
