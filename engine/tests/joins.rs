//! Which value a task sees: ancestry, joins, removals, collisions.

use crate::support::{self, Story, TaskBuilder, json, task, workflow};
use cloacina_engine::core::context::{Joined, Joins, Ledger, Scope, Version, VersionRef};
use cloacina_engine::core::definition::TaskDefinition;
use cloacina_engine::core::event::{Key, Seen};
use cloacina_engine::core::json::Json;
use serde_json::Value;

fn diamond() -> [TaskDefinition; 4] {
    [task("start"), task("left").after(["start"]), task("right").after(["start"]), task("end").after(["left", "right"])]
}

/// Returns the value of `key` at the end of a diamond whose other tasks write the given values, and the number of
/// collisions. `null` removes the key.
fn join_of(base: Value, left: Value, right: Value) -> (Value, usize) {
    let mut story = Story::of(&workflow(diamond()));
    for (task, value) in [("start", base), ("left", left), ("right", right)] {
        match value {
            Value::Null => story.removes(task, "key"),
            value => story.runs(task, [("key", value)]),
        };
    }
    story.starts("end");
    let end = story.index("end");
    let collisions = story.state.task(end).collisions().len();
    (support::object(&story.state.view(end).declared)["key"].clone(), collisions)
}

#[test]
fn a_task_sees_the_input_and_its_ancestors_and_nobody_else() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("c").after(["b"]), task("other")]);
    let mut story = Story::from_input(&graph, [("city", json!("Ulm")), ("n", json!(1))]);
    story.runs("other", [("noise", json!(true))]).runs("a", [("n", json!(2)), ("a", json!(1))]);
    story.runs("b", [("n", json!(3))]).starts("c");
    story.assert_sees("a", json!({"city": "Ulm", "n": 1}));
    story.assert_sees("b", json!({"a": 1, "city": "Ulm", "n": 2}));
    story.assert_sees("c", json!({"a": 1, "city": "Ulm", "n": 3}));
    story.completes("c", []).assert_context(json!({"a": 1, "city": "Ulm", "n": 3, "noise": true}));
}

#[test]
fn a_failed_attempts_writes_have_no_effect() {
    let graph = workflow([task("a").tried(2), task("b").after(["a"])]);
    let mut story = Story::of(&graph);
    story.starts("a").fails_by("a", support::error("E", "x"), |context| context.set("half", Json::from(json!(1))));
    assert!(story.new_lines().contains(&"half=1".to_owned()));
    story.wait(1_000).starts("a").assert_sees("a", json!({}));
    story.completes("a", [("whole", json!(2))]).starts("b").assert_sees("b", json!({"whole": 2}));
}

#[test]
fn lists_keep_both_branches_additions_and_removals_in_the_order_of_the_dependencies() {
    assert_eq!(join_of(json!(["a", "b"]), json!(["a", "b", "l"]), json!(["b", "r"])), (json!(["b", "l", "r"]), 0));
}

#[test]
fn objects_meet_key_by_key() {
    let base = json!({"rows": 1, "by": {"x": 1}});
    let left = json!({"rows": 2, "by": {"x": 1, "l": [1]}});
    let right = json!({"rows": 1, "by": {"r": 2}});
    assert_eq!(join_of(base, left, right), (json!({"rows": 2, "by": {"l": [1], "r": 2}}), 0));
}

#[test]
fn what_cannot_be_had_together_takes_the_later_dependency_and_is_reported() {
    assert_eq!(join_of(json!(0), json!(1), json!(2)), (json!(2), 1));
    assert_eq!(join_of(json!(0), json!(2), json!(2)), (json!(2), 0));
    // The order of the dependencies decides, not the order of completion.
    let mut tasks = diamond();
    tasks[3] = task("end").after(["right", "left"]);
    let mut story = Story::of(&workflow(tasks));
    story.runs("start", [("n", json!(0))]).runs("left", [("n", json!(1))]).runs("right", [("n", json!(2))]);
    story.starts("end").assert_sees("end", json!({"n": 1}));
    let collision = &story.state.task(story.index("end")).collisions()[0];
    assert_eq!((&*collision.key, collision.writes.len(), collision.taken.len()), ("n", 2, 1));
    story.completes("end", []).assert_context(json!({"n": 1}));
}

#[test]
fn a_branch_that_left_the_base_as_it_was_never_wins() {
    assert_eq!(join_of(json!(0), json!(1), json!(0)), (json!(1), 0));
    assert_eq!(join_of(json!(0), json!(0), json!(1)), (json!(1), 0));
    assert_eq!(join_of(json!({"a": 1}), json!({}), json!({"a": 1})), (json!({}), 0));
}

