//! What ends a command before its time: what went wrong and where, what to type next, and the exit code.

use std::io;

use cloacina_replay::reading::Trouble;
use cloacina_store::archive::ArchiveError;
use cloacina_store::checkpoint::SignError;
use cloacina_store::keeper::ChangeError;
use cloacina_store::log::{OpenError, ReadError};

/// Exit codes. They are documented interface.
pub mod code {
    /// It was done.
    pub const OK: i32 = 0;
    /// It was not done: refused, or not confirmed. The log is as it was, but for what was said to be done.
    pub const NOT_DONE: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// There is no such execution, key or event.
    pub const NOT_FOUND: i32 = 3;
    /// The log cannot be read, or not be written to.
    pub const CANNOT_ACCESS: i32 = 4;
    /// The log, or the archive, is not what was written.
    pub const DAMAGED: i32 = 5;
}

/// Why a command ended before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// To be told: `error:`, an empty line, `hint:`.
    Told { code: i32, error: String, hint: String },
    /// Writing to the terminal failed.
    Output(io::Error),
}

impl Failure {
    pub(crate) fn told(code: i32, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Told { code, error: error.into(), hint: hint.into() }
    }

    pub(crate) fn usage(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::told(code::USAGE, error, hint)
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
            OpenError::Missing { .. } | OpenError::NotALog { .. } => {
                (code::CANNOT_ACCESS, "cloaca log --log PATH … (PATH is the directory that the runner was opened with)")
            }
            OpenError::NewerFormat { .. } => (code::CANNOT_ACCESS, "pip install --upgrade cloaca"),
            OpenError::Damaged { .. } => {
                (code::DAMAGED, "keep a copy of the directory before anything else is done to it")
            }
            OpenError::DamagedArchive { .. } => (code::DAMAGED, "take another copy of the archive"),
            _ => (code::CANNOT_ACCESS, "try again once the cause is gone; nothing was changed"),
        };
        Self::told(code, error.to_string(), hint)
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let (code, hint) = match &error {
            ReadError::NoStream(_) | ReadError::Pruned { .. } => (code::NOT_FOUND, "replay list"),
            ReadError::Damaged { .. } | ReadError::DamagedLog(_) | ReadError::TailCut { .. } => {
                (code::DAMAGED, "replay ID verify (says what is still whole)")
            }
            _ => (code::CANNOT_ACCESS, "try again once the cause is gone"),
        };
        Self::told(code, error.to_string(), hint)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Log(error) => error.into(),
            Trouble::Newer { .. } => {
                Self::told(code::CANNOT_ACCESS, trouble.to_string(), "pip install --upgrade cloaca")
            }
            other => Self::told(code::DAMAGED, other.to_string(), "replay ID verify"),
        }
    }
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Read(error) => error.into(),
            ChangeError::Open(_) | ChangeError::Refused(_) => {
                Self::told(code::NOT_DONE, error.to_string(), "replay list (shows what is finished)")
            }
            other => Self::told(code::CANNOT_ACCESS, other.to_string(), "try again once the cause is gone"),
        }
    }
}

impl From<SignError> for Failure {
    fn from(error: SignError) -> Self {
        match error {
            SignError::Read(error) => error.into(),
            SignError::Empty => Self::told(code::NOT_FOUND, error.to_string(), "replay list"),
            other => Self::told(code::DAMAGED, other.to_string(), "replay verify --all"),
        }
    }
}

impl From<ArchiveError> for Failure {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(error) => error.into(),
            ArchiveError::Exists(_) => {
                Self::told(code::NOT_DONE, error.to_string(), "cloaca log archive … -o OTHER.cloaca")
            }
            ArchiveError::NoDefinition { .. } | ArchiveError::Differs { .. } => {
                Self::told(code::DAMAGED, error.to_string(), "replay ID verify")
            }
            other => Self::told(code::CANNOT_ACCESS, other.to_string(), "try again once the cause is gone"),
        }
    }
}
