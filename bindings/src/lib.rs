//! The native half of the Python package `cloaca`.
//!
//! **Architecture invariant:** no logic here that a Rust user would miss. This crate converts Python values, functions
//! and errors to those of the engine, and back. A thread that waits here does not hold the GIL, and an engine thread
//! never requests it: work for Python goes through an [`inbox::Inbox`], which Python's own threads read.

mod callbacks;
mod canonical;
mod classes;
mod cli;
mod clock;
mod condition;
mod context;
mod engine;
mod errors;
mod executor;
mod exit;
mod failure;
mod forks;
mod history;
mod inbox;
mod isolation;
mod json;
mod logging;
mod outcome;
mod parse;
mod retry;
mod scan;
mod schedules;
mod task;
mod trigger;
mod waits;
mod workflow;

/// The private module `cloaca._cloaca`.
#[pyo3::pymodule]
mod _cloaca {
    #[pymodule_export]
    use super::callbacks::{Call, Notices};
    #[pymodule_export]
    use super::cli::cloaca_main;
    #[pymodule_export]
    use super::clock::PyVirtualClock;
    #[pymodule_export]
    use super::condition::{checked_condition, shown_condition};
    #[pymodule_export]
    use super::context::Context;
    #[pymodule_export]
    use super::engine::{AwaitedEnd, NativeEngine};
    #[pymodule_export]
    use super::executor::Attempt;
    #[pymodule_export]
    use super::exit::{exit_begins, is_exiting, runners_closed};
    #[pymodule_export]
    use super::forks::ForkGuard;
    #[pymodule_export]
    use super::history::NativeHistory;
    #[pymodule_export]
    use super::inbox::Inbox;
    #[pymodule_export]
    use super::isolation::{changes_of, context_of, snapshot_of, take_returned};
    #[pymodule_export]
    use super::logging::{log_level, start_logging, take_logs, wait_logs, wake_logs};
    #[pymodule_export]
    use super::outcome::span;
    #[pymodule_export]
    use super::retry::{PyBackoff, PyRetryCondition, PyRetryPolicy, RetryPolicyBuilder};
    #[pymodule_export]
    use super::schedules::NativeScheduling;
    #[pymodule_export]
    use super::task::TaskSpec;
    #[pymodule_export]
    use super::trigger::{Poll, TriggerSpec};
    #[pymodule_export]
    use super::waits::{CoroutineWait, ThreadWait, wait_ticket};
    #[pymodule_export]
    use super::workflow::{NativeWorkflow, nearest};

    #[pymodule_init]
    fn init(_module: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
        super::forks::close_logs_in_forks();
        Ok(())
    }

    /// The version of the package.
    #[pymodule_export]
    const VERSION: &str = env!("CARGO_PKG_VERSION");
}
