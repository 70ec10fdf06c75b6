//! Layered layout of a graph (after Sugiyama): layers from left to right, each node after its upstream nodes.
//!
//! Within a layer, nodes are ordered by the mean position of their neighbours in a few sweeps back and forth, which
//! reduces crossings, and then placed as near to their neighbours as the order allows. An edge over several layers gets
//! a bend in each of them, so that it does not pass behind other nodes.

/// Layers with more nodes than this are not aligned to their neighbours: their nodes are one row apart, in order.
const MAX_ALIGNED: usize = 48;
/// With more bends than this, long edges are straight lines.
const MAX_BENDS: usize = 4_000;
/// How many times the order is improved, back and forth.
const SWEEPS: usize = 6;

/// The positions of the nodes of a graph, in columns and rows.
#[derive(Clone, Debug, PartialEq)]
pub struct LayeredLayout {
    /// The number of columns.
    pub columns: usize,
    /// The number of rows; fractional, since a node may be between two rows.
    pub rows: f64,
    /// The column and the row of each node.
    pub places: Vec<(f64, f64)>,
    /// The bends of each edge.
    pub bends: Vec<Vec<(f64, f64)>>,
}

/// A node of the graph, or a bend of an edge.
struct Node {
    before: Vec<usize>,
    after: Vec<usize>,
    y: f64,
}

/// Lays out a graph. `layers` has every node once, and each edge leads from one layer to a later one.
#[must_use]
pub fn layered_layout(mut layers: Vec<Vec<usize>>, edges: &[(usize, usize)]) -> LayeredLayout {
    let count = layers.iter().map(Vec::len).sum();
    let mut level_of = vec![0; count];
    for (level, layer) in layers.iter().enumerate() {
        layer.iter().for_each(|node| level_of[*node] = level);
    }
    let mut nodes: Vec<Node> = (0..count).map(|_| Node { before: Vec::new(), after: Vec::new(), y: 0.0 }).collect();
    let bends: usize = edges.iter().map(|(from, to)| level_of[*to] - level_of[*from] - 1).sum();
    let paths: Vec<Vec<usize>> =
        edges.iter().map(|edge| path(*edge, &level_of, bends <= MAX_BENDS, &mut nodes, &mut layers)).collect();
    for _ in 0..SWEEPS {
        layers.iter_mut().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.before));
        layers.iter_mut().rev().for_each(|layer| sort_by_neighbours(layer, &mut nodes, |node| &node.after));
    }
    for _ in 0..SWEEPS {
        layers.iter().for_each(|layer| place(layer, &mut nodes, |node| &node.before));
        layers.iter().rev().for_each(|layer| place(layer, &mut nodes, |node| &node.after));
    }
    to_columns(&nodes, &layers, count, &paths)
}

/// Connects two nodes, with a bend in each layer between them. Returns the bends.
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

/// Sorts a layer by the mean position of the neighbours, and numbers its rows around 0.
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

/// Moves each node of a layer as near to the mean of its neighbours as possible, keeping the order and a distance of
/// one row. This is a least-squares problem with bounds, solved by pooling adjacent violators (isotonic regression).
fn place(layer: &[usize], nodes: &mut [Node], neighbours: impl Fn(&Node) -> &Vec<usize>) {
    if layer.len() > MAX_ALIGNED {
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

/// Makes a column of each layer, and shifts the rows to start at 0.
fn to_columns(nodes: &[Node], layers: &[Vec<usize>], count: usize, paths: &[Vec<usize>]) -> LayeredLayout {
    let mut places = vec![(0.0, 0.0); nodes.len()];
    for (column, layer) in layers.iter().enumerate() {
        layer.iter().for_each(|node| places[*node] = (row(column), nodes[*node].y));
    }
    let top = places.iter().map(|place| place.1).fold(f64::INFINITY, f64::min);
    places.iter_mut().for_each(|place| place.1 -= top);
    LayeredLayout {
        columns: layers.len(),
        rows: places.iter().map(|place| place.1).fold(0.0, f64::max) + 1.0,
        bends: paths.iter().map(|bends| bends.iter().map(|bend| places[*bend]).collect()).collect(),
        places: places[..count].to_vec(),
    }
}
