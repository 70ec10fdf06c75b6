//! The executions that an engine finds unfinished when it opens a log.

use std::collections::BTreeMap;

use cloacina_store::log::{EventLog, ReadError};
use cloacina_store::record::StreamKind;

use super::ids::execution_of;
use super::rebuild::rebuild;
use super::streams::streams;
use crate::core::event::ExecutionId;
use crate::core::standing::Standing;
use crate::core::state::Execution;

/// An execution that was unfinished when the log was opened, or why it cannot be resumed.
pub(crate) enum Unfinished {
    /// It can be resumed once its workflow is registered.
    Resumable(Box<Execution>),
    /// Its history cannot be folded; the resulting standing.
    Unreadable(Box<Standing>),
}

/// Loads the unfinished executions: each folded, or with the reason why it cannot be.
pub(super) fn load_unfinished(log: &dyn EventLog) -> Result<BTreeMap<ExecutionId, Unfinished>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in streams(log, StreamKind::Execution, true)? {
        let execution = execution_of(entry.stream);
        let unfinished = match rebuild(log, execution) {
            Ok(state) => Unfinished::Resumable(Box::new(state)),
            Err(error) => Unfinished::Unreadable(Box::new(error.standing(execution))),
        };
        found.insert(execution, unfinished);
    }
    Ok(found)
}
