//! What waits together shares a flush.

use std::sync::Arc;
use std::sync::mpsc;

use crate::suite::{one, stream};
use cloacina_store::log::{Acknowledge, AppendError, EventLog, LogReader};
use cloacina_store::{Options, SledLog, open};

fn log() -> (tempfile::TempDir, SledLog) {
    let directory = tempfile::tempdir().unwrap();
    let log = open(&directory.path().join("log"), &Options::default()).unwrap();
    (directory, log)
}

/// Keeps the writer busy until the sender is dropped: meanwhile everything waits.
fn hold_writer(log: &SledLog) -> mpsc::Sender<()> {
    let (gate, opened) = mpsc::channel::<()>();
    let (sender, receiver) = mpsc::channel();
    log.append_then(
        one(stream(1_000_000), 0, b"first"),
        Box::new(move |result| {
            sender.send(result).unwrap();
            let _ = opened.recv();
        }),
    );
    receiver.recv().unwrap().unwrap();
    gate
}

#[test]
fn appends_of_many_threads_that_wait_together_share_one_flush() {
    let (_directory, log) = log();
    let gate = hold_writer(&log);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for number in 1..=100 {
            let (log, sender) = (&log, sender.clone());
            scope.spawn(move || {
                let told = Box::new(move |result| sender.send(result).unwrap());
                log.append_then(one(stream(number), 0, b"a"), told);
            });
        }
    });
    drop(gate);
    assert!(receiver.iter().take(100).all(|result| result.is_ok()));
    assert_eq!(log.flushes(), 2, "one for the first, one for the hundred");
    assert_eq!(log.verify().findings, []);
}

/// So large that some two hundred make a mebibyte, with which a group takes nothing more.
const LARGE: [u8; 5_000] = [7; 5_000];

#[test]
fn a_thousand_large_ones_that_wait_take_five_groups_in_the_order_of_the_calls() {
    let (_directory, log) = log();
    let gate = hold_writer(&log);
    let (sender, receiver) = mpsc::channel();
    for number in 1..=1_000 {
        let sender = sender.clone();
        log.append_then(
            one(stream(number), 0, &LARGE),
            Box::new(move |result| sender.send(result.unwrap().position).unwrap()),
        );
    }
    drop(gate);
    let positions: Vec<u64> = receiver.iter().take(1_000).collect();
    assert_eq!(positions, (2..=1_001).collect::<Vec<_>>());
    assert_eq!(log.flushes(), 6, "one for the first, five for the thousand");
}

/// All that was handed over together became one group, however much it was. While it was written sled held all of it in
/// memory: a hundred megabytes more with 4,096 decisions.
#[test]
fn what_is_handed_over_together_takes_groups_of_a_mebibyte_or_of_some_thousand_frames_in_its_order() {
    for (count, body, groups) in [(1_000, &LARGE[..], 5), (1_000, b"a", 1), (5_000, b"a", 2)] {
        let (_directory, log) = log();
        let (sender, receiver) = mpsc::channel();
        let batches = (1..=count).map(|number| {
            let sender = sender.clone();
            let told: Acknowledge = Box::new(move |result| sender.send(result.unwrap().position).unwrap());
            (one(stream(number), 0, body), told)
        });
        log.append_all_then(batches.collect());
        let positions: Vec<u64> = receiver.iter().take(count as usize).collect();
        assert_eq!(positions, (1..=count as u64).collect::<Vec<_>>());
        assert_eq!(log.flushes(), groups, "{count} of {} bytes", body.len());
        assert_eq!(log.verify().findings, []);
    }
}

#[test]
fn what_waits_when_the_log_is_closed_is_written_and_what_comes_later_is_told() {
    let (_directory, log) = log();
    let (sender, receiver) = mpsc::channel();
    for number in 1..=50 {
        let sender = sender.clone();
        log.append_then(one(stream(number), 0, b"a"), Box::new(move |result| sender.send(result).unwrap()));
    }
    log.close().unwrap();
    log.append_then(one(stream(99), 0, b"a"), Box::new(move |result| sender.send(result).unwrap()));
    let results: Vec<_> = receiver.iter().collect();
    assert!(results[..50].iter().all(Result::is_ok));
    assert_eq!(results[50..], [Err(AppendError::Closed)]);
}

#[test]
fn an_acknowledgement_may_append_and_may_panic() {
    let (_directory, log) = log();
    let log = Arc::new(log);
    let (sender, receiver) = mpsc::channel();
    let again = Arc::clone(&log);
    log.append_then(
        one(stream(1), 0, b"a"),
        Box::new(move |_| {
            let told = Box::new(move |result| sender.send(result).unwrap());
            again.append_then(one(stream(1), 1, b"b"), told);
        }),
    );
    receiver.recv().unwrap().unwrap();
    log.append_then(one(stream(1), 2, b"c"), Box::new(|_| panic!("an acknowledgement that panics")));
    log.append(one(stream(1), 3, b"d")).unwrap();
    assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 4);
}

#[test]
fn a_log_can_be_dropped_by_its_own_acknowledgement() {
    let (directory, log) = log();
    let log = Arc::new(log);
    let (sender, receiver) = mpsc::channel();
    let last = Arc::clone(&log);
    log.append_then(
        one(stream(1), 0, b"a"),
        Box::new(move |result| {
            // Until the other owner is gone: then this is the last one.
            while Arc::strong_count(&last) > 1 {
                std::thread::yield_now();
            }
            drop(last);
            sender.send(result).unwrap();
        }),
    );
    drop(log);
    receiver.recv().unwrap().unwrap();
    let log = open(&directory.path().join("log"), &Options::default()).unwrap();
    assert_eq!(log.read(stream(1), 0, 10).unwrap().len(), 1);
}
