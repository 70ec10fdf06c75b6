//! The imperative shell around the pure core: threads, clock, log.
//!
//! **Architecture invariant:** the core decides what happens, the runtime performs it. No effect is performed before
//! the events that caused it are durable.

mod attempt;
pub mod clock;
mod completion;
mod config;
pub mod crashing;
pub mod cron;
pub mod engine;
pub mod erasing;
mod errors;
pub mod fault;
pub mod handle;
mod ids;
mod lock;
mod message;
pub mod outcome;
mod output_commit;
mod rebuild;
mod scheduler;
pub mod schedules;
mod standings;
mod streams;
pub mod task;
mod trace;
pub mod trigger;
pub mod triggers;
mod unfinished;
mod waits;
pub mod work_queue;
mod workers;
pub mod workflow;
