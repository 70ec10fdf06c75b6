//! `cloaca log archive`: executions into one file, and perhaps out of the log.

use std::collections::BTreeSet;
use std::path::Path;

use cloacina_engine::core::event::Event;
use cloacina_replay::cli::text;
use cloacina_replay::reading::entries;
use cloacina_replay::source::{Head, Wanted};
use cloacina_store::archive::{Archived, Selected, write_archive};
use cloacina_store::log::LogReader;
use cloacina_store::open_keeper;
use cloacina_store::open_reader;
use cloacina_store::record::{Hash, Timestamp};

use crate::arguments::{ArchiveArguments, LogArguments};
use crate::ask::confirm;
use crate::failure::{Failure, code};
use crate::prune::{Tombstone, drop_streams};
use crate::select;
use crate::surroundings::Surroundings;
use crate::wiping::finish;

pub(crate) fn run(
    arguments: &LogArguments,
    what: &ArchiveArguments,
    path: &Path,
    around: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    if !what.drop {
        let reader = open_reader(path)?;
        let heads = chosen(&*reader, what, around)?;
        return put(&*reader, &heads, what, around).map(drop);
    }
    let keeper = open_keeper(path)?;
    let heads = chosen(&*keeper, what, around)?;
    if let Some(open) = heads.iter().find(|head| head.entry.open) {
        return Err(Failure::told(
            code::NOT_DONE,
            format!("{} is not finished: it can be archived, but not dropped", open.id),
            "cloaca log archive … without --drop",
        ));
    }
    for head in &heads {
        writeln!(around.err, "{}", select::line(head))?;
    }
    let question = format!(
        "{} will be archived and dropped from {}.",
        text::count(heads.len() as u64, "execution"),
        path.display()
    );
    confirm(around, arguments.yes, &question)?;
    let archived = put(&*keeper, &heads, what, around)?;
    let by = arguments.by.clone().unwrap_or_else(|| around.user());
    let tombstone = Tombstone { archive: Some(archived.digest), reason: what.reason.clone(), by };
    let streams: Vec<_> = archived.streams.iter().map(|entry| (entry.stream, entry.head)).collect();
    drop_streams(&*keeper, &streams, &tombstone)?;
    let done = format!("dropped {} from {}", text::count(heads.len() as u64, "execution"), path.display());
    finish(&*keeper, path, &done)?;
    writeln!(around.out, "{done}")?;
    Ok(())
}

/// The executions that are named, or those that had finished.
fn chosen(reader: &dyn LogReader, what: &ArchiveArguments, around: &Surroundings<'_>) -> Result<Vec<Head>, Failure> {
    if let Some(before) = what.finished_before {
        let heads = select::finished(reader, &Wanted::default(), Some(before.resolve(around.now)))?;
        if heads.is_empty() {
            return Err(Failure::told(code::NOT_FOUND, "no execution had finished by then", "replay list"));
        }
        return Ok(heads);
    }
    let mut known = BTreeSet::new();
    let heads = what.ids.iter().map(|id| select::execution(reader, id));
    heads.filter(|head| head.as_ref().map_or(true, |head| known.insert(head.id))).collect()
}

fn put(
    reader: &dyn LogReader,
    heads: &[Head],
    what: &ArchiveArguments,
    around: &mut Surroundings<'_>,
) -> Result<Archived, Failure> {
    let selected: Result<Vec<Selected>, Failure> = heads.iter().map(|head| selected(reader, head)).collect();
    let file = around.directory.join(&what.output);
    let archived = write_archive(reader, &selected?, &file, Timestamp(around.now.0))?;
    writeln!(
        around.out,
        "archived {} with {} in {} ({}), read again and held against the log\ndigest {}",
        text::count(archived.streams.len() as u64, "execution"),
        text::count(archived.records, "event"),
        what.output.display(),
        text::size(archived.bytes),
        archived.digest
    )?;
    Ok(archived)
}

/// An execution, and the definitions that its events name.
fn selected(reader: &dyn LogReader, head: &Head) -> Result<Selected, Failure> {
    let mut definitions = BTreeSet::new();
    for entry in entries(reader, head.id) {
        match entry?.event {
            Some(Event::ExecutionStarted(started)) => drop(definitions.insert(Hash(started.definition.0))),
            Some(Event::ExecutionRecovered(recovered)) => drop(definitions.insert(Hash(recovered.definition.0))),
            _ => {}
        }
    }
    Ok(Selected { stream: head.entry.stream, definitions: definitions.into_iter().collect() })
}
