//! Erasure: erased values are gone, everything else is unchanged, and no value is made up.

use std::collections::BTreeMap;

use crate::support::plan::plans;
use crate::support::simulate::Simulation;
use crate::support::{ID, Story, TaskBuilder, cases, error, library, task, workflow};
use cloacina_engine::core::codec::{decode_event, encode_event};
use cloacina_engine::core::context::values;
use cloacina_engine::core::definition::{Condition, Operator, TriggerRule};
use cloacina_engine::core::erasure::{ERASED_TEXT, NothingToErase, What, plan};
use cloacina_engine::core::event::{Event, Seq};
use cloacina_engine::core::fold::{Recorded, fold};
use cloacina_engine::core::json::Json;
use cloacina_engine::core::state::Execution;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

fn numbered(events: &[Recorded]) -> Vec<(Seq, Event)> {
    events.iter().map(|recorded| (recorded.seq, recorded.event.clone())).collect()
}

/// Returns the history as a reader sees it after an erasure, with redacted copies that went through the log's encoding.
fn redact(events: &[Recorded], erased: &BTreeMap<Seq, Event>) -> Vec<Recorded> {
    let left = |recorded: &Recorded| {
        let copy = erased.get(&recorded.seq).map(|copy| decode_event(&encode_event(copy)).unwrap());
        Recorded { event: copy.unwrap_or_else(|| recorded.event.clone()), ..recorded.clone() }
    };
    events.iter().map(left).collect()
}

fn erase(events: &[Recorded], what: &What) -> Vec<Recorded> {
    redact(events, &plan(&numbered(events), std::slice::from_ref(what)).unwrap())
}

fn states(events: &[Recorded], graph: &std::sync::Arc<cloacina_engine::core::graph::Graph>) -> Vec<Execution> {
    let graphs = library([graph]);
    let mut state = None;
    events
        .iter()
        .map(|recorded| {
            state = Some(fold(state.take(), ID, recorded, &graphs).unwrap());
            state.clone().unwrap()
        })
        .collect()
}

fn context(state: &Execution) -> BTreeMap<String, Json> {
    values(&state.context()).map(|(key, value)| (key.to_string(), value.clone())).collect()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn erasing_changes_no_state_and_makes_up_no_value(
        plan in plans(true),
        choices in vec(any::<u16>(), 0..60),
        which in any::<prop::sample::Index>(),
    ) {
        let mut simulation = Simulation::begin(&plan, Simulation::options(), 3);
        simulation.run(&choices);
        let events: Vec<Recorded> = simulation.events().into_iter().cloned().collect();
        let mut keys: Vec<String> = events.iter().filter_map(|recorded| match &recorded.event {
            Event::ContextWritten(write) => Some(write.key.to_string()),
            _ => None,
        }).collect();
        keys.sort();
        keys.dedup();
        prop_assume!(!keys.is_empty());
        let key = keys[which.index(keys.len())].clone();
        let erased = erase(&events, &What::Key(key.clone()));
        for (whole, left) in states(&events, &plan.graph).iter().zip(states(&erased, &plan.graph)) {
            prop_assert_eq!(whole.status(), left.status());
            for task in plan.graph.tasks() {
                prop_assert_eq!(whole.task(task).state(), left.task(task).state());
                prop_assert_eq!(whole.task(task).attempts(), left.task(task).attempts());
            }
            let (before, after) = (context(whole), context(&left));
            for (name, value) in &after {
                prop_assert!(value.is_erased() || before.get(name) == Some(value), "{} became {}", name, value);
                prop_assert!(*name == key || !value.is_erased(), "only {} was erased, not {}", key, name);
            }
            for (name, value) in &before {
                // A value is unchanged or erased. None disappears.
                prop_assert!(after.contains_key(name), "{name} = {value} has vanished");
            }
        }
    }
}

fn diamond() -> [cloacina_engine::core::definition::TaskDefinition; 4] {
    [task("start"), task("left").after(["start"]), task("right").after(["start"]), task("end").after(["left", "right"])]
}

#[test]
fn a_join_with_an_erased_side_is_erased_unless_the_other_one_had_changed_nothing() {
    let mut story = Story::of(&workflow(diamond()));
    story.runs("start", [("list", json!([1])), ("kept", json!(1)), ("both", json!({}))]);
    story.runs("left", [("list", json!([1, 2])), ("both", json!({"left": 1}))]);
    story.runs("right", [("list", json!([1, 3])), ("both", json!({"right": 1}))]);
    story.runs("end", []);
    let seq_of = |key: &str, number: usize| {
        let writes = story
            .events
            .iter()
            .filter(|recorded| matches!(&recorded.event, Event::ContextWritten(write) if &*write.key == key));
        writes.map(|recorded| recorded.seq).nth(number).unwrap()
    };
    let graph = story.state.graph().clone();
    for number in 0..3 {
        let erased = erase(&story.events, &What::Seq(seq_of("list", number)));
        let after = context(states(&erased, &graph).last().unwrap());
        assert!(after["list"].is_erased(), "write {number}");
        assert_eq!(after["both"].value(), json!({"left": 1, "right": 1}));
        assert_eq!(after["kept"].value(), json!(1));
    }
}

