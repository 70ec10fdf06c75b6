//! The pure domain: events in, events and effects out.
//!
//! **Architecture invariant:** nothing here has a clock, randomness, I/O, async, threads or global state. Time, ids and
//! results arrive as data, and effects leave as data. `tests/tests/purity.rs` checks this.

pub mod codec;
pub mod context;
pub mod decide;
pub mod definition;
mod digest;
mod envelope;
pub mod erasure;
pub mod event;
pub mod fold;
pub mod graph;
pub mod json;
mod label;
pub mod merge;
pub mod retry;
pub mod rule;
pub mod schedule;
pub mod standing;
pub mod state;
pub mod task_context;
pub mod time;
pub mod trigger;
