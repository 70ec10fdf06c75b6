//! Places for the nodes of a graph: in layers from left to right, each after what it waits for.
//!
//! Within a layer nodes are ordered so that few edges cross (each goes to the mean of its neighbours, some times back and
//! forth), and placed as near to their neighbours as the order allows. An edge over several layers gets a bend in each of
//! them, so that it does not run behind other nodes.

/// How many rows a layer may have; in one with more the nodes stand below each other, in their order.
const HIGHEST: usize = 48;
/// How many bends there may be; with more, long edges are straight lines.
const MOST_BENDS: usize = 4_000;
/// How often the order is improved, there and back.
const SWEEPS: usize = 6;

/// Where the nodes of a graph are, in columns and rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Layered {
    /// How many columns there are.
    pub columns: usize,
    /// How many rows there are: a node may stand between two.
    pub rows: f64,
    /// The column and the row of each node.
    pub places: Vec<(f64, f64)>,
    /// The bends of each edge.
    pub bends: Vec<Vec<(f64, f64)>>,
}

/// A node of the graph, or the bend of an edge.
struct Node {
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Finds places for the nodes of a graph. `layers` has every node once, and each edge leads from one layer to a later one.
#[must_use]
pub fn layered(mut layers: Vec<Vec<usize>>, edges: &[(usize, usize)]) -> Layered {
    let count = layers.iter().map(Vec::len).sum();
    let mut level_of = vec![0; count];
    for (level, layer) in layers.iter().enumerate() {
        layer.iter().for_each(|node| level_of[*node] = level);
    }
    let mut nodes: Vec<Node> = (0..count).map(|_| Node { before: Vec::new(), after: Vec::new(), y: 0.0 }).collect();
    let bends: usize = edges.iter().map(|(from, to)| level_of[*to] - level_of[*from] - 1).sum();
    let paths: Vec<Vec<usize>> =
        edges.iter().map(|edge| path(*edge, &level_of, bends <= MOST_BENDS, &mut nodes, &mut layers)).collect();
    for _ in 0..SWEEPS {
        layers.iter_mut().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.before));
        layers.iter_mut().rev().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.after));
    }
    for _ in 0..SWEEPS {
        layers.iter().for_each(|layer| place(layer, &mut nodes, |node| &node.before));
        layers.iter().rev().for_each(|layer| place(layer, &mut nodes, |node| &node.after));
    }
    shifted(&nodes, &layers, count, &paths)
}

/// Joins two nodes, with a bend in each layer between.
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
fn shifted(nodes: &[Node], layers: &[Vec<usize>], count: usize, paths: &[Vec<usize>]) -> Layered {
    let mut places = vec![(0.0, 0.0); nodes.len()];
    for (column, layer) in layers.iter().enumerate() {
        layer.iter().for_each(|node| places[*node] = (row(column), nodes[*node].y));
    }
    let top = places.iter().map(|place| place.1).fold(f64::INFINITY, f64::min);
    places.iter_mut().for_each(|place| place.1 -= top);
    Layered {
        columns: layers.len(),
        rows: places.iter().map(|place| place.1).fold(0.0, f64::max) + 1.0,
        bends: paths.iter().map(|bends| bends.iter().map(|bend| places[*bend]).collect()).collect(),
        places: places[..count].to_vec(),
    }
}
