//! From arguments to a change.

use std::ffi::OsString;
use std::io::ErrorKind;

use crate::arguments::{Arguments, Command, LogArguments, Program};
use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;
use crate::{archive, checkpoint, erase, import, prune, rewrite, select};

/// Runs a command line (the program's name first) and gives its exit code.
pub fn run(arguments: Vec<OsString>, around: &mut Surroundings<'_>) -> i32 {
    let done = match Arguments::of(arguments) {
        Ok(Arguments { command: Program::Log(arguments) }) => log(&arguments, around),
        // It is run before anything is parsed.
        Ok(Arguments { command: Program::Replay { .. } }) => {
            Err(Failure::usage("`replay` comes first: cloaca replay …", "cloaca replay --help"))
        }
        Err(error) => {
            let text = error.render();
            // Nobody is left to tell if this cannot be written.
            let _ = if error.use_stderr() { write!(around.err, "{text}") } else { write!(around.out, "{text}") };
            return error.exit_code();
        }
    };
    let flushed = around.out.flush();
    match done.and_then(|()| flushed.map_err(Failure::from)) {
        Ok(()) => code::OK,
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => code::OK,
        Err(Failure::Output(error)) => {
            let _ = writeln!(around.err, "error: cannot write: {error}");
            code::CANNOT_ACCESS
        }
        Err(Failure::Told { code, error, hint }) => {
            let _ = writeln!(around.err, "error: {error}\n\nhint: {hint}");
            code
        }
    }
}

fn log(arguments: &LogArguments, around: &mut Surroundings<'_>) -> Result<(), Failure> {
    if let Some(option) = arguments.option_without_meaning() {
        let name = arguments.command.name();
        let removes = if name == "archive" { " without `--drop`" } else { "" };
        let error = format!("`--{option}` has no meaning for `{name}`{removes}");
        return Err(Failure::usage(error, format!("cloaca log {name} --help")));
    }
    let path = select::log(arguments.log.as_deref(), around)?;
    match &arguments.command {
        Command::Archive(what) => archive::run(arguments, what, &path, around),
        Command::Import { file } => import::run(file, &path, around),
        Command::Erase(what) => erase::run(arguments, what, &path, around),
        Command::Checkpoint(what) => checkpoint::run(what, &path, around),
        Command::Prune(what) => prune::run(arguments, what, &path, around),
        Command::Compact => rewrite::compact(arguments, &path, around),
        Command::Repair { to } => rewrite::repair(to, &path, around),
    }
}
