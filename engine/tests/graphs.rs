//! Validation of definitions: error messages, and large graphs.

use std::sync::Arc;

use crate::support::{self, TaskBuilder, failed, success, task, workflow};
use cloacina_engine::core::definition::{Condition, Definition, TaskDefinition};
use cloacina_engine::core::graph::{Graph, InvalidDefinition, Problem, TaskIndex};

fn problems(tasks: impl IntoIterator<Item = TaskDefinition>) -> InvalidDefinition {
    let definition = Definition { workflow: "flow".into(), tasks: tasks.into_iter().collect() };
    Graph::new(Arc::new(definition)).unwrap_err()
}

fn numbered(at: usize) -> String {
    format!("t{at}")
}

fn chain(count: usize) -> Vec<TaskDefinition> {
    let mut tasks: Vec<TaskDefinition> = (0..count).map(|at| TaskDefinition::new(numbered(at))).collect();
    for (at, task) in tasks.iter_mut().enumerate().skip(1) {
        task.dependencies = vec![numbered(at - 1).into()];
    }
    tasks
}

#[test]
fn every_problem_is_named_at_once() {
    let error = problems([task("a").after(["bee"]), task("bees"), task("bees"), task("c").when(success("nobody"))]);
    assert_eq!(
        error.to_string(),
        "workflow 'flow' is not valid: Duplicate task: bees; Missing dependency: task 'a' depends on 'bee', which is not \
         in the workflow; did you mean 'bees'?; Missing dependency: task 'c' depends on 'nobody', which is not in the \
         workflow"
    );
    let empty = Graph::new(Arc::new(Definition { workflow: "".into(), tasks: vec![] })).unwrap_err();
    assert_eq!(empty.problems, [Problem::Empty("workflow name"), Problem::Empty("workflow")]);
}

#[test]
fn a_cycle_is_shown_along_its_edges() {
    let error =
        problems([task("a").after(["c"]), task("b").after(["a"]), task("c").after(["b"]), task("d").after(["c"])]);
    assert_eq!(error.problems, [Problem::Cycle(["a", "b", "c", "a"].map(String::from).to_vec())]);
    let error = problems([task("a").after(["a"]), task("b").when(failed("b"))]);
    assert_eq!(error.problems.len(), 2);
    // Tasks also wait for the tasks that their conditions name.
    let error = problems([task("a").when(failed("b")), task("b").after(["a"])]);
    assert_eq!(error.problems, [Problem::Cycle(["a", "b", "a"].map(String::from).to_vec())]);
}

/// Regression: cycles were only reported if there were no other problems.
#[test]
fn a_cycle_is_named_beside_other_problems() {
    let error = problems([task("a").after(["b", "nobody"]), task("b").after(["a"]), task("c"), task("c")]);
    assert_eq!(
        error.problems,
        [
            Problem::Duplicate("c".into()),
            Problem::Missing { task: "a".into(), missing: "nobody".into(), nearest: None },
            Problem::Cycle(["a", "b", "a"].map(String::from).to_vec()),
        ]
    );
}

/// Regression: the search for cycles was recursive, and a long cycle overflowed the stack.
#[test]
fn a_cycle_of_a_hundred_thousand_tasks_is_found() {
    let mut tasks = chain(100_000);
    tasks[0].dependencies = vec![numbered(99_999).into()];
    let error = problems(tasks);
    let [Problem::Cycle(path)] = &error.problems[..] else { panic!("{} problems", error.problems.len()) };
    assert_eq!(path.len(), 100_001);
    // A short cycle at the end of a long chain.
    let mut tasks = chain(50_000);
    tasks[49_998].dependencies.push(numbered(49_999).into());
    let error = problems(tasks);
    assert_eq!(error.problems, [Problem::Cycle([49_998, 49_999, 49_998].map(numbered).to_vec())]);
}

#[test]
fn order_levels_ends_and_ancestors() {
    let graph = workflow([
        task("d").after(["b", "c"]),
        task("b").after(["a"]),
        task("a"),
        task("c").after(["a"]),
        task("e").when(Condition::Any(vec![success("d")])),
    ]);
    let names = |tasks: &[TaskIndex]| tasks.iter().map(|task| graph.name(*task).to_string()).collect::<Vec<_>>();
    assert_eq!(names(graph.topological_order()), ["a", "b", "c", "d", "e"]);
    assert_eq!(
        graph.levels().iter().map(|level| names(level)).collect::<Vec<_>>(),
        [vec!["a"], vec!["b", "c"], vec!["d"], vec!["e"]]
    );
    // `e` waits for `d` without depending on it: both are leaves of the context, but only `e` is an end for failures.
    assert_eq!(names(graph.leaves()), ["d", "e"]);
    assert_eq!(names(&graph.roots()), ["a"]);
    let [d, b, a, c, e] = ["d", "b", "a", "c", "e"].map(|name| graph.find(name).unwrap());
    assert_eq!(graph.ancestors(d).into_iter().collect::<Vec<_>>(), [b, a, c]);
    assert!(graph.ancestors(e).is_empty() && graph.waits_for(e, a) && !graph.waits_for(a, e));
    assert!(graph.independent(b, c) && !graph.independent(e, a) && !graph.independent(a, a));
}

#[test]
fn a_dependency_named_twice_is_refused_and_one_that_a_condition_names_too_is_not() {
    let twice = problems([task("a"), task("b").after(["a", "a"])]).problems;
    assert_eq!(twice[0].to_string(), "Duplicate dependency: task 'b' depends on 'a' twice");

    let graph = workflow([task("a"), task("b").after(["a"]).when(success("a"))]);
    support::Story::of(&graph)
        .runs("a", [])
        .runs("b", [])
        .assert_status(cloacina_engine::core::state::Status::Completed);
}
