//! `replay ID export`: exports an execution for other programs, to standard output or to a file.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use cloacina_store::archive::{Selected, write_archive};
use cloacina_store::record::{Hash, Timestamp as StoreTime};

use super::arguments::ExportFormat;
use super::failure::{Failure, code};
use super::report_view;
use super::screen::Screen;
use super::target::{Target, quoted};
use super::text;
use crate::export::{Exported, chrome, openlineage, otlp};
use crate::json::lines::Lines;
use crate::prefetch::Prefetch;
use crate::reading::stream_of;
use crate::source;
use crate::story::tell;

/// Exports an execution, read through `ahead`, and returns the exit code.
///
/// # Errors
/// [`Failure`].
pub fn write(
    screen: &mut Screen<'_>,
    err: &mut dyn Write,
    (target, ahead): (&Target, &Prefetch<'_>),
    (format, output): (ExportFormat, Option<&Path>),
    json: bool,
) -> Result<i32, Failure> {
    let output = output.filter(|path| *path != Path::new("-"));
    let Some(path) = output else {
        if format == ExportFormat::Archive {
            let hint = target.command("export --to archive -o run.cloaca");
            return Err(Failure::usage("an archive cannot be written to standard output: use `-o FILE`", hint));
        }
        return write_to(screen.out, (target, ahead), format).map(|()| code::OK);
    };
    let shown = path.display().to_string();
    let failed = |why: String| {
        Failure::cannot_write(format!("cannot write {shown}: {why}"), target.command("export --to jsonl"))
    };
    if format == ExportFormat::Archive {
        let selected = Selected { stream: stream_of(target.id), definitions: definitions(ahead)? };
        write_archive(ahead.reader(), &[selected], path, StoreTime(screen.now.0))
            .map_err(|error| failed(error.to_string()))?;
    } else {
        report_view::write_atomically(path, &mut |out| write_to(out, (target, ahead), format))?;
    }
    if json {
        let written = path.metadata().map_or(0, |file| file.len());
        report_view::written(screen, target, path, written)?;
        return Ok(code::OK);
    }
    let size = path.metadata().map(|file| text::size(file.len())).unwrap_or_default();
    let hint = match format {
        ExportFormat::Archive => format!("replay {}", quoted(&as_file(path))),
        ExportFormat::Chrome => format!("open {} in https://ui.perfetto.dev", quoted(&shown)),
        ExportFormat::Otlp => {
            format!(
                "curl -H 'Content-Type: application/json' --data @{} http://localhost:4318/v1/traces",
                quoted(&shown)
            )
        }
        ExportFormat::Jsonl | ExportFormat::Openlineage => format!("head -n 1 {}", quoted(&shown)),
    };
    writeln!(err, "wrote {} ({size})\n\nhint: {hint}", text::clean(&shown))?;
    Ok(code::OK)
}

/// Returns a path in a form that cannot be mistaken for an id.
fn as_file(path: &Path) -> String {
    let shown = path.display().to_string();
    if shown.contains('/') || shown.ends_with(".cloaca") { shown } else { format!("./{shown}") }
}

fn write_to(
    out: &mut dyn Write,
    (target, ahead): (&Target, &Prefetch<'_>),
    format: ExportFormat,
) -> Result<(), Failure> {
    let reader = ahead.reader();
    let head = source::head(reader, target.id)?;
    if format == ExportFormat::Jsonl {
        let mut lines = Lines::default();
        lines.execution(out, &head, &target.log.path.display().to_string())?;
        return ahead.entries(|entries| {
            for entry in entries {
                lines.entry(out, &entry?, &reader)?;
            }
            Ok(())
        });
    }
    let story = ahead.entries(|entries| tell(target.id, reader, entries));
    let told = Exported { head: &head, story: &story };
    match format {
        ExportFormat::Chrome => chrome::write(out, &told)?,
        ExportFormat::Otlp => otlp::write(out, &told)?,
        _ => openlineage::write(out, &told)?,
    }
    story.trouble.map_or(Ok(()), |trouble| Err(trouble.into()))
}

/// Returns the definitions that the events of an execution refer to.
fn definitions(ahead: &Prefetch<'_>) -> Result<Vec<Hash>, Failure> {
    let mut fingerprints = BTreeSet::new();
    ahead.entries(|entries| {
        for entry in entries {
            fingerprints.extend(entry?.definition());
        }
        Ok::<(), Failure>(())
    })?;
    Ok(fingerprints.into_iter().map(|fingerprint| Hash(fingerprint.0)).collect())
}
