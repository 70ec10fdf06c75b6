//! Finds the log and the execution that a command is about.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cloacina_engine::core::event::ExecutionId;
use cloacina_store::log::{LogReader, OpenError};

use super::failure::Failure;
use super::schedule_view::Schedule;
use super::screen::Screen;
use super::surroundings::Surroundings;
use super::text;
use crate::errors::number;
use crate::ids::{self, NotFound};
use crate::logs::{ChosenBy, Logs, NoLog, choose};
use crate::schedules;
use crate::source::{self, Head, Wanted};

/// How many executions of a file are listed if it has more than one.
const MAX_LISTED: usize = 10;

/// The log that a command is about, opened for reading.
pub struct TargetLog {
    /// The reader of the log.
    pub reader: Box<dyn LogReader>,
    /// The path as given or found, possibly relative.
    pub path: PathBuf,
    /// The option that suggested commands need to find this log: ` --log PATH`, or empty.
    pub option: String,
}

/// The execution that a command is about.
pub struct Target {
    /// The log that contains it; two targets may share a log.
    pub log: Rc<TargetLog>,
    /// The id of the execution.
    pub id: ExecutionId,
    /// Its name in suggested commands: the end of its id, or the file that contains it.
    pub name: String,
}

impl Target {
    /// Returns the name of another execution of the same log.
    fn name_of(&self, id: ExecutionId) -> String {
        if id == self.id { self.name.clone() } else { ids::short(id) }
    }

    /// Returns a command about this execution, to suggest to the user.
    #[must_use]
    pub fn command(&self, rest: &str) -> String {
        next_command(&self.name, rest, &self.log.option)
    }
}

/// Returns a command to suggest to the user.
#[must_use]
pub fn next_command(id: &str, rest: &str, option: &str) -> String {
    let space = if rest.is_empty() { "" } else { " " };
    format!("replay {id}{space}{rest}{option}")
}

/// Returns the logs to search: `option`, or the default logs.
///
/// # Errors
/// [`Failure`].
pub fn logs(option: Option<&Path>, env: &Surroundings<'_>) -> Result<Logs, Failure> {
    choose(option, env.variable, &env.directory).map_err(|error| {
        let hint = match &error {
            NoLog::None { .. } => {
                "replay --log PATH list (PATH is the log directory that was passed to the runner)".to_owned()
            }
            NoLog::Several { paths, .. } => {
                format!("replay --log {} list", paths.first().map(|path| quoted_path(path)).unwrap_or_default())
            }
        };
        let number = match &error {
            NoLog::None { .. } => number::NO_LOG,
            NoLog::Several { .. } => number::SEVERAL_LOGS,
        };
        Failure::usage(error.to_string(), hint).numbered(number)
    })
}

/// Quotes a word for a shell, if necessary.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || "/._-+@%:,".contains(letter));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// Quotes a path for a shell, also one with control characters or bytes that are not UTF-8.
pub fn quoted_path(path: &Path) -> String {
    match path.to_str() {
        Some(text) if !text.chars().any(char::is_control) => quoted(text),
        _ => {
            let escaped = path.as_os_str().as_bytes().iter().map(|byte| match byte {
                b'\'' | b'\\' => format!("\\{}", char::from(*byte)),
                b' '..=b'~' => char::from(*byte).to_string(),
                _ => format!("\\x{byte:02x}"),
            });
            format!("$'{}'", escaped.collect::<String>())
        }
    }
}

fn open(logs: &Logs, path: &Path, env: &Surroundings<'_>) -> Result<TargetLog, OpenError> {
    let reader = (env.open)(&env.absolute(path))?;
    let option = match logs.by {
        ChosenBy::Option => format!(" --log {}", quoted_path(path)),
        ChosenBy::Recent if logs.paths.first().is_some_and(|first| first != path) => {
            format!(" --log {}", quoted_path(path))
        }
        _ => String::new(),
    };
    Ok(TargetLog { reader, path: path.to_owned(), option })
}

/// Returns the path of the first log of [`logs`], possibly relative.
///
/// # Errors
/// [`Failure`].
pub fn first_path(option: Option<&Path>, env: &Surroundings<'_>) -> Result<PathBuf, Failure> {
    logs(option, env).map(|logs| first_of(&logs))
}

fn first_of(logs: &Logs) -> PathBuf {
    logs.paths.first().cloned().unwrap_or_default()
}

/// Opens the first log of [`logs`].
///
/// # Errors
/// [`Failure`].
pub fn first_log(option: Option<&Path>, env: &Surroundings<'_>) -> Result<TargetLog, Failure> {
    let logs = logs(option, env)?;
    let first = first_of(&logs);
    open(&logs, &first, env).map_err(|error| Failure::open(&error))
}

