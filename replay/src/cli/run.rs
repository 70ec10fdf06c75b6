//! Runs the command that the command line names, and reports its failure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use clap::ColorChoice;
use cloacina_engine::core::graph::nearest;

use super::arguments::{Arguments, Command, GraphFormat, ProveArguments, VerifyArguments};
use super::execution_view::ExecutionView;
use super::failure::{Failure, code};
use super::follow::Follow;
use super::paging::is_dumb;
use super::progress::Progress;
use super::screen::Screen;
#[cfg(feature = "serve")]
use super::serve_view;
use super::style::Style;
use super::surroundings::{PLAIN_WIDTH, Surroundings};
use super::{diff_view, doctor_view, header, list_view, proof_view, stepper, target, text, verify_all_view};
use crate::diff::Ignored;
use crate::errors::{self, ErrorInfo};
use crate::history::History;
use crate::json::document::Object;
use crate::json::facts::ExecutionJson;
use crate::json::lines::Lines;
use crate::source::{self, Wanted};

/// Runs a command line that starts with the program name, and returns the exit code.
pub fn run(arguments: Vec<OsString>, env: &mut Surroundings<'_>) -> i32 {
    let result = match Arguments::from_command_line(arguments) {
        Ok(arguments) => perform(&arguments, env),
        Err(error) => return usage(&error, env),
    };
    let flushed = env.out.flush();
    match result.and_then(|code| flushed.map(|()| code).map_err(Failure::from)) {
        Ok(code) => code,
        Err(failure) => report_failure(failure, env),
    }
}

/// Prints help to standard output, and errors of the command line to standard error.
fn usage(error: &clap::Error, env: &mut Surroundings<'_>) -> i32 {
    let number = errors::code(errors::number::USAGE);
    let text = error.render().to_string().replacen("error:", &format!("error[{number}]:"), 1);
    // There is nowhere to report an error of this write.
    let _ = if error.use_stderr() { write!(env.err, "{text}") } else { write!(env.out, "{text}") };
    let _ = env.out.flush();
    error.exit_code()
}

fn report_failure(failure: Failure, env: &mut Surroundings<'_>) -> i32 {
    // There is nowhere to report an error of this write.
    match failure {
        Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => code::OK,
        Failure::Output(error) => {
            let number = errors::code(errors::number::CANNOT_WRITE);
            let _ = writeln!(env.err, "error[{number}]: cannot write: {error}");
            code::CANNOT_READ
        }
        Failure::Diagnostic { code, number, error, details, hint } => {
            let _ = writeln!(env.err, "error[{}]: {error}", errors::code(number));
            for line in details {
                let _ = writeln!(env.err, "{line}");
            }
            let _ = writeln!(env.err, "\nhint: {hint}");
            code
        }
    }
}

