//! Executions as a tree: an execution that was forked from or started by another one is its child, and the runs of a
//! schedule are children of its newest run.

use std::collections::{HashMap, HashSet};

use cloacina_engine::core::event::{Cause, ExecutionId};

use crate::source::Head;

/// An execution in a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Branch {
    /// The execution.
    pub head: Head,
    /// For each level of its ancestry, from the outermost: whether another sibling follows at that level.
    pub follows: Vec<bool>,
}

/// Arranges executions as a tree, in depth-first order. Siblings keep their order. An execution whose parent is not in
/// `heads` is a root.
#[must_use]
pub fn tree(heads: Vec<Head>) -> Vec<Branch> {
    let known: HashSet<ExecutionId> = heads.iter().map(|head| head.id).collect();
    let mut newest_of: HashMap<[u8; 16], ExecutionId> = HashMap::new();
    let mut below: HashMap<ExecutionId, Vec<usize>> = HashMap::new();
    let mut roots = Vec::new();
    for (place, head) in heads.iter().enumerate() {
        let parent = match head.label.as_ref().map(|label| &label.cause) {
            Ok(Cause::Fork { execution, .. } | Cause::Parent { execution, .. }) => Some(*execution),
            Ok(Cause::Schedule { schedule, .. }) => {
                let newest = *newest_of.entry(*schedule).or_insert(head.id);
                (newest != head.id).then_some(newest)
            }
            _ => None,
        };
        match parent.filter(|parent| known.contains(parent) && *parent != head.id) {
            Some(parent) => below.entry(parent).or_default().push(place),
            None => roots.push(place),
        }
    }
    let mut open: Vec<(usize, Vec<bool>)> = roots.into_iter().rev().map(|place| (place, Vec::new())).collect();
    let mut heads: Vec<Option<Head>> = heads.into_iter().map(Some).collect();
    let mut branches = Vec::with_capacity(heads.len());
    while let Some((place, follows)) = open.pop() {
        let Some(head) = heads[place].take() else { continue };
        let children = below.remove(&head.id).unwrap_or_default();
        let last = children.len().saturating_sub(1);
        for (number, child) in children.into_iter().enumerate().rev() {
            let mut deeper = follows.clone();
            deeper.push(number < last);
            open.push((child, deeper));
        }
        branches.push(Branch { head, follows });
    }
    // Two executions that name each other as parents can only be forged. They are listed nevertheless.
    branches.extend(heads.into_iter().flatten().map(|head| Branch { head, follows: Vec::new() }));
    branches
}

impl Branch {
    /// Returns the lines of the tree in front of it: `│ └ `.
    #[must_use]
    pub fn prefix(&self) -> String {
        let Some((last, above)) = self.follows.split_last() else { return String::new() };
        let above: String = above.iter().map(|follows| if *follows { "│ " } else { "  " }).collect();
        format!("{above}{} ", if *last { '├' } else { '└' })
    }
}

/// Returns for each id how many digits of its end identify it among all others, at least `least`.
#[must_use]
pub fn unique_ends(ids: &[ExecutionId], least: usize) -> Vec<usize> {
    let mut reversed: Vec<(String, usize)> = ids
        .iter()
        .enumerate()
        .map(|(place, id)| (id.to_string().replace('-', "").chars().rev().collect(), place))
        .collect();
    reversed.sort_unstable();
    let shared = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let mut ends = vec![least; ids.len()];
    for pair in reversed.windows(2) {
        let needed = shared(&pair[0].0, &pair[1].0) + 1;
        for (_, place) in pair {
            ends[*place] = ends[*place].max(needed);
        }
    }
    ends
}
