//! Requests on an execution: its current outcome, waiting for its end, pause, unpause, cancel.

use std::sync::{Arc, Weak};

use cloacina_store::log::ReadError;
use cloacina_store::record::StreamKind;

use super::Scheduler;
use super::live::Live;
use crate::core::decide::{Command, Rejection};
use crate::core::event::{ExecutionId, Request, TaskId};
use crate::core::standing::{ExecutionStatus, Standing};
use crate::core::state::Status;
use crate::runtime::completion::{Answer, Completion, Waiter};
use crate::runtime::errors::EngineError;
use crate::runtime::ids::{ForeignId, stream_of};
use crate::runtime::message::{Attached, Control, Reply};
use crate::runtime::outcome::{Outcome, listed, outcome};

impl Scheduler {
    pub(super) fn control(&mut self, execution: ExecutionId, control: Control) -> Result<(), EngineError> {
        if let Some(error) = &self.failed {
            return Err(EngineError::Log(error.clone().into()));
        }
        let request = |reason: Option<String>| Request { by: "user".into(), reason: reason.map(Into::into) };
        let command = match control {
            Control::Resume => return self.resume(execution),
            Control::Cancel(reason) => Command::Cancel(request(reason)),
            Control::Pause(reason) => Command::Pause(request(reason)),
            Control::Unpause => Command::Unpause(request(None)),
        };
        let why = match (self.live.get(&execution).map(|live| live.state.status()), command) {
            (None, Command::Cancel(request)) => return self.cancel_held(execution, request),
            (None, _) => return Err(self.not_live(execution)),
            (Some(Status::Paused), Command::Pause(_)) => "it is already paused",
            (Some(Status::Running), Command::Unpause(_)) => "it is not paused",
            (Some(_), command) => {
                let rejected = |rejection: Rejection| EngineError::Rejected { execution, why: rejection.to_string() };
                return self.decide(execution, command).map_err(rejected);
            }
        };
        Err(EngineError::Rejected { execution, why: why.to_owned() })
    }

    /// Returns why a request on an execution that is not live is rejected.
    pub(super) fn not_live(&self, execution: ExecutionId) -> EngineError {
        if let Some(standing) = self.services.standings.held(execution) {
            let why = format!("it is {}: {}", standing.status.lowercase(), standing.advice().unwrap_or_default());
            return EngineError::Rejected { execution, why };
        }
        match self.services.log.stream(stream_of(execution)) {
            Ok(entry) if entry.kind != StreamKind::Execution => ForeignId { id: execution, kind: entry.kind }.into(),
            Ok(entry) => match listed(&entry, None) {
                Ok(listed) => EngineError::Rejected { execution, why: has_ended(execution, listed.standing.status) },
                Err(error) => EngineError::Log(error.into()),
            },
            Err(ReadError::NoStream(_)) => EngineError::NotFound(execution),
            Err(error) => EngineError::Log(error.into()),
        }
    }

    /// Forgets an execution that has ended, unless it was retried meanwhile.
    pub(super) fn execution_is_over(&mut self, execution: ExecutionId, completion: &Weak<Completion>) {
        let is_same = |live: &Live| Weak::ptr_eq(&Arc::downgrade(&live.completion), completion);
        if self.live.get(&execution).is_some_and(is_same) {
            let answers = self.forget_live(execution).map(|live| live.answers);
            answers.into_iter().flatten().for_each(|answer| answer(Ok(())));
        }
    }

    /// Replies with the current outcome of a live execution, once everything in it is durable. Replies `None` if that
    /// fails or it is not live: the caller reads the log then.
    pub(super) fn peek(&mut self, execution: ExecutionId, reply: Reply<Option<Box<Outcome>>>) {
        let current = self.live.get(&execution).map(|live| {
            let status = self.standing_of(live).status;
            Box::new(Outcome { status, ..outcome(&live.state) })
        });
        self.answer_when_durable(
            execution,
            Box::new(move |durable| {
                let _asker_may_be_gone = reply.send(current.filter(|_| durable.is_ok()));
            }),
        );
    }

    /// Updates the standing of each execution that changed in this turn: whether it waits now.
    pub(super) fn update_standings(&mut self) {
        let slots_changed = std::mem::take(&mut self.slots_changed);
        for execution in self.dirty.iter().chain(&slots_changed) {
            let Some(live) = self.live.get(execution) else { continue };
            let standing = self.standing_of(live);
            // The label in the listing has every other status.
            let is_beyond_label = matches!(standing.status, ExecutionStatus::Waiting | ExecutionStatus::Deferred);
            self.services.standings.set(*execution, is_beyond_label.then_some(standing));
        }
    }

    /// Returns the standing of a live execution.
    fn standing_of(&self, live: &Live) -> Standing {
        let standing = Standing::of(&live.state);
        let waits = standing.status == ExecutionStatus::Running
            && live.state.ready().next().is_none()
            && live.state.running().next().is_some()
            && self.is_idle(live);
        if !waits {
            return standing;
        }
        let names: Vec<&TaskId> = live.state.running().map(|task| live.state.graph().name(task)).collect();
        Standing::deferred(&names)
    }

    pub(super) fn attach(&self, execution: ExecutionId, waiter: Waiter) -> Attached {
        if let Some(live) = self.live.get(&execution) {
            live.completion.wait(waiter);
            return Attached::Waiting;
        }
        match self.services.standings.held(execution) {
            Some(standing) => Attached::Blocked(Box::new(standing), waiter),
            None => Attached::NotLive(waiter, self.failed.clone()),
        }
    }

    /// Answers once all events of an execution so far are durable. Those of an execution that is not live already are.
    pub(super) fn answer_when_durable(&mut self, execution: ExecutionId, answer: Answer) {
        let Some(live) = self.live.get_mut(&execution) else { return answer(Ok(())) };
        if live.answers.is_empty() {
            self.to_answer.push(execution);
        }
        live.answers.push(answer);
    }
}

/// Says that an execution has ended, and how to continue it if that is possible.
pub(super) fn has_ended(execution: ExecutionId, status: ExecutionStatus) -> String {
    let next = match status {
        ExecutionStatus::Failed | ExecutionStatus::Cancelled => {
            format!("; to continue it from what failed, retry it: runner.retry('{execution}')")
        }
        _ => String::new(),
    };
    format!("the execution has ended ({status}){next}")
}