fn perform(arguments: &Arguments, env: &mut Surroundings<'_>) -> Result<i32, Failure> {
    let Surroundings { now, terminal, .. } = *env;
    let no_color = (env.variable)("NO_COLOR").is_some_and(|value| !value.is_empty());
    let use_colors = match arguments.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal.is_some() && !no_color && !is_dumb(env.variable),
    };
    let mut nowhere = io::sink();
    let width = terminal.unwrap_or(PLAIN_WIDTH).max(40);
    let mut screen = Screen { out: &mut nowhere, width, style: Style { on: use_colors }, times: arguments.time, now };
    check(arguments)?;
    match (&arguments.id, &arguments.command) {
        (None, Some(Command::List { status, workflow, since, limit })) => {
            let wanted = Wanted {
                status: status.clone(),
                workflow: workflow.clone(),
                since: since.map(|since| since.time(now)),
                limit: Some(*limit),
            };
            let log = target::first_log(arguments.log.as_deref(), env)?;
            screen.out = env.out;
            list(arguments, &wanted, &log, &mut screen, env.err)
        }
        (None, Some(Command::Diff { a, b, ignore })) => {
            let (a, b) = target::two(arguments.log.as_deref(), (a, b), env, &screen)?;
            screen.out = env.out;
            let ignored: Vec<Ignored> = ignore.iter().map(|argument| (*argument).into()).collect();
            diff_view::show(&mut screen, env.err, (arguments.json, &ignored), (&a, &b))
        }
        (Some(_), Some(Command::ExplainError { code })) => {
            Err(Failure::usage("`explain-error` takes no id", format!("replay explain-error {code}")))
        }
        (None, Some(Command::ExplainError { code })) => {
            screen.out = env.out;
            explain_error(&mut screen, code, arguments.json)
        }
        #[cfg(feature = "serve")]
        (None, Some(Command::Serve { port })) => serve_view::run(arguments.log.as_deref(), *port, arguments.json, env),
        #[cfg(feature = "serve")]
        (Some(_), Some(Command::Serve { .. })) => Err(Failure::usage("`serve` takes no id", "replay serve")),
        (Some(_), Some(Command::List { .. })) => Err(Failure::usage("`list` takes no id", "replay list")),
        (Some(_), Some(Command::Diff { a, b, .. })) => {
            Err(Failure::usage("`diff` takes both ids after it", format!("replay diff {a} {b}")))
        }
        (None, Some(Command::Doctor)) => {
            let path = target::first_path(arguments.log.as_deref(), env)?;
            let absolute = env.absolute(&path);
            let opened = (env.open)(&absolute);
            screen.out = env.out;
            doctor_view::write(&mut screen, (&absolute, &path.display().to_string()), opened, arguments.json)
        }
        (Some(_), Some(Command::Doctor)) => Err(Failure::usage("`doctor` takes no id", "replay doctor")),
        (None, Some(Command::Verify(what))) if !what.is_of_execution() => verify_whole(arguments, what, env, screen),
        (None, Some(Command::Prove(ProveArguments { since: Some(since), .. }))) => {
            let directory = env.directory.clone();
            let log = target::first_log(arguments.log.as_deref(), env)?;
            screen.out = env.out;
            proof_view::growth(&mut screen, &log, since, (&directory, arguments.json))
        }
        (Some(_), Some(Command::Prove(ProveArguments { since: Some(_), .. }))) => {
            Err(Failure::usage("`--since` applies to the whole log and takes no id", "replay prove --since FILE"))
        }
        (Some(id), Some(Command::Verify(what))) if !what.is_of_execution() => {
            let error = "these options apply to a whole log or a file and take no id";
            Err(Failure::usage(error, format!("replay {id} verify")))
        }
        (Some(id), Some(Command::Prove(what))) => {
            let directory = env.directory.clone();
            let target = target::execution(arguments.log.as_deref(), id, env, &screen)?;
            screen.out = env.out;
            let at = (&*directory, arguments.json);
            proof_view::record(&mut screen, &target.log, crate::reading::stream_of(target.id), what, at)
        }
        (None, None) => Err(Failure::usage("no execution given: expected an id, or `latest`", "replay list")),
        (None, Some(command)) => {
            let error = format!("no execution given: `{}` follows an id, or `latest`", command.name());
            Err(Failure::usage(error, format!("replay latest {}", command.name())))
        }
        (Some(id), command) => {
            let target = match target::execution(arguments.log.as_deref(), id, env, &screen) {
                Ok(target) => target,
                Err(failure) => return schedule_or(failure, arguments, id, env, screen),
            };
            let path = env.absolute(&target.log.path);
            screen.out = env.out;
            if arguments.interactive {
                if terminal.is_none() || is_dumb(env.variable) {
                    let error = "`--interactive` needs a terminal for input and output";
                    return Err(Failure::usage(error, target.command("")).numbered(errors::number::NO_TERMINAL));
                }
                let head = source::head(&*target.log.reader, target.id)?;
                let history = History::open(&*target.log.reader, target.id)?;
                return stepper::run(&target, head, &history, arguments.time).map(|()| code::OK);
            }
            if arguments.follow {
                env.sharing.live.set(true);
                let (open, pause, path) = (env.open, env.pause, path.as_path());
                let follow = Follow { open, path, pause, jsonl: arguments.jsonl, values: arguments.values };
                return follow.run(&mut screen, env.err, &target);
            }
            let total = target.log.reader.stream(crate::reading::stream_of(target.id)).map_or(0, |entry| entry.records);
            let progress = Progress::new(env.shows_progress, total, "events");
            let view = ExecutionView {
                arguments,
                target: &target,
                screen: &mut screen,
                err: env.err,
                header_written: false,
                progress,
            };
            view.show(command.as_ref())
        }
    }
}

