//! The program `cloaca`: `cloaca log …` maintains a log, `cloaca replay …` runs `replay`.
//!
//! **Architecture invariant:** the store ([`cloacina_store::keeper`]) knows how to change a log, and the engine's core
//! knows what an event means; this crate connects the two. Every removal is listed and confirmed first. If another
//! process has the log open, that process makes the change.

mod archive;
mod arguments;
mod checkpoint;
mod confirm;
mod erase;
mod failure;
mod finish;
mod import;
mod prune;
mod rewrite;
mod run;
mod select;
mod surroundings;

use std::ffi::OsString;

pub use failure::code;
pub use run::run;
pub use surroundings::Surroundings;

/// Runs `cloaca` with a command line that starts with the program name, and returns the exit code.
#[must_use]
pub fn main(mut arguments: Vec<OsString>) -> i32 {
    // If this fails, opening the log reports the cause.
    let _ = cloacina_store::reserve_standard_streams();
    if arguments.get(1).is_some_and(|word| word == "replay") {
        arguments.remove(0);
        return cloacina_replay::main(arguments);
    }
    surroundings::with_process(|env| run(arguments, env))
}
