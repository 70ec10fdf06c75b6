//! Schedules and triggers of an engine, as plain Python values.

use std::sync::Arc;

use cloacina_engine::core::schedule::{Catchup, ScheduleId};
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::core::trigger::Pace;
use cloacina_engine::runtime::engine::Engine;
use cloacina_engine::runtime::schedules::{ListedSchedule, NewSchedule, PastFire};
use cloacina_engine::runtime::triggers::ListedTrigger;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::context::Context;
use crate::engine::NativeEngine;
use crate::errors;
use crate::exit::without_gil;

/// An engine's schedules and triggers.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct NativeScheduling {
    engine: Arc<Engine>,
}

fn parse_id(text: &str) -> PyResult<ScheduleId> {
    text.parse().map_err(|_| {
        PyValueError::new_err(format!(
            "Invalid schedule ID: '{text}'; register_cron_workflow returns one like 01890a5d-ac96-774b-bcce-b302099a8057"
        ))
    })
}

fn parse_catchup(word: &str) -> Option<Catchup> {
    [Catchup::Skip, Catchup::RunAll].into_iter().find(|catchup| catchup.name() == word)
}

#[pymethods]
impl NativeScheduling {
    /// The schedules and triggers of an engine.
    #[new]
    fn new(engine: &NativeEngine) -> Self {
        Self { engine: engine.inner().clone() }
    }

    /// Creates a schedule and returns its id.
    #[pyo3(signature = (workflow, expression, timezone, context, catchup, name))]
    #[allow(clippy::too_many_arguments)]
    fn create(
        &self,
        py: Python<'_>,
        workflow: &str,
        expression: String,
        timezone: String,
        context: &Context,
        catchup: &str,
        name: Option<&str>,
    ) -> PyResult<String> {
        let doing = "Failed to register cron workflow";
        let catchup = parse_catchup(catchup).ok_or_else(|| {
            PyValueError::new_err(format!("{doing}: catchup must be \"skip\" or \"run_all\", not \"{catchup}\""))
        })?;
        let input = context.input(py)?;
        let new =
            NewSchedule { name: name.map(Into::into), workflow: workflow.into(), expression, timezone, catchup, input };
        let made = without_gil(py, || self.engine.create_schedule(new))?;
        made.map(|id| id.to_string()).map_err(|why| errors::schedule(py, doing, &why))
    }