/// Shows the schedule with this id, if no execution has it and no option requires an execution. Otherwise returns
/// `failure`.
fn schedule_or<'a>(
    failure: Failure,
    arguments: &Arguments,
    id: &str,
    env: &'a mut Surroundings<'_>,
    mut screen: Screen<'a>,
) -> Result<i32, Failure> {
    let Arguments { command, interactive, follow, jsonl, values, at, .. } = arguments;
    let needs_execution = command.is_some() || *interactive || *follow || *jsonl || *values || at.is_some();
    let is_unknown = matches!(&failure, Failure::Diagnostic { number, .. } if *number == errors::number::NO_EXECUTION);
    if needs_execution || !is_unknown {
        return Err(failure);
    }
    let Some(schedule) = target::schedule(arguments.log.as_deref(), id, env)? else { return Err(failure) };
    screen.out = env.out;
    schedule.write(&mut screen, env.err, (arguments.full, arguments.json))
}

/// Verifies a whole log, a checkpoint or a proof.
fn verify_whole<'a>(
    arguments: &Arguments,
    what: &VerifyArguments,
    env: &'a mut Surroundings<'_>,
    mut screen: Screen<'a>,
) -> Result<i32, Failure> {
    let directory = env.directory.clone();
    let at = (&*directory, arguments.json);
    if let Some(file) = &what.proof {
        screen.out = env.out;
        return proof_view::verify_proof(&mut screen, what, file, at);
    }
    if what.all {
        // A damaged log cannot be opened as usual, and its damage is what the user wants to see.
        let path = target::first_path(arguments.log.as_deref(), env)?;
        let absolute = env.absolute(&path);
        let access = (env.open, env.shows_progress);
        screen.out = env.out;
        return verify_all_view::write(&mut screen, (&absolute, &path.display().to_string()), access, arguments.json);
    }
    let log = target::first_log(arguments.log.as_deref(), env)?;
    screen.out = env.out;
    match &what.checkpoint {
        Some(file) => proof_view::verify_checkpoint(&mut screen, what, &log, file, at),
        None => Err(Failure::usage("`--key` needs a checkpoint or a proof", "replay verify --checkpoint FILE")),
    }
}

/// Rejects options that the command would ignore: the user expects them to do something.
fn check(arguments: &Arguments) -> Result<(), Failure> {
    let id = arguments.id.as_deref().unwrap_or("ID");
    let Some(command) = &arguments.command else { return check_history(arguments, id) };
    let name = format!("`{}`", command.name());
    let history_options = [
        ("--interactive", arguments.interactive),
        ("--follow", arguments.follow),
        ("--full", arguments.full),
        ("--values", arguments.values),
    ];
    if let Some((option, _)) = history_options.into_iter().find(|(_, is_typed)| *is_typed) {
        return refuse(option, &name, format!("replay {id} {option}"));
    }
    if let Some(option) = arguments.unsupported_option() {
        return refuse(&format!("--{option}"), &name, minimal_command_line(command, id));
    }
    match command {
        Command::Report { output } if arguments.json && output == Path::new("-") => {
            refuse("--json", "a report on standard output", format!("replay {id} report -o run.html --json"))
        }
        Command::Export { output, .. }
            if arguments.json && output.as_deref().is_none_or(|output| output == Path::new("-")) =>
        {
            refuse("--json", "an export to standard output", format!("replay {id} export --to jsonl"))
        }
        Command::Graph { format: Some(format), .. } if arguments.json && *format != GraphFormat::Json => {
            refuse("--json", "a `--format` other than json", format!("replay {id} graph --json"))
        }
        Command::Verify(VerifyArguments { proof: Some(proof), .. }) if arguments.log.is_some() => {
            refuse("--log", "`--proof`: it needs no log", format!("replay verify --proof {}", proof.display()))
        }
        _ => Ok(()),
    }
}

