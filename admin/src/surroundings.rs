//! The environment of a command: everything it uses besides its arguments. Tests replace it.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use cloacina_engine::core::time::Timestamp;

/// The streams, environment variables, directory and clock of a command.
pub struct Surroundings<'a> {
    /// Standard output: results.
    pub out: &'a mut dyn Write,
    /// Standard error: messages and questions.
    pub err: &'a mut dyn Write,
    /// Standard input for answers; `None` if it is not a terminal.
    pub input: Option<&'a mut dyn BufRead>,
    /// Reads an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// The current time.
    pub now: Timestamp,
}

impl Surroundings<'_> {
    /// Returns the name of the user, to be recorded in the log.
    pub(crate) fn user(&self) -> String {
        let name = ["USER", "LOGNAME"].iter().find_map(|name| (self.variable)(name).filter(|name| !name.is_empty()));
        name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// Calls `run` with the surroundings of this process.
pub(crate) fn with_process<T>(run: impl FnOnce(&mut Surroundings<'_>) -> T) -> T {
    let stdin = io::stdin();
    let mut input = stdin.lock();
    let answers: Option<&mut dyn BufRead> = if io::stdin().is_terminal() { Some(&mut input) } else { None };
    let mut surroundings = Surroundings {
        out: &mut io::stdout().lock(),
        err: &mut io::stderr().lock(),
        input: answers,
        variable: &|name| std::env::var_os(name),
        directory: std::env::current_dir().unwrap_or_default(),
        now: Timestamp(chrono::Utc::now().timestamp_micros()),
    };
    run(&mut surroundings)
}
