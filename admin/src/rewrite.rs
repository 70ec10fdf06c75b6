//! `cloaca log compact` and `cloaca log repair`: both rewrite a log.

use std::path::Path;

use cloacina_replay::cli::text;
use cloacina_store::repair::{Lost, RepairError, Repaired};

use crate::arguments::LogArguments;
use crate::confirm::confirm;
use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

pub(crate) fn compact(arguments: &LogArguments, path: &Path, env: &mut Surroundings<'_>) -> Result<(), Failure> {
    let question = format!("Rewrite {}, then overwrite and remove its old files?", path.display());
    confirm(env, arguments.yes, &question)?;
    let done = cloacina_store::compact(path)?;
    let (before, after) = (text::size(done.before), text::size(done.after));
    writeln!(env.out, "rewrote {}: {before} -> {after}", path.display())?;
    let Some((old, why)) = done.left else { return Ok(()) };
    let error = format!(
        "the old files of the log are still in {}: {why}. The next process that opens the log for writing removes them",
        old.display()
    );
    Err(Failure::new(code::CANNOT_ACCESS, error, "cloaca log compact (after fixing the cause)"))
}

pub(crate) fn repair(to: &Path, path: &Path, env: &mut Surroundings<'_>) -> Result<(), Failure> {
    let new = env.directory.join(to);
    let Repaired { streams, records, lost, doubtful, pruned, findings } = cloacina_store::repair::repair(path, &new)
        .map_err(|error| match error {
            RepairError::Open(error) => error.into(),
            RepairError::Exists(_) => Failure::new(code::NOT_DONE, error.to_string(), "cloaca log repair --to OTHER"),
            other => Failure::new(
                code::CANNOT_ACCESS,
                other.to_string(),
                "free some disk space, or choose another directory",
            ),
        })?;
    let copied = format!("{} with {}", text::count(streams, "stream"), text::count(records, "record"));
    writeln!(env.out, "copied {copied} to {}", to.display())?;
    if pruned > 0 {
        writeln!(env.out, "{} had been pruned and could not be copied", text::count(pruned, "stream"))?;
    }
    for Lost { stream, whole, why } in &lost {
        let whole = text::count(*whole, "record");
        writeln!(
            env.out,
            "not copied: {stream}, only its first {whole} are intact: {}",
            text::clean(&why.to_string())
        )?;
    }
    for stream in &doubtful {
        writeln!(
            env.out,
            "copied, but possibly incomplete: {stream}: the log has lost records that followed its last one"
        )?;
    }
    for finding in &findings {
        writeln!(env.out, "also damaged: {}", text::clean(&finding.to_string()))?;
    }
    if lost.is_empty() && doubtful.is_empty() && findings.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        code::DAMAGED,
        format!("some of what was written to {} could not be copied", path.display()),
        format!("replay verify --all --log {} (lists the damage of each execution)", path.display()),
    ))
}
