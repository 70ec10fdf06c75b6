//! `cloaca log import`: imports the executions of an archive into a log.

use std::path::Path;

use cloacina_replay::cli::text;
use cloacina_store::archive::open_archive;
use cloacina_store::keeper::{Change, Import};
use cloacina_store::open_keeper;

use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

pub(crate) fn run(file: &Path, path: &Path, env: &mut Surroundings<'_>) -> Result<(), Failure> {
    let archive = std::path::absolute(env.directory.join(file)).map_err(|error| {
        Failure::new(
            code::CANNOT_ACCESS,
            format!("{}: {error}", file.display()),
            "give the absolute path of the archive",
        )
    })?;
    let digest = open_archive(&archive)?.digest();
    let keeper = open_keeper(path)?;
    let changed = keeper.change(Change::Import(Import { archive, digest }))?;
    writeln!(
        env.out,
        "imported {} with {} into {}",
        text::count(changed.streams, "execution"),
        text::count(changed.records, "event"),
        path.display()
    )?;
    if changed.already > 0 {
        let were = if changed.already == 1 { "was" } else { "were" };
        writeln!(env.out, "{} {were} there already", text::count(changed.already, "execution"))?;
    }
    Ok(())
}
