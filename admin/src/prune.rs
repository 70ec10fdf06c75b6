//! `cloaca log prune`: permanently drops finished executions from the log.

use std::path::Path;

use cloacina_replay::cli::text;
use cloacina_replay::source::{Head, Wanted};
use cloacina_store::keeper::{Change, Keeper, MAX_PRUNED, Prune};
use cloacina_store::log::LogReader;
use cloacina_store::open_keeper;
use cloacina_store::open_reader;
use cloacina_store::record::{Hash, StreamId};

use crate::arguments::{LogArguments, PruneArguments};
use crate::confirm::confirm;
use crate::failure::Failure;
use crate::finish::finish;
use crate::select;
use crate::surroundings::Surroundings;

/// What the log records about dropped executions.
pub(crate) struct Tombstone {
    pub(crate) archive: Option<Hash>,
    pub(crate) reason: String,
    pub(crate) by: String,
}

/// Drops streams that have not changed since they were selected: each comes with the hash of its last record then. One
/// sync covers many of them.
pub(crate) fn drop_streams(
    keeper: &dyn Keeper,
    streams: &[(StreamId, Hash)],
    tombstone: &Tombstone,
) -> Result<(), Failure> {
    let Tombstone { archive, reason, by } = tombstone;
    for batch in streams.chunks(MAX_PRUNED) {
        let (streams, reason, by) = (batch.to_vec(), reason.clone(), by.clone());
        keeper.change(Change::Prune(Prune { streams, archive: *archive, reason, by }))?;
    }
    Ok(())
}

pub(crate) fn run(
    arguments: &LogArguments,
    options: &PruneArguments,
    path: &Path,
    env: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    if options.dry_run {
        let reader = open_reader(path)?;
        let heads = selected(&*reader, options, env)?;
        for head in &heads {
            writeln!(env.out, "{}", select::line(head))?;
        }
        writeln!(env.out, "{}: nothing was dropped (--dry-run)", summary(&heads))?;
        return Ok(());
    }
    let keeper = open_keeper(path)?;
    let heads = selected(&*keeper, options, env)?;
    if heads.is_empty() {
        writeln!(env.out, "nothing to drop")?;
        return Ok(());
    }
    for head in &heads {
        writeln!(env.err, "{}", select::line(head))?;
    }
    let question = format!("Permanently drop {} from {}?", summary(&heads), path.display());
    confirm(env, arguments.yes, &question)?;
    let by = arguments.by.clone().unwrap_or_else(|| env.user());
    let tombstone = Tombstone { archive: None, reason: options.reason.clone(), by };
    let streams: Vec<_> = heads.iter().map(|head| (head.entry.stream, head.entry.head)).collect();
    drop_streams(&*keeper, &streams, &tombstone)?;
    let done = format!("dropped {} from {}", summary(&heads), path.display());
    finish(&*keeper, path, &done)?;
    writeln!(env.out, "{done}")?;
    writeln!(env.err, "\nhint: cloaca log compact (frees their disk space; no process may have the log open)")?;
    Ok(())
}

fn selected(reader: &dyn LogReader, options: &PruneArguments, env: &Surroundings<'_>) -> Result<Vec<Head>, Failure> {
    let wanted = Wanted { status: options.status.clone(), workflow: options.workflow.clone(), ..Wanted::default() };
    let mut heads = select::finished(reader, &wanted, None)?;
    // The list is newest first, so the executions to keep come first.
    heads.drain(..options.keep.unwrap_or(0).min(heads.len()));
    if let Some(age) = options.older_than {
        let before = age.before(env.now);
        heads.retain(|head| head.ended().is_some_and(|ended| ended < before));
    }
    Ok(heads)
}

fn summary(heads: &[Head]) -> String {
    let events = heads.iter().map(|head| head.entry.records).sum();
    let bytes = heads.iter().map(|head| head.entry.bytes).sum();
    format!(
        "{} with {} ({})",
        text::count(heads.len() as u64, "execution"),
        text::count(events, "event"),
        text::size(bytes)
    )
}