#[test]
fn a_removal_is_a_change_like_any_other() {
    assert_eq!(join_of(json!(0), Value::Null, json!(0)).1, 0);
    let mut story = Story::from_input(&workflow(diamond()), [("key", json!(1))]);
    story.runs("start", []).removes("left", "key").runs("right", []).starts("end").assert_sees("end", json!({}));
    // One branch removes the value and the other changes it: the later one is taken, and the collision is reported.
    let mut story = Story::from_input(&workflow(diamond()), [("key", json!(1))]);
    story.runs("start", []).removes("left", "key").runs("right", [("key", json!(2))]).starts("end");
    story.assert_sees("end", json!({"key": 2}));
    assert_eq!(story.state.task(story.index("end")).collisions().len(), 1);
}

#[test]
fn a_write_that_saw_the_other_hides_it() {
    let graph = workflow([
        task("a"),
        task("b").after(["a"]),
        // Sees `a` twice: directly, and through `b`.
        task("c").after(["b", "a"]),
        task("d").after(["a", "b"]),
    ]);
    let mut story = Story::of(&graph);
    story.runs("a", [("n", json!([1]))]).runs("b", [("n", json!([2]))]);
    story.starts("c").assert_sees("c", json!({"n": [2]})).starts("d").assert_sees("d", json!({"n": [2]}));
    assert!(story.state.task(story.index("d")).collisions().is_empty());
}

#[test]
fn criss_cross_joins_of_the_same_branches_agree() {
    // Both sides join `a` and `b` and add an element. Joining them duplicates nothing.
    let graph = workflow([
        task("a"),
        task("b"),
        task("x").after(["a", "b"]),
        task("y").after(["a", "b"]),
        task("end").after(["x", "y"]),
    ]);
    let mut story = Story::from_input(&graph, [("list", json!([0]))]);
    story.runs("a", [("list", json!([0, "a"]))]).runs("b", [("list", json!([0, "b"]))]);
    story.runs("x", [("list", json!([0, "a", "b", "x"]))]).runs("y", [("list", json!([0, "a", "b", "y"]))]);
    story.starts("end").assert_sees("end", json!({"list": [0, "a", "b", "x", "y"]}));
}

#[test]
fn criss_cross_joins_in_different_orders_take_their_base_from_both() {
    let graph = workflow([
        task("a"),
        task("b"),
        task("x").after(["a", "b"]),
        task("y").after(["b", "a"]),
        task("end").after(["x", "y"]),
    ]);
    let mut story = Story::of(&graph);
    story.runs("a", [("doc", json!({"a": 1}))]).runs("b", [("doc", json!({"b": 1}))]);
    story.runs("x", [("doc", json!({"a": 1, "b": 1, "x": 1}))]).runs("y", [("doc", json!({"a": 1, "y": 1}))]);
    story.starts("end").assert_sees("end", json!({"doc": {"a": 1, "x": 1, "y": 1}}));
}

#[test]
fn many_branches_join_from_first_to_last() {
    let names: Vec<String> = (0..20).map(|at| format!("t{at:02}")).collect();
    let mut tasks: Vec<TaskDefinition> = vec![task("start")];
    tasks.extend(names.iter().map(|name| task(name).after(["start"])));
    let mut end = task("end");
    end.dependencies = names.iter().rev().map(|name| name.as_str().into()).collect();
    tasks.push(end);
    let mut story = Story::of(&workflow(tasks));
    story.runs("start", [("list", json!([])), ("n", json!(0))]);
    // The tasks complete in a different order than they are listed in.
    for at in [3, 19, 0, 7].into_iter().chain((0..20).filter(|at| ![3, 19, 0, 7].contains(at))) {
        let name = names[at].as_str();
        story.runs(name, [("list", json!([at]))]);
    }
    let descending: Vec<usize> = (0..20).rev().collect();
    story.starts("end").assert_sees("end", json!({"list": descending, "n": 0}));
}

/// Regression: `revert` undid the addition of `offer`, which `note` had seen and `count` had not. The first join kept
/// `count`'s list, since `revert` left the base unchanged, and forgot that it had seen the offer, so the second join
/// restored it.
#[test]
fn a_join_remembers_what_it_saw_of_a_branch_that_changed_nothing_in_the_end() {
    let graph = workflow([
        task("start"),
        task("offer").after(["start"]),
        task("revert").after(["offer"]),
        task("count").after(["start"]),
        task("first").after(["count", "revert"]),
        task("note").after(["offer"]),
        task("second").after(["first", "note"]),
    ]);
    let mut story = Story::of(&graph);
    story.runs("start", [("list", json!([]))]).runs("offer", [("list", json!(["offer"]))]);
    story.runs("revert", [("list", json!([]))]).runs("count", [("list", json!(["count"]))]);
    story.starts("first").assert_sees("first", json!({"list": ["count"]})).completes("first", []);
    story.runs("note", [("list", json!(["offer", "note"]))]);
    story.starts("second").assert_sees("second", json!({"list": ["count", "note"]}));
}

