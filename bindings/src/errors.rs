//! Conversion of engine errors to Python exceptions. The exception classes are defined in Python (`cloaca.errors`).

use std::path::Path;

use cloacina_engine::core::event::ExecutionId;
use cloacina_engine::core::graph::InvalidDefinition;
use cloacina_engine::core::task_context::UndeclaredRead;
use cloacina_engine::runtime::engine::{EngineError, StartError, StartManyError, WaitError};
use cloacina_engine::runtime::handle::AttemptOver;
use cloacina_engine::runtime::schedules::ScheduleError;
use cloacina_engine::runtime::triggers::TriggerError;
use cloacina_replay::attempt::NoAttempt;
use cloacina_replay::moment::MomentError;
use cloacina_replay::reading::HistoryError;
use cloacina_replay::source::Head;
use cloacina_replay::why::NoValue;
use cloacina_store::log::{OpenError, ReadError};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyInt;

pub use crate::classes::error;
use crate::exit::interrupted;

fn text<'py>(py: Python<'py>, value: impl ToString) -> Bound<'py, PyAny> {
    pyo3::types::PyString::new(py, &value.to_string()).into_any()
}

fn path<'py>(py: Python<'py>, path: &Path) -> Bound<'py, PyAny> {
    text(py, path.display())
}

/// Error for a read of a key that no ancestor wrote, in a strict context.
pub fn undeclared(py: Python<'_>, read: &UndeclaredRead) -> PyErr {
    error(py, "UndeclaredReadError", &read.to_string(), &[("key", text(py, &read.key))])
}

/// Error for an attempt that is over.
pub fn over(py: Python<'_>, over: &AttemptOver) -> PyErr {
    let attributes = [
        ("execution_id", text(py, over.execution)),
        ("task_id", text(py, &over.task)),
        ("attempt", PyInt::new(py, over.attempt).into_any()),
    ];
    error(py, "AttemptOverError", &over.to_string(), &attributes)
}

/// Error for an invalid workflow definition.
pub fn invalid(py: Python<'_>, invalid: &InvalidDefinition) -> PyErr {
    error(py, "WorkflowValidationError", &invalid.to_string(), &[])
}

/// Error for a group of executions that could not be started.
pub fn start_many(py: Python<'_>, why: &StartManyError) -> PyErr {
    match &why.why {
        // The other errors name the workflow or the id themselves.
        StartError::ValueTooLarge { .. } => start_saying(py, &why.why, format!("inputs[{}]: {}", why.at, why.why)),
        other => start(py, other),
    }
}

/// Error for an execution that could not be started.
pub fn start(py: Python<'_>, why: &StartError) -> PyErr {
    start_saying(py, why, why.to_string())
}

fn start_saying(py: Python<'_>, why: &StartError, message: String) -> PyErr {
    if let (StartError::ShutDown, Some(exit)) = (why, interrupted()) {
        return exit;
    }
    match why {
        StartError::UnknownWorkflow { name, .. } => {
            error(py, "WorkflowNotFoundError", &message, &[("workflow", text(py, name))])
        }
        StartError::Blocked { execution, .. } => {
            error(py, "OperationError", &message, &[("execution_id", text(py, execution))])
        }
        StartError::OtherWorkflow { execution, workflow, .. } => {
            let attributes = [("execution_id", text(py, execution)), ("workflow", text(py, workflow))];
            error(py, "OperationError", &message, &attributes)
        }
        StartError::ValueTooLarge { key, .. } => error(py, "ContextError", &message, &[("key", text(py, key))]),
        StartError::Foreign(foreign) => {
            error(py, "OperationError", &message, &[("execution_id", text(py, foreign.id))])
        }
        StartError::Log(_) => error(py, "LogError", &message, &[]),
        StartError::NotRetried(why) => engine(py, why),
        _ => error(py, "OperationError", &message, &[]),
    }
}

