//! A long history, read through many pages.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};

use crate::common::{Log, Recorder, id, json, replay, task};
use cloacina_engine::core::retry::RetryPolicy;
use cloacina_replay::prefetch::Prefetch;
use cloacina_replay::reading::{Entry, entries};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::read_through;
use cloacina_store::record::{Record, StreamId};

/// A completed workflow of `tasks` tasks in chains of ten, with three events a task.
fn long(tasks: usize) -> Log {
    let log = Log::default();
    let names: Vec<String> = (0..tasks).map(|number| format!("task_{number}")).collect();
    let definitions = names.iter().enumerate().map(|(number, name)| {
        let before: Vec<&str> = if number % 10 == 0 { Vec::new() } else { vec![&names[number - 1]] };
        let mut task = task(name, &before);
        task.retry = RetryPolicy::never();
        task
    });
    let mut run = Recorder::start(&log, id(1), "long", definitions.collect(), &[]);
    for (number, name) in names.iter().enumerate() {
        run.run(name, 1, |context| {
            context.set(format!("chain_{}", number / 10), json("1"));
            Ok(())
        });
    }
    log
}

#[test]
fn every_view_tells_a_history_of_thousands_of_events() {
    let log = long(1_000);
    for arguments in ["00000001", "00000001 --full", "00000001 --at 1500", "00000001 verify", "00000001 --json"] {
        let ran = replay(&log, arguments);
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        assert!(!ran.out.is_empty(), "{arguments}");
    }
    let all = replay(&log, "00000001 --full").out;
    assert!(all.lines().count() > 3_000, "a line for each event");
}

/// Returns few records at a time, and signals once it has returned two pages more than the queue holds.
struct InSips<'a> {
    reader: &'a dyn LogReader,
    given: AtomicUsize,
    far_ahead: Sender<()>,
}

impl LogReader for InSips<'_> {
    read_through!(self => self.reader; stream, streams, tail, tree, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        if self.given.fetch_add(1, Ordering::Relaxed) == 129 {
            self.far_ahead.send(()).unwrap();
        }
        self.reader.read(stream, from, limit.min(5))
    }
}

#[test]
fn events_are_the_same_whichever_thread_decodes_them() {
    let log = long(1_000);
    let (far_ahead, told) = channel();
    let reader = InSips { reader: &*log.0, given: AtomicUsize::new(0), far_ahead };
    let ahead: Vec<Entry> = Prefetch::new(&reader, id(1)).entries(|entries| {
        // The queued pages are decoded on this thread, those that find the queue full on the reading thread.
        let first = entries.next().unwrap();
        told.recv().unwrap();
        std::iter::once(first).chain(entries).map(Result::unwrap).collect()
    });
    let expected: Vec<Entry> = entries(&*log.0, id(1)).map(Result::unwrap).collect();
    assert!(expected.len() > 3_000);
    assert_eq!(ahead, expected);
}
