//! The whole-system tests, in one program. Files beside it that need a process of their own say why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "some of it is used only by the tested programs")]
#[path = "../powercut/mod.rs"]
mod powercut;

mod clock;
mod crashing;
mod cron;
mod damage;
mod deferring;
mod erasing;
mod failing;
mod faults;
mod flushes;
mod kill;
mod log_failing;
mod output_commit;
mod power_cut;
mod power_cut_changes;
mod purity;
mod recorder;
mod recovering;
mod retrying;
mod running;
mod schedule_kill;
mod schedules;
mod shutting_down;
mod starting_many;
mod steering;
mod triggers;
