//! The status of executions, from three sources: their labels in the log, the notices of the process that has the log open,
//! and whether there is such a process.

use std::path::Path;

use cloacina_engine::core::codec::{DecodeError, Label, decode_standing};
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::standing::{ExecutionStatus, Standing};
use cloacina_store::archive::is_archive;
use cloacina_store::log::{LogReader, Notices};

use crate::reading::{HistoryError, stream_of};

/// The process that runs the executions of a log, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// A process has the log open. These are its notices about its executions.
    Process(Notices),
    /// No process has the log open.
    Nobody,
    /// No process ever runs them: the log is an archive.
    Copy,
}

impl Runner {
    /// Finds out who runs the executions of a log.
    #[must_use]
    pub fn of(reader: &dyn LogReader) -> Self {
        // A process that does not answer at the moment still has the log.
        let is_live = reader.head().map_or(true, |head| head.durability.is_some());
        match is_live {
            true => Self::Process(reader.notices().unwrap_or_default()),
            false if is_archive(Path::new(&reader.location())) => Self::Copy,
            false => Self::Nobody,
        }
    }

    /// Returns the standing of an execution with this label.
    #[must_use]
    pub fn standing(&self, id: ExecutionId, label: &Result<Label, DecodeError>) -> Standing {
        let label = match label {
            Ok(label) => label,
            Err(error) => {
                let what = format!("its label cannot be read: {error}");
                return match error {
                    DecodeError::Newer { .. } => Standing::unreadable(&what, "read it with the version that wrote it"),
                    _ => Standing::damaged(id, &what),
                };
            }
        };
        let status = ExecutionStatus::from(label.status);
        if status.is_final() {
            return status.into();
        }
        match self {
            Self::Process(notices) => {
                let notice = notices.get(&stream_of(id)).and_then(|notice| decode_standing(notice).ok());
                notice.unwrap_or_else(|| status.into())
            }
            Self::Nobody if status == ExecutionStatus::Paused => Standing::paused_and_not_running(id),
            Self::Nobody => Standing::not_running(&label.workflow),
            Self::Copy => status.into(),
        }
    }
}

/// Whether this error of reading an execution means that it is damaged.
#[must_use]
pub fn is_damage(trouble: &HistoryError) -> bool {
    match trouble {
        HistoryError::Log(error) => error.is_damage(),
        HistoryError::Undecodable { .. } | HistoryError::Impossible { .. } | HistoryError::Definition { .. } => true,
        HistoryError::Newer { .. } | HistoryError::Told(_) | HistoryError::Erased { .. } => false,
    }
}
