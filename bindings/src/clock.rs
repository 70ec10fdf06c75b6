//! The virtual clock, for tests of what takes time.

use std::time::Duration;

use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::clock::VirtualClock;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// A clock that stands still until it is moved.
#[pyclass(frozen, module = "cloaca._cloaca", name = "VirtualClock")]
pub struct PyVirtualClock(pub VirtualClock);

#[pymethods]
impl PyVirtualClock {
    /// A clock that begins at `start`, in seconds since 1970; at the end of the log that it is used on, if that is later.
    #[new]
    #[pyo3(signature = (start = None))]
    fn new(start: Option<f64>) -> PyResult<Self> {
        let Some(start) = start else { return Ok(Self(VirtualClock::default())) };
        if start.is_nan() || start.abs() > 1e11 {
            return Err(PyValueError::new_err(format!("a clock cannot begin {start} seconds after 1970")));
        }
        #[allow(clippy::cast_possible_truncation, reason = "it was just checked that it fits")]
        let micros = (start * 1e6).round() as i64;
        Ok(Self(VirtualClock::starting_at(Timestamp(micros))))
    }

    /// Moves it so many seconds on. What is due meanwhile happens, each at its own time, before this returns.
    fn advance(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        let span = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(format!("a clock cannot be moved {seconds} seconds: {error}")))?;
        py.detach(|| self.0.advance(span));
        Ok(())
    }

    /// What time it is, in seconds since 1970.
    fn now(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "microseconds of any year that people live in are exact enough")]
        let micros = self.0.now().0 as f64;
        micros / 1e6
    }

    fn __repr__(&self) -> String {
        format!("VirtualClock({})", self.now())
    }
}
