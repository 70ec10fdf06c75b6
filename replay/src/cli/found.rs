//! From the command line to a log, and to an execution in it.

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

/// How many executions of a file are named where one was meant.
const SHOWN: usize = 10;

/// A log that was opened.
pub struct FoundLog {
    /// The log.
    pub reader: Box<dyn LogReader>,
    /// Its path, as it was found.
    pub path: PathBuf,
    /// What has to stand in a command that is to find it again: ` --log PATH`, or nothing.
    pub option: String,
}

/// An execution that was found.
pub struct Found {
    /// The log that it is in; two executions may be in one.
    pub log: Rc<FoundLog>,
    /// It.
    pub id: ExecutionId,
    /// What it is called in a command: the end of its id, or the file that it is in.
    pub called: String,
}

impl Found {
    /// What another execution of the same log is called.
    fn named(&self, id: ExecutionId) -> String {
        if id == self.id { self.called.clone() } else { ids::short(id) }
    }

    /// A command about this execution that can be typed next.
    #[must_use]
    pub fn command(&self, rest: &str) -> String {
        next_command(&self.called, rest, &self.log.option)
    }
}

/// A command that can be typed next.
#[must_use]
pub fn next_command(id: &str, rest: &str, option: &str) -> String {
    let space = if rest.is_empty() { "" } else { " " };
    format!("replay {id}{space}{rest}{option}")
}

