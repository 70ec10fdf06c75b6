//! The report: one execution as a self-contained HTML file with its graph, timeline, events and context, and a slider
//! that moves all of them to any event.
//!
//! The file contains two JSON documents: `history`, the same object that `replay ID --json` writes, and `report`, with
//! the changes of each event as the engine's fold computes them ([`frames`]) and the layout of the graph ([`layout`]).
//! The page's JavaScript (`replay/web/`) shows these. It folds nothing and makes no requests.

pub mod contexts;
pub mod document;
pub mod frames;
pub mod layout;
pub mod page;

pub use document::{NotReported, write_report};
