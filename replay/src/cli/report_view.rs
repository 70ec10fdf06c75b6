//! `replay ID report -o FILE`: writes a self-contained HTML file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::execution_view::ExecutionView;
use super::failure::{Failure, code};
use super::screen::Screen;
use super::target::{Target, quoted_path};
use super::text;
use crate::json::document::Object;
use crate::json::facts::ExecutionJson;
use crate::report::{NotReported, write_report};
use crate::source;

/// Writes the report, and prints its path and size.
///
/// # Errors
/// [`Failure`].
pub fn write(view: ExecutionView<'_, '_>, output: &Path) -> Result<i32, Failure> {
    let ExecutionView { arguments, target, screen, err, .. } = view;
    let location = target.log.path.display().to_string();
    let mut report = |out: &mut dyn Write| {
        write_report(out, &*target.log.reader, target.id, &location).map_err(|error| match error {
            NotReported::Log(error) => error.into(),
            NotReported::Output(error) => Failure::Output(error),
            NotReported::History(trouble) => trouble.into(),
        })
    };
    if output == Path::new("-") {
        return report(screen.out).map(|()| code::OK);
    }
    let written = write_atomically(output, &mut report)?;
    if arguments.json {
        self::written(screen, target, output, written)?;
        return Ok(code::OK);
    }
    writeln!(err, "{}: {}", output.display(), text::size(written))?;
    writeln!(err, "\nhint: xdg-open {}", quoted_path(output))?;
    Ok(code::OK)
}

/// Prints as JSON which file was written, and its size.
///
/// # Errors
/// [`Failure`].
pub fn written(screen: &mut Screen<'_>, target: &Target, file: &Path, bytes: u64) -> Result<(), Failure> {
    let head = source::head(&*target.log.reader, target.id)?;
    let mut object = Object::begin(screen.out, "written")?;
    object.member("execution", &ExecutionJson::new(&head, &target.log.path.display().to_string()))?;
    object.member("file", &file.display().to_string())?;
    object.member("bytes", &bytes)?;
    Ok(object.end()?)
}

/// Writes a file under a temporary name and renames it, so that readers see either the old file or all of the new one.
/// Returns its length.
///
/// # Errors
/// Errors of `contents`, or [`Failure`] if the file cannot be written.
pub fn write_atomically(
    output: &Path,
    contents: &mut dyn FnMut(&mut dyn Write) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let cannot = |error: &io::Error| {
        let hint = "choose a file in an existing, writable directory: -o FILE";
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
        contents(&mut out)?;
        out.flush().map_err(|error| cannot(&error))?;
        let size = out.get_ref().metadata().map_err(|error| cannot(&error))?.len();
        fs::rename(&new, output).map_err(|error| cannot(&error))?;
        Ok(size)
    });
    if written.is_err() {
        // The temporary file may not exist.
        let _ = fs::remove_file(&new);
    }
    written
}
