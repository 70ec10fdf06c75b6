//! Finds damage of executions that nothing runs. Neither the index nor an engine reports it, so their events are read.

use cloacina_engine::core::standing::ExecutionStatus;
use cloacina_store::log::LogReader;

use crate::fold::Folder;
use crate::reading::entries;
use crate::source::Head;

/// How many records are read at most: about 0.1 s.
const MAX_RECORDS: u64 = 100_000;

/// Reads executions that nothing runs and marks the damaged ones, within a budget of records.
pub struct DamageFinder<'a> {
    reader: &'a dyn LogReader,
    /// How many more records it may read.
    budget: u64,
}

impl<'a> DamageFinder<'a> {
    /// Creates a finder with the full budget.
    #[must_use]
    pub fn new(reader: &'a dyn LogReader) -> Self {
        Self { reader, budget: MAX_RECORDS }
    }

    /// Marks an execution as damaged if it is. Skips one that runs or that exceeds the remaining budget.
    pub fn check(&mut self, head: &mut Head) {
        if head.standing.status != ExecutionStatus::NotRunning || head.entry.records > self.budget {
            return;
        }
        self.budget -= head.entry.records;
        let mut folder = Folder::new(head.id, self.reader);
        let trouble =
            entries(self.reader, head.id).find_map(|entry| entry.and_then(|entry| folder.step(&entry).map(drop)).err());
        head.note(trouble.as_ref());
    }
}
