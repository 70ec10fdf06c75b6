//! `replay ID report -o FILE`: one HTML file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::failure::{Failure, code};
use super::found::quoted;
use super::text;
use super::view::View;
use crate::report::{NotReported, write_report};

/// Writes the file, and says where it is.
///
/// # Errors
/// [`Failure`].
pub fn write(view: View<'_, '_>, output: &Path) -> Result<i32, Failure> {
    let View { found, screen, err, .. } = view;
    let location = found.log.path.display().to_string();
    let mut report = |out: &mut dyn Write| {
        write_report(out, &*found.log.reader, found.id, &location).map_err(|error| match error {
            NotReported::Log(error) => error.into(),
            NotReported::Output(error) => Failure::Output(error),
            NotReported::Trouble(trouble) => trouble.into(),
        })
    };
    if output == Path::new("-") {
        return report(screen.out).map(|()| code::OK);
    }
    let written = beside(output, &mut report)?;
    writeln!(err, "{}: {}", output.display(), text::size(written))?;
    writeln!(err, "\nhint: xdg-open {}", quoted(&output.display().to_string()))?;
    Ok(code::OK)
}

/// Writes a file under another name first: whoever looks finds all of it, or what was there before.
fn beside(output: &Path, report: &mut dyn FnMut(&mut dyn Write) -> Result<(), Failure>) -> Result<u64, Failure> {
    let cannot = |error: &io::Error| {
        let hint = "replay ID report -o FILE (FILE in a directory that is there and can be written to)";
        Failure::cannot_write(format!("cannot write {}: {error}", output.display()), hint)
    };
    let Some(name) = output.file_name().filter(|_| !output.is_dir()) else {
        return Err(cannot(&io::ErrorKind::IsADirectory.into()));
    };
    let mut new = name.to_owned();
    new.push(format!(".{}.new", std::process::id()));
    let new = output.with_file_name(new);
    let written = File::create(&new).map_err(|error| cannot(&error)).and_then(|file| {
        let mut out = BufWriter::new(file);
        report(&mut out)?;
        out.flush().map_err(|error| cannot(&error))?;
        let size = out.get_ref().metadata().map_err(|error| cannot(&error))?.len();
        fs::rename(&new, output).map_err(|error| cannot(&error))?;
        Ok(size)
    });
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written
}