/// Error for a wait without an outcome. Callers handle timeouts that are no errors.
pub fn wait(py: Python<'_>, why: &WaitError) -> PyErr {
    if let (WaitError::ShutDown(_), Some(exit)) = (why, interrupted()) {
        return exit;
    }
    let message = why.to_string();
    match why {
        WaitError::TimedOut { execution, .. } => {
            error(py, "WaitTimeoutError", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::NotFound(execution) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::Foreign(foreign) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, foreign.id))])
        }
        WaitError::NoSlotLeft { execution, task, slots } => {
            let message = format!(
                "execution {execution} cannot get a slot: each of the {slots} slots (max_concurrent_tasks) is held by a task \
                 that waits for an execution, and '{task}' is one of them. Release the slot while it waits: \
                 execution = runner.submit(...); handle.defer_until(lambda: execution.done); execution.result(). Or raise \
                 max_concurrent_tasks"
            );
            let attributes = [("execution_id", text(py, execution)), ("task_id", text(py, task))];
            error(py, "NoSlotLeftError", &message, &attributes)
        }
        WaitError::Blocked { execution, .. } | WaitError::ShutDown(execution) => {
            error(py, "OperationError", &message, &[("execution_id", text(py, execution))])
        }
        WaitError::Log(_) => error(py, "LogError", &message, &[]),
        _ => error(py, "OperationError", &message, &[]),
    }
}

/// Error for a failed request on an execution.
pub fn engine(py: Python<'_>, why: &EngineError) -> PyErr {
    let message = why.to_string();
    match why {
        EngineError::NotFound(execution) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, execution))])
        }
        EngineError::Foreign(foreign) => {
            error(py, "ExecutionNotFoundError", &message, &[("execution_id", text(py, foreign.id))])
        }
        EngineError::Rejected { execution, .. } => {
            error(py, "OperationError", &message, &[("execution_id", text(py, execution))])
        }
        EngineError::Log(_) => error(py, "LogError", &message, &[]),
        _ => error(py, "OperationError", &message, &[]),
    }
}

/// Error for a failed operation on a schedule. `doing` is the beginning of the message.
pub fn schedule(py: Python<'_>, doing: &str, why: &ScheduleError) -> PyErr {
    let message = format!("{doing}: {why}");
    match why {
        ScheduleError::Log(_) => error(py, "LogError", &message, &[]),
        ScheduleError::ShutDown => error(py, "OperationError", &message, &[]),
        ScheduleError::ValueTooLarge { key, .. } => error(py, "ContextError", &message, &[("key", text(py, key))]),
        _ => PyValueError::new_err(message),
    }
}

/// Error for a failed operation on a trigger. `doing` is the beginning of the message.
pub fn trigger(py: Python<'_>, doing: &str, why: &TriggerError) -> PyErr {
    let message = format!("{doing}: {why}");
    match why {
        TriggerError::Log(_) => error(py, "LogError", &message, &[]),
        TriggerError::ShutDown => error(py, "OperationError", &message, &[]),
        _ => PyValueError::new_err(message),
    }
}

/// Error for a log that could not be opened. A wrong path is a configuration error, not a log error.
pub fn open(py: Python<'_>, why: &OpenError) -> PyErr {
    let message = why.to_string();
    let (class, place) = match why {
        OpenError::NotALog { path, .. } | OpenError::Missing { path } => ("ConfigurationError", path),
        OpenError::Locked { path, .. } | OpenError::OrphanedLock { path, .. } => ("LogLockedError", path),
        OpenError::NewerFormat { path, .. } => ("LogVersionError", path),
        OpenError::Damaged { path, .. } => ("LogCorruptedError", path),
        OpenError::Io { path, .. } => ("LogError", path),
        _ => return error(py, "LogError", &message, &[]),
    };
    error(py, class, &message, &[("path", self::path(py, place))])
}

