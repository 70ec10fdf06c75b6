//! Runs the command that the command line names, and reports its failure.

use std::ffi::OsString;
use std::io::ErrorKind;

use crate::arguments::{Arguments, Command, LogArguments, Program};
use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;
use crate::{archive, checkpoint, erase, import, prune, rewrite, select};

/// Runs a command line that starts with the program name, and returns the exit code.
pub fn run(arguments: Vec<OsString>, env: &mut Surroundings<'_>) -> i32 {
    let result = match Arguments::from_command_line(arguments) {
        Ok(Arguments { command: Program::Log(arguments) }) => log(&arguments, env),
        // `main` runs `cloaca replay` before this parser sees the arguments.
        Ok(Arguments { command: Program::Replay { .. } }) => {
            Err(Failure::usage("`replay` must be the first argument", "cloaca replay --help"))
        }
        Err(error) => {
            let text = error.render();
            // There is nowhere to report an error of this write.
            let _ = if error.use_stderr() { write!(env.err, "{text}") } else { write!(env.out, "{text}") };
            return error.exit_code();
        }
    };
    let flushed = env.out.flush();
    match result.and_then(|()| flushed.map_err(Failure::from)) {
        Ok(()) => code::OK,
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => code::OK,
        Err(Failure::Output(error)) => {
            let _ = writeln!(env.err, "error: cannot write: {error}");
            code::CANNOT_ACCESS
        }
        Err(Failure::Diagnostic { code, error, hint }) => {
            let _ = writeln!(env.err, "error: {error}\n\nhint: {hint}");
            code
        }
    }
}

fn log(arguments: &LogArguments, env: &mut Surroundings<'_>) -> Result<(), Failure> {
    if let Some(option) = arguments.unsupported_option() {
        let name = arguments.command.name();
        let without = if name == "archive" { " without `--drop`" } else { "" };
        let error = format!("`--{option}` cannot be used with `{name}`{without}");
        return Err(Failure::usage(error, format!("cloaca log {name} --help")));
    }
    let path = select::log(arguments.log.as_deref(), env)?;
    match &arguments.command {
        Command::Archive(options) => archive::run(arguments, options, &path, env),
        Command::Import { file } => import::run(file, &path, env),
        Command::Erase(options) => erase::run(arguments, options, &path, env),
        Command::Checkpoint(options) => checkpoint::run(options, &path, env),
        Command::Prune(options) => prune::run(arguments, options, &path, env),
        Command::Compact => rewrite::compact(arguments, &path, env),
        Command::Repair { to } => rewrite::repair(to, &path, env),
    }
}
