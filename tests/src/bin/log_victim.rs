//! Writes to a log until it is done or fails, and records every acknowledgement in a file of marks; or checks damaged logs in a
//! process of its own, so that the test also notices a crash or a hang.
//!
//! ```text
//! log_victim write LOAD PHASE LOG MARKS
//! log_victim erase LOAD PHASE LOG MARKS
//! log_victim change WHAT PHASE LOG MARKS
//! log_victim check < one line a log: read LOG | write PHASE LOG
//! ```

#[allow(dead_code, missing_docs)]
#[path = "../../powercut/changing.rs"]
mod changing;
#[allow(dead_code)]
#[path = "../../powercut/dice.rs"]
mod dice;
#[allow(dead_code, missing_docs)]
#[path = "../../powercut/load.rs"]
mod load;

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use cloacina_store::keeper::{Change, ChangeError, Erase};
use cloacina_store::log::{EventLog, LogReader, StreamFilter};
use cloacina_store::open_keeper;
use cloacina_store::record::{Hash, Record, StreamId, StreamKind};
use cloacina_store::{Options, SledLog, open, open_reader, seal, verify};
use load::Load;

type Outcome = Result<(), Box<dyn Error>>;

/// The most streams of a damaged log that are read.
const MANY: usize = 1_000;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", name, phase, log, marks] => {
            let load = load::named(name).ok_or("no load has this name")?;
            write(&load, phase.parse()?, Path::new(log), File::create(marks)?)
        }
        ["erase", _, _, log, marks] => erase(Path::new(log), File::create(marks)?),
        ["change", what, _, log, marks] => changing::change(what, Path::new(log), File::create(marks)?),
        ["check"] => check_all(),
        _ => Err("log_victim write|erase|change LOAD PHASE LOG MARKS | log_victim check".into()),
    }
}

/// Appends a load. A failure is recorded as a mark, and ends the process.
fn write(load: &Load, phase: u64, path: &Path, marks: File) -> Outcome {
    let marks = Arc::new(marks);
    let say = |what: String| (&*marks).write_all(what.as_bytes());
    let log = match open(path, &Options { durability: load.durability, serve_readers: false, ..Options::default() }) {
        Ok(log) => log,
        Err(error) => return Ok(say(format!("not opened: {error}"))?),
    };
    say("opened".to_owned())?;
    append_all(load, phase, &log, &marks);
    if load.close {
        match log.close() {
            Ok(()) => say("closed".to_owned())?,
            Err(error) => say(format!("not closed: {error}"))?,
        }
        return Ok(());
    }
    // Like a killed process: nothing is cleaned up.
    std::process::exit(0)
}

/// Erases the first closed stream of a log, as `cloaca log erase` does. The result is recorded as a mark.
fn erase(path: &Path, marks: File) -> Outcome {
    let say = |what: String| (&marks).write_all(what.as_bytes());
    let keeper = match open_keeper(path) {
        Ok(keeper) => keeper,
        Err(error) => return Ok(say(format!("not opened: {error}"))?),
    };
    let filter = StreamFilter { kind: Some(StreamKind::Execution), limit: MANY, ..StreamFilter::default() };
    let erased = keeper.streams(&filter).map_err(ChangeError::from).and_then(|entries| {
        let closed = entries.iter().find(|entry| !entry.open).map(|entry| entry.stream);
        let stream = closed.ok_or_else(|| ChangeError::Refused("no stream is closed".to_owned()))?;
        let records = keeper.read(stream, 0, usize::MAX)?.iter().map(|record| (record.seq, Vec::new())).collect();
        keeper.change(Change::Erase(Erase { stream, records, reason: "a test".to_owned(), by: "it".to_owned() }))
    });
    match erased {
        Ok(_) => say("erased".to_owned())?,
        Err(error) => return Ok(say(format!("not erased: {error}"))?),
    }
    match keeper.finish() {
        Ok(()) => say("wiped".to_owned())?,
        Err(error) => say(format!("not wiped: {error}"))?,
    }
    Ok(())
}

