//! Shutdown of the interpreter.
//!
//! Before Python 3.14, a thread that requests the GIL while the interpreter shuts down is killed, and that must not
//! happen inside Rust code. So once all runners are shut down, only the thread that ends the interpreter may begin a
//! wait here. Threads that already wait get a second to return; one that wakes up later parks until the process ends.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::classes::{error, keep_classes};

/// The thread that ends the interpreter, once that begins.
static EXIT_THREAD: OnceLock<ThreadId> = OnceLock::new();

/// Whether all runners are shut down, and the interpreter ends.
static RUNNERS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Number of threads that wait without the GIL.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How long to wait for the waiting threads. All of them were woken, and need the GIL to return.
const GRACE: Duration = Duration::from_secs(1);

const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Marks this thread as the one that ends the interpreter. Called once, at exit, before the runners are shut down.
#[pyfunction]
pub fn exit_begins() {
    EXIT_THREAD.get_or_init(|| thread::current().id());
}

/// Marks all runners as shut down, after giving waiting threads time to return. From then on, only the thread that ends
/// the interpreter can use a runner.
#[pyfunction]
pub fn runners_closed(py: Python<'_>) -> PyResult<()> {
    keep_classes(py)?;
    py.detach(|| {
        let until = Instant::now() + GRACE;
        while WAITING.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(POLL_INTERVAL);
        }
    });
    RUNNERS_CLOSED.store(true, Ordering::SeqCst);
    Ok(())
}

/// Whether the interpreter is about to end, and all runners are shut down.
#[pyfunction]
pub fn is_exiting() -> bool {
    RUNNERS_CLOSED.load(Ordering::SeqCst)
}

/// Returns a `SystemExit` for a thread whose wait was ended by the interpreter's exit, since `threading` prints no
/// traceback for it. `None` on the thread that ends the interpreter, or if it is not ending.
pub fn interrupted() -> Option<PyErr> {
    is_other_thread().then(|| PySystemExit::new_err("the interpreter is ending"))
}

fn is_other_thread() -> bool {
    EXIT_THREAD.get().is_some_and(|ending| *ending != thread::current().id())
}

/// Resets the count in a fork, which has none of the waiting threads.
pub fn forget_waits() {
    WAITING.store(0, Ordering::SeqCst);
}

/// Whether this thread must not wait for the GIL any more: it might be killed there.
fn must_not_wait() -> bool {
    is_exiting() && is_other_thread()
}

/// Runs a blocking function without the GIL.
///
/// # Errors
/// `cloaca.Error` on another thread than the one that ends the interpreter, once all runners are shut down.
pub fn without_gil<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    if must_not_wait() {
        return Err(exiting(py));
    }
    let done = py.detach(|| {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let done = work();
        while must_not_wait() {
            thread::park();
        }
        done
    });
    WAITING.fetch_sub(1, Ordering::SeqCst);
    Ok(done)
}

/// Error for a wait while the interpreter ends.
fn exiting(py: Python<'_>) -> PyErr {
    let message = "the interpreter is ending, and all runners are shut down: they accept no more calls";
    error(py, "OperationError", message, &[])
}
