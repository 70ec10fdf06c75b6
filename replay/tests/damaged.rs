//! Histories that cannot be read to the end: events before the damage are shown, and requests beyond it get the reason.

use crate::common::histories::{self, COMPLETED, RUNNING};
use crate::common::{Alter, Altered, id};
use cloacina_engine::core::context::values;
use cloacina_replay::history::{History, WhyError};
use cloacina_replay::moment::{At, MomentError};
use cloacina_replay::reading::HistoryError;
use cloacina_replay::source::{self, Wanted};
use cloacina_store::log::ReadError;

fn past(alter: Alter) -> History {
    History::open(&Altered(histories::all(), alter), id(COMPLETED)).unwrap()
}

fn differs_at_nine() -> History {
    past(|mut records| {
        records.iter_mut().filter(|record| record.seq == 9).for_each(|record| record.time.0 += 1);
        records
    })
}

fn is_damaged_at(seq: u64, why: &MomentError) -> bool {
    matches!(why, MomentError::History(HistoryError::Log(ReadError::Damaged { seq: at, .. })) if *at == seq)
}

fn last(history: &History, at: &str) -> Result<u64, MomentError> {
    history.state(at.parse().unwrap()).map(|state| state.next_seq() - 1)
}

/// Regression test: after an altered record, the final state was silently the one before it. With the first record
/// altered, the error was "the execution has no events".
#[test]
fn the_end_of_an_execution_is_not_the_last_event_that_can_be_read() {
    let history = differs_at_nine();
    assert_eq!(history.entries.len(), 9);
    for at in [At::End, "+1h".parse().unwrap(), "9".parse().unwrap(), "load".parse().unwrap()] {
        let why = history.state(at.clone()).unwrap_err();
        assert!(is_damaged_at(9, &why), "{at}: {why}");
        let why = history.why("rows", at.clone()).unwrap_err();
        assert!(matches!(&why, WhyError::Moment(why) if is_damaged_at(9, why)), "{at}: {why}");
    }
    assert_eq!(history.story().trouble, history.trouble);

    let nothing = past(|mut records| {
        records.iter_mut().filter(|record| record.seq == 1).for_each(|record| record.time.0 += 1);
        records
    });
    let why = nothing.state(At::End).unwrap_err();
    assert!(is_damaged_at(1, &why), "{why}");
}

/// Regression test: `replay list` said that a damaged execution resumes when a runner opens the log, which is wrong.
#[test]
fn a_list_says_which_of_those_that_nothing_runs_are_damaged() {
    let status = |alter: Alter| {
        let log = histories::all();
        log.0.close().unwrap();
        let (heads, _) = source::list(&Altered(log, alter), &Wanted::default()).unwrap();
        let named = |name| heads.iter().find(|head| head.id == id(name)).unwrap().status();
        (named(RUNNING), named(COMPLETED))
    };
    assert_eq!(status(|records| records), ("NotRunning", "Completed"));
    let damaged = status(|mut records| {
        records.iter_mut().filter(|record| record.seq == 1).for_each(|record| record.time.0 += 1);
        records
    });
    assert_eq!(damaged, ("Damaged", "Completed"));
}

#[test]
fn what_was_before_the_damage_can_be_looked_at() {
    let (history, whole) = (differs_at_nine(), past(|records| records));
    for seq in 0..=8 {
        assert_eq!(last(&history, &seq.to_string()), Ok(seq));
        let seen = |of: &History| -> Vec<(String, String)> {
            let context = of.context(At::Seq(seq)).unwrap();
            values(&context).map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        assert_eq!(seen(&history), seen(&whole));
    }
}

#[test]
fn an_execution_whose_last_events_are_gone_has_a_cut_tail() {
    let history = past(|mut records| {
        records.retain(|record| record.seq < 9);
        records
    });
    let (stream, head) = (history.head.entry.stream, history.head.entry.records);
    assert!(head > 9);
    let cut = HistoryError::Log(ReadError::TailCut { stream, head, found: 9 });
    assert_eq!(last(&history, "+1h"), Err(MomentError::History(cut.clone())));
    assert_eq!(history.trouble, Some(cut));
    assert_eq!(last(&history, "8"), Ok(8));
}

#[test]
fn a_history_that_was_written_out_says_that_it_is_not_whole_when_it_is_read_back() {
    let history = differs_at_nine();
    let back = History::from_json(&history.to_json().unwrap()).unwrap();
    assert_eq!(back.entries, history.entries);
    let told = HistoryError::Told(history.trouble.unwrap().to_string());
    assert_eq!(last(&back, "+1h"), Err(MomentError::History(told.clone())));
    assert_eq!(back.trouble, Some(told));
    let again = History::from_json(&back.to_json().unwrap()).unwrap();
    assert_eq!(again.trouble, back.trouble, "it is told again as it was told");
    assert_eq!(last(&back, "8"), Ok(8));
}
