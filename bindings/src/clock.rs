//! The virtual clock, for tests.

use std::time::Duration;

use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::clock::VirtualClock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A clock that only moves when told to, for a [`Runner`][cloaca.testing.Runner] or the fixture ``cloaca_clock``.
///
/// It begins at `start`, in seconds since 1970, or at the last event of its log, if that is later.
///
/// Example:
///     >>> with cloaca.WorkflowBuilder("etl"):
///     ...     @cloaca.task
///     ...     def extract(context): ...
///     >>> clock = cloaca.testing.VirtualClock()
///     >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
///     ...     nightly = runner.register_cron_workflow("etl", "0 2 * * *", "UTC")
///     ...     clock.advance(3 * 24 * 3600)
///     ...     len(runner.get_cron_execution_history(nightly))
///     3
#[pyclass(frozen, module = "cloaca._cloaca", name = "VirtualClock")]
pub struct PyVirtualClock(pub VirtualClock);

#[pymethods]
impl PyVirtualClock {
    /// Creates a clock that begins at `start`, in seconds since 1970, or at the last event of its log, if that is
    /// later.
    #[new]
    #[pyo3(signature = (start = None))]
    fn new(start: Option<f64>) -> PyResult<Self> {
        let Some(start) = start else { return Ok(Self(VirtualClock::default())) };
        if start.is_nan() || start.abs() > 1e11 {
            return Err(PyValueError::new_err(format!("a clock cannot start at {start} seconds since 1970")));
        }
        #[allow(clippy::cast_possible_truncation, reason = "it was just checked that it fits")]
        let micros = (start * 1e6).round() as i64;
        Ok(Self(VirtualClock::starting_at(Timestamp(micros))))
    }

    /// Advances the clock. Everything that is due until then happens at its own time, before this returns.
    ///
    /// Raises:
    ///     ValueError: The seconds are negative, or not a finite number.
    ///
    /// Example:
    ///     >>> clock = cloaca.testing.VirtualClock(0.0)
    ///     >>> clock.advance(90)
    ///     >>> clock.now()
    ///     90.0
    ///     >>> clock.advance(-1)
    ///     Traceback (most recent call last):
    ///     ValueError: cannot advance the clock by -1 seconds: cannot convert float seconds to Duration: value is negative
    fn advance(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let span = Duration::try_from_secs_f64(seconds).map_err(|error| {
            PyValueError::new_err(format!("cannot advance the clock by {seconds} seconds: {error}"))
        })?;
        py.detach(|| self.0.advance(span));
        Ok(())
    }

    /// The current time, in seconds since 1970.
    ///
    /// Example:
    ///     >>> import datetime
    ///     >>> clock = cloaca.testing.VirtualClock(1_769_850_000)
    ///     >>> datetime.datetime.fromtimestamp(clock.now(), datetime.timezone.utc).isoformat()
    ///     '2026-01-31T09:00:00+00:00'
    fn now(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of any realistic year are exact enough")]
        let micros = self.0.now().0 as f64;
        micros / 1e6
    }

    fn __repr__(&self) -> String {
        format!("VirtualClock({})", self.now())
    }
}