#[test]
fn what_a_read_saw_is_recorded_as_it_was() {
    let mut tasks = diamond().to_vec();
    tasks.push(task("other"));
    let mut story = Story::from_input(&workflow(tasks), [("in", json!(1))]);
    story.runs("other", [("noise", json!(1))]);
    story.runs("start", [("list", json!([])), ("kept", json!([]))]);
    story.runs("left", [("list", json!([1])), ("kept", json!([1]))]);
    story.runs("right", [("list", json!([2])), ("kept", json!([]))]);
    story.starts("end");
    let mut context =
        cloacina_engine::core::task_context::TaskContext::new(story.state.view(story.index("end")), false);
    for key in ["in", "list", "kept", "noise", "gone"] {
        context.get(key).unwrap();
    }
    context.set("mine", Json::from(json!(1)));
    context.get("mine").unwrap();
    let reads: Vec<(String, Seen)> =
        context.finish().1.keys.into_iter().map(|read| (read.key.to_string(), read.seen)).collect();
    let seq = |key: &str, value: &str| {
        let line = format!("{key}={value}");
        story.events.iter().find(|recorded| support::describe(&recorded.event) == line).unwrap().seq
    };
    let expected = [
        ("gone", Seen::Nothing),
        ("in", Seen::Write(seq("in", "1"))),
        // Only one branch changed it, so its write was seen.
        ("kept", Seen::Write(seq("kept", "[1]"))),
        ("list", Seen::Merged(vec![seq("list", "[1]"), seq("list", "[2]")])),
        ("noise", Seen::Undeclared(seq("noise", "1"))),
    ];
    assert_eq!(reads, expected.map(|(key, seen)| (key.to_owned(), seen)));
}

fn one(key: &Key, version: &VersionRef) -> Scope {
    Scope::from_iter([(key.clone(), version.clone())])
}

fn join(joins: &mut Joins, branches: &[&Scope]) -> Joined {
    joins.join(&Ledger::default(), branches)
}

fn version(joined: &Joined, key: &str) -> VersionRef {
    Ledger::default().look(&joined.scope, key).unwrap().clone()
}

/// Two tasks write numbers, two tasks that join these in opposite orders overwrite them, and a last task joins the
/// results. The base of that join is the merge of the first two, in the order of their names.
fn criss_cross([one, other]: [&str; 2], first: [i64; 2], second: [i64; 2]) -> (Value, usize) {
    let graph = workflow([
        task("start"),
        task(one).after(["start"]),
        task(other).after(["start"]),
        task("x").after([one, other]),
        task("y").after([other, one]),
        task("end").after(["x", "y"]),
    ]);
    let mut story = Story::of(&graph);
    story.runs("start", [("n", json!(0))]);
    for (task, number) in [one, other, "x", "y"].into_iter().zip(first.into_iter().chain(second)) {
        story.runs(task, [("n", json!(number))]);
    }
    story.starts("end");
    let end = story.index("end");
    (support::object(&story.state.view(end).declared)["n"].clone(), story.state.task(end).collisions().len())
}

#[test]
fn plain_values_are_merged_into_a_base_wherever_that_can_be_told() {
    for names in [["a", "b"], ["b", "a"]] {
        // The base is the value of the later name, and a branch that did not change it does not win.
        let base = if names[0] < names[1] { 2 } else { 1 };
        assert_eq!(criss_cross(names, [1, 2], [1, 2]), (json!(3 - base), 0), "{names:?}");
        assert_eq!(criss_cross(names, [1, 2], [2, 1]), (json!(3 - base), 0), "{names:?}");
        assert_eq!(criss_cross(names, [1, 2], [1, 7]), if base == 1 { (json!(7), 0) } else { (json!(7), 1) });
        // Both branches changed the base.
        assert_eq!(criss_cross(names, [1, 2], [3, 4]), (json!(4), 1));
        assert_eq!(criss_cross(names, [1, 2], [3, 3]), (json!(3), 0));
        // The first two wrote the same value.
        assert_eq!(criss_cross(names, [1, 1], [1, 5]), (json!(5), 0));
        assert_eq!(criss_cross(names, [1, 1], [5, 1]), (json!(5), 0));
    }
}