/// Finds out which logs are meant.
///
/// # Errors
/// [`Failure`].
pub fn logs(option: Option<&Path>, around: &Surroundings<'_>) -> Result<Logs, Failure> {
    choose(option, around.variable, &around.directory).map_err(|error| {
        let hint = match &error {
            NoLog::None { .. } => {
                "replay --log PATH list (PATH is the directory that the runner was opened with)".to_owned()
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

/// A word as a shell takes it.
#[must_use]
pub fn quoted(text: &str) -> String {
    let plain = !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || "/._-+@%:,".contains(letter));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A path as it can be typed at a shell, whatever bytes it has.
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

fn open(logs: &Logs, path: &Path, around: &Surroundings<'_>) -> Result<FoundLog, OpenError> {
    let reader = (around.open)(&around.whole(path))?;
    let option = match logs.by {
        ChosenBy::Option => format!(" --log {}", quoted_path(path)),
        ChosenBy::Recent if logs.paths.first().is_some_and(|first| first != path) => {
            format!(" --log {}", quoted_path(path))
        }
        _ => String::new(),
    };
    Ok(FoundLog { reader, path: path.to_owned(), option })
}

/// The path of the first of the logs that are meant, as it was found.
///
/// # Errors
/// [`Failure`].
pub fn first_path(option: Option<&Path>, around: &Surroundings<'_>) -> Result<PathBuf, Failure> {
    logs(option, around).map(|logs| first_of(&logs))
}

fn first_of(logs: &Logs) -> PathBuf {
    logs.paths.first().cloned().unwrap_or_default()
}

/// Opens the first of the logs that are meant.
///
/// # Errors
/// [`Failure`].
pub fn first_log(option: Option<&Path>, around: &Surroundings<'_>) -> Result<FoundLog, Failure> {
    let logs = logs(option, around)?;
    let first = first_of(&logs);
    open(&logs, &first, around).map_err(|error| Failure::open(&error))
}

/// Finds an execution in the logs that are meant, in their order.
///
/// # Errors
/// [`Failure`].
pub fn execution(
    option: Option<&Path>,
    text: &str,
    around: &Surroundings<'_>,
    screen: &Screen<'_>,
) -> Result<Found, Failure> {
    if is_file(text) {
        return in_file(text, around, screen);
    }
    let logs = logs(option, around)?;
    let mut near: Vec<(Head, String)> = Vec::new();
    let mut searched = Vec::new();
    for path in &logs.paths {
        let log = match open(&logs, path, around) {
            Ok(log) => log,
            // Of several logs, one that is gone or cannot be opened does not stand in the way of the others.
            Err(error) if logs.paths.len() > 1 => {
                searched.push(format!("{} (cannot be opened: {error})", path.display()));
                continue;
            }
            Err(error) => return Err(Failure::open(&error)),
        };
        match ids::resolve(&*log.reader, text) {
            Ok(id) => return Ok(Found { log: Rc::new(log), id, called: ids::short(id) }),
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

/// Finds a schedule in the logs that are meant, in their order; `None` if no id of one is like that.
///
/// # Errors
/// [`Failure`] if several are.
pub fn schedule(option: Option<&Path>, text: &str, around: &Surroundings<'_>) -> Result<Option<Schedule>, Failure> {
    let logs = logs(option, around)?;
    for path in &logs.paths {
        let Ok(log) = open(&logs, path, around) else { continue };
        let mut fitting = schedules::matching(&*log.reader, text)?;
        if let [first, _, ..] = &fitting[..] {
            let error = format!("'{text}' fits {} schedules in {}", fitting.len(), path.display());
            let whole = ExecutionId(*first.stream.as_bytes()).to_string();
            let failure = Failure::not_found(error, next_command(&whole, "", &log.option));
            return Err(failure.numbered(number::AMBIGUOUS));
        }
        if let Some(entry) = fitting.pop() {
            return Ok(Some(Schedule { log, entry }));
        }
    }
    Ok(None)
}

/// Whether what was typed names a file and no id.
fn is_file(text: &str) -> bool {
    text.contains('/') || text.ends_with(".cloaca")
}

/// The one execution that is in a file.
fn in_file(text: &str, around: &Surroundings<'_>, screen: &Screen<'_>) -> Result<Found, Failure> {
    let path = PathBuf::from(text);
    let reader = (around.open)(&around.whole(&path)).map_err(|error| Failure::open(&error))?;
    let some = Wanted { limit: Some(SHOWN), ..Wanted::default() };
    let (heads, more) = source::list(&*reader, &some)?;
    let log = FoundLog { reader, path, option: String::new() };
    let [only] = &heads[..] else {
        let count = if more { format!("more than {}", heads.len()) } else { heads.len().to_string() };
        let error = format!("{} has {count} executions, not one", text::clean(text));
        let lines = heads.iter().map(|head| candidate(head, screen)).collect();
        let option = format!(" --log {}", quoted(text));
        let hint = match heads.first() {
            Some(head) => next_command(&ids::short(head.id), "", &option),
            None => format!("replay list{option}"),
        };
        return Err(Failure::not_found(error, hint).numbered(number::AMBIGUOUS).with_details(lines));
    };
    Ok(Found { id: only.id, log: Rc::new(log), called: quoted(text) })
}

/// Finds two executions: the second one first of all in the log of the first one.
///
/// # Errors
/// [`Failure`].
pub fn two(
    option: Option<&Path>,
    (a, b): (&str, &str),
    around: &Surroundings<'_>,
    screen: &Screen<'_>,
) -> Result<(Found, Found), Failure> {
    let a = execution(option, a, around, screen)?;
    if is_file(b) {
        return Ok((a, execution(option, b, around, screen)?));
    }
    let b = match ids::resolve(&*a.log.reader, b) {
        Ok(id) => Found { log: a.log.clone(), id, called: a.named(id) },
        _ => execution(option, b, around, screen)?,
    };
    Ok((a, b))
}

fn ambiguous(text: &str, candidates: &[Head], more: bool, log: &FoundLog, screen: &Screen<'_>) -> Failure {
    let longer = candidates.first().map(|head| head.id.to_string()).unwrap_or_default();
    let or_more = if more { "more than " } else { "" };
    let error = format!("'{text}' fits {or_more}{} executions in {}:", candidates.len(), log.path.display());
    let lines = candidates.iter().map(|head| candidate(head, screen)).collect();
    let failure = Failure::not_found(error, next_command(&longer, "", &log.option));
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
