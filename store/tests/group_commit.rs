//! Group commit: batches that wait together share a flush.

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

/// Blocks the writer until the returned sender is dropped; meanwhile appends queue up.
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
                let acknowledge = Box::new(move |result| sender.send(result).unwrap());
                log.append_then(one(stream(number), 0, b"a"), acknowledge);
            });
        }
    });
    drop(gate);
    assert!(receiver.iter().take(100).all(|result| result.is_ok()));
    assert_eq!(log.flushes(), 2, "one for the first, one for the hundred");
    assert_eq!(log.verify().findings, []);
}

/// Some two hundred of these make a mebibyte, the limit of a group.
const LARGE: [u8; 5_000] = [7; 5_000];

#[test]
fn a_thousand_large_appends_that_wait_take_five_groups_in_the_order_of_the_calls() {
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

/// Regression: all batches of one call became one group of any size, which sled held in memory while it was written:
/// a hundred megabytes more with 4,096 decisions.
#[test]
fn batches_of_one_call_take_groups_of_at_most_a_mebibyte_or_4096_frames_in_order() {
    for (count, body, groups) in [(1_000, &LARGE[..], 5), (1_000, b"a", 1), (5_000, b"a", 2)] {
        let (_directory, log) = log();
        let (sender, receiver) = mpsc::channel();
        let batches = (1..=count).map(|number| {
            let sender = sender.clone();
            let acknowledge: Acknowledge = Box::new(move |result| sender.send(result.unwrap().position).unwrap());
            (one(stream(number), 0, body), acknowledge)
        });
        log.append_all_then(batches.collect());
        let positions: Vec<u64> = receiver.iter().take(count as usize).collect();
        assert_eq!(positions, (1..=count as u64).collect::<Vec<_>>());
        assert_eq!(log.flushes(), groups, "{count} of {} bytes", body.len());
        assert_eq!(log.verify().findings, []);
    }
}

#[test]
fn closing_a_log_writes_what_waits_and_refuses_later_appends() {
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
            let acknowledge = Box::new(move |result| sender.send(result).unwrap());
            again.append_then(one(stream(1), 1, b"b"), acknowledge);
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
            // Wait until the other owner is gone, so that this is the last one.
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
