//! The end of the interpreter.
//!
//! A thread that asks for the GIL while the interpreter is being torn down is killed by it, wherever it is (before Python
//! 3.14), and must not be killed inside Rust. So once all runners are shut down, no thread but the one that ends the
//! interpreter may begin a wait of ours, those that wait are waited for, and one that still wakes later sleeps on: the
//! process ends with it asleep.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;

use crate::classes::{error, keep_classes};

/// The thread that ends the interpreter, from when that begins.
static ENDING: OnceLock<ThreadId> = OnceLock::new();

/// Whether it is over: all runners are shut down.
static OVER: AtomicBool = AtomicBool::new(false);

/// How many threads are in a wait of ours.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// How long those that wait are waited for. All of them were woken; on their way back they need the GIL.
const COMING_BACK: Duration = Duration::from_secs(1);

const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Says that the interpreter is about to end, on the thread that ends it. Called once, at exit, before the runners are shut
/// down.
#[pyfunction]
pub fn exit_begins() {
    ENDING.get_or_init(|| thread::current().id());
}

/// Says that all runners are shut down. Those that waited are waited for; from then on nothing can be asked of a runner any
/// more, except by the thread that ends the interpreter.
#[pyfunction]
pub fn exit_is_near(py: Python<'_>) -> PyResult<()> {
    keep_classes(py)?;
    py.detach(|| {
        let until = Instant::now() + COMING_BACK;
        while WAITING.load(Ordering::SeqCst) > 0 && Instant::now() < until {
            thread::sleep(LOOK_EVERY);
        }
    });
    OVER.store(true, Ordering::SeqCst);
    Ok(())
}

/// Whether the interpreter is about to end, and all runners are shut down.
#[pyfunction]
pub fn is_exiting() -> bool {
    OVER.load(Ordering::SeqCst)
}

/// What ends a thread whose wait the end of the interpreter has ended: nobody reads its traceback. (`threading` says nothing
/// of a `SystemExit`.)
pub fn interrupted() -> Option<PyErr> {
    is_another_than_ends().then(|| PySystemExit::new_err("the interpreter is ending"))
}

fn is_another_than_ends() -> bool {
    ENDING.get().is_some_and(|ending| *ending != thread::current().id())
}

/// In a fork, which has none of the threads: nobody waits there.
pub fn forget_waits() {
    WAITING.store(0, Ordering::SeqCst);
}

/// Whether this thread must not wait any more, as it might not come back.
fn is_left_behind() -> bool {
    is_exiting() && is_another_than_ends()
}

/// Does something without the GIL that may take long.
///
/// # Errors
/// `cloaca.Error` on another thread than the one that ends the interpreter, once all runners are shut down.
pub fn without_gil<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    if is_left_behind() {
        return Err(exiting(py));
    }
    let done = py.detach(|| {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let done = work();
        while is_left_behind() {
            thread::park();
        }
        done
    });
    WAITING.fetch_sub(1, Ordering::SeqCst);
    Ok(done)
}

/// Something that would wait, while the interpreter ends.
fn exiting(py: Python<'_>) -> PyErr {
    let message = "the interpreter is ending, and all runners are shut down: nothing can be asked of them any more";
    error(py, "OperationError", message, &[])
}
