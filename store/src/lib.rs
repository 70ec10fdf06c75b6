//! The event log: append-only streams of sealed records.
//!
//! **Architecture invariant:** this crate knows bytes, order, durability and integrity. It knows nothing of workflows,
//! tasks or contexts: a record's body and a stream's label are opaque to it.

pub mod log;
pub mod record;
