//! What an engine finds in a log when it opens it, and what it says of itself there.

use std::collections::BTreeMap;

use cloacina_store::log::{EventLog, ReadError, StreamFilter};
use cloacina_store::record::StreamKind;

use super::EngineConfig;
use crate::core::event::{Environment, ExecutionId};
use crate::runtime::message::Unfinished;
use crate::runtime::outcome::{execution_of, rebuild};

/// Entries of the listing that are read at once.
pub(crate) const LISTING_PAGE: usize = 1_000;

/// The executions that are not finished, each folded, or with the reason why it cannot be.
pub(super) fn unfinished(log: &dyn EventLog) -> Result<BTreeMap<ExecutionId, Unfinished>, ReadError> {
    let mut found = BTreeMap::new();
    let mut filter =
        StreamFilter { kind: Some(StreamKind::Execution), open_only: true, before: None, limit: LISTING_PAGE };
    loop {
        let page = log.streams(&filter)?;
        let Some(last) = page.last() else { return Ok(found) };
        filter.before = Some(last.listing_key());
        for entry in page {
            let execution = execution_of(entry.stream);
            let unfinished = match rebuild(log, execution) {
                Ok(state) => Unfinished::Whole(Box::new(state)),
                Err(error) => Unfinished::Broken(Box::new(error.standing(execution))),
            };
            found.insert(execution, unfinished);
        }
    }
}

pub(crate) fn new_execution_id() -> ExecutionId {
    ExecutionId(uuid::Uuid::now_v7().into_bytes())
}

pub(super) fn environment(config: &EngineConfig) -> Environment {
    Environment {
        engine: env!("CARGO_PKG_VERSION").into(),
        host: rustix::system::uname().nodename().to_string_lossy().as_ref().into(),
        pid: std::process::id(),
        python: config.python.clone(),
    }
}
