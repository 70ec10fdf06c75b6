//! Everything that the command line touches besides its arguments, so that tests can put something else in its place.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use cloacina_engine::core::time::Timestamp;

/// What a run of the command line sees and writes to.
pub struct Surroundings<'a> {
    /// Where data goes.
    pub out: &'a mut dyn Write,
    /// Where everything else goes, questions too.
    pub err: &'a mut dyn Write,
    /// Where answers come from; `None` if nobody is there to be asked.
    pub input: Option<&'a mut dyn BufRead>,
    /// The environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The working directory.
    pub directory: PathBuf,
    /// What time it is.
    pub now: Timestamp,
}

impl Surroundings<'_> {
    /// Who does this, for the log to remember.
    pub(crate) fn user(&self) -> String {
        let name = ["USER", "LOGNAME"].iter().find_map(|name| (self.variable)(name).filter(|name| !name.is_empty()));
        name.map_or_else(|| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
    }
}

/// Runs with the surroundings of this process.
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
