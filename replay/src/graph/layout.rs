//! Where tasks stand in a picture, in its own units: see [`crate::layered`] for the columns and rows.

use super::{Edge, EdgeKind, Node, Picture};
use crate::layered::layered;

/// How high a task's box is.
pub const HEIGHT: f64 = 42.0;
const GAP: f64 = 18.0;
const BETWEEN: f64 = 70.0;
const MARGIN: f64 = 16.0;
/// How wide a letter is, about, in a name and in the line below it.
const LETTER: f64 = 7.6;
const SMALL_LETTER: f64 = 6.2;

/// A picture with places.
#[derive(Clone, Debug, PartialEq)]
pub struct Laid {
    /// The place of each node.
    pub places: Vec<At>,
    /// Where each edge passes the columns between its ends.
    pub bends: Vec<Vec<At>>,
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
pub fn laid_out(picture: &Picture) -> Laid {
    let levels = picture.nodes.iter().map(|node| node.level + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); levels];
    for (place, node) in picture.nodes.iter().enumerate() {
        layers[node.level].push(place);
    }
    let columns = columns(picture, &layers);
    let declared = |edge: &&Edge| edge.kind != EdgeKind::Undeclared;
    let edges: Vec<(usize, usize)> = picture.edges.iter().filter(declared).map(|edge| (edge.from, edge.to)).collect();
    let laid = layered(layers, &edges);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a column is a small whole number")]
    let at = |(column, row): (f64, f64)| At { y: MARGIN + row * (HEIGHT + GAP), ..columns[column as usize] };
    let mut bends = laid.bends.into_iter();
    Laid {
        places: picture.nodes.iter().zip(&laid.places).map(|(_, place)| at(*place)).collect(),
        bends: picture
            .edges
            .iter()
            .map(|edge| if declared(&edge) { bends.next().unwrap_or_default() } else { Vec::new() })
            .map(|bends| bends.into_iter().map(at).collect())
            .collect(),
        width: columns.last().map_or(MARGIN, |last| last.x + last.width) + MARGIN,
        height: if levels == 0 { 2.0 * MARGIN } else { 2.0 * MARGIN + laid.rows * (HEIGHT + GAP) - GAP },
    }
}

/// Where each column is, and how wide: as the widest box in it.
fn columns(picture: &Picture, layers: &[Vec<usize>]) -> Vec<At> {
    let mut x = MARGIN;
    let mut columns = Vec::with_capacity(layers.len());
    for layer in layers {
        let width = layer.iter().map(|node| box_width(&picture.nodes[*node])).fold(0.0, f64::max);
        columns.push(At { x, y: 0.0, width });
        x += width + BETWEEN;
    }
    columns
}

#[allow(clippy::cast_precision_loss, reason = "no name is so long")]
fn box_width(node: &Node) -> f64 {
    let (name, detail) = (node.task.chars().count() as f64, node.detail().chars().count() as f64);
    (name * LETTER).max(detail * SMALL_LETTER) + 20.0
}
