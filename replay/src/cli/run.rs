//! From arguments to a view.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{ColorChoice, Parser};

use super::arguments::{Arguments, Command, ProveArguments};
use super::failure::{Failure, code};
use super::screen::Screen;
#[cfg(feature = "serve")]
use super::serve_view;
use super::style::Style;
use super::surroundings::{PLAIN_WIDTH, Surroundings};
use super::view::View;
use super::{diff_view, doctor_view, found, header, list_view, proof_view};
use crate::json::document::Object;
use crate::json::facts::ExecutionJson;
use crate::source::{self, Wanted};

/// Runs a command line (the program's name first) and gives its exit code.
pub fn run(arguments: Vec<OsString>, around: &mut Surroundings<'_>) -> i32 {
    let ended = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => perform(&arguments, around),
        Err(error) => return usage(&error, around),
    };
    let flushed = around.out.flush();
    match ended.and_then(|code| flushed.map(|()| code).map_err(Failure::from)) {
        Ok(code) => code,
        Err(failure) => tell_failure(failure, around),
    }
}

/// Help goes where data goes, everything else that clap says to the other side.
fn usage(error: &clap::Error, around: &mut Surroundings<'_>) -> i32 {
    let text = error.render();
    // Nobody is left to tell if this cannot be written.
    let _ = if error.use_stderr() { write!(around.err, "{text}") } else { write!(around.out, "{text}") };
    let _ = around.out.flush();
    error.exit_code()
}

fn tell_failure(failure: Failure, around: &mut Surroundings<'_>) -> i32 {
    // Nobody is left to tell if this cannot be written.
    match failure {
        Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => code::OK,
        Failure::Output(error) => {
            let _ = writeln!(around.err, "error: cannot write: {error}");
            code::CANNOT_READ
        }
        Failure::Told { code, error, details, hint } => {
            let _ = writeln!(around.err, "error: {error}");
            for line in details {
                let _ = writeln!(around.err, "{line}");
            }
            let _ = writeln!(around.err, "\nhint: {hint}");
            code
        }
    }
}

fn perform(arguments: &Arguments, around: &mut Surroundings<'_>) -> Result<i32, Failure> {
    let Surroundings { now, terminal, .. } = *around;
    let no_color = (around.variable)("NO_COLOR").is_some_and(|value| !value.is_empty());
    let on = match arguments.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal.is_some() && !no_color,
    };
    let mut nowhere = io::sink();
    let width = terminal.unwrap_or(PLAIN_WIDTH).max(40);
    let mut screen = Screen { out: &mut nowhere, width, style: Style { on }, times: arguments.time, now };
    check(arguments)?;
    match (&arguments.id, &arguments.command) {
        (None, Some(Command::List { status, workflow, limit })) => {
            let wanted = Wanted { status: status.clone(), workflow: workflow.clone(), limit: Some(*limit) };
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            list(arguments, &wanted, &log, &mut screen, around.err)
        }
        (None, Some(Command::Diff { a, b })) => {
            let (a, b) = found::two(arguments.log.as_deref(), (a, b), around, &screen)?;
            screen.out = around.out;
            diff_view::show(&mut screen, around.err, arguments.json, (&a, &b))
        }
        #[cfg(feature = "serve")]
        (None, Some(Command::Serve { port })) => serve_view::run(arguments.log.as_deref(), *port, around),
        #[cfg(feature = "serve")]
        (Some(_), Some(Command::Serve { .. })) => Err(Failure::usage("`serve` takes no id", "replay serve")),
        (Some(_), Some(Command::List { .. })) => Err(Failure::usage("`list` takes no id", "replay list")),
        (Some(_), Some(Command::Diff { a, b })) => {
            Err(Failure::usage("`diff` takes both ids behind it", format!("replay diff {a} {b}")))
        }
        (None, Some(Command::Doctor)) => {
            let logs = found::logs(arguments.log.as_deref(), around)?;
            let path = around.directory.join(logs.paths.first().map_or(Path::new("."), PathBuf::as_path));
            let opened = (around.open)(&path);
            screen.out = around.out;
            doctor_view::write(&mut screen, &path, opened)
        }
        (Some(_), Some(Command::Doctor)) => Err(Failure::usage("`doctor` takes no id", "replay doctor")),
        (None, Some(Command::Verify(what))) if !what.is_of_execution() => {
            let directory = around.directory.clone();
            if let Some(file) = &what.proof {
                screen.out = around.out;
                return proof_view::verify_proof(&mut screen, what, file, &directory);
            }
            if what.all {
                // What a damaged log would be refused for is what is asked for: it is not opened as others are.
                let logs = found::logs(arguments.log.as_deref(), around)?;
                let path = directory.join(logs.paths.first().map_or(Path::new("."), PathBuf::as_path));
                screen.out = around.out;
                return proof_view::verify_all(&mut screen, &path);
            }
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            match &what.checkpoint {
                Some(file) => proof_view::verify_checkpoint(&mut screen, what, &log, file, &directory),
                None => {
                    Err(Failure::usage("`--key` checks a checkpoint or a proof", "replay verify --checkpoint FILE"))
                }
            }
        }
        (None, Some(Command::Prove(ProveArguments { since: Some(since), .. }))) => {
            let directory = around.directory.clone();
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            proof_view::growth(&mut screen, &log, since, &directory)
        }
        (Some(_), Some(Command::Prove(ProveArguments { since: Some(_), .. }))) => {
            Err(Failure::usage("`--since` is about the whole log: it takes no id", "replay prove --since FILE"))
        }
        (Some(id), Some(Command::Verify(what))) if !what.is_of_execution() => {
            let error = "these options are about a whole log or a file: they take no id";
            Err(Failure::usage(error, format!("replay {id} verify")))
        }
        (Some(id), Some(Command::Prove(what))) => {
            let directory = around.directory.clone();
            let found = found::execution(arguments.log.as_deref(), id, around, &screen)?;
            screen.out = around.out;
            proof_view::record(&mut screen, &found.log, crate::reading::stream_of(found.id), what, &directory)
        }
        (None, _) => Err(Failure::usage("which execution? Give an id, or `latest`", "replay list")),
        (Some(id), command) => {
            let found = found::execution(arguments.log.as_deref(), id, around, &screen)?;
            screen.out = around.out;
            View { arguments, found: &found, screen: &mut screen, err: around.err }.show(command.as_ref())
        }
    }
}

