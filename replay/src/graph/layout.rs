//! Where tasks stand in a picture: a column for each level, and within a column the order that crosses few edges.

use super::{EdgeKind, Picture};

/// How high a task's box is.
pub const HEIGHT: f64 = 42.0;
const GAP: f64 = 18.0;
const BETWEEN: f64 = 70.0;
const MARGIN: f64 = 16.0;
/// How wide a letter is, about, in a name and in the line below it.
const LETTER: f64 = 7.6;
const SMALL_LETTER: f64 = 6.2;
/// How often columns are sorted by where their neighbours stand. More does not help much.
const SWEEPS: usize = 6;

/// A picture with places.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// The place of each node.
    pub places: Vec<At>,
    /// How wide all of it is.
    pub width: f64,
    /// How high all of it is.
    pub height: f64,
}

/// The place of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct At {
    /// Its left side.
    pub x: f64,
    /// Its upper side.
    pub y: f64,
    /// How wide it is.
    pub width: f64,
}

/// Lays a graph out in columns from left to right.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "pictures have fewer places than a double has digits")]
pub fn layered(picture: &Picture) -> Laid {
    let columns = ordered(picture);
    let tallest = columns.iter().map(Vec::len).max().unwrap_or(0);
    let height = 2.0 * MARGIN + (tallest as f64 * (HEIGHT + GAP) - GAP).max(0.0);
    let mut places = vec![At::default(); picture.nodes.len()];
    let mut x = MARGIN;
    for column in &columns {
        let width = column.iter().map(|node| box_width(picture, *node)).fold(0.0, f64::max);
        let own = column.len() as f64 * (HEIGHT + GAP) - GAP;
        let mut y = (height - own) / 2.0;
        for node in column {
            places[*node] = At { x, y, width };
            y += HEIGHT + GAP;
        }
        x += width + BETWEEN;
    }
    Laid { places, width: (x - BETWEEN + MARGIN).max(2.0 * MARGIN), height }
}

#[allow(clippy::cast_precision_loss, reason = "no name is so long")]
fn box_width(picture: &Picture, node: usize) -> f64 {
    let node = &picture.nodes[node];
    let (name, detail) = (node.task.chars().count() as f64, super::text::detail(node).chars().count() as f64);
    (name * LETTER).max(detail * SMALL_LETTER) + 20.0
}

/// The nodes of each level. Each is moved to the middle of its neighbours' places, from left to right and back.
fn ordered(picture: &Picture) -> Vec<Vec<usize>> {
    let levels = picture.nodes.iter().map(|node| node.level + 1).max().unwrap_or(0);
    let mut columns: Vec<Vec<usize>> = vec![Vec::new(); levels];
    for (place, node) in picture.nodes.iter().enumerate() {
        columns[node.level].push(place);
    }
    let (mut up, mut down) = (vec![Vec::new(); picture.nodes.len()], vec![Vec::new(); picture.nodes.len()]);
    for edge in picture.edges.iter().filter(|edge| edge.kind != EdgeKind::Undeclared) {
        up[edge.to].push(edge.from);
        down[edge.from].push(edge.to);
    }
    let mut heights = vec![0.0; picture.nodes.len()];
    columns.iter().for_each(|column| note_heights(column, &mut heights));
    for sweep in 0..SWEEPS {
        let forth = sweep % 2 == 0;
        for step in 0..levels {
            let level = if forth { step } else { levels - 1 - step };
            let neighbours = if forth { &up } else { &down };
            sort(&mut columns[level], neighbours, &heights);
            note_heights(&columns[level], &mut heights);
        }
    }
    columns
}

fn sort(column: &mut [usize], neighbours: &[Vec<usize>], heights: &[f64]) {
    let mut keyed: Vec<(f64, usize)> = column
        .iter()
        .map(|node| {
            let near = &neighbours[*node];
            #[allow(clippy::cast_precision_loss, reason = "there are fewer neighbours than a double has digits")]
            let count = near.len() as f64;
            let sum: f64 = near.iter().map(|other| heights[*other]).sum();
            (if near.is_empty() { heights[*node] } else { sum / count }, *node)
        })
        .collect();
    keyed.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    for (place, (_, node)) in column.iter_mut().zip(keyed) {
        *place = node;
    }
}

/// Where the nodes of a column stand, from -½ to ½: columns of different lengths are centred on each other.
#[allow(clippy::cast_precision_loss, reason = "pictures have fewer places than a double has digits")]
fn note_heights(column: &[usize], heights: &mut [f64]) {
    let middle = (column.len() as f64 - 1.0) / 2.0;
    for (place, node) in column.iter().enumerate() {
        heights[*node] = place as f64 - middle;
    }
}
