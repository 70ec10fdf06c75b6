//! The tests of the whole system, in one program. Beside it stand those that want a process of their own; they say why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod clock;
mod crashing;
mod cron;
mod deferring;
mod erasing;
mod failing;
mod flushes;
mod kill;
mod log_failing;
mod output_commit;
mod purity;
mod recovering;
mod running;
mod schedule_kill;
mod schedules;
mod shutting_down;
mod starting_many;
mod steering;
mod triggers;
