//! `replay verify --all`: verifies a whole log and each of its executions.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use cloacina_store::log::{OpenError, ReadError};
use cloacina_store::record::StreamId;

use super::columns::{Cell, Column, Table};
use super::failure::{Failure, code};
use super::header;
use super::progress::Progress;
use super::proof_view::damaged;
use super::screen::Screen;
use super::style::Tone;
use super::surroundings::Opener;
use super::text;
use crate::ids::short;
use crate::json::document::Object;
use crate::json::log::{LogVerificationJson, VerifiedExecutionJson};
use crate::reading::stream_of;
use crate::verify::Verdict;
use crate::verify_log::{LogVerification, VerifiedExecution};

/// What was counted.
#[derive(Default)]
struct Totals {
    executions: u64,
    /// How many intact executions have erased values.
    erased: u64,
    /// How many were pruned while they were verified.
    pruned_meanwhile: u64,
    /// The damaged executions.
    damaged: BTreeSet<StreamId>,
    /// The intact executions.
    intact: BTreeSet<StreamId>,
    /// How many intact executions are not finished: if their last events were lost, nothing would show it.
    open: u64,
    /// Why some executions could not be checked, if so.
    unread: Option<String>,
}

impl Totals {
    /// Counts an execution and returns it; `None` if the list of executions cannot be read any further.
    fn take(&mut self, checked: Result<VerifiedExecution, ReadError>) -> Option<VerifiedExecution> {
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

    fn add(&mut self, checked: &VerifiedExecution) {
        if let Some(Verdict::PrunedMeanwhile { .. }) = checked.first() {
            self.pruned_meanwhile += 1;
            return;
        }
        self.executions += 1;
        if !checked.verification.is_ok() {
            self.damaged.insert(stream_of(checked.head.id));
            return;
        }
        self.intact.insert(stream_of(checked.head.id));
        self.open += u64::from(checked.head.entry.open);
        self.erased += u64::from(checked.first().is_some());
    }
}

/// Verifies the log or archive at an absolute path. The output calls it `location`; `shows_progress` says whether to
/// show a progress bar.
///
/// # Errors
/// [`Failure`] if the log cannot be read at all, or is damaged.
pub fn write(
    screen: &mut Screen<'_>,
    (path, location): (&Path, &str),
    (open, shows_progress): (Opener<'_>, bool),
    json: bool,
) -> Result<i32, Failure> {
    let whole = LogVerification::check(path, open).map_err(|error| match error {
        // `Failure::open` would suggest this very command.
        OpenError::Damaged { .. } => damaged(location).with_details(vec![text::clean(&error.to_string())]),
        other => Failure::open(&other),
    })?;
    let progress = Progress::new(shows_progress, whole.count(), "executions");
    let mut totals = Totals { unread: whole.unreadable().map(ToString::to_string), ..Totals::default() };
    if json {
        let mut object = Object::begin(screen.out, "verify_all")?;
        object.member("log", &location)?;
        let checked = whole.executions(&progress).map_while(|checked| {
            let checked = totals.take(checked)?;
            Some(serde_json::value::to_raw_value(&VerifiedExecutionJson::from(&checked)).map_err(Failure::from))
        });
        object.list("executions", checked)?;
        object.member("whole", &LogVerificationJson::new(&whole, totals.pruned_meanwhile, totals.unread.clone()))?;
        object.member("ok", &is_intact(&whole, &totals))?;
        object.end()?;
    } else {
        header::read_from(screen, location)?;
        screen.line("")?;
        let mut table = Table::new(
            vec![
                Column::left("id"),
                Column::shrinking("workflow", 16),
                Column::left("status"),
                Column::left("verdict"),
            ],
            1,
        );
        let mut last_reason = String::new();
        for checked in whole.executions(&progress) {
            let Some(checked) = totals.take(checked) else { break };
            if !checked.verification.is_ok() {
                row(&mut table, &checked, &mut last_reason);
            }
        }
        if !totals.damaged.is_empty() {
            table.write(screen)?;
            screen.line("")?;
        }
        log_findings(screen, &whole, &totals)?;
        write_totals(screen, &whole, &totals)?;
    }
    drop(progress);
    if is_intact(&whole, &totals) { Ok(code::OK) } else { Err(damaged(location)) }
}

fn is_intact(whole: &LogVerification, totals: &Totals) -> bool {
    totals.damaged.is_empty() && whole.findings.is_empty() && totals.unread.is_none()
}

/// Adds the row of a damaged execution. The reason is left out if it is the same as in the row above.
fn row(table: &mut Table, checked: &VerifiedExecution, last_reason: &mut String) {
    table.row(vec![
        Cell::new(format!("…{}", short(checked.head.id))).tone(Tone::Strong),
        Cell::new(text::clean(checked.head.workflow())),
        Cell::new(checked.head.status()),
        Cell::new(checked.verdict()).tone(Tone::Bad),
    ]);
    let reason = match checked.first() {
        // The row already has the verdict.
        Some(Verdict::Unreadable(why)) => why.clone(),
        first => first.map(ToString::to_string).unwrap_or_default(),
    };
    if reason != *last_reason {
        table.note(Tone::Plain, text::clean(&reason));
        *last_reason = reason;
    }
}

/// Writes the findings that are not about a damaged execution in the table.
fn log_findings(screen: &mut Screen<'_>, whole: &LogVerification, totals: &Totals) -> io::Result<()> {
    let findings = whole.other_findings(&totals.damaged);
    for finding in &findings {
        screen.paragraph(0, Tone::Bad, &text::clean(&finding.to_string()))?;
    }
    // Findings already give the reason.
    let unreadable = totals.unread.as_deref().filter(|_| whole.findings.is_empty());
    if let Some(error) = unreadable {
        screen.paragraph(0, Tone::Bad, &text::clean(error))?;
    }
    if findings.iter().any(|finding| finding.stream().is_some_and(|stream| totals.intact.contains(&stream))) {
        let note =
            "an execution that is named here but not in a table is intact: only the log's own data about it is damaged";
        screen.paragraph(2, Tone::Plain, note)?;
    }
    if !findings.is_empty() || unreadable.is_some() {
        screen.line("")?;
    }
    Ok(())
}

/// Writes the summary.
fn write_totals(screen: &mut Screen<'_>, whole: &LogVerification, totals: &Totals) -> io::Result<()> {
    let streams = whole.streams.map(|streams| format!(" in {}", text::count(streams, "stream"))).unwrap_or_default();
    let records = format!("{}{streams}", text::count(whole.records, "record"));
    let executions = text::count(totals.executions, "execution");
    let erased = match totals.erased {
        0 => String::new(),
        count => format!("; {} with erased values", text::count(count, "execution")),
    };
    let pruned = match totals.pruned_meanwhile {
        0 => String::new(),
        count => format!("; {} pruned meanwhile", text::count(count, "execution")),
    };
    let erased = format!("{erased}{pruned}");
    let digest = whole.digest.map(|digest| format!("; digest {digest}")).unwrap_or_default();
    if is_intact(whole, totals) {
        let ok = screen.style.paint(Tone::Good, "ok");
        let line = format!("{ok}: {executions} and {records} are intact and complete{erased}{digest}");
        return screen.line(&line);
    }
    write_damage(screen, whole, totals, &executions)?;
    let findings = text::count(whole.findings.len() as u64, "finding");
    summary(screen, "checked", &format!("{records}; {findings}{erased}"))
}

/// Writes an entry of the summary.
fn summary(screen: &mut Screen<'_>, name: &str, entry: &str) -> io::Result<()> {
    screen.paragraph(0, Tone::Plain, &format!("{name}: {entry}"))
}

/// Writes what is damaged and what is intact.
fn write_damage(screen: &mut Screen<'_>, whole: &LogVerification, totals: &Totals, executions: &str) -> io::Result<()> {
    match (&totals.unread, totals.damaged.len() as u64) {
        (Some(_), _) if totals.executions == 0 => {
            summary(screen, "unknown", "the executions could not be checked one by one")?;
        }
        (Some(_), count) => {
            summary(screen, "damaged", &format!("{count} of {executions}; the others could not be checked"))?;
        }
        (None, 0) => {}
        (None, count) if count == totals.executions => summary(screen, "damaged", &format!("all {executions}"))?,
        (None, count) => summary(screen, "damaged", &format!("{count} of {executions}, listed above"))?,
    }
    let log_is_damaged = !whole.other_findings(&totals.damaged).is_empty();
    let count = totals.intact.len() as u64;
    if log_is_damaged {
        let lost = match count {
            0 => "",
            _ => {
                ". The finished, intact executions have lost nothing. The lost records may be those of later \
                 executions that are no longer listed, of schedules and triggers, or of who opened and closed the log"
            }
        };
        summary(screen, "damaged", &format!("the log itself{lost}"))?;
    }
    if count > 0 {
        let open = match totals.open {
            count if count == 0 || !log_is_damaged => String::new(),
            1 => "; 1 of them is not finished: its last events may be lost".to_owned(),
            count => format!("; {count} of them are not finished: their last events may be lost"),
        };
        summary(screen, "intact", &format!("{}, with all their events{open}", text::count(count, "execution")))?;
    }
    Ok(())
}
