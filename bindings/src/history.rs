//! The history of an execution as plain Python values, in the format of the replay library's JSON.

use std::path::PathBuf;

use cloacina_engine::core::context::values;
use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::runtime::engine::ForeignId;
use cloacina_engine::runtime::outcome::stream_of;
use cloacina_replay::diff::Ignored;
use cloacina_replay::history::{History, WhyError};
use cloacina_replay::ids::{NotFound, resolve};
use cloacina_replay::json::diff::DiffJson;
use cloacina_replay::json::events::EntryJson;
use cloacina_replay::json::facts::{ExecutionJson, StateJson, StepJson, VerificationJson, collisions, tasks};
use cloacina_replay::moment::{At, InvalidMoment, MomentError};
use cloacina_replay::story::Outcome;
use cloacina_store::log::LogReader;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::context::Context;
use crate::errors;
use crate::isolation::{DeedsParts, texts_of};
use crate::parse::to_python;

/// The history of one execution, in memory.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct NativeHistory {
    history: History,
}

impl NativeHistory {
    /// Reads the history of an execution from an open log.
    pub fn read(py: Python<'_>, reader: &dyn LogReader, id: ExecutionId) -> PyResult<Self> {
        let location = reader.location();
        let read = py.detach(|| History::open(reader, id));
        read.map(|history| Self { history }).map_err(|why| errors::read(py, &why, id, &location))
    }

    fn not_there(&self, py: Python<'_>, why: &MomentError) -> PyErr {
        errors::not_there(py, why, &self.history.head)
    }
}

/// Parses a moment: a task's last event, or a text; the end by default.
fn moment(text: Option<&str>, task: Option<&str>) -> PyResult<At> {
    match (text, task) {
        (_, Some(task)) => Ok(At::Task(task.into())),
        (Some(text), None) => text.parse().map_err(|why: InvalidMoment| PyValueError::new_err(why.to_string())),
        (None, None) => Ok(At::End),
    }
}

fn python<'py>(py: Python<'py>, value: &impl serde::Serialize) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    to_python(py, &text)
}

fn ignored_named(name: &str) -> PyResult<Ignored> {
    Ignored::ALL.into_iter().find(|ignored| ignored.name() == name).ok_or_else(|| {
        let names = Ignored::ALL.map(Ignored::name).join(", ");
        PyValueError::new_err(format!("'{name}' cannot be ignored; choose from {names}"))
    })
}

fn failed(error: impl ToString) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

