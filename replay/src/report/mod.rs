//! One execution as a page: a self-contained HTML file that shows its graph, its timeline, its events and its context,
//! with a slider over the events that moves all of them.
//!
//! The file holds two JSON documents: `history`, the very object that `replay ID --json` writes, and `report`, what the
//! engine's fold makes of it event by event ([`frames`]) and where tasks are drawn ([`layout`]). The page's program
//! (`replay/web/`) shows these; it folds nothing and asks nobody.

pub mod contexts;
pub mod document;
pub mod frames;
pub mod layout;
pub mod page;

pub use document::{NotReported, write_report};
