//! The tests of `replay`, in one program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

mod attempts;
mod damaged;
mod diff;
mod doctor;
mod erased;
mod every;
mod exports;
mod finding;
mod follow;
mod graph;
mod json;
mod list;
mod logs;
mod long;
mod options;
mod program;
mod report;
mod retried;
mod schedules;
mod schema;
mod screens;
#[cfg(feature = "serve")]
mod serve;
mod terminal;
mod verdicts;
mod whole;
