//! The programs `replay` and `cloaca`, for the console scripts of the wheel.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs `replay` with a command line, the program's name first, and returns its exit code. The process is the program's from
/// here on: it gets the program's allocator.
#[pyfunction]
pub fn replay_main(py: Python<'_>, argv: Vec<OsString>) -> i32 {
    #[cfg(target_os = "linux")]
    crate::allocator::use_mimalloc();
    py.detach(|| cloacina_replay::main(argv))
}

/// Runs `cloaca` with a command line, the program's name first, and returns its exit code.
#[pyfunction]
pub fn cloaca_main(py: Python<'_>, argv: Vec<OsString>) -> i32 {
    py.detach(|| cloacina_admin::main(argv))
}
