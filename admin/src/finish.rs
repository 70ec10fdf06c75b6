//! The last step of a command that removes something from a log: overwriting it in the files.

use std::path::Path;

use cloacina_store::keeper::Keeper;

use crate::failure::{Failure, code};

/// Closes the log if this command opened it; the removed data is overwritten by then. `done` says what was removed.
///
/// # Errors
/// The disk failed: the removed data is no longer part of the log, but is still in its files.
pub(crate) fn finish(keeper: &dyn Keeper, path: &Path, done: &str) -> Result<(), Failure> {
    keeper.finish().map_err(|error| {
        let error = format!(
            "{done}, but the files of {} still contain some of the data: {error}. The next process that opens the log \
             for writing overwrites it",
            path.display()
        );
        Failure::new(code::CANNOT_ACCESS, error, "cloaca log compact (after fixing the disk)")
    })
}
