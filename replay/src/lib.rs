//! The past of an execution: what ran, in what order, what it read and wrote, and why it stopped.
//!
//! **Architecture invariant:** replay reads, folds and shows. It writes nothing to a log, and it can run no task: it
//! takes the engine without its `runtime` feature, so there is nothing in it that could. (`serve` has an executor, for
//! answering browsers.)
//!
//! The library comes first: [`history::History`] is the past of an execution as a value, [`source`] what the index of a
//! log says, [`story`] what happened task by task, [`verify`] whether the log is what was written. `cli` is a thin face
//! over it for the terminal.

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

/// The program `replay`: takes its command line (the program's name first), writes to standard output and standard error,
/// and returns the exit code.
#[must_use]
pub fn main(arguments: Vec<OsString>) -> i32 {
    // Where that cannot be done, opening the log says why.
    let _ = cloacina_store::reserve_standard_streams();
    match cli::completion::answered(&arguments) {
        Ok(false) => {}
        // A shell shows nothing of what goes wrong while it completes.
        Ok(true) => return cli::code::OK,
        Err(_) => return cli::code::USAGE,
    }
    cli::surroundings::with_process(|around| cli::run(arguments, around))
}
