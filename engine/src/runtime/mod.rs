//! The shell around the core: threads, clock, log.
//!
//! **Architecture invariant:** what happens is decided by the core; this carries it out. Every effect waits for the
//! events that caused it to be durable.

pub mod clock;
mod completion;
pub mod crashing;
pub mod cron;
pub mod engine;
pub mod erasing;
pub mod fault;
pub mod handle;
mod message;
mod narration;
pub mod outcome;
mod output_commit;
mod scheduler;
pub mod schedules;
mod standings;
pub mod task;
pub mod trigger;
pub mod triggers;
mod waiting;
pub mod work_queue;
mod workers;
pub mod workflow;
