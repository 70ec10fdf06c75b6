//! `cloaca log erase`: permanently erases values of a finished execution.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cloacina_engine::core::codec::encode_event;
use cloacina_engine::core::erasure::{NothingToErase, What, plan};
use cloacina_engine::core::event::{Event, Key, Origin, Seq};
use cloacina_replay::cli::text;
use cloacina_replay::reading::{Entry, entries};
use cloacina_replay::source::Head;
use cloacina_store::keeper::{Change, Erase, MAX_ERASED};
use cloacina_store::log::LogReader;
use cloacina_store::open_keeper;

use crate::arguments::{EraseArguments, LogArguments};
use crate::confirm::confirm;
use crate::failure::{Failure, code};
use crate::finish::finish;
use crate::select;
use crate::surroundings::Surroundings;

pub(crate) fn run(
    arguments: &LogArguments,
    options: &EraseArguments,
    path: &Path,
    env: &mut Surroundings<'_>,
) -> Result<(), Failure> {
    let keeper = open_keeper(path)?;
    let head = select::execution(&*keeper, &options.id)?;
    let events = events(&*keeper, &head)?;
    let erased = plan_erasure(options, &head, &events)?;
    for (seq, event) in &erased {
        writeln!(env.err, "  seq {seq}  {}", describe(event))?;
    }
    if let Some(line) = readers(&events, &erased) {
        writeln!(env.err, "  {line}")?;
    }
    let count = text::count(erased.len() as u64, "event");
    confirm(env, arguments.yes, &format!("Permanently erase the contents of {count} of {}?", head.id))?;
    let by = arguments.by.clone().unwrap_or_else(|| env.user());
    let records: Vec<(Seq, Vec<u8>)> = erased.iter().map(|(seq, event)| (*seq, encode_event(event))).collect();
    let mut erased_count = 0;
    for batch in records.chunks(MAX_ERASED) {
        let (reason, by) = (options.reason.clone(), by.clone());
        let erase = Erase { stream: head.entry.stream, records: batch.to_vec(), reason, by };
        erased_count += keeper.change(Change::Erase(erase))?.records;
    }
    let done = format!("erased the contents of {} of {}", text::count(erased_count, "event"), head.id);
    finish(&*keeper, path, &done)?;
    writeln!(env.out, "{done}")?;
    writeln!(
        env.err,
        "readers no longer see them, and their bytes in the log are overwritten\n\nhint: replay {} verify",
        select::name(head.id)
    )?;
    Ok(())
}

fn events(reader: &dyn LogReader, head: &Head) -> Result<Vec<(Seq, Event)>, Failure> {
    let known = |entry: Entry| entry.event.map(|event| (entry.seq, event));
    entries(reader, head.id).filter_map(|entry| entry.map(known).map_err(Failure::from).transpose()).collect()
}

/// Returns the events to erase and what is left of each.
fn plan_erasure(
    options: &EraseArguments,
    head: &Head,
    events: &[(Seq, Event)],
) -> Result<BTreeMap<Seq, Event>, Failure> {
    let keys = options.keys.iter().map(|key| What::Key(key.clone()));
    let requested: Vec<What> = keys.chain(options.seqs.iter().map(|seq| What::Seq(*seq))).collect();
    plan(events, &requested).map_err(|error| not_erased(&error, head))
}

fn not_erased(error: &NothingToErase, head: &Head) -> Failure {
    let code = match error {
        NothingToErase::NoKey { .. } | NothingToErase::NoSeq { .. } => code::NOT_FOUND,
        NothingToErase::NoValue { .. } | NothingToErase::NotOver => code::NOT_DONE,
    };
    Failure::new(code, error.to_string(), format!("replay {} --full", select::name(head.id)))
}

fn describe(event: &Event) -> String {
    let what = match event {
        Event::ContextWritten(write) => {
            let by = match &write.origin {
                Origin::Input => "input".to_owned(),
                Origin::Task { task, attempt } => format!("{}, attempt {attempt}", text::clean(task)),
            };
            format!("the value of {} ({by})", text::clean(&write.key))
        }
        Event::TaskFailed(failed) => {
            format!("the error of {}, attempt {}", text::clean(&failed.task), failed.attempt)
        }
        Event::ExecutionCompleted(_) | Event::ExecutionFailed(_) | Event::ExecutionCancelled(_) => {
            "the digest of the final context, which would allow guesses to be tested".to_owned()
        }
        _ => "the requester and the reason".to_owned(),
    };
    format!("{}: {what}", event.name())
}

/// Returns a warning that names the tasks that read the values: what they wrote may contain them.
fn readers(events: &[(Seq, Event)], erased: &BTreeMap<Seq, Event>) -> Option<String> {
    let keys: BTreeSet<&Key> = erased
        .values()
        .filter_map(|event| match event {
            Event::ContextWritten(write) => Some(&write.key),
            _ => None,
        })
        .collect();
    let mut tasks = BTreeSet::new();
    for (_, event) in events {
        let (task, reads) = match event {
            Event::TaskCompleted(done) => (&done.task, &done.reads),
            Event::TaskFailed(failed) => (&failed.task, &failed.reads),
            _ => continue,
        };
        if reads.all || reads.keys.iter().any(|read| keys.contains(&read.key)) {
            tasks.insert(text::clean(task));
        }
    }
    if keys.is_empty() || tasks.is_empty() {
        return None;
    }
    let tasks = tasks.into_iter().collect::<Vec<_>>().join(", ");
    Some(format!("read by {tasks}: values that they wrote and errors that they raised may contain the value, too"))
}
