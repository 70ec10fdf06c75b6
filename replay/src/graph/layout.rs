//! Positions of tasks in an SVG picture, in its units. The columns and rows come from [`crate::layered`].

use super::{Edge, EdgeKind, Node, Picture};
use crate::layered::layered_layout;

/// The height of a task's box.
pub const HEIGHT: f64 = 42.0;
const GAP: f64 = 18.0;
const BETWEEN: f64 = 70.0;
const MARGIN: f64 = 16.0;
/// The approximate width of a character in a name, and in the line below it.
const LETTER: f64 = 7.6;
const SMALL_LETTER: f64 = 6.2;

/// The layout of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct PictureLayout {
    /// The position of each node.
    pub places: Vec<BoxPosition>,
    /// Where each edge passes the columns between its ends.
    pub bends: Vec<Vec<BoxPosition>>,
    /// The total width.
    pub width: f64,
    /// The total height.
    pub height: f64,
}

/// The position of a box.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BoxPosition {
    /// The left edge.
    pub x: f64,
    /// The top edge.
    pub y: f64,
    /// The width.
    pub width: f64,
}

/// Lays a graph out in columns from left to right.
#[must_use]
pub fn lay_out(picture: &Picture) -> PictureLayout {
    let levels = picture.nodes.iter().map(|node| node.level + 1).max().unwrap_or(0);
    let mut layers: Vec<Vec<usize>> = vec![Vec::new(); levels];
    for (place, node) in picture.nodes.iter().enumerate() {
        layers[node.level].push(place);
    }
    let columns = columns(picture, &layers);
    let declared = |edge: &&Edge| edge.kind != EdgeKind::Undeclared;
    let edges: Vec<(usize, usize)> = picture.edges.iter().filter(declared).map(|edge| (edge.from, edge.to)).collect();
    let laid = layered_layout(layers, &edges);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a column is a small whole number")]
    let at = |(column, row): (f64, f64)| BoxPosition { y: MARGIN + row * (HEIGHT + GAP), ..columns[column as usize] };
    let mut bends = laid.bends.into_iter();
    PictureLayout {
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

/// Returns the left edge and width of each column, as wide as its widest box.
fn columns(picture: &Picture, layers: &[Vec<usize>]) -> Vec<BoxPosition> {
    let mut x = MARGIN;
    let mut columns = Vec::with_capacity(layers.len());
    for layer in layers {
        let width = layer.iter().map(|node| box_width(&picture.nodes[*node])).fold(0.0, f64::max);
        columns.push(BoxPosition { x, y: 0.0, width });
        x += width + BETWEEN;
    }
    columns
}

#[allow(clippy::cast_precision_loss, reason = "no name is so long")]
fn box_width(node: &Node) -> f64 {
    let (name, detail) = (node.task.chars().count() as f64, node.detail().chars().count() as f64);
    (name * LETTER).max(detail * SMALL_LETTER) + 20.0
}