fn refuse(option: &str, with: &str, instead: String) -> Result<(), Failure> {
    Err(Failure::usage(format!("`{option}` cannot be used with {with}"), instead))
}

/// Does the same where there is no command: for the history of an execution, or its state at a moment.
fn check_history(arguments: &Arguments, id: &str) -> Result<(), Failure> {
    let Arguments { interactive, follow, json, jsonl, at, full, values, .. } = arguments;
    let colors = arguments.typed.iter().any(|option| option == "color");
    if *interactive && (*json || *jsonl || *follow) {
        return refuse("--interactive", "`--json`, `--jsonl` or `--follow`", format!("replay {id} -i"));
    }
    let ignored = [("--at", at.is_some()), ("--full", *full), ("--values", *values), ("--color", colors)];
    if let Some((option, _)) = ignored.into_iter().find(|(_, is_typed)| *interactive && *is_typed) {
        return refuse(option, "`--interactive`", format!("replay {id} -i"));
    }
    if *follow && *json {
        return refuse("--json", "`--follow`", format!("replay {id} --follow --jsonl"));
    }
    if let Some((option, _)) =
        [("--at", at.is_some()), ("--full", *full)].into_iter().find(|(_, is_typed)| *follow && *is_typed)
    {
        return refuse(option, "`--follow`", format!("replay {id} --follow"));
    }
    if *values && at.is_some() && !*full {
        return refuse("--values", "`--at`", format!("replay {id} context --at MOMENT"));
    }
    Ok(())
}

/// Returns a command line without global options.
fn minimal_command_line(command: &Command, id: &str) -> String {
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
    log: &target::TargetLog,
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
            report_unknown_workflow(err, unknown, log)?;
        }
        return Ok(code::OK);
    }
    let (count, newest) = (heads.len(), heads.first().map(|head| head.id));
    list_view::write(screen, heads)?;
    screen.out.flush()?;
    if more {
        writeln!(err, "\nthe list is not complete\nhint: replay list --limit {}{}", count.max(50) * 2, log.option)?;
    } else if let Some(newest) = newest {
        let command = target::next_command(&crate::ids::short(newest), "", &log.option);
        writeln!(err, "\nhint: {command}")?;
    }
    Ok(code::OK)
}

/// Reports that no execution belongs to a workflow of this name, and suggests similar names.
fn report_unknown_workflow(err: &mut dyn Write, name: &str, log: &target::TargetLog) -> Result<(), Failure> {
    /// How many known names are listed.
    const MAX_NAMES: usize = 5;
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
            "\nno execution of workflow '{name}'\nhint: replay list --workflow {}{}",
            target::quoted(near),
            log.option
        )?,
        None => {
            let some: Vec<&str> = known.iter().take(MAX_NAMES).map(String::as_str).collect();
            let more = if known.len() > MAX_NAMES { ", …" } else { "" };
            let names = if some.is_empty() { "none".to_owned() } else { text::clean(&some.join(", ")) };
            writeln!(err, "\nno execution of workflow '{name}'; workflows in this log: {names}{more}")?;
        }
    }
    Ok(())
}

/// Explains an error code.
fn explain_error(screen: &mut Screen<'_>, typed: &str, json: bool) -> Result<i32, Failure> {
    let Some(info) = ErrorInfo::find(typed) else {
        let error = format!("unknown error code '{}'", text::clean(typed));
        return Err(Failure::not_found(error, "replay explain-error CL0001").numbered(errors::number::NO_ERROR));
    };
    if json {
        let mut object = Object::begin(screen.out, "error")?;
        object.member("code", &errors::code(info.number))?;
        object.member("title", &info.title)?;
        object.member("text", &info.text)?;
        object.end()?;
        return Ok(code::OK);
    }
    screen.line(&format!("{}: {}", errors::code(info.number), info.title))?;
    screen.line("")?;
    for line in text::wrap(info.text, screen.width.min(100)) {
        screen.line(&line)?;
    }
    Ok(code::OK)
}
