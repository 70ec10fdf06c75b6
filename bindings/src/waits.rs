//! Waits for executions without a timeout, registered with the engine to detect deadlocks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloacina_engine::runtime::engine::{AttemptActivity, NestedWaitGuard, PendingWait, WaitError, WaitTicket};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::exit::without_gil;
use crate::inbox::CallOnDrop;
use crate::{errors, outcome};

/// A wait on a thread.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct ThreadWait(pub PendingWait);

#[pymethods]
impl ThreadWait {
    /// Its number.
    #[getter]
    fn ticket(&self) -> WaitTicket {
        self.0.ticket()
    }

    /// Waits for the end.
    fn end<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let ended = without_gil(py, || self.0.end())?;
        outcome::outcome(py, &*ended.map_err(|why| errors::wait(py, &why))?)
    }
}

/// Returns a number for a wait that begins after this.
#[pyfunction]
pub fn wait_ticket() -> WaitTicket {
    cloacina_engine::runtime::engine::wait_ticket()
}

/// Why a wait was refused.
type Refused = Arc<Mutex<Option<WaitError>>>;

/// A wait in a coroutine, which awaits the end itself.
#[pyclass(frozen, module = "cloaca._cloaca")]
pub struct CoroutineWait {
    ticket: WaitTicket,
    guard: Mutex<Option<NestedWaitGuard>>,
    refused: Refused,
}

impl CoroutineWait {
    /// Returns a callback that records the reason and queues `call`.
    pub fn refuse(refused: &Refused, call: CallOnDrop) -> impl FnOnce(WaitError) + Send + use<> {
        let refused = refused.clone();
        move |why| {
            *lock(&refused) = Some(why);
            drop(call);
        }
    }

    /// A wait that has begun.
    pub fn new(guard: NestedWaitGuard, refused: Refused) -> Self {
        Self { ticket: guard.ticket(), guard: Mutex::new(Some(guard)), refused }
    }
}

#[pymethods]
impl CoroutineWait {
    /// Its number.
    #[getter]
    fn ticket(&self) -> WaitTicket {
        self.ticket
    }

    /// Ends it.
    fn close(&self) {
        drop(lock(&self.guard).take());
    }

    /// Raises the reason, if it was refused.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        match &*lock(&self.refused) {
            Some(why) => Err(errors::wait(py, why)),
            None => Ok(()),
        }
    }
}

/// What an attempt is doing, as an argument from Python.
pub struct ActivityArg(AttemptActivity);

impl From<ActivityArg> for AttemptActivity {
    fn from(activity: ActivityArg) -> Self {
        activity.0
    }
}

impl<'py> FromPyObject<'_, 'py> for ActivityArg {
    type Error = PyErr;

    fn extract(what: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match what.extract::<String>().as_deref() {
            Ok("lock") => Ok(Self(AttemptActivity::WaitsForLock)),
            Ok("unmoved") => Ok(Self(AttemptActivity::Unmoved)),
            Ok(other) => Err(PyValueError::new_err(format!("unknown attempt activity '{other}'"))),
            Err(_) => Ok(Self(AttemptActivity::WaitsFor(what.extract()?))),
        }
    }
}

/// Locks a mutex and ignores poisoning.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