/// Finds an execution in the logs of [`logs`], in their order.
///
/// # Errors
/// [`Failure`].
pub fn execution(
    option: Option<&Path>,
    text: &str,
    env: &Surroundings<'_>,
    screen: &Screen<'_>,
) -> Result<Target, Failure> {
    if is_file(text) {
        return in_file(text, env, screen);
    }
    let logs = logs(option, env)?;
    let mut near: Vec<(Head, String)> = Vec::new();
    let mut searched = Vec::new();
    for path in &logs.paths {
        let log = match open(&logs, path, env) {
            Ok(log) => log,
            // A log that is missing or cannot be opened must not hide the other logs.
            Err(error) if logs.paths.len() > 1 => {
                searched.push(format!("{} (cannot be opened: {error})", path.display()));
                continue;
            }
            Err(error) => return Err(Failure::open(&error)),
        };
        match ids::resolve(&*log.reader, text) {
            Ok(id) => return Ok(Target { log: Rc::new(log), id, name: ids::short(id) }),
            Err(NotFound::Unknown { nearest }) => {
                searched.push(path.display().to_string());
                near.extend(nearest.into_iter().map(|head| (head, log.option.clone())));
            }
            Err(error @ NotFound::NoId(_)) => {
                return Err(Failure::usage(error.to_string(), "replay list").numbered(number::NO_ID));
            }
            Err(NotFound::Ambiguous { candidates, more }) => {
                return Err(ambiguous(text, &candidates, more, &log, screen));
            }
            Err(NotFound::Log(error)) => return Err(error.into()),
        }
    }
    Err(unknown(text, &near, &searched, screen))
}

/// Finds a schedule in the logs of [`logs`], in their order; `None` if no id matches.
///
/// # Errors
/// [`Failure`] if several ids match.
pub fn schedule(option: Option<&Path>, text: &str, env: &Surroundings<'_>) -> Result<Option<Schedule>, Failure> {
    let logs = logs(option, env)?;
    for path in &logs.paths {
        let Ok(log) = open(&logs, path, env) else { continue };
        let mut matching = schedules::matching(&*log.reader, text)?;
        if let [first, _, ..] = &matching[..] {
            let error = format!("'{text}' matches {} schedules in {}", matching.len(), path.display());
            let full = ExecutionId(*first.stream.as_bytes()).to_string();
            let failure = Failure::not_found(error, next_command(&full, "", &log.option));
            return Err(failure.numbered(number::AMBIGUOUS));
        }
        if let Some(entry) = matching.pop() {
            return Ok(Some(Schedule { log, entry }));
        }
    }
    Ok(None)
}

/// Returns whether an argument is a file rather than an id.
fn is_file(text: &str) -> bool {
    text.contains('/') || text.ends_with(".cloaca")
}

/// Finds the only execution in a file.
fn in_file(text: &str, env: &Surroundings<'_>, screen: &Screen<'_>) -> Result<Target, Failure> {
    let path = PathBuf::from(text);
    let reader = (env.open)(&env.absolute(&path)).map_err(|error| Failure::open(&error))?;
    let wanted = Wanted { limit: Some(MAX_LISTED), ..Wanted::default() };
    let (heads, more) = source::list(&*reader, &wanted)?;
    let log = TargetLog { reader, path, option: String::new() };
    let [only] = &heads[..] else {
        let count = if more { format!("more than {}", heads.len()) } else { heads.len().to_string() };
        let error = format!("expected one execution in {}, found {count}", text::clean(text));
        let lines = heads.iter().map(|head| candidate(head, screen)).collect();
        let option = format!(" --log {}", quoted(text));
        let hint = match heads.first() {
            Some(head) => next_command(&ids::short(head.id), "", &option),
            None => format!("replay list{option}"),
        };
        return Err(Failure::not_found(error, hint).numbered(number::AMBIGUOUS).with_details(lines));
    };
    Ok(Target { id: only.id, log: Rc::new(log), name: quoted(text) })
}

/// Finds two executions. The log of the first one is searched first for the second one.
///
/// # Errors
/// [`Failure`].
pub fn two(
    option: Option<&Path>,
    (a, b): (&str, &str),
    env: &Surroundings<'_>,
    screen: &Screen<'_>,
) -> Result<(Target, Target), Failure> {
    let a = execution(option, a, env, screen)?;
    if is_file(b) {
        return Ok((a, execution(option, b, env, screen)?));
    }
    let b = match ids::resolve(&*a.log.reader, b) {
        Ok(id) => Target { log: a.log.clone(), id, name: a.name_of(id) },
        _ => execution(option, b, env, screen)?,
    };
    Ok((a, b))
}

fn ambiguous(text: &str, candidates: &[Head], more: bool, log: &TargetLog, screen: &Screen<'_>) -> Failure {
    let full = candidates.first().map(|head| head.id.to_string()).unwrap_or_default();
    let or_more = if more { "more than " } else { "" };
    let error = format!("'{text}' matches {or_more}{} executions in {}:", candidates.len(), log.path.display());
    let lines = candidates.iter().map(|head| candidate(head, screen)).collect();
    let failure = Failure::not_found(error, next_command(&full, "", &log.option));
    failure.numbered(number::AMBIGUOUS).with_details(lines)
}

fn unknown(text: &str, near: &[(Head, String)], searched: &[String], screen: &Screen<'_>) -> Failure {
    let error = match text {
        "latest" | "@" => format!("there is no execution yet in {}", searched.join(", ")),
        _ => format!("no execution '{text}' in {}", searched.join(", ")),
    };
    let hint = match near.first() {
        Some((head, option)) => next_command(&ids::short(head.id), "", option),
        None => "replay list".to_owned(),
    };
    let mut lines: Vec<String> = near.iter().map(|(head, _)| candidate(head, screen)).collect();
    if !lines.is_empty() {
        lines.insert(0, "nearest:".to_owned());
    }
    Failure::not_found(error, hint).with_details(lines)
}

fn candidate(head: &Head, screen: &Screen<'_>) -> String {
    let started = crate::reading::started(&head.entry);
    format!("  {}  {}  {}  {}", head.id, screen.date(started), head.status(), head.workflow())
}
