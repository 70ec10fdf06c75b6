//! Workflows as folds over an event log.
pub mod core;
