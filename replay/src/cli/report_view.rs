//! `replay ID report -o FILE`: one HTML file.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::failure::{Failure, code};
use super::found::{Found, quoted_path};
use super::screen::Screen;
use super::text;
use super::view::View;
use crate::json::document::Object;
use crate::json::facts::ExecutionJson;
use crate::report::{NotReported, write_report};
use crate::source;

/// Writes the file, and says where it is.
///
/// # Errors
/// [`Failure`].
pub fn write(view: View<'_, '_>, output: &Path) -> Result<i32, Failure> {
    let View { arguments, found, screen, err, .. } = view;
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
    if arguments.json {
        self::written(screen, found, output, written)?;
        return Ok(code::OK);
    }
    writeln!(err, "{}: {}", output.display(), text::size(written))?;
    writeln!(err, "\nhint: xdg-open {}", quoted_path(output))?;
    Ok(code::OK)
}

/// Says as JSON which file was written, and how many bytes it has.
///
/// # Errors
/// [`Failure`].
pub fn written(screen: &mut Screen<'_>, found: &Found, file: &Path, bytes: u64) -> Result<(), Failure> {
    let head = source::head(&*found.log.reader, found.id)?;
    let mut object = Object::begin(screen.out, "written")?;
    object.member("execution", &ExecutionJson::new(&head, &found.log.path.display().to_string()))?;
    object.member("file", &file.display().to_string())?;
    object.member("bytes", &bytes)?;
    Ok(object.end()?)
}

/// Writes a file under another name first: whoever looks finds all of it, or what was there before. Gives its length.
///
/// # Errors
/// What `report` gives, or [`Failure`] if the file cannot be written.
pub fn beside(output: &Path, report: &mut dyn FnMut(&mut dyn Write) -> Result<(), Failure>) -> Result<u64, Failure> {
    let cannot = |error: &io::Error| {
        let hint = "name a file in a directory that is there and can be written to: -o FILE";
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
