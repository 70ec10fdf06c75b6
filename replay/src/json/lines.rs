//! A history as JSON lines: the index entry, then one event a line, and each definition before the first event that
//! names it. It can be written while the execution is running.

use std::collections::BTreeSet;
use std::io::{self, Write};

use cloacina_engine::core::definition::Fingerprint;
use serde::{Deserialize, Serialize};

use super::FORMAT;
use super::definitions::DefinitionJson;
use super::events::EntryJson;
use super::facts::ExecutionJson;
use crate::reading::{Definitions, Entry};
use crate::source::Head;

/// One line: its kind, and the member of that name.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Line {
    /// The format; in the first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
    /// `execution`, `definition` or `event`.
    pub what: String,
    /// The index entry; in the first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution: Option<ExecutionJson>,
    /// A definition that a later line names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub definition: Option<DefinitionJson>,
    /// An event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<EntryJson>,
}

/// A writer of JSON lines.
#[derive(Debug, Default)]
pub struct Lines {
    defined: BTreeSet<Fingerprint>,
}

impl Lines {
    /// Writes the first line. `location` is where the log was found.
    ///
    /// # Errors
    /// I/O errors of `out`.
    pub fn execution(&mut self, out: &mut dyn Write, head: &Head, location: &str) -> io::Result<()> {
        let (format, execution) = (Some(FORMAT.to_owned()), Some(ExecutionJson::new(head, location)));
        line(out, &Line { format, what: "execution".to_owned(), execution, ..Line::default() })
    }

    /// Writes an event, and before it the definition that it names. Omits a definition that cannot be loaded.
    ///
    /// # Errors
    /// I/O errors of `out`.
    pub fn entry(&mut self, out: &mut dyn Write, entry: &Entry, definitions: &impl Definitions) -> io::Result<()> {
        if let Some(fingerprint) = entry.definition()
            && self.defined.insert(fingerprint)
            && let Ok(graph) = definitions.load(fingerprint)
        {
            let definition = Some(DefinitionJson::new(graph.definition())?);
            line(out, &Line { what: "definition".to_owned(), definition, ..Line::default() })?;
        }
        line(out, &Line { what: "event".to_owned(), event: Some(EntryJson::new(entry)?), ..Line::default() })
    }
}

fn line(out: &mut dyn Write, line: &Line) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
