//! The graph in the formats of other programs: Mermaid, Graphviz DOT, and SVG.

use std::fmt::Write as _;

use super::layout::{self, BoxPosition, PictureLayout};
use super::{Edge, EdgeKind, Picture};

/// The states, each with its border colour and a background colour that is light enough for black text.
const COLOURS: [(&str, &str, &str); 9] = [
    ("Completed", "#1a7f37", "#dafbe1"),
    ("Failed", "#cf222e", "#ffebe9"),
    ("Running", "#0969da", "#ddf4ff"),
    ("NotRunning", "#9a6700", "#fff8c5"),
    ("WaitingRetry", "#9a6700", "#fff8c5"),
    ("Deferred", "#9a6700", "#fff8c5"),
    ("Cancelled", "#9a6700", "#fff8c5"),
    ("Skipped", "#6e7781", "#f6f8fa"),
    ("Pending", "#6e7781", "#ffffff"),
];

/// Draws a Mermaid flowchart.
#[must_use]
pub fn mermaid(picture: &Picture, critical: bool) -> String {
    let mut text = String::from("flowchart TD\n");
    for (place, node) in picture.nodes.iter().enumerate() {
        let (name, detail) = (mermaid_text(&node.task), mermaid_text(&node.detail()));
        // Writing to a string cannot fail. The same applies to all writes in this file.
        let _ = writeln!(text, "    t{place}[\"{name}<br/>{detail}\"]:::{}", node.state);
    }
    for edge in &picture.edges {
        let arrow = match edge.kind {
            EdgeKind::Dependency if critical && picture.is_critical(edge) => "==>",
            EdgeKind::Dependency => "-->",
            EdgeKind::Rule => "-. rule .->",
            EdgeKind::Undeclared => "-. undeclared .->",
        };
        let _ = writeln!(text, "    t{} {arrow} t{}", edge.from, edge.to);
    }
    for (state, border, ground) in COLOURS.iter().filter(|(state, ..)| has(picture, state)) {
        let _ = writeln!(text, "    classDef {state} fill:{ground},stroke:{border},color:#1f2328");
    }
    text
}

fn has(picture: &Picture, state: &str) -> bool {
    picture.nodes.iter().any(|node| node.state == state)
}

/// Escapes text for Mermaid, which uses HTML entities with `#` in place of `&`.
fn mermaid_text(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '_' | '-' | '.' | ',' | ':' | '/' => escaped.push(letter),
            letter if letter.is_alphabetic() => escaped.push(letter),
            letter => {
                let _ = write!(escaped, "#{};", u32::from(letter));
            }
        }
    }
    escaped
}

/// Draws a Graphviz graph (DOT).
#[must_use]
pub fn dot(picture: &Picture, critical: bool) -> String {
    let mut text = format!("digraph {} {{\n", dot_text(&picture.workflow));
    text.push_str("    node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    for (place, node) in picture.nodes.iter().enumerate() {
        let label = dot_text(&format!("{}\n{}", node.task, node.detail()));
        let (border, ground) = colours(node.state);
        let _ = writeln!(text, "    t{place} [label={label}, color=\"{border}\", fillcolor=\"{ground}\"];");
    }
    for edge in &picture.edges {
        let style = match edge.kind {
            EdgeKind::Dependency if critical && picture.is_critical(edge) => " [penwidth=3]",
            EdgeKind::Dependency => "",
            EdgeKind::Rule => " [style=dashed, label=\"rule\"]",
            EdgeKind::Undeclared => " [style=dotted, constraint=false, label=\"undeclared\"]",
        };
        let _ = writeln!(text, "    t{} -> t{}{style};", edge.from, edge.to);
    }
    text.push_str("}\n");
    text
}

fn colours(state: &str) -> (&'static str, &'static str) {
    let found = COLOURS.iter().find(|(name, ..)| *name == state);
    found.map_or(("#6e7781", "#ffffff"), |(_, border, ground)| (border, ground))
}

/// Quotes a string for DOT, where `\n` is a line break too.
fn dot_text(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            '\n' => quoted.push_str("\\n"),
            letter if letter.is_control() => quoted.push(' '),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// Draws a self-contained SVG picture.
#[must_use]
pub fn svg(picture: &Picture, critical: bool) -> String {
    let laid = layout::lay_out(picture);
    let mut text = String::new();
    let _ = writeln!(
        text,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {0:.0} {1:.0}" width="{0:.0}" height="{1:.0}" role="img" font-family="system-ui, sans-serif" font-size="13">"#,
        laid.width, laid.height
    );
    let _ = writeln!(text, "<title>{}</title>", xml(&picture.workflow));
    text.push_str(
        "<defs><marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" markerUnits=\"userSpaceOnUse\" orient=\"auto\"><path d=\"M0 0L8 4L0 8z\" fill=\"#6e7781\"/></marker></defs>\n",
    );
    for (edge, bends) in picture.edges.iter().zip(&laid.bends) {
        svg_edge(&mut text, &laid, edge, bends, critical && picture.is_critical(edge));
    }
    for (node, place) in picture.nodes.iter().zip(&laid.places) {
        let (border, ground) = colours(node.state);
        let (x, y, width) = (place.x, place.y, place.width);
        let _ = writeln!(
            text,
            r##"<g><title>{0}: {1}</title><rect x="{x:.0}" y="{y:.0}" width="{width:.0}" height="{height:.0}" rx="6" fill="{ground}" stroke="{border}" stroke-width="1.5"/><text x="{tx:.0}" y="{ty:.0}" fill="#1f2328" font-weight="600">{0}</text><text x="{tx:.0}" y="{dy:.0}" fill="#57606a" font-size="11">{1}</text></g>"##,
            xml(&node.task),
            xml(&node.detail()),
            height = layout::HEIGHT,
            tx = x + 10.0,
            ty = y + 18.0,
            dy = y + 33.0,
        );
    }
    text.push_str("</svg>\n");
    text
}

fn svg_edge(text: &mut String, laid: &PictureLayout, edge: &Edge, bends: &[BoxPosition], critical: bool) {
    let (from, to) = (&laid.places[edge.from], &laid.places[edge.to]);
    let middle = layout::HEIGHT / 2.0;
    let (mut x1, mut y1) = (from.x + from.width, from.y + middle);
    let mut path = format!("M{x1:.0} {y1:.0}");
    for stop in bends.iter().chain([to]) {
        let (x2, y2) = (stop.x, stop.y + middle);
        let bend = ((x2 - x1) / 2.0).max(24.0);
        let _ = write!(path, "C{:.0} {y1:.0} {:.0} {y2:.0} {x2:.0} {y2:.0}", x1 + bend, x2 - bend);
        (x1, y1) = (stop.x + stop.width, y2);
        if !std::ptr::eq(stop, to) {
            let _ = write!(path, "H{x1:.0}");
        }
    }
    let dashes = match edge.kind {
        EdgeKind::Dependency => "",
        EdgeKind::Rule => r#" stroke-dasharray="6 4""#,
        EdgeKind::Undeclared => r#" stroke-dasharray="2 4""#,
    };
    let width = if critical { 3.0 } else { 1.3 };
    let _ = writeln!(
        text,
        r##"<path d="{path}" fill="none" stroke="#6e7781" stroke-width="{width}"{dashes} marker-end="url(#arrow)"><title>{}</title></path>"##,
        edge.kind.name(),
    );
}

fn xml(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML cannot express control characters.
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
