//! From arguments to a view.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use clap::ColorChoice;
use cloacina_engine::core::graph::nearest;

use super::arguments::{Arguments, Command, GraphFormat, ProveArguments, VerifyArguments};
use super::failure::{Failure, code};
use super::follow::Follow;
use super::paging::is_dumb;
use super::progress::Progress;
use super::screen::Screen;
#[cfg(feature = "serve")]
use super::serve_view;
use super::style::Style;
use super::surroundings::{PLAIN_WIDTH, Surroundings};
use super::view::View;
use super::{diff_view, doctor_view, found, header, list_view, proof_view, stepper, text, whole_view};
use crate::diff::Ignored;
use crate::errors::{self, Explained};
use crate::history::History;
use crate::json::document::Object;
use crate::json::facts::ExecutionJson;
use crate::json::lines::Lines;
use crate::source::{self, Wanted};

/// Runs a command line (the program's name first) and gives its exit code.
pub fn run(arguments: Vec<OsString>, around: &mut Surroundings<'_>) -> i32 {
    let ended = match Arguments::of(arguments) {
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
    let number = errors::code(errors::number::USAGE);
    let text = error.render().to_string().replacen("error:", &format!("error[{number}]:"), 1);
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
            let number = errors::code(errors::number::CANNOT_WRITE);
            let _ = writeln!(around.err, "error[{number}]: cannot write: {error}");
            code::CANNOT_READ
        }
        Failure::Told { code, number, error, details, hint } => {
            let _ = writeln!(around.err, "error[{}]: {error}", errors::code(number));
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
        ColorChoice::Auto => terminal.is_some() && !no_color && !is_dumb(around.variable),
    };
    let mut nowhere = io::sink();
    let width = terminal.unwrap_or(PLAIN_WIDTH).max(40);
    let mut screen = Screen { out: &mut nowhere, width, style: Style { on }, times: arguments.time, now };
    check(arguments)?;
    match (&arguments.id, &arguments.command) {
        (None, Some(Command::List { status, workflow, since, limit })) => {
            let wanted = Wanted {
                status: status.clone(),
                workflow: workflow.clone(),
                since: since.map(|since| since.time(now)),
                limit: Some(*limit),
            };
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            list(arguments, &wanted, &log, &mut screen, around.err)
        }
        (None, Some(Command::Diff { a, b, ignore })) => {
            let (a, b) = found::two(arguments.log.as_deref(), (a, b), around, &screen)?;
            screen.out = around.out;
            let ignored: Vec<Ignored> = ignore.iter().map(|argument| (*argument).into()).collect();
            diff_view::show(&mut screen, around.err, (arguments.json, &ignored), (&a, &b))
        }
        (Some(_), Some(Command::ExplainError { code })) => {
            Err(Failure::usage("`explain-error` takes no id", format!("replay explain-error {code}")))
        }
        (None, Some(Command::ExplainError { code })) => {
            screen.out = around.out;
            explain_error(&mut screen, code, arguments.json)
        }
        #[cfg(feature = "serve")]
        (None, Some(Command::Serve { port })) => {
            serve_view::run(arguments.log.as_deref(), *port, arguments.json, around)
        }
        #[cfg(feature = "serve")]
        (Some(_), Some(Command::Serve { .. })) => Err(Failure::usage("`serve` takes no id", "replay serve")),
        (Some(_), Some(Command::List { .. })) => Err(Failure::usage("`list` takes no id", "replay list")),
        (Some(_), Some(Command::Diff { a, b, .. })) => {
            Err(Failure::usage("`diff` takes both ids behind it", format!("replay diff {a} {b}")))
        }
        (None, Some(Command::Doctor)) => {
            let path = found::first_path(arguments.log.as_deref(), around)?;
            let whole = around.whole(&path);
            let opened = (around.open)(&whole);
            screen.out = around.out;
            doctor_view::write(&mut screen, (&whole, &path.display().to_string()), opened, arguments.json)
        }
        (Some(_), Some(Command::Doctor)) => Err(Failure::usage("`doctor` takes no id", "replay doctor")),
        (None, Some(Command::Verify(what))) if !what.is_of_execution() => verify_whole(arguments, what, around, screen),
        (None, Some(Command::Prove(ProveArguments { since: Some(since), .. }))) => {
            let directory = around.directory.clone();
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            proof_view::growth(&mut screen, &log, since, (&directory, arguments.json))
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
            let at = (&*directory, arguments.json);
            proof_view::record(&mut screen, &found.log, crate::reading::stream_of(found.id), what, at)
        }
        (None, None) => Err(Failure::usage("which execution? Give an id, or `latest`", "replay list")),
        (None, Some(command)) => {
            let error = format!("which execution? `{}` comes after an id, or `latest`", command.name());
            Err(Failure::usage(error, format!("replay latest {}", command.name())))
        }
        (Some(id), command) => {
            let found = match found::execution(arguments.log.as_deref(), id, around, &screen) {
                Ok(found) => found,
                Err(failure) => return or_schedule(failure, arguments, id, around, screen),
            };
            let path = around.whole(&found.log.path);
            screen.out = around.out;
            if arguments.interactive {
                if terminal.is_none() || is_dumb(around.variable) {
                    let error = "stepping needs a terminal for input and output";
                    return Err(Failure::usage(error, found.command("")).numbered(errors::number::NO_TERMINAL));
                }
                let head = source::head(&*found.log.reader, found.id)?;
                let history = History::open(&*found.log.reader, found.id)?;
                return stepper::run(&found, head, &history, arguments.time).map(|()| code::OK);
            }
            if arguments.follow {
                around.sharing.live.set(true);
                let (open, pause, path) = (around.open, around.pause, path.as_path());
                let follow = Follow { open, path, pause, jsonl: arguments.jsonl, values: arguments.values };
                return follow.run(&mut screen, around.err, &found);
            }
            let all = found.log.reader.stream(crate::reading::stream_of(found.id)).map_or(0, |entry| entry.records);
            let progress = Progress::new(around.shows_progress, all, "events");
            let view =
                View { arguments, found: &found, screen: &mut screen, err: around.err, painted: false, progress };
            view.show(command.as_ref())
        }
    }
}