    /// Lists the schedules that are not deleted, newest first.
    fn list<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let found = without_gil(py, || self.engine.schedules())?;
        let found = found.map_err(|why| errors::schedule(py, "Failed to list cron schedules", &why))?;
        let found = found.iter().map(|one| listed(py, one)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, found)
    }

    /// Returns a schedule that is not deleted.
    fn get<'py>(&self, py: Python<'py>, id: &str) -> PyResult<Bound<'py, PyDict>> {
        let id = parse_id(id)?;
        let found = without_gil(py, || self.engine.schedule(id))?;
        listed(py, &found.map_err(|why| errors::schedule(py, "Failed to get cron schedule", &why))?)
    }

    /// Changes the expression and time zone of a schedule.
    fn update(&self, py: Python<'_>, id: &str, expression: &str, timezone: &str) -> PyResult<()> {
        let id = parse_id(id)?;
        let done = without_gil(py, || self.engine.update_schedule(id, expression, timezone))?;
        done.map_err(|why| errors::schedule(py, "Failed to update cron schedule", &why))
    }

    /// Enables or disables a schedule.
    fn enable(&self, py: Python<'_>, id: &str, enabled: bool) -> PyResult<()> {
        let id = parse_id(id)?;
        let done = without_gil(py, || self.engine.enable_schedule(id, enabled))?;
        done.map_err(|why| errors::schedule(py, "Failed to update cron schedule", &why))
    }

    /// Deletes a schedule. Its history stays.
    fn delete(&self, py: Python<'_>, id: &str) -> PyResult<()> {
        let id = parse_id(id)?;
        let done = without_gil(py, || self.engine.delete_schedule(id))?;
        done.map_err(|why| errors::schedule(py, "Failed to delete cron schedule", &why))
    }

    /// Lists the fires of a schedule, newest first.
    #[pyo3(signature = (id, limit, offset))]
    fn history<'py>(
        &self,
        py: Python<'py>,
        id: &str,
        limit: Option<usize>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let id = parse_id(id)?;
        let found = without_gil(py, || self.engine.schedule_history(id, limit.unwrap_or(usize::MAX), offset))?;
        let found = found.map_err(|why| errors::schedule(py, "Failed to get cron execution history", &why))?;
        let found = found.iter().map(|one| past_fire(py, one)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, found)
    }

    /// Counts of the fires since a time: (total, completed executions, lost executions).
    fn stats(&self, py: Python<'_>, since: i64) -> PyResult<(u64, u64, u64)> {
        let stats = without_gil(py, || self.engine.schedule_stats(Timestamp(since)))?;
        let stats = stats.map_err(|why| errors::schedule(py, "Failed to get cron execution stats", &why))?;
        Ok((stats.total, stats.successful, stats.lost))
    }

    /// Lists the triggers of the log by name.
    fn triggers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let found = without_gil(py, || self.engine.triggers())?;
        let found = found.map_err(|why| errors::trigger(py, "Failed to list trigger schedules", &why))?;
        let found = found.iter().map(|one| listed_trigger(py, one)).collect::<PyResult<Vec<_>>>()?;
        PyList::new(py, found)
    }

    /// Enables or disables a trigger.
    fn enable_trigger(&self, py: Python<'_>, name: &str, enabled: bool) -> PyResult<()> {
        let done = without_gil(py, || self.engine.enable_trigger(name, enabled))?;
        done.map_err(|why| errors::trigger(py, "Failed to update trigger", &why))
    }

    /// Lists the fires of a trigger that started executions, newest first.
    #[pyo3(signature = (name, limit, offset))]
    fn trigger_history<'py>(
        &self,
        py: Python<'py>,
        name: &str,
        limit: Option<usize>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let found = without_gil(py, || self.engine.trigger_history(name, limit.unwrap_or(usize::MAX), offset))?;
        let found = found.map_err(|why| errors::trigger(py, "Failed to get trigger execution history", &why))?;
        let fires = found.iter().map(|fire| {
            let dict = PyDict::new(py);
            dict.set_item("started", fire.fired.0)?;
            dict.set_item("ended", fire.standing.ended().map(|time| time.0))?;
            let hash: String = fire.context.iter().map(|byte| format!("{byte:02x}")).collect();
            dict.set_item("context_hash", hash)?;
            dict.set_item("execution_id", fire.execution.to_string())?;
            Ok(dict)
        });
        PyList::new(py, fires.collect::<PyResult<Vec<_>>>()?)
    }
}

/// Converts a schedule to a dict; `RawSchedule` in the stubs.
fn listed<'py>(py: Python<'py>, listed: &ListedSchedule) -> PyResult<Bound<'py, PyDict>> {
    let label = &listed.label;
    let dict = PyDict::new(py);
    dict.set_item("id", listed.id.to_string())?;
    dict.set_item("name", listed.name.as_deref())?;
    dict.set_item("context", Context::from_values(listed.input.iter().cloned()).to_dict(py)?)?;
    dict.set_item("is_registered", listed.is_registered)?;
    dict.set_item("workflow_name", &*label.workflow)?;
    dict.set_item("expression", &*label.expression)?;
    dict.set_item("timezone", &*label.timezone)?;
    dict.set_item("enabled", label.enabled)?;
    dict.set_item("catchup", label.catchup.name())?;
    dict.set_item("next", label.next.map(|time| time.0))?;
    dict.set_item("last_run", label.last_run.map(|time| time.0))?;
    dict.set_item("created", label.created.0)?;
    dict.set_item("updated", label.updated.0)?;
    Ok(dict)
}

/// Converts a fire to a dict; `RawFire` in the stubs.
fn past_fire<'py>(py: Python<'py>, fire: &PastFire) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("scheduled", fire.scheduled.0)?;
    dict.set_item("fired", fire.fired.0)?;
    dict.set_item("ended", fire.standing.ended().map(|time| time.0))?;
    dict.set_item("execution_id", fire.execution.to_string())?;
    Ok(dict)
}

/// Converts a trigger to a dict; `RawTrigger` in the stubs.
fn listed_trigger<'py>(py: Python<'py>, trigger: &ListedTrigger) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("name", &*trigger.definition.name)?;
    dict.set_item("workflow_name", &*trigger.definition.workflow)?;
    let interval = match &trigger.definition.pace {
        Pace::Interval(interval) => Some(interval.0),
        Pace::Cron { .. } => None,
    };
    dict.set_item("interval_ms", interval)?;
    dict.set_item("is_registered", trigger.is_registered)?;
    dict.set_item("allow_concurrent", trigger.definition.allow_concurrent)?;
    dict.set_item("enabled", trigger.enabled)?;
    dict.set_item("last_poll", trigger.last_poll.map(|time| time.0))?;
    Ok(dict)
}
