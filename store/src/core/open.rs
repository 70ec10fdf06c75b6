//! Taking up a log: the checks of an open, then a reader of it or a writer.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Core;
use super::recent::Written;
use super::recover::{Care, Unfit, check_start, follow, saved_head};
use super::writer::Writer;
use crate::backend::Backend;
use crate::layout::head::Tip;
use crate::log::{AppendError, Durability, ReadError};
use crate::log_event::{LogEvent, Opened};
use crate::record::Timestamp;

/// Takes up a log for reading, once it was checked.
pub(crate) fn open_for_reading<B: Backend>(backend: B, location: String, care: Care) -> Result<Core<B>, Unfit> {
    let head = saved_head(&backend)?;
    let core = Core::new(backend, Tip::EMPTY, None, location);
    let tip = follow(&core, head, care)?;
    core.show(tip, Written::default());
    Ok(core)
}

/// Takes up a log to find out what is wrong with it: whatever the open would refuse it for is returned beside it.
pub(crate) fn open_for_verifying<B: Backend>(backend: B, location: String) -> (Core<B>, Vec<ReadError>) {
    let core = Core::new(backend, Tip::EMPTY, None, location);
    let checked = saved_head(&core.backend).and_then(|head| check_start(&core, &head));
    let mut findings: Vec<_> = checked.err().map(ReadError::from).into_iter().collect();
    match core.group_before(u64::MAX) {
        Ok(Some((position, entry))) => {
            let position = position.saturating_add(entry.records());
            core.show(Tip { position, hash: entry.hash, ..Tip::EMPTY }, Written::default());
        }
        Ok(None) => core.show(Tip::EMPTY, Written::default()),
        Err(error) => findings.push(error),
    }
    (core, findings)
}

/// What failed: that the log stopped is not to the point before it began.
fn reason(error: AppendError) -> String {
    match error {
        AppendError::Failed(reason) | AppendError::Invalid(reason) => reason,
        other => other.to_string(),
    }
}

/// Takes up a log for writing, once it was checked, and writes down that it did.
///
/// `now` is asked for the time, given the time of the last record.
pub(crate) fn open_for_writing<B: Backend>(
    backend: B,
    location: String,
    durability: Durability,
    opened: Opened,
    now: impl FnOnce(Timestamp) -> Timestamp,
) -> Result<(Arc<Core<B>>, Writer<B>), Unfit> {
    let head = saved_head(&backend)?;
    let core = Core::new(backend, Tip::EMPTY, Some(durability), location);
    let tip = follow(&core, head, Care::Frames)?;
    core.show(tip, Written::default());
    let core = Arc::new(core);
    let mut writer = Writer::new(Arc::clone(&core), head.position);
    let time = now(writer.last_time());
    let order = core.missing_order()?;
    writer
        .write_changes(&[LogEvent::Opened(opened)], time, order)
        .map_err(|error| Unfit::Failed(format!("writing down that it was opened: {}", reason(error))))?;
    // From here on a log that comes up shorter has lost something.
    writer.save_head().map_err(|error| Unfit::Failed(reason(error)))?;
    core.flushes.store(0, Ordering::Relaxed);
    Ok((core, writer))
}
