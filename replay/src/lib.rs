//! The history of an execution: what ran, in what order, what it read and wrote, and why it stopped.
//!
//! **Architecture invariant:** replay reads logs, folds events and shows the result. It never writes to a log, and it
//! cannot run a task: it depends on the engine without its `runtime` feature. (`serve` has an executor, to answer
//! browsers.)
//!
//! Everything is available as a library: [`history::History`] is the history of an execution as a value, [`source`]
//! reads the index of a log, [`story`] tells what happened task by task, and [`verify`] checks the log for changes.
//! `cli` is a thin command line on top of it.

pub mod attempt;
pub mod cli;
mod damage_finder;
pub mod diff;
pub mod doctor;
pub mod errors;
pub mod export;
pub mod fold;
pub mod graph;
pub mod history;
pub mod ids;
pub mod json;
pub mod layered;
pub mod logs;
pub mod moment;
pub mod prefetch;
pub mod proof;
pub mod reading;
pub mod report;
pub mod schedules;
#[cfg(feature = "serve")]
pub mod serve;
pub mod source;
pub mod standing;
pub mod story;
pub mod time;
pub mod tree;
pub mod verify;
pub mod verify_log;
pub mod why;
pub mod words;

use std::ffi::OsString;

/// Runs `replay` with a command line that starts with the program name. Writes to standard output and standard error,
/// and returns the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> i32 {
    // If this fails, opening the log reports the cause.
    let _ = cloacina_store::reserve_standard_streams();
    match cli::completion::complete(&arguments) {
        Ok(false) => {}
        Ok(true) => return cli::code::OK,
        // Shells do not show errors of completion.
        Err(_) => return cli::code::USAGE,
    }
    cli::surroundings::with_process(|env| cli::run(arguments, env))
}
