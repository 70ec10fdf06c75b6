//! The program `cloaca`, for the console script of the wheel.

use std::ffi::OsString;

use pyo3::prelude::*;

/// Runs `cloaca` with a command line, the program's name first, and returns its exit code.
#[pyfunction]
pub fn cloaca_main(py: Python<'_>, argv: Vec<OsString>) -> i32 {
    py.detach(|| cloacina_admin::main(argv))
}
