//! Workflows as folds over an event log: a pure core, and a runtime around it.
pub mod core;
#[cfg(feature = "runtime")]
pub mod runtime;