/// Error for an execution that cannot be read.
pub fn read(py: Python<'_>, why: &ReadError, execution: ExecutionId, location: &str) -> PyErr {
    let place = [("execution_id", text(py, execution)), ("path", text(py, location))];
    match why {
        ReadError::NoStream(_) => {
            error(py, "ExecutionNotFoundError", &format!("there is no execution {execution} in {location}"), &place)
        }
        _ => error(py, reading_class(why), &why.to_string(), &place),
    }
}

/// Error for an id that no execution of the log has.
pub fn unknown_id(py: Python<'_>, asked: &str, location: &str) -> PyErr {
    not_found(py, &format!("there is no execution '{asked}' in {location}"), asked, location)
}

/// Error for a request that matches no execution of the log.
pub fn not_found(py: Python<'_>, message: &str, asked: &str, location: &str) -> PyErr {
    let place = [("execution_id", text(py, asked)), ("path", text(py, location))];
    error(py, "ExecutionNotFoundError", message, &place)
}

/// Error for an index that cannot be read.
pub fn open_read(py: Python<'_>, why: &ReadError, location: &str) -> PyErr {
    error(py, reading_class(why), &why.to_string(), &[("path", text(py, location))])
}

fn reading_class(why: &ReadError) -> &'static str {
    match why {
        ReadError::Damaged { .. } | ReadError::DamagedLog(_) | ReadError::TailCut { .. } => "LogCorruptedError",
        _ => "LogError",
    }
}

/// The `seq` of the damaged record.
fn place_of(why: &ReadError) -> Option<u64> {
    match why {
        ReadError::Damaged { seq, .. } => Some(*seq),
        _ => None,
    }
}

fn trouble(py: Python<'_>, why: &HistoryError, of: &Head) -> PyErr {
    let (class, seq) = match why {
        HistoryError::Log(why) => (reading_class(why), place_of(why)),
        HistoryError::Newer { seq, .. } => ("LogVersionError", Some(*seq)),
        HistoryError::Undecodable { seq, .. } => ("LogCorruptedError", Some(*seq)),
        HistoryError::Definition { .. } | HistoryError::Told(_) => ("LogCorruptedError", None),
        HistoryError::Impossible { illegal, .. } => ("LogCorruptedError", Some(illegal.seq)),
        HistoryError::Erased { seq, .. } => ("LogError", Some(*seq)),
    };
    let mut attributes = vec![("execution_id", text(py, of.id)), ("path", text(py, &of.location))];
    attributes.extend(seq.map(|seq| ("seq", PyInt::new(py, seq).into_any())));
    error(py, class, &why.to_string(), &attributes)
}

/// Error for a moment that is not in the execution's history.
pub fn not_there(py: Python<'_>, why: &MomentError, of: &Head) -> PyErr {
    let mut attributes = vec![("execution_id", text(py, of.id))];
    match why {
        MomentError::History(why) => return trouble(py, why, of),
        MomentError::Seq { seq, .. } => attributes.push(("seq", PyInt::new(py, *seq).into_any())),
        MomentError::Task(task) => attributes.push(("task_id", text(py, task))),
        MomentError::Before | MomentError::Empty => {}
    }
    error(py, "MomentNotFoundError", &why.to_string(), &attributes)
}

/// Error for a key that never had a value.
pub fn no_value(py: Python<'_>, why: &NoValue, key: &str, of: &Head) -> PyErr {
    let attributes = [("execution_id", text(py, of.id)), ("key", text(py, key))];
    match why {
        NoValue::Unknown { nearest, .. } => {
            let near = nearest.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            error(py, "UnknownKeyError", &format!("{why}{near}"), &attributes)
        }
        NoValue::History(why) => trouble(py, why, of),
    }
}

/// Error for an attempt that does not exist.
pub fn no_attempt(py: Python<'_>, why: &NoAttempt, task: &str, of: &Head) -> PyErr {
    match why {
        NoAttempt::Moment(why) => not_there(py, why, of),
        _ => {
            let attributes = [("execution_id", text(py, of.id)), ("task_id", text(py, task))];
            error(py, "MomentNotFoundError", &why.to_string(), &attributes)
        }
    }
}
