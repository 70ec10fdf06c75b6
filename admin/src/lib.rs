//! The program `cloaca`: `cloaca log …` changes what is in a log, `cloaca replay …` is the program `replay`.
//!
//! **Architecture invariant:** what a change does to a log stands in the store ([`cloacina_store::keeper`]), what an event
//! means in the engine's core; here they meet. Nothing is removed before it was shown and somebody said yes, and a log
//! that a process has is changed through that process.

mod archive;
mod arguments;
mod ask;
mod checkpoint;
mod erase;
mod failure;
mod import;
mod prune;
mod rewrite;
mod run;
mod select;
mod surroundings;
mod wiping;

use std::ffi::OsString;

pub use failure::code;
pub use run::run;
pub use surroundings::Surroundings;

/// The program `cloaca`: takes its command line (the program's name first), and returns the exit code.
#[must_use]
pub fn main(mut arguments: Vec<OsString>) -> i32 {
    // Where that cannot be done, opening the log says why.
    let _ = cloacina_store::reserve_standard_streams();
    if arguments.get(1).is_some_and(|word| word == "replay") {
        arguments.remove(0);
        return cloacina_replay::main(arguments);
    }
    surroundings::with_process(|around| run(arguments, around))
}