#[test]
fn a_key_overwritten_a_hundred_thousand_times_takes_no_deep_stack() {
    let key: Key = "n".into();
    let first = Version::written(Some(Json::from(json!(0))), 0, None, None);
    let mut last = first.clone();
    for seq in 1..=100_000 {
        last = Version::written(Some(Json::from(json!(seq))), seq, Some("t".into()), Some(last));
    }
    let aside = Version::written(Some(Json::from(json!(-1))), 100_001, Some("u".into()), Some(first.clone()));
    let mut joins = Joins::default();
    let joined = join(&mut joins, &[&one(&key, &aside), &one(&key, &last)]);
    assert_eq!(version(&joined, &key).value().unwrap().as_str(), "100000");
    assert_eq!(joined.collisions.len(), 1);
    assert_eq!(version(&join(&mut joins, &[&one(&key, &first), &one(&key, &last)]), &key), last);
    drop((joined, joins, last, aside, first));
}

#[test]
fn deep_chains_of_merges_take_no_deep_stack_either() {
    let key: Key = "list".into();
    let mut joins = Joins::default();
    let mut seq = 0;
    let mut write = |over: Option<VersionRef>, writer: &str| {
        seq += 1;
        Version::written(Some(Json::from(json!([seq]))), seq, Some(writer.into()), over)
    };
    let mut last = write(None, "a");
    for _ in 0..20_000 {
        let (left, right) = (write(Some(last.clone()), "a"), write(Some(last), "b"));
        last = version(&join(&mut joins, &[&one(&key, &left), &one(&key, &right)]), &key).clone();
    }
    assert_eq!(last.writes().len(), 2);
}

/// Regression: JSON nested deeper than the parser's limit became `null` in a join.
#[test]
fn a_value_too_deep_to_be_merged_is_taken_whole_and_never_becomes_null() {
    let deep = |core: &str| Json::parse(&format!("{}{core}{}", "[".repeat(1_000), "]".repeat(1_000))).unwrap();
    let start = Version::written(Some(Json::from(json!([]))), 0, None, None);
    let left = Version::written(Some(deep("1")), 1, Some("l".into()), Some(start.clone()));
    let right = Version::written(Some(deep("2")), 2, Some("r".into()), Some(start.clone()));
    let key: Key = "k".into();
    let joined = join(&mut Joins::default(), &[&one(&key, &left), &one(&key, &right)]);
    assert_eq!(version(&joined, &key).value(), Some(&deep("2")));
    assert_eq!(joined.collisions.len(), 1);
    let joined = join(&mut Joins::default(), &[&one(&key, &left), &one(&key, &start)]);
    assert_eq!(version(&joined, &key).value(), Some(&deep("1")));
}

/// Regression: a join without anything to merge changed the spelling of a number.
#[test]
fn what_is_taken_whole_keeps_its_text() {
    let spelled = |text: &str| Json::parse(text).unwrap();
    let key: Key = "k".into();
    let start = Version::written(Some(spelled("1")), 0, None, None);
    let left = Version::written(Some(spelled("{\"b\" : 1.0E2, \"a\": \"\\u00e9\"}")), 1, None, Some(start.clone()));
    let right = Version::written(Some(spelled("[ 1e2 ]")), 2, None, Some(start));
    let joined = join(&mut Joins::default(), &[&one(&key, &right), &one(&key, &left)]);
    assert_eq!(version(&joined, &key).value().unwrap().as_str(), "{\"b\" : 1.0E2, \"a\": \"\\u00e9\"}");
}

/// Regression: 10,000 tasks wrote one key and were joined at one task. The cost was quadratic: each merge searched the
/// histories of all earlier branches, and each collision listed all earlier writes.
#[test]
fn a_wide_fan_onto_one_key_costs_what_it_holds() {
    let key: Key = "total".into();
    let start = Version::written(Some(Json::from(json!(0))), 0, None, None);
    let branches: Vec<Scope> = (1..=10_000)
        .map(|seq| {
            let task = format!("t{seq}").as_str().into();
            one(&key, &Version::written(Some(Json::from(json!(seq))), seq, Some(task), Some(start.clone())))
        })
        .collect();
    // A branch that changed nothing, and later one that saw everything.
    let mut all: Vec<&Scope> = branches.iter().collect();
    let untouched = one(&key, &start);
    all.push(&untouched);
    let mut joins = Joins::default();
    let joined = join(&mut joins, &all);
    assert_eq!(version(&joined, &key).value().unwrap().as_str(), "10000");
    assert_eq!(joined.collisions.len(), 1);
    assert_eq!((joined.collisions[0].writes.len(), &joined.collisions[0].taken[..]), (10_000, &[10_000][..]));
    let end = Version::written(None, 10_001, Some("end".into()), Some(version(&joined, &key)));
    let above = one(&key, &end);
    all.push(&above);
    assert_eq!(version(&join(&mut joins, &all), &key), end);
    assert_eq!(join(&mut joins, &all).collisions, []);
}