/// Shows the schedule with an id that no execution has, if that is all that is asked for.
fn or_schedule<'a>(
    failure: Failure,
    arguments: &Arguments,
    id: &str,
    around: &'a mut Surroundings<'_>,
    mut screen: Screen<'a>,
) -> Result<i32, Failure> {
    let Arguments { command, interactive, follow, jsonl, values, at, .. } = arguments;
    let more = command.is_some() || *interactive || *follow || *jsonl || *values || at.is_some();
    let is_unknown = matches!(&failure, Failure::Told { number, .. } if *number == errors::number::NO_EXECUTION);
    if more || !is_unknown {
        return Err(failure);
    }
    let Some(schedule) = found::schedule(arguments.log.as_deref(), id, around)? else { return Err(failure) };
    screen.out = around.out;
    schedule.write(&mut screen, around.err, (arguments.full, arguments.json))
}

/// Checks a whole log, or a file against one.
fn verify_whole<'a>(
    arguments: &Arguments,
    what: &VerifyArguments,
    around: &'a mut Surroundings<'_>,
    mut screen: Screen<'a>,
) -> Result<i32, Failure> {
    let directory = around.directory.clone();
    let at = (&*directory, arguments.json);
    if let Some(file) = &what.proof {
        screen.out = around.out;
        return proof_view::verify_proof(&mut screen, what, file, at);
    }
    if what.all {
        // What a damaged log would be refused for is what is asked for: it is not opened as others are.
        let path = found::first_path(arguments.log.as_deref(), around)?;
        let whole = around.whole(&path);
        let seen = (around.open, around.shows_progress);
        screen.out = around.out;
        return whole_view::write(&mut screen, (&whole, &path.display().to_string()), seen, arguments.json);
    }
    let log = found::first_log(arguments.log.as_deref(), around)?;
    screen.out = around.out;
    match &what.checkpoint {
        Some(file) => proof_view::verify_checkpoint(&mut screen, what, &log, file, at),
        None => Err(Failure::usage("`--key` checks a checkpoint or a proof", "replay verify --checkpoint FILE")),
    }
}

/// Options that the command would not heed are an error: whoever wrote them expects something of them.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let id = arguments.id.as_deref().unwrap_or("ID");
    let refuse = |option: &str, name: &str, command: String| {
        Err(Failure::usage(format!("`{option}` has no meaning for `{name}`"), command))
    };
    let Some(command) = &arguments.command else { return check_history(arguments, id) };
    let of_history = [
        ("--interactive", arguments.interactive),
        ("--follow", arguments.follow),
        ("--full", arguments.full),
        ("--values", arguments.values),
    ];
    if let Some((option, _)) = of_history.into_iter().find(|(_, is_typed)| *is_typed) {
        return refuse(option, command.name(), format!("replay {id} {option}"));
    }
    if let Some(option) = arguments.option_without_meaning() {
        return refuse(&format!("--{option}"), command.name(), without_options(command, id));
    }
    match command {
        Command::Report { output } if arguments.json && output == Path::new("-") => {
            refuse("--json", "a report on standard output", format!("replay {id} report -o run.html --json"))
        }
        Command::Export { output, .. }
            if arguments.json && output.as_deref().is_none_or(|output| output == Path::new("-")) =>
        {
            refuse("--json", "an export on standard output", format!("replay {id} export --to jsonl"))
        }
        Command::Graph { format: Some(format), .. } if arguments.json && *format != GraphFormat::Json => {
            refuse("--json", "a graph for another program", format!("replay {id} graph --json"))
        }
        Command::Verify(VerifyArguments { proof: Some(proof), .. }) if arguments.log.is_some() => {
            refuse("--log", "a proof, which needs none", format!("replay verify --proof {}", proof.display()))
        }
        _ => Ok(()),
    }
}

