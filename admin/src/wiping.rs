//! The end of a command that removes something from a log: only now is it written over in the files.

use std::path::Path;

use cloacina_store::keeper::Keeper;

use crate::failure::{Failure, code};

/// Closes the log, if it was opened for this command. `done` says what was removed.
///
/// # Errors
/// Where the disk fails: what was removed is no more in the log, and still in its files.
pub(crate) fn finish(keeper: &dyn Keeper, path: &Path, done: &str) -> Result<(), Failure> {
    keeper.finish().map_err(|error| {
        let error = format!(
            "{done}, but not everything is written over in the files of {}: {error}. The next process that opens the log to write \
             finishes that",
            path.display()
        );
        Failure::told(code::CANNOT_ACCESS, error, "cloaca log compact (once the disk works again)")
    })
}
