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
use crate::verify::Verdict;
use crate::verify_log::{Checked, Whole};

/// What of it is counted.
#[derive(Default)]
struct Sums {
    executions: u64,
    not_whole: u64,
    erased: u64,
    /// How many were pruned while they were verified.
    pruned_meanwhile: u64,
    /// The executions of which a verdict says that they are not whole.
    told: BTreeSet<StreamId>,
    /// Those that are whole.
    whole: BTreeSet<StreamId>,
    /// How many of them are not over: an end that they have lost would not be missed.
    open: u64,
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
        if let Some(Verdict::PrunedMeanwhile { .. }) = checked.first() {
            self.pruned_meanwhile += 1;
            return;
        }
        self.executions += 1;
        if !checked.verification.is_ok() {
            self.not_whole += 1;
            self.told.insert(stream_of(checked.head.id));
            return;
        }
        self.whole.insert(stream_of(checked.head.id));
        self.open += u64::from(checked.head.entry.open);
        self.erased += u64::from(checked.first().is_some());
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
        object.member("whole", &WholeJson::new(&whole, sums.pruned_meanwhile, sums.unread.clone()))?;
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
        let mut said = String::new();
        for checked in whole.executions(&progress) {
            let Some(checked) = sums.take(checked) else { break };
            if !checked.verification.is_ok() {
                row(&mut table, &checked, &mut said);
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

/// The row of an execution that is not whole. Why is not said again where it was `said` of the one above.
fn row(table: &mut Table, checked: &Checked, said: &mut String) {
    table.row(vec![
        Cell::new(format!("…{}", short(checked.head.id))).tone(Tone::Strong),
        Cell::new(text::clean(checked.head.workflow())),
        Cell::new(checked.head.status()),
        Cell::new(checked.verdict()).tone(Tone::Bad),
    ]);
    let says = match checked.first() {
        // The verdict stands in the row.
        Some(Verdict::Unreadable(why)) => why.clone(),
        first => first.map(ToString::to_string).unwrap_or_default(),
    };
    if says != *said {
        table.note(Tone::Plain, text::clean(&says));
        *said = says;
    }
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
    if others.iter().any(|finding| finding.stream().is_some_and(|stream| sums.whole.contains(&stream))) {
        let note = "what is named here and not in a table is whole by itself: the log's own account of it is not";
        screen.paragraph(2, Tone::Plain, note)?;
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
    let pruned = match sums.pruned_meanwhile {
        0 => String::new(),
        count => format!("; {} pruned meanwhile", text::count(count, "execution")),
    };
    let erased = format!("{erased}{pruned}");
    let digest = whole.digest.map(|digest| format!("; digest {digest}")).unwrap_or_default();
    if is_whole(whole, sums) {
        let ok = screen.style.paint(Tone::Good, "ok");
        let line =
            format!("{ok}: {executions}, {records} are what was written, and nothing is missing{erased}{digest}");
        return screen.line(&line);
    }
    not_whole(screen, whole, sums, &executions)?;
    let findings = text::count(whole.findings.len() as u64, "finding");
    told(screen, "checked", &format!("{records}; {findings}{erased}"))
}

/// A line of the sum, which goes on below if it is long.
fn told(screen: &mut Screen<'_>, name: &str, says: &str) -> io::Result<()> {
    screen.paragraph(0, Tone::Plain, &format!("{name}: {says}"))
}

/// What is lost, and what is not.
fn not_whole(screen: &mut Screen<'_>, whole: &Whole, sums: &Sums, executions: &str) -> io::Result<()> {
    match (&sums.unread, sums.not_whole) {
        (Some(_), _) if sums.executions == 0 => {
            told(screen, "not known", "the executions could not be looked at one by one")?;
        }
        (Some(_), count) => {
            told(screen, "not whole", &format!("{count} of {executions}; the others could not be looked at"))?;
        }
        (None, 0) => {}
        (None, count) if count == sums.executions => told(screen, "not whole", &format!("all {executions}"))?,
        (None, count) => told(screen, "not whole", &format!("{count} of {executions}, those above"))?,
    }
    let log_is_damaged = !whole.other_findings(&sums.told).is_empty();
    let count = sums.whole.len() as u64;
    if log_is_damaged {
        let lost = match count {
            0 => "",
            _ => {
                ". What it has lost is in none of the executions that are over and whole. It may be executions that began \
                 later and are not listed any more, events of schedules and triggers, or who opened and closed it"
            }
        };
        told(screen, "not whole", &format!("the log itself{lost}"))?;
    }
    if count > 0 {
        let open = match sums.open {
            count if count == 0 || !log_is_damaged => String::new(),
            1 => "; 1 of them is not over: its last events may be among what is lost".to_owned(),
            count => format!("; {count} of them are not over: their last events may be among what is lost"),
        };
        told(screen, "whole", &format!("{}, each event of them{open}", text::count(count, "execution")))?;
    }
    Ok(())
}