#[test]
fn what_a_branch_left_alone_is_known_though_the_base_was_not_its_own() {
    let mut story = Story::of(&workflow(diamond()));
    story.runs("start", [("key", json!(1))]).runs("left", [("key", json!(2))]).runs("right", []).runs("end", []);
    let graph = story.state.graph().clone();
    let first = story.events.iter().find(|recorded| matches!(&recorded.event, Event::ContextWritten(_))).unwrap();
    let after = context(states(&erase(&story.events, &What::Seq(first.seq)), &graph).last().unwrap());
    assert_eq!(after["key"].value(), json!(2), "left overwrote the erased value");
}

/// Once a value is erased, a condition on it cannot be evaluated again. Its outcome is still in the log.
#[test]
fn a_condition_on_an_erased_value_came_to_what_the_log_says() {
    for value in [1, 2] {
        let condition =
            Condition::ContextValue { key: "n".into(), operator: Operator::Equals, value: Some(Json::from(json!(1))) };
        let mut end = task("end").after(["start"]);
        end.rule = TriggerRule::When(condition);
        let mut story = Story::of(&workflow([task("start"), end]));
        story.runs("start", [("n", json!(value))]);
        if value == 1 {
            story.runs("end", []);
        }
        let graph = story.state.graph().clone();
        let erased = erase(&story.events, &What::Key("n".to_owned()));
        let states = states(&erased, &graph);
        assert_eq!(states.last().unwrap().status(), story.state.status());
        let end = graph.find("end").unwrap();
        assert_eq!(states.last().unwrap().task(end).state(), story.state.task(end).state());
        assert_eq!(states.last().unwrap().ready().count(), 0);
    }
}

#[test]
fn nothing_that_was_erased_can_be_found_in_what_is_left() {
    let mut story = Story::from_input(&workflow([task("a").tried(1)]), [("name", json!("Ada Lovelace"))]);
    story.starts("a").fails_by("a", error("ValueError", "no row for Ada Lovelace"), |_| {});
    let failed = story.events.iter().find(|recorded| matches!(recorded.event, Event::TaskFailed(_))).unwrap().seq;
    let left = erase(&erase(&story.events, &What::Key("name".to_owned())), &What::Seq(failed));
    for recorded in &left {
        let bytes = encode_event(&recorded.event);
        assert!(!String::from_utf8_lossy(&bytes).contains("Ada"), "seq {}", recorded.seq);
    }
    let Event::ExecutionFailed(ended) = &left.last().unwrap().event else { panic!("it failed") };
    assert_eq!(
        (ended.context, &*ended.reason),
        ([0; 32], ERASED_TEXT),
        "the digest must not allow guesses to be checked"
    );
    let Event::TaskFailed(failed) = &left[failed as usize].event else { panic!("it is the failure") };
    assert_eq!((&*failed.error.kind, &*failed.error.message), ("ValueError", ERASED_TEXT));
}

#[test]
fn what_holds_no_value_or_is_not_over_is_not_erased() {
    let mut story = Story::from_input(&workflow([task("a")]), [("name", json!("Ada"))]);
    let refused = |story: &Story, what: What| plan(&numbered(&story.events), &[what]).unwrap_err();
    assert_eq!(refused(&story, What::Key("name".to_owned())), NothingToErase::NotOver);
    story.runs("a", [("n", json!(1))]);
    let written = vec!["n".to_owned(), "name".to_owned()];
    assert_eq!(refused(&story, What::Key("nam".to_owned())), NothingToErase::NoKey { key: "nam".to_owned(), written });
    assert_eq!(refused(&story, What::Seq(0)), NothingToErase::NoValue { seq: 0, event: "ExecutionStarted" });
    let events = story.events.len() as u64;
    assert_eq!(refused(&story, What::Seq(events)), NothingToErase::NoSeq { seq: events, events });
}

/// An execution that was retried has several ends, each with a digest that would allow guesses at an erased value to be
/// checked.
#[test]
fn of_a_retried_execution_every_end_loses_its_digest() {
    let graph = workflow([task("a"), task("b").after(["a"])]);
    let mut story = Story::of(&graph);
    story.runs("a", [("secret", json!("s3cret"))]).fails("b").retries().runs("b", []);
    let known = numbered(&story.events);
    let erased = plan(&known, &[What::Key("secret".into())]).unwrap();
    let ends: Vec<Seq> = known.iter().filter(|(_, event)| event.is_end()).map(|(seq, _)| *seq).collect();
    assert_eq!(ends.len(), 2);
    for end in ends {
        let (Event::ExecutionFailed(left) | Event::ExecutionCompleted(left)) = &erased[&end] else {
            panic!("{:?}", erased[&end]);
        };
        assert_eq!(left.context, [0; 32]);
    }
    let retried = known.iter().find(|(_, event)| matches!(event, Event::ExecutionRetried(_))).unwrap();
    let copies = plan(&known, &[What::Seq(retried.0)]).unwrap();
    let Event::ExecutionRetried(left) = &copies[&retried.0] else { panic!("{:?}", copies[&retried.0]) };
    assert_eq!((&*left.request.by, left.request.reason.as_deref()), (ERASED_TEXT, Some(ERASED_TEXT)));
    let open = &known[..=usize::try_from(retried.0).unwrap()];
    assert_eq!(plan(open, &[What::Key("secret".into())]), Err(NothingToErase::NotOver));
}