#[pymethods]
impl NativeHistory {
    /// Reads an execution from the log at `path`, even while another process holds it.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, execution_id: &str) -> PyResult<Self> {
        let reader = py.detach(|| cloacina_store::open_reader(&path)).map_err(|why| errors::open(py, &why))?;
        let location = reader.location();
        let id = match execution_id.parse() {
            Ok(whole) => whole,
            Err(_) => py.detach(|| resolve(&*reader, execution_id)).map_err(|why| match why {
                NotFound::NoId(_) => PyValueError::new_err(why.to_string()),
                NotFound::Unknown { .. } => errors::unknown_id(py, execution_id, &location),
                NotFound::Ambiguous { candidates, more } => {
                    let ids: Vec<String> = candidates.iter().map(|head| head.id.to_string()).collect();
                    let more = if more { ", and more" } else { "" };
                    PyValueError::new_err(format!(
                        "'{execution_id}' matches several executions: {}{more}",
                        ids.join(", ")
                    ))
                }
                NotFound::Log(why) => errors::open_read(py, &why, &location),
            })?,
        };
        if let Ok(entry) = py.detach(|| reader.stream(stream_of(id)))
            && let Err(foreign) = ForeignId::check(id, entry.kind)
        {
            return Err(errors::not_found(py, &foreign.to_string(), execution_id, &location));
        }
        Self::read(py, &*reader, id)
    }

    /// Reads what `to_json` wrote.
    #[staticmethod]
    fn from_json(py: Python<'_>, text: &str) -> PyResult<Self> {
        let read = py.detach(|| History::from_json(text));
        read.map(|history| Self { history }).map_err(|why| PyValueError::new_err(why.to_string()))
    }

    fn to_json(&self, py: Python<'_>) -> PyResult<String> {
        py.detach(|| self.history.to_json()).map_err(failed)
    }

    /// The execution's entry in the index of the log.
    fn execution<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        python(py, &ExecutionJson::new(&self.history.head, &self.history.head.location))
    }

    /// Why the events could not be read completely, if so.
    fn trouble(&self) -> Option<String> {
        self.history.trouble.as_ref().map(ToString::to_string)
    }

    fn events<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.history.entries.iter().map(|entry| python(py, &EntryJson::new(entry).map_err(failed)?)).collect()
    }

    fn tasks<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let story = py.detach(|| self.history.story());
        tasks(&story).map(|task| python(py, &task)).collect()
    }

    /// The collisions in the final context, where the leaves are merged.
    fn collisions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        python(py, &collisions(&py.detach(|| self.history.story())))
    }

    #[pyo3(signature = (at, task))]
    fn state<'py>(&self, py: Python<'py>, at: Option<&str>, task: Option<&str>) -> PyResult<Bound<'py, PyAny>> {
        let at = moment(at, task)?;
        let state = py.detach(|| self.history.state(at)).map_err(|why| self.not_there(py, &why))?;
        python(py, &StateJson::new(&state).map_err(failed)?)
    }

    #[pyo3(signature = (at, task))]
    fn context(&self, py: Python<'_>, at: Option<&str>, task: Option<&str>) -> PyResult<Context> {
        let at = moment(at, task)?;
        let context = py.detach(|| self.history.context(at)).map_err(|why| self.not_there(py, &why))?;
        Ok(Context::from_values(values(&context).map(|(key, value)| (key.clone(), value.clone()))))
    }

    /// The writes that a value came from, newest first.
    #[pyo3(signature = (key, at, task))]
    fn why<'py>(
        &self,
        py: Python<'py>,
        key: &str,
        at: Option<&str>,
        task: Option<&str>,
    ) -> PyResult<Vec<Bound<'py, PyAny>>> {
        let at = moment(at, task)?;
        let steps = py.detach(|| self.history.why(key, at)).map_err(|why| match why {
            WhyError::Moment(why) => self.not_there(py, &why),
            WhyError::Value(why) => errors::no_value(py, &why, key, &self.history.head),
        })?;
        steps.iter().map(|step| python(py, &StepJson::new(step).map_err(failed)?)).collect()
    }

    /// The differences between this execution and another, except those in `ignore`.
    fn diff<'py>(&self, py: Python<'py>, other: &Self, ignore: Vec<String>) -> PyResult<Bound<'py, PyAny>> {
        let ignored = ignore.iter().map(|name| ignored_named(name)).collect::<PyResult<Vec<_>>>()?;
        let diff = py.detach(|| self.history.diff(&other.history, &ignored));
        let logs = (&*self.history.head.location, &*other.history.head.location);
        python(py, &DiffJson::new(&diff, logs).map_err(failed)?)
    }

    /// The results of verifying the records; None if they did not come from a log.
    fn verify<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.history.verify().map(|found| python(py, &VerificationJson::from(found))).transpose()
    }

    /// A past attempt: (number, seq of its start, outcome, context, writes).
    #[pyo3(signature = (task, number))]
    fn attempt(
        &self,
        py: Python<'_>,
        task: &str,
        number: Option<u32>,
    ) -> PyResult<(u32, u64, &'static str, Context, DeedsParts)> {
        let found = py.detach(|| self.history.attempt(task, number));
        let past = found.map_err(|why| errors::no_attempt(py, &why, task, &self.history.head))?;
        let outcome = match past.outcome {
            Outcome::Running => "running",
            Outcome::Deferred => "deferred",
            Outcome::Left => "not running",
            Outcome::Completed => "completed",
            Outcome::Failed { .. } => "failed",
            Outcome::Abandoned(_) => "abandoned",
            Outcome::Cancelled => "cancelled",
        };
        Ok((
            past.number,
            past.started,
            outcome,
            Context::wrap(past.context),
            (texts_of(past.writes), Vec::new(), false),
        ))
    }
}
