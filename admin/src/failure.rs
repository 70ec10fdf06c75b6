//! The error of a command: what went wrong and where, what to do next, and the exit code.

use std::io;

use cloacina_replay::reading::HistoryError;
use cloacina_store::archive::ArchiveError;
use cloacina_store::checkpoint::SignError;
use cloacina_store::keeper::ChangeError;
use cloacina_store::log::{OpenError, ReadError};

/// The exit codes. They are part of the documented interface.
pub mod code {
    /// The command succeeded.
    pub const OK: i32 = 0;
    /// The command was refused or not confirmed. The log is unchanged, except for what the output reports.
    pub const NOT_DONE: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// The execution, key or event does not exist.
    pub const NOT_FOUND: i32 = 3;
    /// The log cannot be read or written.
    pub const CANNOT_ACCESS: i32 = 4;
    /// The log or the archive is damaged.
    pub const DAMAGED: i32 = 5;
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error to print, with a hint: what to do next.
    Diagnostic { code: i32, error: String, hint: String },
    /// Writing the output failed.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn new(code: i32, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Diagnostic { code, error: error.into(), hint: hint.into() }
    }

    pub(crate) fn usage(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(code::USAGE, error, hint)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let (code, hint) = match &error {
            OpenError::Missing { .. } | OpenError::NotALog { .. } => (
                code::CANNOT_ACCESS,
                "cloaca log --log PATH … (PATH is the log directory that was passed to the runner)",
            ),
            OpenError::NewerFormat { .. } => (code::CANNOT_ACCESS, "pip install --upgrade cloaca"),
            OpenError::Damaged { .. } => (code::DAMAGED, "copy the directory before you do anything else with it"),
            OpenError::DamagedArchive { .. } => (code::DAMAGED, "use another copy of the archive"),
            _ => (code::CANNOT_ACCESS, "fix the cause and try again; nothing was changed"),
        };
        Self::new(code, error.to_string(), hint)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (code, hint) = match &error {
            ReadError::NoStream(_) | ReadError::Pruned { .. } => (code::NOT_FOUND, "replay list"),
            ReadError::Damaged { .. } | ReadError::DamagedLog(_) | ReadError::TailCut { .. } => {
                (code::DAMAGED, "replay ID verify (shows what is still intact)")
            }
            _ => (code::CANNOT_ACCESS, "fix the cause and try again"),
        };
        Self::new(code, error.to_string(), hint)
    }
}

impl From<HistoryError> for Failure {
    fn from(trouble: HistoryError) -> Self {
        match trouble {
            HistoryError::Log(error) => error.into(),
            HistoryError::Newer { .. } => {
                Self::new(code::CANNOT_ACCESS, trouble.to_string(), "pip install --upgrade cloaca")
            }
            other => Self::new(code::DAMAGED, other.to_string(), "replay ID verify"),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Read(error) => error.into(),
            ChangeError::Open(_) | ChangeError::Refused(_) => {
                Self::new(code::NOT_DONE, error.to_string(), "replay list (shows which executions are finished)")
            }
            other => Self::new(code::CANNOT_ACCESS, other.to_string(), "fix the cause and try again"),
        }
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Read(error) => error.into(),
            SignError::Empty => Self::new(code::NOT_FOUND, error.to_string(), "replay list"),
            other => Self::new(code::DAMAGED, other.to_string(), "replay verify --all"),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(error) => error.into(),
            ArchiveError::Exists(_) => {
                Self::new(code::NOT_DONE, error.to_string(), "cloaca log archive … -o OTHER.cloaca")
            }
            ArchiveError::NoDefinition { .. } | ArchiveError::Differs { .. } => {
                Self::new(code::DAMAGED, error.to_string(), "replay ID verify")
            }
            other => Self::new(code::CANNOT_ACCESS, other.to_string(), "fix the cause and try again"),
        }
    }
}
