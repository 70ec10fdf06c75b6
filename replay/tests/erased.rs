//! An execution with an erased value: every view shows that the value was erased, and none shows the value.

use crate::common::{Log, erase, histories, replay};
use cloacina_engine::core::erasure::What;
use cloacina_engine::core::event::ExecutionId;
use cloacina_replay::history::History;
use cloacina_replay::ids::resolve;
use cloacina_replay::verify::{Verdict, verify};

/// The execution with this id, after values of it were erased.
fn erased(end: &str, what: What) -> (Log, ExecutionId) {
    let log = histories::all();
    let id = resolve(&*log.0, end).unwrap();
    erase(&log, id, what, "Art. 17, case 311");
    (log, id)
}

fn key(name: &str) -> What {
    What::Key(name.to_owned())
}

#[test]
fn every_view_shows_that_a_value_was_erased() {
    let (log, _) = erased("9f3ac102", key("dataset"));
    for arguments in ["", "--full", "--full --values", "context", "why dataset", "verify"] {
        let shown = replay(&log, &format!("9f3ac102 {arguments}"));
        assert_eq!(shown.code, 0, "{arguments}: {shown}");
        assert!(shown.out.contains("erased"), "{arguments}: {shown}");
    }
    insta::assert_snapshot!(replay(&log, "9f3ac102 --full --values").to_string());
}

#[test]
fn one_erased_value_is_not_to_be_had() {
    let (log, _) = erased("9f3ac102", key("dataset"));
    insta::assert_snapshot!(replay(&log, "9f3ac102 context dataset").to_string());
}

#[test]
fn an_erased_body_is_a_verdict_and_no_failure() {
    let (log, id) = erased("9f3ac102", key("dataset"));
    let found = verify(&*log.0, id).unwrap();
    assert!(found.is_ok() && found.chain_holds());
    assert_eq!(found.folded, found.records, "all of it is folded again");
    let names: Vec<_> = found.verdicts.iter().map(Verdict::name).collect();
    assert_eq!(names, ["body erased", "body erased"], "the value, and the digest of the final context");
    insta::assert_snapshot!(replay(&log, "9f3ac102 verify").to_string());
}

#[test]
fn a_history_with_an_erased_value_goes_through_json_and_back() {
    let (log, _) = erased("9f3ac102", key("dataset"));
    let json = replay(&log, "9f3ac102 --json").out;
    let back = History::from_json(&json).unwrap();
    let context = back.context(cloacina_replay::moment::At::End).unwrap();
    assert!(context.get("dataset").unwrap().value().unwrap().is_erased());
    let whole = replay(&histories::all(), "9f3ac102 --json").out;
    let value = whole.split("\"dataset\",\"value\":").nth(1).unwrap().split('}').next().unwrap();
    assert!(!json.contains(value), "{value} is still there");
}

#[test]
fn json_names_the_keys_that_were_erased() {
    let (log, _) = erased("9f3ac102", key("dataset"));
    let context = replay(&log, "9f3ac102 context --json").out;
    assert!(context.contains("\"erased\":[\"dataset\"]"), "{context}");
    let value = replay(&log, "9f3ac102 context dataset --json").out;
    assert!(value.contains("\"erased\":true"), "{value}");
    let untouched = replay(&histories::all(), "9f3ac102 context --json").out;
    assert!(!untouched.contains("erased"), "{untouched}");
}
