//! The layout of a graph in a report: see [`crate::layered`].
//!
//! The layers are those of [`Graph::levels`]. The page decides on distances, and on breaking layers and rows of layers,
//! since it knows the size of its panel.

use cloacina_engine::core::codec::fingerprint;
use cloacina_engine::core::graph::Graph;
use serde::Serialize;

use crate::layered::layered_layout;

/// The positions of the tasks of a definition, in columns and rows.
#[derive(Debug, Serialize)]
pub struct Layout {
    definition: String,
    columns: f64,
    rows: f64,
    tasks: Vec<TaskPosition>,
    edges: Vec<Edge>,
}

/// The position of a task.
#[derive(Debug, Serialize)]
pub struct TaskPosition {
    task: String,
    x: f64,
    y: f64,
}

/// A line between two tasks, given as indices into `tasks`, and its bends.
#[derive(Debug, Serialize)]
pub struct Edge {
    from: usize,
    to: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    via: Vec<(f64, f64)>,
}

/// Lays out the tasks of a graph.
#[must_use]
pub fn layout(graph: &Graph) -> Layout {
    let layers = graph.levels().iter().map(|tasks| tasks.iter().map(|task| task.at()).collect()).collect();
    let pairs: Vec<(usize, usize)> =
        graph.tasks().flat_map(|task| graph.upstream(task).iter().map(move |up| (up.at(), task.at()))).collect();
    let laid = layered_layout(layers, &pairs);
    let tasks = graph.tasks().map(|task| {
        let (x, y) = rounded(laid.places[task.at()]);
        TaskPosition { task: graph.name(task).to_string(), x, y }
    });
    let edges = pairs.iter().zip(&laid.bends).map(|(&(from, to), bends)| {
        let via = bends.iter().copied().map(rounded).collect();
        Edge { from, to, via }
    });
    #[allow(clippy::cast_precision_loss, reason = "a graph has no 2^52 layers")]
    let columns = laid.columns as f64;
    Layout {
        definition: fingerprint(graph.definition()).to_string(),
        columns,
        rows: rounded((0.0, laid.rows)).1,
        tasks: tasks.collect(),
        edges: edges.collect(),
    }
}

/// Rounds the row to two decimals, enough for a screen.
fn rounded((x, y): (f64, f64)) -> (f64, f64) {
    (x, (y * 100.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cloacina_engine::core::definition::{Definition, TaskDefinition};

    use super::*;

    fn laid_out(tasks: &[(&str, &[&str])]) -> Layout {
        let tasks = tasks.iter().map(|(id, dependencies)| {
            let mut task = TaskDefinition::new(*id);
            task.dependencies = dependencies.iter().map(|name| (*name).into()).collect();
            task
        });
        let definition = Definition { workflow: "w".into(), tasks: tasks.collect() };
        layout(&Graph::new(Arc::new(definition)).unwrap())
    }

    fn at(layout: &Layout, task: &str) -> (f64, f64) {
        let place = layout.tasks.iter().find(|place| place.task == task).unwrap();
        (place.x, place.y)
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let layout = laid_out(&[("a", &[]), ("b", &["a"]), ("c", &["b"])]);
        assert_eq!([at(&layout, "a"), at(&layout, "b"), at(&layout, "c")], [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0)]);
        assert_eq!((layout.columns, layout.rows), (3.0, 1.0));
    }

    #[test]
    fn what_splits_lies_between_its_parts_and_no_edge_crosses() {
        let layout = laid_out(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("e", &["c"]), ("d", &["b"])]);
        let ((_, b), (_, c)) = (at(&layout, "b"), at(&layout, "c"));
        assert_eq!(at(&layout, "a").1, f64::midpoint(b, c));
        assert_eq!((at(&layout, "d").1 < at(&layout, "e").1), (b < c));
    }

    #[test]
    fn a_long_edge_bends_around_what_lies_between() {
        let layout = laid_out(&[("a", &[]), ("b", &["a"]), ("c", &["b", "a"])]);
        let long = layout.edges.iter().find(|edge| edge.to == 2 && edge.from == 0).unwrap();
        assert_eq!(long.via.len(), 1);
        assert!((long.via[0].1 - at(&layout, "b").1).abs() >= 1.0);
    }

    #[test]
    fn no_two_tasks_share_a_place_however_many_are_in_a_layer() {
        let names: Vec<String> = (0..1_000).map(|number| format!("t{number}")).collect();
        let mut tasks: Vec<(&str, &[&str])> = names.iter().map(|name| (&**name, &["root"][..])).collect();
        tasks.push(("root", &[]));
        let layout = laid_out(&tasks);
        let mut rows: Vec<f64> = layout.tasks.iter().filter(|place| place.x > 0.0).map(|place| place.y).collect();
        rows.sort_by(f64::total_cmp);
        assert_eq!(rows.len(), 1_000);
        assert!(rows.windows(2).all(|pair| pair[1] - pair[0] >= 1.0), "{rows:?}");
        assert_eq!((layout.columns, layout.rows), (2.0, 1_000.0));
    }
}
