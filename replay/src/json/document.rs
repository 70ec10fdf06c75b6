//! A history as one JSON object, written event by event, and read back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use cloacina_engine::core::definition::Fingerprint;
use cloacina_engine::core::graph::Graph;
use serde::{Deserialize, Serialize};

use super::definitions::DefinitionJson;
use super::events::EntryJson;
use super::facts::{ExecutionJson, collisions, tasks};
use super::lines::Line;
use super::{FORMAT, InvalidHistory};
use crate::history::History;
use crate::reading::{Definitions, Entry, HistoryError};
use crate::story::Story;

/// Why a history could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// Writing failed.
    #[error(transparent)]
    Output(#[from] io::Error),
    /// The events can no longer be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl From<serde_json::Error> for NotWritten {
    fn from(error: serde_json::Error) -> Self {
        Self::Output(error.into())
    }
}

/// A writer for the members of one JSON object.
pub struct Object<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Object<'a> {
    /// Begins the object with its `format` and `what` members.
    ///
    /// # Errors
    /// I/O errors of `out`.
    pub fn begin(out: &'a mut dyn Write, what: &str) -> io::Result<Self> {
        write!(out, "{{\"format\":\"{FORMAT}\",\"what\":\"{what}\"")?;
        Ok(Self { out })
    }

    /// Writes a member.
    ///
    /// # Errors
    /// I/O errors of the output.
    pub fn member(&mut self, name: &str, value: &impl Serialize) -> io::Result<()> {
        write!(self.out, ",\n\"{name}\":")?;
        Ok(serde_json::to_writer(&mut *self.out, value)?)
    }

    /// Writes a list member, with one element a line.
    ///
    /// # Errors
    /// The first error of `elements`, and I/O errors of the output.
    pub fn list<T: Serialize, E: From<io::Error>>(
        &mut self,
        name: &str,
        elements: impl Iterator<Item = Result<T, E>>,
    ) -> Result<(), E> {
        write!(self.out, ",\n\"{name}\":[")?;
        for (place, element) in elements.enumerate() {
            self.out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut *self.out, &element?).map_err(io::Error::from)?;
        }
        self.out.write_all(b"]")?;
        Ok(())
    }

    /// Ends the object.
    ///
    /// # Errors
    /// I/O errors of the output.
    pub fn end(self) -> io::Result<()> {
        self.out.write_all(b"}\n")
    }
}

/// Writes a history: the index entry, the tasks, the events, and the definitions that they name. Streams the events.
///
/// # Errors
/// [`NotWritten`].
pub fn write_history(
    out: &mut dyn Write,
    execution: &ExecutionJson,
    story: &Story,
    entries: impl Iterator<Item = Result<Entry, HistoryError>>,
    definitions: &impl Definitions,
) -> Result<(), NotWritten> {
    let mut object = Object::begin(out, "history")?;
    object.member("execution", execution)?;
    object.member("trouble", &story.trouble.as_ref().map(ToString::to_string))?;
    object.member("first_failure", &story.first_failure().map(|row| &*row.task))?;
    object.list("tasks", tasks(story).map(Ok::<_, io::Error>))?;
    object.member("collisions", &collisions(story))?;
    let mut named: BTreeMap<Fingerprint, Arc<Graph>> = BTreeMap::new();
    let events = entries.map_while(|entry| {
        let entry = match entry {
            // `trouble` reports it. The events before it are still useful.
            Err(_) if story.trouble.is_some() => return None,
            other => other,
        };
        Some(entry.map_err(NotWritten::from).and_then(|entry| {
            if let Some(fingerprint) = entry.definition() {
                // `trouble` reports a definition that cannot be loaded.
                if let Ok(graph) = definitions.load(fingerprint) {
                    named.insert(fingerprint, graph);
                }
            }
            Ok(EntryJson::new(&entry)?)
        }))
    });
    object.list("events", events)?;
    let definitions = named.values().map(|graph| DefinitionJson::new(graph.definition()).map_err(io::Error::from));
    object.list("definitions", definitions)?;
    Ok(object.end()?)
}

#[derive(Deserialize)]
struct HistoryJson {
    format: String,
    execution: ExecutionJson,
    #[serde(default)]
    trouble: Option<String>,
    events: Vec<EntryJson>,
    definitions: Vec<DefinitionJson>,
}

/// Whether a text is a history in JSON lines: its first line contains only the execution.
fn is_lines(text: &str) -> bool {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Line>();
    matches!(values.next(), Some(Ok(line)) if line.what == "execution")
}

impl HistoryJson {
    fn from_lines(text: &str) -> Result<Self, InvalidHistory> {
        let (mut format, mut execution, mut events, mut definitions) = (None, None, Vec::new(), Vec::new());
        for line in serde_json::Deserializer::from_str(text).into_iter::<Line>() {
            let line = line?;
            format = format.or(line.format);
            execution = execution.or(line.execution);
            definitions.extend(line.definition);
            events.extend(line.event);
        }
        let missing = |what: &str| InvalidHistory::Part(format!("no line contains the {what}"));
        Ok(Self {
            format: format.ok_or_else(|| missing("format"))?,
            execution: execution.ok_or_else(|| missing("execution"))?,
            trouble: None,
            events,
            definitions,
        })
    }
}

impl History {
    /// Returns the history as one JSON object.
    ///
    /// # Errors
    /// Never for a history of this library.
    pub fn to_json(&self) -> Result<String, NotWritten> {
        let execution = ExecutionJson::new(&self.head, &self.head.location);
        let mut bytes = Vec::new();
        write_history(&mut bytes, &execution, &self.story(), self.events(), &self.graphs)?;
        String::from_utf8(bytes).map_err(|error| io::Error::other(error).into())
    }

    /// Parses the output of [`History::to_json`], `replay ID --json` or `replay ID --jsonl`. The result cannot be
    /// verified, since only the log has the data that the hashes cover.
    ///
    /// # Errors
    /// [`InvalidHistory`].
    pub fn from_json(text: &str) -> Result<Self, InvalidHistory> {
        let json = if is_lines(text) { HistoryJson::from_lines(text)? } else { serde_json::from_str(text)? };
        if json.format != FORMAT {
            return Err(InvalidHistory::Format(json.format));
        }
        let mut graphs = BTreeMap::new();
        for definition in &json.definitions {
            let fingerprint = Fingerprint(super::unhex(&definition.fingerprint)?);
            let graph = Graph::new(Arc::new(definition.definition()?));
            graphs.insert(fingerprint, Arc::new(graph.map_err(|error| InvalidHistory::Part(error.to_string()))?));
        }
        let entries = json.events.iter().map(EntryJson::entry).collect::<Result<_, _>>()?;
        let trouble = json.trouble.map(HistoryError::Told);
        Ok(Self { head: json.execution.head()?, entries, graphs, verification: None, trouble })
    }
}
