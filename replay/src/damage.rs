//! Damage of executions that nothing runs. The index does not tell it, and no engine does: their events are read.

use cloacina_engine::core::standing::ExecutionStatus;
use cloacina_store::log::LogReader;

use crate::folding::Folder;
use crate::reading::entries;
use crate::source::Head;

/// How many records are read at the most: about a tenth of a second.
const MOST_READ: u64 = 100_000;

/// Reads executions that nothing runs, and notes which of them are damaged, until it has read enough.
pub struct DamageFinder<'a> {
    reader: &'a dyn LogReader,
    /// How many more records it may read.
    left: u64,
}

impl<'a> DamageFinder<'a> {
    /// A finder that has read nothing yet.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader) -> Self {
        Self { reader, left: MOST_READ }
    }

    /// Notes the damage of an execution, if nothing runs it and it is not too long to be read.
    pub fn look(&mut self, head: &mut Head) {
        if head.standing.status != ExecutionStatus::NotRunning || head.entry.records > self.left {
            return;
        }
        self.left -= head.entry.records;
        let mut folder = Folder::new(head.id, self.reader);
        let trouble =
            entries(self.reader, head.id).find_map(|entry| entry.and_then(|entry| folder.step(&entry).map(drop)).err());
        head.note(trouble.as_ref());
    }
}
