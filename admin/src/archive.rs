//! `cloaca log archive`: writes executions to one file and, with `--drop`, removes them from the log.

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
use crate::confirm::confirm;
use crate::failure::{Failure, code};
use crate::finish::finish;
use crate::prune::{Tombstone, drop_streams};
use crate::select;
use crate::surroundings::Surroundings;

pub(crate) fn run(
    arguments: &LogArguments,
    options: &ArchiveArguments,
    path: &Path,
    env: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    if !options.drop {
        let reader = open_reader(path)?;
        let heads = selected(&*reader, options, env)?;
        return write(&*reader, &heads, options, env).map(drop);
    }
    let keeper = open_keeper(path)?;
    let heads = selected(&*keeper, options, env)?;
    if let Some(open) = heads.iter().find(|head| head.entry.open) {
        return Err(Failure::new(
            code::NOT_DONE,
            format!("{} is not finished and cannot be dropped", open.id),
            "cloaca log archive … (without --drop)",
        ));
    }
    for head in &heads {
        writeln!(env.err, "{}", select::line(head))?;
    }
    let question =
        format!("Archive and drop {} from {}?", text::count(heads.len() as u64, "execution"), path.display());
    confirm(env, arguments.yes, &question)?;
    let archived = write(&*keeper, &heads, options, env)?;
    let by = arguments.by.clone().unwrap_or_else(|| env.user());
    let tombstone = Tombstone { archive: Some(archived.digest), reason: options.reason.clone(), by };
    let streams: Vec<_> = archived.streams.iter().map(|entry| (entry.stream, entry.head)).collect();
    drop_streams(&*keeper, &streams, &tombstone)?;
    let done = format!("dropped {} from {}", text::count(heads.len() as u64, "execution"), path.display());
    finish(&*keeper, path, &done)?;
    writeln!(env.out, "{done}")?;
    Ok(())
}

/// Returns the executions that the command line names, or those that finished before the given time.
fn selected(reader: &dyn LogReader, options: &ArchiveArguments, env: &Surroundings<'_>) -> Result<Vec<Head>, Failure> {
    if let Some(before) = options.finished_before {
        let heads = select::finished(reader, &Wanted::default(), Some(before.resolve(env.now)))?;
        if heads.is_empty() {
            return Err(Failure::new(code::NOT_FOUND, "no execution finished before that time", "replay list"));
        }
        return Ok(heads);
    }
    let mut seen = BTreeSet::new();
    let heads = options.ids.iter().map(|id| select::execution(reader, id));
    heads.filter(|head| head.as_ref().map_or(true, |head| seen.insert(head.id))).collect()
}

fn write(
    reader: &dyn LogReader,
    heads: &[Head],
    options: &ArchiveArguments,
    env: &mut Surroundings<'_>,
) -> Result<Archived, Failure> {
    let streams: Result<Vec<Selected>, Failure> = heads.iter().map(|head| with_definitions(reader, head)).collect();
    let file = env.directory.join(&options.output);
    let archived = write_archive(reader, &streams?, &file, Timestamp(env.now.0))?;
    writeln!(
        env.out,
        "archived {} with {} in {} ({}) and verified it against the log\ndigest {}",
        text::count(archived.streams.len() as u64, "execution"),
        text::count(archived.records, "event"),
        options.output.display(),
        text::size(archived.bytes),
        archived.digest
    )?;
    Ok(archived)
}

/// Returns an execution and the definitions that its events refer to.
fn with_definitions(reader: &dyn LogReader, head: &Head) -> Result<Selected, Failure> {
    let mut definitions = BTreeSet::new();
    for entry in entries(reader, head.id) {
        definitions.extend(entry?.event.as_ref().and_then(Event::definition).map(|found| Hash(found.0)));
    }
    Ok(Selected { stream: head.entry.stream, definitions: definitions.into_iter().collect() })
}
