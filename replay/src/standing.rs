//! How executions stand: what the log says of them, what the process that has the log says, and whether there is one.

use std::path::Path;

use cloacina_engine::core::codec::{DecodeError, Label, decode_standing};
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::standing::{ExecutionStatus, Standing};
use cloacina_store::archive::is_archive;
use cloacina_store::log::{LogReader, Notices};

use crate::reading::{Trouble, stream_of};

/// Who runs the executions of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The process that has the log, which says this of its executions.
    Process(Notices),
    /// No process has the log.
    Nobody,
    /// Nobody ever will: it is a copy.
    Copy,
}

impl Runner {
    /// Asks who runs the executions of a log.
    #[must_use]
    pub fn of(reader: &dyn LogReader) -> Self {
        // A process that does not answer now has the log all the same.
        let is_live = reader.head().map_or(true, |head| head.durability.is_some());
        match is_live {
            true => Self::Process(reader.notices().unwrap_or_default()),
            false if is_archive(Path::new(&reader.location())) => Self::Copy,
            false => Self::Nobody,
        }
    }

    /// How an execution stands whose label is this.
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

/// Whether an execution of which this was found when it was read is not what was written.
#[must_use]
pub fn is_damage(trouble: &Trouble) -> bool {
    match trouble {
        Trouble::Log(error) => error.is_damage(),
        Trouble::Undecodable { .. } | Trouble::Impossible { .. } | Trouble::Definition { .. } => true,
        Trouble::Newer { .. } | Trouble::Told(_) | Trouble::Erased { .. } => false,
    }
}