fn append_all(load: &Load, phase: u64, log: &SledLog, marks: &Arc<File>) {
    // A slot is taken before a batch is appended, and freed when the batch is answered.
    let (place, places) = sync_channel::<()>(usize::try_from(load.in_flight).unwrap_or(1));
    let places = Arc::new(std::sync::Mutex::new(places));
    for (number, batch) in load::batches(load, phase).into_iter().enumerate() {
        std::thread::sleep(Duration::from_millis(load.pause));
        take(&place);
        let (marks, places) = (Arc::clone(marks), Arc::clone(&places));
        log.append_then(
            batch,
            Box::new(move |result| {
                let mark = match result {
                    Ok(_) => format!("acknowledged {number}"),
                    Err(error) => format!("refused {number}: {error}"),
                };
                let _ = (&*marks).write_all(mark.as_bytes());
                let _ = places.lock().map(|places| places.recv());
            }),
        );
    }
    // Once all slots are free, all batches are answered.
    (0..load.in_flight).for_each(|_| take(&place));
}

fn take(place: &SyncSender<()>) {
    let _ = place.send(());
}

/// Answers every line with the contents of that log and a line `end`.
fn check_all() -> Outcome {
    for line in stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.splitn(3, ' ').collect();
        let mut answer = String::new();
        let checked = match words[..] {
            ["read", path] => read(Path::new(path), &mut answer),
            ["write", phase, path] => append_and_read(phase.parse()?, Path::new(path), &mut answer),
            _ => Err("read LOG | write PHASE LOG".into()),
        };
        if let Err(error) = checked {
            answer.push_str(&format!("error {}\n", one_line(&error.to_string())));
        }
        answer.push_str("end\n");
        let mut out = stdout().lock();
        out.write_all(answer.as_bytes())?;
        out.flush()?;
    }
    Ok(())
}

fn one_line(text: &str) -> String {
    text.replace('\n', " / ")
}

/// Opens a log for writing, appends, closes it, and reads all of it.
fn append_and_read(phase: u64, path: &Path, answer: &mut String) -> Outcome {
    let more = load::named("more").ok_or("no load has this name")?;
    let log = open(path, &Options { serve_readers: false, ..Options::default() })?;
    for batch in load::batches(&more, phase) {
        log.append(batch)?;
    }
    log.close()?;
    drop(log);
    read(path, answer)
}

/// Writes everything that a reader can see of a log, and the findings of its verification.
fn read(path: &Path, answer: &mut String) -> Outcome {
    for finding in verify(path)?.findings {
        answer.push_str(&format!("finding {}\n", one_line(&finding.to_string())));
    }
    let log = open_reader(path)?;
    put_records(&*log, answer);
    for kind in [StreamKind::Execution, StreamKind::Log] {
        let filter = StreamFilter { kind: Some(kind), limit: MANY, ..StreamFilter::default() };
        match log.streams(&filter) {
            Ok(entries) => entries.iter().for_each(|entry| put_stream(&*log, entry.stream, answer)),
            Err(error) => answer.push_str(&format!("unlisted {}\n", one_line(&error.to_string()))),
        }
    }
    Ok(())
}

fn put_records(log: &dyn LogReader, answer: &mut String) {
    match log.tail(0, usize::MAX) {
        Ok(records) => {
            for record in records {
                let body = record.body.bytes().map(seal::fingerprint).unwrap_or(Hash::ZERO);
                answer.push_str(&format!("record {} {} {} {}\n", record.stream, record.seq, body, record.hash));
            }
        }
        Err(error) => answer.push_str(&format!("unread {}\n", one_line(&error.to_string()))),
    }
}

fn put_stream(log: &dyn LogReader, stream: StreamId, answer: &mut String) {
    let line = match (log.read(stream, 0, usize::MAX), log.stream(stream)) {
        (Ok(records), Ok(entry)) => {
            let head = records.last().map(|record| record.hash).unwrap_or(Hash::ZERO);
            let whole = entry.head == head && entry.records == records.len() as u64;
            let each = |record: &Record| record.body.bytes().map_or(Hash::ZERO, seal::fingerprint).0;
            let bodies = seal::fingerprint(&records.iter().flat_map(each).collect::<Vec<_>>());
            let listed = if whole { "as listed" } else { "not as listed" };
            format!("stream {stream} {} {head} {bodies} {listed}\n", records.len())
        }
        (Err(error), _) | (_, Err(error)) => format!("unread {stream} {}\n", one_line(&error.to_string())),
    };
    answer.push_str(&line);
}
