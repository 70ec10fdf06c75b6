//! Alignment of the tasks of two executions, and access to their values.

use std::collections::{BTreeMap, HashMap};

use cloacina_engine::core::context::{self, Context};
use cloacina_engine::core::event::{Key, Seq, TaskId};
use cloacina_engine::core::json::Json;

use super::Side;
use crate::story::{Row, Story, TaskRow, What};

/// Values by key.
pub type Values = BTreeMap<Key, Json>;

/// Returns the tasks of both, each once, in the order in which A ran them. A task that only B has comes after the one
/// that B ran before it; tasks without events come last.
pub fn tasks(a: Side<'_>, b: Side<'_>) -> Vec<TaskId> {
    let (in_a, in_b) = (names(a), names(b));
    let places: HashMap<&TaskId, usize> = in_a.iter().enumerate().map(|(place, task)| (task, place)).collect();
    // The tasks that only B has, by one plus the index of the task of A before them; 0 if there is none before.
    let mut behind: BTreeMap<usize, Vec<TaskId>> = BTreeMap::new();
    let mut last = 0;
    for task in in_b {
        match places.get(&task) {
            Some(place) => last = place + 1,
            None => behind.entry(last).or_default().push(task),
        }
    }
    let mut all = behind.remove(&0).unwrap_or_default();
    for (place, task) in in_a.into_iter().enumerate() {
        all.push(task);
        all.extend(behind.remove(&(place + 1)).unwrap_or_default());
    }
    all
}

/// Returns the tasks of one execution: those with events, in order, then the others.
fn names(side: Side<'_>) -> Vec<TaskId> {
    let mut names: Vec<TaskId> = rows(side.story).map(|(_, row)| row.task.clone()).collect();
    let with_events: std::collections::HashSet<TaskId> = names.iter().cloned().collect();
    if let Some(graph) = side.graph() {
        names.extend(graph.tasks().map(|task| graph.name(task)).filter(|name| !with_events.contains(*name)).cloned());
    }
    names
}

/// Iterates over the rows of tasks.
pub fn rows(story: &Story) -> impl Iterator<Item = (&Row, &TaskRow)> {
    story.rows.iter().filter_map(|row| match &row.what {
        What::Task(task) => Some((row, task)),
        _ => None,
    })
}

/// Returns the input.
pub fn input(story: &Story) -> Values {
    let started = story.rows.iter().find_map(|row| match &row.what {
        What::Started { input, .. } => Some(input),
        _ => None,
    });
    let input = started.into_iter().flatten();
    input.filter_map(|change| Some((change.key.clone(), change.value.clone()?))).collect()
}

/// Returns the values of a context, without removed keys.
pub fn context(context: &Context) -> Values {
    context::values(context).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Returns every written value of an execution, by its `seq`.
pub fn writes(story: &Story) -> HashMap<Seq, &Json> {
    let inputs = story.rows.iter().flat_map(|row| match &row.what {
        What::Started { input, .. } => &input[..],
        _ => &[],
    });
    let written = rows(story).flat_map(|(_, row)| row.attempts.iter().flat_map(|attempt| &attempt.writes));
    inputs.chain(written).filter_map(|change| Some((change.seq, change.value.as_ref()?))).collect()
}

/// Returns the tasks that moved: those outside of the longest increasing subsequence, each with a task that it crossed.
/// `places` are the positions in B of the tasks in the order of A; the result are indices into it.
pub fn moved(places: &[usize]) -> Vec<(usize, usize)> {
    // For each length, the end of the best increasing subsequence; for each task, its predecessor in its subsequence.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = vec![None; places.len()];
    for (at, place) in places.iter().enumerate() {
        let length = ends.partition_point(|end| places[*end] < *place);
        before[at] = length.checked_sub(1).map(|shorter| ends[shorter]);
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut stays = vec![false; places.len()];
    let mut next = ends.last().copied();
    while let Some(at) = next {
        stays[at] = true;
        next = before[at];
    }
    let staying: Vec<usize> = (0..places.len()).filter(|at| stays[*at]).collect();
    let crossed = |at: usize| {
        let here = staying.partition_point(|other| *other < at);
        let there = staying.partition_point(|other| places[*other] < places[at]);
        // Moved forward: it crossed the first one that is now before it. Moved back: the last one that is now after it.
        if there > here { staying[here] } else { staying[here - 1] }
    };
    (0..places.len()).filter(|at| !stays[*at]).map(|at| (at, crossed(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_the_least_that_explains_the_other_order() {
        assert_eq!(moved(&[0, 1, 2, 3]), []);
        // The first of A is the last in B: it moved across the second.
        assert_eq!(moved(&[3, 0, 1, 2]), [(0, 1)]);
        // The last of A is the first in B.
        assert_eq!(moved(&[1, 2, 3, 0]), [(3, 2)]);
        assert_eq!(moved(&[]), []);
    }

    #[test]
    fn what_stays_is_in_the_same_order_and_what_moved_has_crossed_what_is_named() {
        let mut seed = 7_u64;
        for length in 0..40 {
            let mut places: Vec<usize> = (0..length).collect();
            for at in (1..length).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                places.swap(at, usize::try_from(seed >> 33).unwrap_or(0) % (at + 1));
            }
            let moved = moved(&places);
            let stays: Vec<usize> =
                (0..length).filter(|at| moved.iter().all(|(one, _)| one != at)).map(|at| places[at]).collect();
            assert!(stays.is_sorted(), "{places:?}: {moved:?}");
            for (at, other) in moved {
                assert_ne!(at < other, places[at] < places[other], "{places:?}: {at} and {other}");
            }
        }
    }
}
