//! The graph as text: a line for each task, with rails on its left that connect each task to its downstream tasks. All
//! tasks downstream of one task share its rail, which keeps wide graphs narrow.

use super::{EdgeKind, Picture};

/// How many rails are drawn at most.
pub const MOST: usize = 24;

/// A drawn line: the rails, and the task on their right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The rails, two characters for each.
    pub rails: String,
    /// The task's index in the picture.
    pub node: usize,
}

/// Draws a graph; `None` if it needs more than [`MOST`] rails.
#[must_use]
pub fn draw(picture: &Picture) -> Option<Vec<Line>> {
    let mut consumers = vec![0_usize; picture.nodes.len()];
    let mut up: Vec<Vec<usize>> = vec![Vec::new(); picture.nodes.len()];
    for edge in picture.edges.iter().filter(|edge| edge.kind != EdgeKind::Undeclared) {
        // Count each pair of tasks once, also if both a dependency and a rule connect them.
        if !up[edge.to].contains(&edge.from) {
            consumers[edge.from] += 1;
            up[edge.to].push(edge.from);
        }
    }
    // The task whose rail each column is; `None` if it is free.
    let mut rails: Vec<Option<usize>> = Vec::new();
    let mut lines = Vec::new();
    for node in 0..picture.nodes.len() {
        let mut joins = vec![false; rails.len()];
        let mut ends = vec![false; rails.len()];
        for (column, rail) in rails.iter().enumerate() {
            let Some(from) = rail.filter(|from| up[node].contains(from)) else { continue };
            joins[column] = true;
            consumers[from] -= 1;
            ends[column] = consumers[from] == 0;
        }
        // The task is drawn on the first rail that ends with it, or else on the first free one.
        let own = ends.iter().position(|ends| *ends).or_else(|| rails.iter().position(Option::is_none));
        let own = own.unwrap_or(rails.len());
        if own == rails.len() {
            rails.push(None);
            joins.push(false);
            ends.push(false);
        }
        if rails.len() > MOST {
            return None;
        }
        lines.push(Line { rails: line(picture.nodes[node].state, own, &rails, &joins, &ends), node });
        for (rail, ends) in rails.iter_mut().zip(&ends) {
            if *ends {
                *rail = None;
            }
        }
        rails[own] = (consumers[node] > 0).then_some(node);
        while rails.last() == Some(&None) {
            rails.pop();
        }
    }
    Some(lines)
}

/// Returns the sign of a state. The state's name is in the same line.
#[must_use]
pub fn sign(state: &str) -> char {
    match state {
        "Completed" => '●',
        "Failed" => '✗',
        "Running" => '◐',
        "NotRunning" => '◑',
        "WaitingRetry" => '↻',
        "Deferred" => '◷',
        "Skipped" => '◌',
        "Cancelled" => '⊘',
        _ => '○',
    }
}

fn line(state: &str, own: usize, rails: &[Option<usize>], joins: &[bool], ends: &[bool]) -> String {
    let connected = |column: usize| column == own || joins[column];
    let first = (0..rails.len()).find(|column| connected(*column)).unwrap_or(own);
    let last = (0..rails.len()).rev().find(|column| connected(*column)).unwrap_or(own);
    let mut text = String::new();
    for column in 0..rails.len() {
        let sign = match (column == own, joins[column], ends[column]) {
            (true, ..) => self::sign(state),
            (_, true, true) if column == first => '└',
            (_, true, true) if column == last => '┘',
            // The line continues on both sides.
            (_, true, true) => '┴',
            (_, true, false) if column == first => '├',
            (_, true, false) if column == last => '┤',
            (_, true, false) => '┼',
            // The rail of an unrelated task crosses the line.
            _ if rails[column].is_some() => '│',
            _ if first < column && column < last => '─',
            _ => ' ',
        };
        text.push(sign);
        text.push(if (first..last).contains(&column) { '─' } else { ' ' });
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Edge, Node};
    use super::*;

    fn drawn(nodes: usize, edges: &[(usize, usize)]) -> Option<Vec<String>> {
        let node = |place: usize| Node {
            task: place.to_string().as_str().into(),
            state: "Completed",
            attempts: 1,
            took: None,
            level: 0,
        };
        let edges = edges.iter().map(|&(from, to)| Edge { from, to, kind: EdgeKind::Dependency });
        let picture = Picture {
            workflow: String::new(),
            nodes: (0..nodes).map(node).collect(),
            edges: edges.collect(),
            critical: Vec::new(),
        };
        Some(draw(&picture)?.into_iter().map(|line| line.rails).collect())
    }

    #[test]
    fn a_chain_is_one_rail() {
        assert_eq!(drawn(3, &[(0, 1), (1, 2)]).unwrap(), ["●", "●", "●"]);
    }

    #[test]
    fn a_diamond_parts_and_meets() {
        assert_eq!(drawn(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]).unwrap(), ["●", "├─●", "● │", "●─┘"]);
    }

    /// Regression test: a join of four was drawn as `●─┘─┘─┘`.
    #[test]
    fn the_lines_of_a_join_meet() {
        let edges = [(0, 4), (1, 4), (2, 4), (3, 4)];
        assert_eq!(drawn(5, &edges).unwrap(), ["●", "│ ●", "│ │ ●", "│ │ │ ●", "●─┴─┴─┘"]);
        // A rail that continues and an unrelated one between those that end.
        let edges = [(0, 4), (1, 4), (2, 5), (3, 4), (1, 5)];
        assert_eq!(drawn(6, &edges).unwrap(), ["●", "│ ●", "│ │ ●", "│ │ │ ●", "●─┼─│─┘", "  ●─┘"]);
    }

    #[test]
    fn all_that_wait_for_one_share_its_rail() {
        let edges: Vec<(usize, usize)> = (1..50).map(|to| (0, to)).collect();
        let lines = drawn(50, &edges).unwrap();
        assert!(lines.iter().all(|line| line.chars().count() <= 3), "{lines:?}");
    }

    #[test]
    fn tasks_on_their_own_stand_below_each_other() {
        assert_eq!(drawn(2, &[]).unwrap(), ["●", "●"]);
    }

    #[test]
    fn a_rail_that_is_not_meant_goes_over_the_line() {
        // 0 to 4, 1 to 5, 2 to 3: the line of 3 touches neither of the first two.
        let lines = drawn(6, &[(0, 4), (1, 5), (2, 3), (0, 5)]).unwrap();
        assert_eq!(lines, ["●", "│ ●", "│ │ ●", "│ │ ●", "├─│─●", "●─┘"]);
    }

    #[test]
    fn what_nobody_could_follow_is_not_drawn() {
        let edges: Vec<(usize, usize)> = (0..30).map(|from| (from, from + 30)).collect();
        assert_eq!(drawn(60, &edges), None);
    }
}
