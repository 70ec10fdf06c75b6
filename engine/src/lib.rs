//! Workflows as folds over an event log.
pub mod core;
#[cfg(feature = "runtime")]
pub mod runtime;
