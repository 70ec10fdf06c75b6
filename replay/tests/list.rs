//! The list: related executions are shown as a tree, and the part of an id that identifies it is highlighted.

use crate::common::{Log, Recorder, START, id, opener, replay, replay_with, task};
use cloacina_engine::core::event::{Cause, ExecutionId};
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::tree::unique_ends;

fn caused(log: &Log, end: u32, cause: Cause) {
    Recorder::start_by(log, id(end), "etl", vec![task("extract", &[])], &[], cause).run("extract", 5, |_| Ok(()));
}

fn family() -> Log {
    let log = Log::default();
    let scheduled =
        |minute: i64| Cause::Schedule { schedule: [7; 16], scheduled: Timestamp(START + minute * 60_000_000) };
    caused(&log, 0x10, Cause::Call);
    caused(&log, 0x11, Cause::Fork { execution: id(0x10), seq: 2 });
    caused(&log, 0x12, scheduled(0));
    caused(&log, 0x13, Cause::Fork { execution: id(0x11), seq: 3 });
    caused(&log, 0x14, scheduled(1));
    caused(&log, 0x15, Cause::Parent { execution: id(0x10), task: "extract".into() });
    caused(&log, 0x16, scheduled(2));
    caused(&log, 0x17, Cause::Trigger { name: "new_file".into() });
    caused(&log, 0x18, Cause::Fork { execution: ExecutionId([9; 16]), seq: 1 });
    log
}

#[test]
fn forks_children_and_runs_of_a_schedule_stand_below_what_they_belong_to() {
    insta::assert_snapshot!(replay(&family(), "list --time utc"));
}

/// Regression test: a misspelt workflow name was reported as a log without executions.
#[test]
fn a_list_of_a_workflow_that_nothing_is_of_says_so() {
    let ran = replay(&family(), "list --workflow elt");
    assert!(ran.out.contains("no executions") && ran.code == 0, "{ran}");
    assert_eq!(ran.err, "\nno execution of workflow 'elt'\nhint: replay list --workflow etl\n");
    let ran = replay(&family(), "list --workflow invoices");
    assert_eq!(ran.err, "\nno execution of workflow 'invoices'; workflows in this log: etl\n");
    let ran = replay(&family(), "list --workflow etl --status failed");
    assert_eq!(ran.err, "", "there are some of that workflow");
}

#[test]
fn a_page_of_the_list_shows_what_it_has() {
    let ran = replay(&family(), "list --limit 3 --time utc");
    assert_eq!(ran.code, 0);
    assert!(!ran.out.contains('└'), "their parents are not on this page: {ran}");
}

#[test]
fn the_end_of_an_id_that_tells_it_apart_stands_out() {
    let log = Log::default();
    for end in [0x1000_aaaa, 0x2000_aaaa, 0x3000_bbbb] {
        caused(&log, end, Cause::Call);
    }
    let ran = replay_with(&opener(&log), Some(100), "list --time utc --color always");
    insta::assert_snapshot!(ran.out.replace('\u{1b}', "ESC"));
}

#[test]
fn unique_ends_are_as_long_as_they_must_be() {
    let ids = [id(0x1234_5678), id(0x9234_5678), id(0x0000_0001), id(0x1234_5679)];
    assert_eq!(unique_ends(&ids, 4), [8, 8, 4, 4]);
    assert!(unique_ends(&[], 4).is_empty());
    for (place, one) in ids.iter().enumerate() {
        let needed = unique_ends(&ids, 1)[place];
        let end = |id: &ExecutionId| id.to_string()[36 - needed..].to_owned();
        assert_eq!(ids.iter().filter(|other| end(other) == end(one)).count(), 1, "{one}");
    }
}
