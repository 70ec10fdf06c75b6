//! What ends a command before its time: what went wrong and where, what to type next, and the exit code.

use std::io;

use cloacina_store::log::{OpenError, ReadError};

use super::found::quoted;
use crate::errors::number;
use crate::reading::Trouble;

/// Exit codes. They are documented interface.
pub mod code {
    /// It went well.
    pub const OK: i32 = 0;
    /// Two executions differ; or the one that was followed did not complete.
    pub const DIFFERS: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// There is no such execution, key or task.
    pub const NOT_FOUND: i32 = 3;
    /// The log cannot be read.
    pub const CANNOT_READ: i32 = 4;
    /// Verifying found that the log is not what was written.
    pub const VERIFY_FAILED: i32 = 5;
    /// The execution that was followed goes on, or nobody runs it.
    pub const STILL_RUNNING: i32 = 6;
}

/// Why a command ended before its time.
#[derive(Debug)]
pub enum Failure {
    /// To be told: `error:`, an empty line, `hint:`.
    Told {
        /// The exit code.
        code: i32,
        /// Its number, to be explained by.
        number: u16,
        /// What and where.
        error: String,
        /// Further lines below it.
        details: Vec<String>,
        /// The command to run.
        hint: String,
    },
    /// Writing failed. A reader that went away (a broken pipe) is no error.
    Output(io::Error),
}

impl Failure {
    /// Something is not there.
    pub fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::told(code::NOT_FOUND, number::NO_EXECUTION, error, hint)
    }

    /// The command line is wrong.
    pub fn usage(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::told(code::USAGE, number::USAGE, error, hint)
    }

    /// The log cannot be read.
    pub fn cannot_read(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::told(code::CANNOT_READ, number::CANNOT_READ, error, hint)
    }

    /// A file cannot be written.
    pub fn cannot_write(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::told(code::CANNOT_READ, number::CANNOT_WRITE, error, hint)
    }

    fn told(code: i32, number: u16, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Told { code, number, error: error.into(), details: Vec::new(), hint: hint.into() }
    }

    /// The same with another number.
    #[must_use]
    pub fn numbered(mut self, wanted: u16) -> Self {
        if let Self::Told { number, .. } = &mut self {
            *number = wanted;
        }
        self
    }

    /// The same with further lines.
    #[must_use]
    pub fn with_details(mut self, lines: Vec<String>) -> Self {
        if let Self::Told { details, .. } = &mut self {
            *details = lines;
        }
        self
    }

    /// A log that cannot be opened.
    #[must_use]
    pub fn open(error: &OpenError) -> Self {
        let hint = match error {
            OpenError::Missing { .. } | OpenError::NotALog { .. } => {
                "replay --log PATH list (PATH is the directory that the runner was opened with)"
            }
            OpenError::NewerFormat { .. } => "pip install --upgrade cloaca",
            OpenError::DamagedArchive { .. } => "take another copy of the archive",
            OpenError::Damaged { path, .. } => {
                return Self::cannot_read(
                    error.to_string(),
                    format!("replay verify --all --log {}", quoted(&path.display().to_string())),
                )
                .numbered(number::DAMAGED_LOG);
            }
            _ => "try again once the cause is gone; nothing was changed",
        };
        if let OpenError::DamagedArchive { .. } = error {
            return Self::told(code::VERIFY_FAILED, number::DAMAGED_LOG, error.to_string(), hint);
        }
        let number = match error {
            OpenError::Missing { .. } | OpenError::NotALog { .. } => number::NOT_A_LOG,
            OpenError::Locked { .. } | OpenError::LeftLocked { .. } => number::IN_USE,
            OpenError::NewerFormat { .. } => number::NEWER_LOG,
            _ => number::CANNOT_READ,
        };
        Self::cannot_read(error.to_string(), hint).numbered(number)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        Self::cannot_read(error.to_string(), "replay list (shows what can still be read)").numbered(of_read(&error))
    }
}

fn of_read(error: &ReadError) -> u16 {
    match error {
        ReadError::NoStream(_) => number::NO_STREAM,
        ReadError::Damaged { .. } => number::RECORD_DIFFERS,
        ReadError::DamagedLog(_) => number::DAMAGED_LOG,
        ReadError::TailCut { .. } => number::TAIL_CUT,
        _ => number::CANNOT_READ,
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        let hint = match &trouble {
            Trouble::Newer { .. } => "pip install --upgrade cloaca".to_owned(),
            Trouble::Undecodable { id, .. } | Trouble::Impossible { id, .. } | Trouble::Erased { id, .. } => {
                format!("replay {} verify", crate::ids::short(*id))
            }
            Trouble::Log(_) | Trouble::Definition { .. } | Trouble::Told(_) => {
                "replay list (shows what can still be read)".to_owned()
            }
        };
        let number = match &trouble {
            Trouble::Newer { .. } => number::NEWER_EVENT,
            Trouble::Undecodable { .. } => number::NO_EVENT,
            Trouble::Impossible { .. } => number::IMPOSSIBLE,
            Trouble::Erased { .. } => number::ERASED,
            Trouble::Definition { .. } => number::NO_DEFINITION,
            Trouble::Log(error) => of_read(error),
            Trouble::Told(_) => number::CANNOT_READ,
        };
        Self::cannot_read(trouble.to_string(), hint).numbered(number)
    }
}
