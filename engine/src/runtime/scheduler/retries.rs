//! Retrying an execution that has failed or was cancelled: it becomes live again, with the workflow that is registered now.

use std::sync::Arc;

use cloacina_store::log::ReadError;

use super::Scheduler;
use super::requests::has_ended;
use crate::core::context::digest;
use crate::core::decide::{Command, decide};
use crate::core::event::{Cause, ExecutionId};
use crate::core::standing::ExecutionStatus;
use crate::core::state::Execution;
use crate::core::trigger::TriggerId;
use crate::runtime::errors::EngineError;
use crate::runtime::ids::{ForeignId, stream_of};
use crate::runtime::message::{Reply, Retried, Retry};
use crate::runtime::outcome::listed;
use crate::runtime::workflow::Workflow;

/// What to do about a request to retry an execution.
enum Verdict {
    /// Retry it from this state.
    Retry(Box<Execution>),
    /// Nothing: it has not failed, and the request is only about failures.
    LeaveAlone,
    /// Ask again with its history.
    NeedsHistory,
}

impl Scheduler {
    pub(super) fn retry(&mut self, retry: Retry, reply: Reply<Result<Retried, EngineError>>) {
        let execution = retry.execution;
        match self.begin_retry(retry) {
            Ok(Retried::Done) => self.answer_when_durable(
                execution,
                Box::new(move |durable| {
                    let answer = durable.map(|()| Retried::Done).map_err(|error| EngineError::Log(error.into()));
                    let _asker_may_be_gone = reply.send(answer);
                }),
            ),
            other => drop(reply.send(other)),
        }
    }

    fn begin_retry(&mut self, retry: Retry) -> Result<Retried, EngineError> {
        let execution = retry.execution;
        if let Some(error) = &self.failed {
            return Err(EngineError::Log(error.clone().into()));
        }
        if self.stopping.is_some() {
            return Err(EngineError::ShutDown);
        }
        let request = retry.request.clone();
        let mut state = match self.retry_verdict(retry)? {
            Verdict::Retry(state) => *state,
            Verdict::LeaveAlone => return Ok(Retried::Done),
            Verdict::NeedsHistory => return Ok(Retried::NeedsHistory),
        };
        let workflow = self.workflow_to_retry(&state)?;
        let command = Command::Retry {
            request,
            environment: self.services.environment.clone(),
            options: self.services.config.execution_options(),
            definition: (workflow.fingerprint(), workflow.graph().clone()),
        };
        let decision = decide(&mut state, command, self.now)
            .map_err(|rejection| EngineError::Rejected { execution, why: rejection.to_string() })?;
        self.leave_ended(execution);
        self.note_trigger_runs(&state);
        self.go_live(state, workflow);
        self.record(execution, decision);
        Ok(Retried::Done)
    }

    fn retry_verdict(&self, retry: Retry) -> Result<Verdict, EngineError> {
        let Retry { execution, only_if_failed, history, .. } = retry;
        if let Some(live) = self.live.get(&execution) {
            return match self.retry_or_not(execution, live.state.status().into(), only_if_failed)? {
                // Its end is decided, but not in the log yet; the retry comes after it.
                true if !live.events.is_empty() => Ok(Verdict::NeedsHistory),
                true => Ok(Verdict::Retry(Box::new(live.state.clone()))),
                false => Ok(Verdict::LeaveAlone),
            };
        }
        if self.services.standings.held(execution).is_some() {
            return match only_if_failed {
                true => Ok(Verdict::LeaveAlone),
                false => Err(self.not_live(execution)),
            };
        }
        let entry = match self.services.log.stream(stream_of(execution)) {
            Ok(entry) => entry,
            Err(ReadError::NoStream(_)) => return Err(EngineError::NotFound(execution)),
            Err(ReadError::Pruned { .. }) => return Err(rejected(execution, PRUNED)),
            Err(error) => return Err(EngineError::Log(error.into())),
        };
        ForeignId::check(execution, entry.kind)?;
        let status = listed(&entry, None).map_err(|error| EngineError::Log(error.into()))?.standing.status;
        if !self.retry_or_not(execution, status, only_if_failed)? {
            return Ok(Verdict::LeaveAlone);
        }
        Ok(match history {
            Some(state) if state.next_seq() == entry.records => Verdict::Retry(state),
            _ => Verdict::NeedsHistory,
        })
    }

    /// Returns whether an execution with this status is to be retried, or why it cannot be.
    fn retry_or_not(
        &self,
        execution: ExecutionId,
        status: ExecutionStatus,
        only_if_failed: bool,
    ) -> Result<bool, EngineError> {
        let why = match (status, only_if_failed) {
            (ExecutionStatus::Failed, _) | (ExecutionStatus::Cancelled, false) => return Ok(true),
            (_, true) => return Ok(false),
            (ExecutionStatus::Completed, _) => {
                format!("{}, so there is nothing to retry; start another one", has_ended(execution, status))
            }
            (ExecutionStatus::Paused, _) => {
                format!("it is paused; unpause it: runner.get_execution('{execution}').resume()")
            }
            _ => format!(
                "it is {}; wait for its end: runner.get_execution('{execution}').result(). Only an execution that has \
                 failed or was cancelled can be retried",
                status.lowercase()
            ),
        };
        Err(rejected(execution, &why))
    }

    /// The workflow that an execution continues with.
    fn workflow_to_retry(&self, state: &Execution) -> Result<Arc<Workflow>, EngineError> {
        let name = state.workflow();
        self.services.registry.find(name).ok_or_else(|| {
            let why = format!(
                "workflow '{name}' is not registered, so its tasks cannot run; register it (import its module) and \
                 retry again"
            );
            rejected(state.id(), &why)
        })
    }

    /// Forgets an execution that has ended and is still live. Those who wait for its end are answered as without a
    /// retry.
    fn leave_ended(&mut self, execution: ExecutionId) {
        let Some(ended) = self.forget_live(execution) else { return };
        ended.answers.into_iter().for_each(|answer| ended.durable.wait(answer));
    }

    /// Counts an execution that a trigger started as running again.
    fn note_trigger_runs(&mut self, state: &Execution) {
        if let Cause::Trigger { name } = state.cause()
            && let Some(trigger) = self.triggers.get_mut(&TriggerId::of(name))
        {
            trigger.running.insert(state.id(), digest(&state.input()));
        }
    }
}

const PRUNED: &str = "its history was pruned, so nothing is left to continue; start the work again under another id";

fn rejected(execution: ExecutionId, why: &str) -> EngineError {
    EngineError::Rejected { execution, why: why.to_owned() }
}