/// The same without a command: the history of an execution, or its state at a moment.
fn check_history(arguments: &Arguments, id: &str) -> Result<(), Failure> {
    let Arguments { interactive, follow, json, jsonl, at, full, values, .. } = arguments;
    let refuse = |option: &str, name: &str, command: String| {
        Err(Failure::usage(format!("`{option}` has no meaning for `{name}`"), command))
    };
    let colors = arguments.typed.iter().any(|option| option == "color");
    if *interactive && (*json || *jsonl || *follow) {
        return refuse("--interactive", "another way to show it", format!("replay {id} -i"));
    }
    let inert = [("--at", at.is_some()), ("--full", *full), ("--values", *values), ("--color", colors)];
    if let Some((option, _)) = inert.into_iter().find(|(_, is_typed)| *interactive && *is_typed) {
        return refuse(option, "--interactive", format!("replay {id} -i"));
    }
    if *follow && *json {
        return refuse("--json", "--follow", format!("replay {id} --follow --jsonl"));
    }
    if let Some((option, _)) =
        [("--at", at.is_some()), ("--full", *full)].into_iter().find(|(_, is_typed)| *follow && *is_typed)
    {
        return refuse(option, "--follow", format!("replay {id} --follow"));
    }
    if *values && at.is_some() && !*full {
        return refuse("--values", "--at", format!("replay {id} context --at MOMENT"));
    }
    Ok(())
}

/// A command line without the options that every command takes.
fn without_options(command: &Command, id: &str) -> String {
    match command {
        Command::Diff { a, b, .. } => format!("replay diff {a} {b}"),
        Command::Report { .. } => format!("replay {id} report -o run.html"),
        Command::Export { .. } => format!("replay {id} export --to jsonl"),
        Command::ExplainError { code } => format!("replay explain-error {code}"),
        Command::Context { key } => {
            format!("replay {id} context {}", key.as_deref().unwrap_or_default()).trim_end().into()
        }
        Command::Why { key } => format!("replay {id} why {key}"),
        Command::Explain { task } => format!("replay {id} explain {task}"),
        Command::Prove(_) => format!("replay {id} prove SEQ"),
        Command::Graph { .. } | Command::Verify(_) => format!("replay {id} {}", command.name()),
        _ => format!("replay {}", command.name()),
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
    if arguments.jsonl {
        let location = log.path.display().to_string();
        heads.iter().try_for_each(|head| Lines::default().execution(screen.out, head, &location))?;
        return Ok(code::OK);
    }
    header::read_from(screen, &log.path.display().to_string())?;
    header::warn_if_ahead(screen, &*log.reader)?;
    screen.line("")?;
    if heads.is_empty() {
        screen.line("no executions")?;
        if let Some(unknown) = wanted.workflow.as_deref() {
            screen.out.flush()?;
            say_unknown_workflow(err, unknown, log)?;
        }
        return Ok(code::OK);
    }
    let (count, newest) = (heads.len(), heads.first().map(|head| head.id));
    list_view::write(screen, heads)?;
    screen.out.flush()?;
    if more {
        writeln!(err, "\nthere are more; hint: replay list --limit {}{}", count.max(50) * 2, log.option)?;
    } else if let Some(newest) = newest {
        let command = found::next_command(&crate::ids::short(newest), "", &log.option);
        writeln!(err, "\nhint: {command}")?;
    }
    Ok(code::OK)
}

/// Says that no execution is one of a workflow of that name, with the nearest names that there are.
fn say_unknown_workflow(err: &mut dyn Write, name: &str, log: &found::FoundLog) -> Result<(), Failure> {
    /// How many names are given.
    const NAMED: usize = 5;
    let mut known = BTreeSet::new();
    for head in source::heads(&*log.reader) {
        known.insert(head?.workflow().to_owned());
    }
    if known.contains(name) {
        return Ok(());
    }
    let name = text::clean(name);
    match nearest(&name, known.iter().map(String::as_str)) {
        Some(near) => writeln!(
            err,
            "\nno execution is of a workflow '{name}'\nhint: replay list --workflow {}{}",
            found::quoted(near),
            log.option
        )?,
        None => {
            let some: Vec<&str> = known.iter().take(NAMED).map(String::as_str).collect();
            let more = if known.len() > NAMED { ", …" } else { "" };
            let names = if some.is_empty() { "none".to_owned() } else { text::clean(&some.join(", ")) };
            writeln!(err, "\nno execution is of a workflow '{name}'; those in this log: {names}{more}")?;
        }
    }
    Ok(())
}

/// Tells what an error means.
fn explain_error(screen: &mut Screen<'_>, typed: &str, json: bool) -> Result<i32, Failure> {
    let Some(found) = Explained::find(typed) else {
        let error = format!("there is no error '{}'", text::clean(typed));
        return Err(Failure::not_found(error, "replay explain-error CL0001").numbered(errors::number::NO_ERROR));
    };
    if json {
        let mut object = Object::begin(screen.out, "error")?;
        object.member("code", &errors::code(found.number))?;
        object.member("title", &found.title)?;
        object.member("text", &found.text)?;
        object.end()?;
        return Ok(code::OK);
    }
    screen.line(&format!("{}: {}", errors::code(found.number), found.title))?;
    screen.line("")?;
    for line in text::wrap(found.text, screen.width.min(100)) {
        screen.line(&line)?;
    }
    Ok(code::OK)
}
