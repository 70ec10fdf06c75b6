//! Shared helpers of the whole-system tests: a world to open engines in, workflows, gates, and readers of histories.
//!
//! Nothing here asserts a duration. Every wait has a guard timeout, far above what a healthy system needs, so that a hang
//! fails the test that hangs.

pub mod gate;
pub mod history;
pub mod process;
pub mod schedule_victim;
pub mod sync;
pub mod victim;
pub mod workflows;
pub mod world;

use std::time::Duration;

/// The guard timeout: anything that takes longer hangs.
pub const GUARD: Duration = Duration::from_secs(60);
