//! What a task should have declared.

use cloacina_engine::core::event::{Key, Read, Reads, Seen};
use cloacina_engine::core::state::Execution;

/// The dependencies that a task should have declared, by what the whole log tells; `None` if it needs no more. A task
/// that waits for the reader itself is not proposed: that would be a cycle.
#[must_use]
pub fn hint(state: &Execution, task: &str, reads: &Reads, undeclared_only: bool) -> Option<String> {
    let graph = state.graph();
    let reader = graph.find(task)?;
    let possible: Vec<Key> = state
        .missing_dependencies(reads)
        .into_iter()
        .filter(|(_, writer)| graph.find(writer).is_some_and(|writer| !graph.ancestors(writer).contains(&reader)))
        .map(|(key, _)| key)
        .collect();
    let counts =
        |read: &&Read| possible.contains(&read.key) && (!undeclared_only || matches!(read.seen, Seen::Undeclared(_)));
    let keys = reads.keys.iter().filter(counts).cloned().collect();
    state.hint(task, &Reads { keys, all: false })
}