/// Options that the command would not heed are an error: whoever wrote them expects something of them.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let id = arguments.id.as_deref().unwrap_or("ID");
    let refuse = |option: &str, name: &str, command: String| {
        Err(Failure::usage(format!("`{option}` has no meaning for `{name}`"), command))
    };
    match &arguments.command {
        Some(Command::List { .. }) if arguments.at.is_some() => refuse("--at", "list", "replay list".to_owned()),
        Some(Command::Diff { a, b }) if arguments.at.is_some() => {
            refuse("--at", "diff", format!("replay diff {a} {b}"))
        }
        Some(Command::Verify(_)) if arguments.at.is_some() => refuse("--at", "verify", format!("replay {id} verify")),
        Some(Command::Doctor) if arguments.at.is_some() || arguments.json => {
            refuse(if arguments.json { "--json" } else { "--at" }, "doctor", "replay doctor".to_owned())
        }
        Some(Command::Prove(_)) if arguments.at.is_some() || arguments.json => {
            refuse(if arguments.json { "--json" } else { "--at" }, "prove", format!("replay {id} prove SEQ"))
        }
        Some(Command::Verify(what)) if arguments.json && !what.is_of_execution() => {
            refuse("--json", "verify of a log or a file", "replay verify --all".to_owned())
        }
        #[cfg(feature = "serve")]
        Some(Command::Serve { .. }) if arguments.at.is_some() => refuse("--at", "serve", "replay serve".to_owned()),
        #[cfg(feature = "serve")]
        Some(Command::Serve { .. }) if arguments.json => refuse("--json", "serve", "replay list --json".to_owned()),
        Some(Command::Report { .. }) if arguments.at.is_some() => {
            refuse("--at", "report", format!("replay {id} report -o run.html"))
        }
        Some(Command::Report { .. }) if arguments.json => refuse("--json", "report", format!("replay {id} --json")),
        Some(_) if arguments.full => refuse("--full", "a command", format!("replay {id} --full")),
        Some(_) if arguments.values => refuse("--values", "a command", format!("replay {id} --values")),
        None if arguments.values && arguments.at.is_some() && !arguments.full => {
            refuse("--values", "--at", format!("replay {id} context --at MOMENT"))
        }
        _ => Ok(()),
    }
}

fn list(
    arguments: &Arguments,
    wanted: &Wanted,
    log: &found::FoundLog,
    screen: &mut Screen<'_>,
    err: &mut dyn Write,
) -> Result<i32, Failure> {
    let (heads, more) = source::list(&*log.reader, wanted)?;
    if arguments.json {
        let location = log.path.display().to_string();
        let json = heads.iter().map(|head| Ok::<_, io::Error>(ExecutionJson::new(head, &location)));
        let mut object = Object::begin(screen.out, "list")?;
        object.list("executions", json)?;
        object.member("more", &more)?;
        object.end()?;
        return Ok(code::OK);
    }
    header::read_from(screen, &log.path.display().to_string())?;
    screen.line("")?;
    if heads.is_empty() {
        screen.line("no executions")?;
        return Ok(code::OK);
    }
    list_view::write(screen, &heads)?;
    screen.out.flush()?;
    if more {
        writeln!(err, "\nthere are more; hint: replay list --limit {}{}", heads.len().max(50) * 2, log.option)?;
    } else if let Some(newest) = heads.first() {
        let command = found::next_command(&crate::ids::short(newest.id), "", &log.option);
        writeln!(err, "\nhint: {command}")?;
    }
    Ok(code::OK)
}
