//! Starts, recoveries and retries of executions as JSON: cause, environment and options.

use cloacina_engine::core::event::{Cause, Environment, ExecutionId, ExecutionOptions, Seq};
use cloacina_engine::core::time::Millis;
use serde::{Deserialize, Serialize};

use super::values::shared;
use super::{InvalidHistory, time};
use crate::time::rfc3339;

/// The cause of an execution.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CauseJson {
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
}

/// The process that an execution runs in.
#[derive(Serialize, Deserialize)]
pub struct EnvironmentJson {
    engine: String,
    host: String,
    pid: u32,
    python: Option<String>,
}

/// The options of an execution.
#[derive(Serialize, Deserialize)]
pub struct OptionsJson {
    timeout_ms: Option<u64>,
    task_timeout_ms: Option<u64>,
    strict_context: bool,
    max_recoveries: u32,
}

impl From<&Cause> for CauseJson {
    fn from(cause: &Cause) -> Self {
        let kind = |kind: &str| Self { kind: kind.to_owned(), ..Self::default() };
        match cause {
            Cause::Call => kind("call"),
            Cause::Schedule { schedule, scheduled } => Self {
                schedule: Some(ExecutionId(*schedule).to_string()),
                scheduled: Some(rfc3339(*scheduled)),
                ..kind("schedule")
            },
            Cause::Trigger { name } => Self { name: Some(name.to_string()), ..kind("trigger") },
            Cause::Fork { execution, seq } => {
                Self { execution: Some(execution.to_string()), seq: Some(*seq), ..kind("fork") }
            }
            Cause::Parent { execution, task } => {
                Self { execution: Some(execution.to_string()), task: Some(task.to_string()), ..kind("parent") }
            }
        }
    }
}

impl TryFrom<&CauseJson> for Cause {
    type Error = InvalidHistory;

    fn try_from(json: &CauseJson) -> Result<Self, InvalidHistory> {
        let wrong = || InvalidHistory::Part(format!("unknown or incomplete cause '{}'", json.kind));
        let id = |text: &Option<String>| -> Result<ExecutionId, InvalidHistory> {
            text.as_ref().and_then(|text| text.parse().ok()).ok_or_else(wrong)
        };
        Ok(match json.kind.as_str() {
            "call" => Self::Call,
            "schedule" => {
                let scheduled = time(json.scheduled.as_deref().ok_or_else(wrong)?)?;
                Self::Schedule { schedule: id(&json.schedule)?.0, scheduled }
            }
            "trigger" => Self::Trigger { name: json.name.as_deref().ok_or_else(wrong)?.into() },
            "fork" => Self::Fork { execution: id(&json.execution)?, seq: json.seq.ok_or_else(wrong)? },
            "parent" => {
                Self::Parent { execution: id(&json.execution)?, task: json.task.as_deref().ok_or_else(wrong)?.into() }
            }
            _ => return Err(wrong()),
        })
    }
}

impl From<&Environment> for EnvironmentJson {
    fn from(environment: &Environment) -> Self {
        Self {
            engine: environment.engine.to_string(),
            host: environment.host.to_string(),
            pid: environment.pid,
            python: environment.python.as_ref().map(ToString::to_string),
        }
    }
}

impl From<EnvironmentJson> for Environment {
    fn from(json: EnvironmentJson) -> Self {
        let EnvironmentJson { engine, host, pid, python } = json;
        Self { engine: engine.into(), host: host.into(), pid, python: shared(python) }
    }
}

impl From<&ExecutionOptions> for OptionsJson {
    fn from(options: &ExecutionOptions) -> Self {
        Self {
            timeout_ms: options.timeout.map(|span| span.0),
            task_timeout_ms: options.task_timeout.map(|span| span.0),
            strict_context: options.strict_context,
            max_recoveries: options.max_recoveries,
        }
    }
}

impl From<OptionsJson> for ExecutionOptions {
    fn from(json: OptionsJson) -> Self {
        Self {
            timeout: json.timeout_ms.map(Millis),
            task_timeout: json.task_timeout_ms.map(Millis),
            strict_context: json.strict_context,
            max_recoveries: json.max_recoveries,
        }
    }
}
