//! The shell around the core: threads, clock, log.

pub mod engine;
pub mod task;
pub mod workflow;
