//! Where the tasks of a graph are drawn: in layers from left to right, each after what it waits for.
//!
//! The layers are those of [`Graph::levels`]. Within a layer tasks are ordered so that few edges cross (each goes to the
//! mean of its neighbours, some times back and forth), and placed as near to their neighbours as the order allows. An
//! edge over several layers gets a bend in each of them, so that it does not run behind other tasks. How far apart columns
//! and rows are, and whether a layer is folded or a row of layers broken, is up to the page, which knows its panel.

use cloacina_engine::core::codec::fingerprint;
use cloacina_engine::core::graph::Graph;
use serde::Serialize;

/// The places of the tasks of a definition, in columns and rows.
#[derive(Debug, Serialize)]
pub struct Layout {
    definition: String,
    columns: f64,
    rows: f64,
    tasks: Vec<Place>,
    edges: Vec<Edge>,
}

/// A task's place.
#[derive(Debug, Serialize)]
pub struct Place {
    task: String,
    x: f64,
    y: f64,
}

/// A line from one task (by its place in `tasks`) to another, and the bends between.
#[derive(Debug, Serialize)]
pub struct Edge {
    from: usize,
    to: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    via: Vec<(f64, f64)>,
}

/// How many rows a layer may have; in one with more the tasks stand below each other, in their order.
const HIGHEST: usize = 48;
/// How many bends there may be; with more, long edges are straight lines.
const MOST_BENDS: usize = 4_000;
/// How often the order is improved, there and back.
const SWEEPS: usize = 6;

/// A task, or the bend of an edge.
struct Node {
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Finds places for all tasks of a graph.
#[must_use]
pub fn layout(graph: &Graph) -> Layout {
    let levels = graph.levels();
    let mut level_of = vec![0; graph.len()];
    for (level, tasks) in levels.iter().enumerate() {
        tasks.iter().for_each(|task| level_of[task.at()] = level);
    }
    let mut nodes: Vec<Node> = graph.tasks().map(|_| Node { before: Vec::new(), after: Vec::new(), y: 0.0 }).collect();
    let mut layers: Vec<Vec<usize>> = levels.iter().map(|tasks| tasks.iter().map(|task| task.at()).collect()).collect();
    let pairs: Vec<(usize, usize)> =
        graph.tasks().flat_map(|task| graph.upstream(task).iter().map(move |up| (up.at(), task.at()))).collect();
    let bends: usize = pairs.iter().map(|(from, to)| level_of[*to] - level_of[*from] - 1).sum();
    let paths: Vec<Vec<usize>> =
        pairs.iter().map(|pair| path(*pair, &level_of, bends <= MOST_BENDS, &mut nodes, &mut layers)).collect();
    for _ in 0..SWEEPS {
        layers.iter_mut().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.before));
        layers.iter_mut().rev().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.after));
    }
    for _ in 0..SWEEPS {
        layers.iter().for_each(|layer| place(layer, &mut nodes, |node| &node.before));
        layers.iter().rev().for_each(|layer| place(layer, &mut nodes, |node| &node.after));
    }
    finish(graph, &nodes, &layers, &pairs, &paths)
}

/// Joins two tasks, with a bend in each layer between.
fn path(
    (from, to): (usize, usize),
    level_of: &[usize],
    bend: bool,
    nodes: &mut Vec<Node>,
    layers: &mut [Vec<usize>],
) -> Vec<usize> {
    let mut bends = Vec::new();
    let mut last = from;
    for layer in layers.iter_mut().take(level_of[to]).skip(level_of[from] + 1).take_while(|_| bend) {
        let new = nodes.len();
        nodes.push(Node { before: vec![last], after: Vec::new(), y: 0.0 });
        nodes[last].after.push(new);
        layer.push(new);
        bends.push(new);
        last = new;
    }
    nodes[last].after.push(to);
    nodes[to].before.push(last);
    bends
}

fn mean(of: &[usize], nodes: &[Node]) -> Option<f64> {
    #[allow(clippy::cast_precision_loss, reason = "a graph has no 2^52 tasks")]
    (!of.is_empty()).then(|| of.iter().map(|other| nodes[*other].y).sum::<f64>() / of.len() as f64)
}

/// Orders a layer by the mean of the neighbours' places, and numbers it around 0.
fn sort_by_neighbours(layer: &mut [usize], nodes: &mut [Node], neighbours: impl Fn(&Node) -> &Vec<usize>) {
    let mut keyed: Vec<(f64, usize)> =
        layer.iter().map(|node| (mean(neighbours(&nodes[*node]), nodes).unwrap_or(nodes[*node].y), *node)).collect();
    keyed.sort_by(|one, other| one.0.total_cmp(&other.0));
    let middle = row(layer.len().saturating_sub(1)) / 2.0;
    for (place, (_, node)) in keyed.into_iter().enumerate() {
        layer[place] = node;
        nodes[node].y = row(place) - middle;
    }
}

/// Moves each node of a layer as near to the mean of its neighbours as the order and a distance of one row allow: the
/// least squares under these bounds, which pooling neighbours that get in each other's way gives.
fn place(layer: &[usize], nodes: &mut [Node], neighbours: impl Fn(&Node) -> &Vec<usize>) {
    if layer.len() > HIGHEST {
        return;
    }
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (at, node) in layer.iter().enumerate() {
        let wanted = mean(neighbours(&nodes[*node]), nodes).unwrap_or(nodes[*node].y) - row(at);
        pools.push((wanted, 1));
        while let [.., one, other] = pools[..]
            && one.0 > other.0
        {
            let count = one.1 + other.1;
            let mean = (one.0 * row(one.1) + other.0 * row(other.1)) / row(count);
            pools.truncate(pools.len() - 2);
            pools.push((mean, count));
        }
    }
    let wanted = pools.into_iter().flat_map(|(wanted, count)| std::iter::repeat_n(wanted, count));
    for ((at, node), wanted) in layer.iter().enumerate().zip(wanted) {
        nodes[*node].y = wanted + row(at);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a graph has no 2^52 tasks")]
fn row(count: usize) -> f64 {
    count as f64
}

/// Makes a column of each layer, and shifts all of it to begin at 0.
fn finish(
    graph: &Graph,
    nodes: &[Node],
    layers: &[Vec<usize>],
    pairs: &[(usize, usize)],
    paths: &[Vec<usize>],
) -> Layout {
    let mut places = vec![(0.0, 0.0); nodes.len()];
    for (column, layer) in layers.iter().enumerate() {
        layer.iter().for_each(|node| places[*node] = (row(column), nodes[*node].y));
    }
    let top = places.iter().map(|place| place.1).fold(f64::INFINITY, f64::min);
    places.iter_mut().for_each(|place| place.1 = rounded(place.1 - top));
    let tasks = graph.tasks().map(|task| {
        let (x, y) = places[task.at()];
        Place { task: graph.name(task).to_string(), x, y }
    });
    let edges = pairs.iter().zip(paths).map(|(&(from, to), bends)| {
        let via = bends.iter().map(|bend| places[*bend]).collect();
        Edge { from, to, via }
    });
    Layout {
        definition: fingerprint(graph.definition()).to_string(),
        columns: row(layers.len()),
        rows: places.iter().map(|place| place.1).fold(0.0, f64::max) + 1.0,
        tasks: tasks.collect(),
        edges: edges.collect(),
    }
}

/// Two decimals are enough for a screen.
fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
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
