//! The end of the interpreter.
//!
//! A thread that asks for the GIL while the interpreter is being torn down is killed by it, wherever it is (before Python
//! 3.14), and must not be killed inside Rust. So a thread that wakes from a wait of ours after the exit has begun sleeps
//! on: the process ends with it asleep.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;

static EXITING: AtomicBool = AtomicBool::new(false);

/// Says that the interpreter is about to end. Called once, at exit, before the runners are shut down.
#[pyfunction]
pub fn exiting() {
    EXITING.store(true, Ordering::SeqCst);
}

/// The last thing that a waiting thread does before it takes the GIL again.
pub fn sleep_on_if_exiting() {
    while EXITING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}
