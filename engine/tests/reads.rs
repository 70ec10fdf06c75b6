//! Undeclared reads: visible, recorded, and reported with the missing dependency.

use crate::support::story::options;
use crate::support::{Story, TaskBuilder, error, json, task, workflow};
use cloacina_engine::core::decide::Effect;
use cloacina_engine::core::definition::TriggerRule;
use cloacina_engine::core::event::{ExecutionOptions, Seen};
use cloacina_engine::core::state::Status;
use cloacina_engine::core::task_context::{TaskContext, UndeclaredRead};

/// Returns the warnings that the runtime is asked to log.
fn warnings(story: &Story) -> Vec<(String, String, String)> {
    let warn = |effect: &Effect| match effect {
        Effect::UndeclaredRead { task, key, writer } => Some((task.to_string(), key.to_string(), writer.to_string())),
        _ => None,
    };
    story.effects.iter().filter_map(warn).collect()
}

fn read(context: &mut TaskContext, key: &str) {
    context.get(key).unwrap();
}

#[test]
fn a_key_of_a_task_that_is_no_ancestor_is_visible_recorded_and_warned_about() {
    let graph = workflow([task("prepare"), task("distribute")]);
    let mut story = Story::of(&graph);
    story.runs("prepare", [("dataset", json!([1]))]).starts("distribute");
    story.completes_by("distribute", |context| {
        assert_eq!(context.get("dataset").unwrap().unwrap().as_str(), "[1]");
        // The whole context does not depend on timing.
        assert!(context.all().is_empty());
    });
    assert_eq!(warnings(&story), [("distribute".into(), "dataset".into(), "prepare".into())]);
    story.assert_status(Status::Completed);
}

#[test]
fn an_attempt_sees_the_latest_writes_as_they_were_when_it_started() {
    let graph = workflow([task("writer"), task("reader").tried(2)]);
    let mut story = Story::of(&graph);
    story.starts("reader").runs("writer", [("n", json!(1))]);
    story.fails_by("reader", error("KeyError", "'n'"), |context| assert_eq!(context.get("n").unwrap(), None));
    let reads = &story.state.task(story.index("reader")).failure().unwrap().reads;
    assert_eq!(reads.keys[0].seen, Seen::Nothing);
    story.wait(1_000).starts("reader").completes_by("reader", |context| {
        assert_eq!(context.get("n").unwrap().unwrap().as_str(), "1");
    });
}

#[test]
fn in_a_strict_execution_it_is_an_error() {
    let graph = workflow([task("writer"), task("reader")]);
    let mut story = Story::with(&graph, [], ExecutionOptions { strict_context: true, ..options() });
    story.runs("writer", [("n", json!(1))]).starts("reader");
    story.fails_by("reader", error("UndeclaredReadError", "n"), |context| {
        let refused = UndeclaredRead { key: "n".into() };
        assert_eq!(context.get("n"), Err(refused.clone()));
        assert_eq!(context.contains("n"), Err(refused.clone()));
        assert_eq!(context.remove("n"), Err(refused));
        assert_eq!(context.get("nothing"), Ok(None));
        context.set("n", cloacina_engine::core::json::Json::from(json!(2)));
        assert!(context.get("n").is_ok());
    });
    let failure = story.state.task(story.index("reader")).failure().unwrap();
    assert_eq!(
        failure.error.hint.as_deref(),
        Some("`reader` reads `n`, which `writer` writes: add it to its dependencies")
    );
}

#[test]
fn a_failure_after_reading_what_was_not_there_yet_names_the_missing_dependency_in_the_end() {
    let graph = workflow([task("prepare"), task("distribute")]);
    let mut story = Story::of(&graph);
    story.starts("prepare").starts("distribute");
    story.fails_by("distribute", error("KeyError", "'dataset'"), |context| read(context, "dataset"));
    assert_eq!(story.state.task(story.index("distribute")).failure().unwrap().error.hint, None);
    story.completes("prepare", [("dataset", json!(1))]);
    assert_eq!(
        story.reason(),
        "task 'distribute' failed, attempt 1 of 1: KeyError: 'dataset' (hint: `distribute` reads `dataset`, which \
         `prepare` writes: add it to its dependencies)"
    );
}

/// Regression: `clean` removed a key, a downstream task looked for it and failed for another reason, and the hint said
/// to depend on `clean`, which it already did.
#[test]
fn a_key_that_an_ancestor_removed_is_no_missing_dependency() {
    let graph = workflow([task("clean"), task("use").after(["clean"])]);
    let mut story = Story::from_input(&graph, [("tmp", json!(1))]);
    story.removes("clean", "tmp").starts("use");
    story.fails_by("use", error("ValueError", "x"), |context| read(context, "tmp"));
    assert_eq!(story.reason(), "task 'use' failed, attempt 1 of 1: ValueError: x");
}

