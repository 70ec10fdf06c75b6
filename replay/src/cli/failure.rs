//! The error of a command: what went wrong and where, what to run next, and the exit code.

use std::io;

use cloacina_store::log::{OpenError, ReadError};

use super::target::quoted_path;
use crate::errors::number;
use crate::reading::HistoryError;

/// The exit codes. They are part of the documented interface.
pub mod code {
    /// The command succeeded.
    pub const OK: i32 = 0;
    /// Two executions differ, or the followed execution did not complete.
    pub const DIFFERS: i32 = 1;
    /// The command line is wrong.
    pub const USAGE: i32 = 2;
    /// The execution, key or task does not exist.
    pub const NOT_FOUND: i32 = 3;
    /// The log cannot be read.
    pub const CANNOT_READ: i32 = 4;
    /// Verification found damage.
    pub const VERIFY_FAILED: i32 = 5;
    /// The followed execution has not ended: it is still running, or no process runs it.
    pub const STILL_RUNNING: i32 = 6;
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// An error to print, with a hint: what to do next.
    Diagnostic {
        /// The exit code.
        code: i32,
        /// The number of its error code.
        number: u16,
        /// What went wrong, and where.
        error: String,
        /// Further lines to print below the error.
        details: Vec<String>,
        /// What to do next, usually a command.
        hint: String,
    },
    /// Writing the output failed. A broken pipe is not reported as an error.
    Output(io::Error),
}

impl Failure {
    /// Something was not found.
    pub fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::diagnostic(code::NOT_FOUND, number::NO_EXECUTION, error, hint)
    }

    /// The command line is wrong.
    pub fn usage(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::diagnostic(code::USAGE, number::USAGE, error, hint)
    }

    /// The log cannot be read.
    pub fn cannot_read(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::diagnostic(code::CANNOT_READ, number::CANNOT_READ, error, hint)
    }

    /// A file cannot be written.
    pub fn cannot_write(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::diagnostic(code::CANNOT_READ, number::CANNOT_WRITE, error, hint)
    }

    fn diagnostic(code: i32, number: u16, error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Diagnostic { code, number, error: error.into(), details: Vec::new(), hint: hint.into() }
    }

    /// Sets the number of the error code.
    #[must_use]
    pub fn numbered(mut self, new: u16) -> Self {
        if let Self::Diagnostic { number, .. } = &mut self {
            *number = new;
        }
        self
    }

    /// Sets the lines to print below the error.
    #[must_use]
    pub fn with_details(mut self, lines: Vec<String>) -> Self {
        if let Self::Diagnostic { details, .. } = &mut self {
            *details = lines;
        }
        self
    }

    /// A log cannot be opened.
    #[must_use]
    pub fn open(error: &OpenError) -> Self {
        let hint = match error {
            OpenError::Missing { .. } | OpenError::NotALog { .. } => {
                "replay --log PATH list (PATH is the log directory that was passed to the runner)"
            }
            OpenError::NewerFormat { .. } => "pip install --upgrade cloaca",
            OpenError::DamagedArchive { .. } => "use another copy of the archive",
            OpenError::Damaged { path, .. } => {
                return Self::cannot_read(
                    error.to_string(),
                    format!("replay verify --all --log {}", quoted_path(path)),
                )
                .numbered(number::DAMAGED_LOG);
            }
            _ => "fix the cause and try again; nothing was changed",
        };
        if let OpenError::DamagedArchive { .. } = error {
            return Self::diagnostic(code::VERIFY_FAILED, number::DAMAGED_LOG, error.to_string(), hint);
        }
        let number = match error {
            OpenError::Missing { .. } | OpenError::NotALog { .. } => number::NOT_A_LOG,
            OpenError::Locked { .. } | OpenError::OrphanedLock { .. } => number::IN_USE,
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
        Self::cannot_read(error.to_string(), "replay list (shows which executions can still be read)")
            .numbered(number_of(&error))
    }
}

fn number_of(error: &ReadError) -> u16 {
    match error {
        ReadError::NoStream(_) => number::NO_STREAM,
        ReadError::Damaged { .. } => number::RECORD_DIFFERS,
        ReadError::DamagedLog(_) => number::DAMAGED_LOG,
        ReadError::TailCut { .. } => number::TAIL_CUT,
        _ => number::CANNOT_READ,
    }
}

impl From<HistoryError> for Failure {
    fn from(trouble: HistoryError) -> Self {
        let hint = match &trouble {
            HistoryError::Newer { .. } => "pip install --upgrade cloaca".to_owned(),
            HistoryError::Undecodable { id, .. }
            | HistoryError::Impossible { id, .. }
            | HistoryError::Erased { id, .. } => {
                format!("replay {} verify", crate::ids::short(*id))
            }
            HistoryError::Log(_) | HistoryError::Definition { .. } | HistoryError::Told(_) => {
                "replay list (shows which executions can still be read)".to_owned()
            }
        };
        let number = match &trouble {
            HistoryError::Newer { .. } => number::NEWER_EVENT,
            HistoryError::Undecodable { .. } => number::NO_EVENT,
            HistoryError::Impossible { .. } => number::IMPOSSIBLE,
            HistoryError::Erased { .. } => number::ERASED,
            HistoryError::Definition { .. } => number::NO_DEFINITION,
            HistoryError::Log(error) => number_of(error),
            HistoryError::Told(_) => number::CANNOT_READ,
        };
        Self::cannot_read(trouble.to_string(), hint).numbered(number)
    }
}
