//! `cloaca log compact` and `cloaca log repair`: a log written anew.

use std::path::Path;

use cloacina_replay::cli::text;
use cloacina_store::repair::{Lost, RepairError, Repaired};

use crate::arguments::LogArguments;
use crate::ask::confirm;
use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

pub(crate) fn compact(arguments: &LogArguments, path: &Path, around: &mut Surroundings<'_>) -> Result<(), Failure> {
    let question = format!("{} will be written anew; its old files are written over and removed.", path.display());
    confirm(around, arguments.yes, &question)?;
    let done = cloacina_store::compact(path)?;
    let (before, after) = (text::size(done.before), text::size(done.after));
    writeln!(around.out, "wrote {} anew: {after}, before {before}", path.display())?;
    let Some((old, why)) = done.left else { return Ok(()) };
    let error = format!(
        "its old files are still in {}: {why}. The next process that opens the log to write removes them",
        old.display()
    );
    Err(Failure::told(code::CANNOT_ACCESS, error, "cloaca log compact (once the cause is gone)"))
}

pub(crate) fn repair(to: &Path, path: &Path, around: &mut Surroundings<'_>) -> Result<(), Failure> {
    let new = around.directory.join(to);
    let Repaired { streams, records, lost, doubtful, pruned, findings } = cloacina_store::repair::repair(path, &new)
        .map_err(|error| match error {
            RepairError::Open(error) => error.into(),
            RepairError::Exists(_) => Failure::told(code::NOT_DONE, error.to_string(), "cloaca log repair --to OTHER"),
            other => {
                Failure::told(code::CANNOT_ACCESS, other.to_string(), "free some space, or name another directory")
            }
        })?;
    let taken = format!("{} with {}", text::count(streams, "stream"), text::count(records, "record"));
    writeln!(around.out, "copied {taken} into {}", to.display())?;
    if pruned > 0 {
        writeln!(around.out, "{} had been pruned: nothing of them could be copied", text::count(pruned, "stream"))?;
    }
    for Lost { stream, whole, why } in &lost {
        let whole = text::count(*whole, "record");
        writeln!(
            around.out,
            "not copied: {stream}, of which the first {whole} are whole: {}",
            text::clean(&why.to_string())
        )?;
    }
    for stream in &doubtful {
        let line = "copied, and may have gone on: records are missing in the log behind its last one";
        writeln!(around.out, "{line}: {stream}")?;
    }
    for finding in &findings {
        writeln!(around.out, "also wrong: {}", text::clean(&finding.to_string()))?;
    }
    if lost.is_empty() && doubtful.is_empty() && findings.is_empty() {
        return Ok(());
    }
    Err(Failure::told(
        code::DAMAGED,
        format!("not all that was written to {} could be copied", path.display()),
        format!("replay verify --all --log {} (says of each execution what is wrong)", path.display()),
    ))
}