#[test]
fn a_key_that_a_stranger_removed_is_no_missing_dependency_either() {
    let graph = workflow([task("a"), task("b").after(["a"]), task("use")]);
    let mut story = Story::of(&graph);
    story.runs("a", [("tmp", json!(1))]).removes("b", "tmp").starts("use");
    story.completes_by("use", |context| assert_eq!(context.get("tmp").unwrap(), None));
    assert_eq!(warnings(&story), []);
}

/// Regression: `report` ran after the failure of `load` and wrote the key that `load` had read. The hint would have
/// made a cycle.
#[test]
fn a_task_behind_the_reader_is_no_missing_dependency() {
    let graph = workflow([
        task("load"),
        task("report").after(["load"]).rule(TriggerRule::AllDone),
        task("end").after(["load"]),
    ]);
    let mut story = Story::of(&graph);
    story.starts("load").fails_by("load", error("KeyError", "'n'"), |context| read(context, "n"));
    story.runs("report", [("n", json!(1))]).assert_status(Status::Failed);
    assert_eq!(story.reason(), "task 'load' failed, attempt 1 of 1: KeyError: 'n'");
}

/// Regression: the reader saw the write of `first`. `second` wrote the key before the reader completed, and the warning
/// named `second`.
#[test]
fn the_warning_names_the_task_whose_write_was_seen() {
    let graph = workflow([task("first"), task("second"), task("reader")]);
    let mut story = Story::of(&graph);
    story.runs("first", [("n", json!(1))]).starts("reader").runs("second", [("n", json!(2))]);
    story.completes_by("reader", |context| read(context, "n"));
    assert_eq!(warnings(&story), [("reader".into(), "n".into(), "first".into())]);
}

#[test]
fn the_input_hides_what_a_stranger_writes() {
    let graph = workflow([task("writer"), task("reader")]);
    let mut story = Story::from_input(&graph, [("n", json!(0))]);
    story.runs("writer", [("n", json!(1))]).starts("reader").completes_by("reader", |context| {
        assert_eq!(context.get("n").unwrap().unwrap().as_str(), "0");
    });
    assert_eq!(warnings(&story), []);
    // In the join of both leaves, `reader` left the base unchanged.
    story.assert_context(json!({"n": 1}));
}

/// Returns the context of an attempt that sees every kind of key: input, an ancestor's write, a removed key, and the
/// writes and removals of a task that is not an ancestor.
fn everything(options: ExecutionOptions) -> TaskContext {
    let graph = workflow([task("up"), task("clean").after(["up"]), task("stranger"), task("reader").after(["clean"])]);
    let mut story = Story::with(&graph, [("input", json!(0)), ("both", json!("old"))], options);
    story.runs("up", [("declared", json!({"b": 1, "a": 2})), ("tmp", json!(1))]).removes("clean", "tmp");
    story.runs("stranger", [("foreign", json!(3)), ("both", json!("new")), ("tmp", json!(2))]).starts("reader");
    let strict = story.state.options().strict_context;
    TaskContext::new(story.state.view(story.index("reader")), strict)
}

/// Performs pseudo-random operations on a context, determined by `number`.
fn act(context: &mut TaskContext, number: usize) {
    let keys = ["input", "both", "declared", "tmp", "foreign", "new"];
    let mut rest = number;
    for _ in 0..6 {
        let key = keys[rest % keys.len()];
        match (rest / 7) % 5 {
            0 => drop(context.get(key)),
            1 => context.set(key, cloacina_engine::core::json::Json::from(json!(rest))),
            2 => drop(context.remove(key)),
            3 => drop(context.contains(key)),
            _ if rest.is_multiple_of(3) => drop(context.all()),
            _ => {}
        }
        rest = rest.wrapping_mul(31).wrapping_add(number + 17) % 10_007;
    }
}

#[test]
fn what_is_done_to_a_likeness_elsewhere_and_repeated_here_is_the_same_as_done_here() {
    for strict_context in [false, true] {
        let original = everything(ExecutionOptions { strict_context, ..options() });
        for number in 0..2_000 {
            let (mut here, mut back) = (original.clone(), original.clone());
            let mut there = TaskContext::from_snapshot(original.snapshot());
            assert_eq!(there.peek(), here.peek());
            act(&mut here, number);
            act(&mut there, number);
            assert_eq!(there.peek(), here.peek());
            back.apply(there.changes());
            assert_eq!(back.finish(), here.finish(), "number {number}, strict {strict_context}");
        }
    }
}
