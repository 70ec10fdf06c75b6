//! What whole-system tests share: a world to open engines in, workflows, gates, and readers of histories.
//!
//! Nothing here asserts how long something takes. Waits have a guard, far above anything a healthy system needs, so that
//! a hang becomes a failure with a name.

pub mod gate;
pub mod history;
pub mod meeting;
pub mod process;
pub mod schedule_victim;
pub mod victim;
pub mod workflows;
pub mod world;

use std::time::Duration;

/// How long anything may take before a test calls it hung.
pub const GUARD: Duration = Duration::from_secs(60);
