//! Makes changes other than appends, and records each acknowledgement as a mark.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use cloacina_store::archive::{Selected, open_archive, write_archive};
use cloacina_store::keeper::{Change, Erase, Import, Keeper, Prune};
use cloacina_store::log::{EventLog, LogReader};
use cloacina_store::open_keeper;
use cloacina_store::record::{StreamId, Timestamp};
use cloacina_store::repair::repair;
use cloacina_store::{Options, compact, open, open_reader};

use super::load;

type Outcome = Result<(), Box<dyn Error>>;

/// Files beside the log: the archive to import, the archive to create, and the repaired log.
pub const IMPORTED: &str = "imported.cloaca";
pub const ARCHIVED: &str = "archived.cloaca";
pub const REPAIRED: &str = "repaired";

/// The number of streams that are changed; the others stay as they are.
pub const CHANGED: usize = 4;

/// Makes a change of a log with the load `closed` or `left`. The first failure ends it.
pub fn change(what: &str, log: &Path, marks: File) -> Outcome {
    let say = |what: &str| (&marks).write_all(what.as_bytes());
    say("begun")?;
    match what {
        "erase" | "prune" => change_streams(what, log, &say)?,
        "compact" => {
            compact(log)?;
            say("compacted")?;
        }
        "archive" => {
            archive(&*open_reader(log)?, &log.with_file_name(ARCHIVED))?;
            say("archived")?;
        }
        "import" => {
            let archive = log.with_file_name(IMPORTED);
            let digest = open_archive(&archive)?.digest();
            let keeper = open_keeper(log)?;
            keeper.change(Change::Import(Import { archive, digest }))?;
            say("imported")?;
            keeper.finish()?;
        }
        "repair" => {
            repair(log, &log.with_file_name(REPAIRED))?;
            say("repaired")?;
        }
        "all-while-appending" => change_while_appending(log, marks.try_clone()?)?,
        other => return Err(format!("no change is called {other}").into()),
    }
    Ok(())
}

fn closed_streams() -> Vec<StreamId> {
    load::named("closed").map(|load| load::streams(&load, 0)).unwrap_or_default()
}

fn change_streams(what: &str, log: &Path, say: &dyn Fn(&str) -> std::io::Result<()>) -> Outcome {
    let keeper = open_keeper(log)?;
    for (number, stream) in closed_streams().into_iter().take(CHANGED).enumerate() {
        change_stream(&*keeper, what, stream)?;
        say(&format!("changed {number}"))?;
    }
    keeper.finish()?;
    say("finished")?;
    Ok(())
}

fn change_stream(keeper: &(impl Keeper + ?Sized), what: &str, stream: StreamId) -> Outcome {
    let (reason, by) = ("a test".to_owned(), "it".to_owned());
    keeper.change(if what == "erase" {
        let records = keeper.read(stream, 0, usize::MAX)?.iter().map(|record| (record.seq, Vec::new())).collect();
        Change::Erase(Erase { stream, records, reason, by })
    } else {
        Change::Prune(Prune { streams: vec![(stream, keeper.stream(stream)?.head)], archive: None, reason, by })
    })?;
    Ok(())
}

/// Archives the closed streams.
pub fn archive(log: &dyn LogReader, path: &Path) -> Outcome {
    let selected: Vec<Selected> = closed_streams().into_iter().map(Selected::stream).collect();
    write_archive(log, &selected, path, Timestamp(1))?;
    Ok(())
}

/// Appends `small`, and erases and prunes in between. The process then exits without a close.
fn change_while_appending(path: &Path, marks: File) -> Outcome {
    let log = open(path, &Options { serve_readers: false, ..Options::default() })?;
    let (small, marks) = (load::named("small").ok_or("no load has this name")?, Arc::new(marks));
    let mut streams = closed_streams().into_iter().take(CHANGED).enumerate();
    for (number, batch) in load::batches(&small, 1).into_iter().enumerate() {
        let written = Arc::clone(&marks);
        let acknowledge = Box::new(move |result: Result<_, _>| {
            if result.is_ok() {
                let _ = (&*written).write_all(format!("acknowledged {number}").as_bytes());
            }
        });
        log.append_then(batch, acknowledge);
        if number % 12 == 6
            && let Some((number, stream)) = streams.next()
        {
            change_stream(&log, if number % 2 == 0 { "erase" } else { "prune" }, stream)?;
            (&*marks).write_all(format!("changed {number}").as_bytes())?;
        }
    }
    std::process::exit(0)
}
