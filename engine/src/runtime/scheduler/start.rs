//! Starting an execution, or attaching to the existing one with that id.

use std::sync::Arc;

use cloacina_store::log::ReadError;

use super::Scheduler;
use super::live::Live;
use crate::core::decide::{Decision, Rejection, Start, start};
use crate::core::event::{Cause, ExecutionId, Key};
use crate::core::graph::nearest;
use crate::core::json::Json;
use crate::core::state::Execution;
use crate::runtime::config::StartRequest;
use crate::runtime::errors::StartError;
use crate::runtime::ids::{ForeignId, stream_of};
use crate::runtime::message::{Executed, Reply};
use crate::runtime::outcome::listed;
use crate::runtime::workflow::Workflow;

/// A new execution that is not live yet.
pub(super) type NewExecution = (Execution, Decision, Arc<Workflow>);

impl Scheduler {
    pub(super) fn start(
        &mut self,
        request: StartRequest,
        id: ExecutionId,
        reply: Reply<Result<ExecutionId, StartError>>,
    ) {
        match self.admit(id, request) {
            Ok(new) => {
                if let Some((state, decision, workflow)) = new {
                    self.go_live(state, workflow);
                    self.record(id, decision);
                }
                self.answer_started(id, reply);
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Starts an execution and waits for its end, with one answer.
    pub(super) fn execute(&mut self, request: StartRequest, id: ExecutionId, then: Box<dyn FnOnce(Executed) + Send>) {
        match self.admit(id, request) {
            Ok(Some((state, decision, workflow))) => {
                self.go_live(state, workflow);
                self.record(id, decision);
            }
            Ok(None) => {}
            Err(error) => return then(Executed::Refused(error)),
        }
        match self.live.get(&id) {
            Some(live) => live.completion.wait(Box::new(move |end| then(Executed::Ended(end)))),
            None => then(Executed::NotLive),
        }
    }

    /// Decides on the start of an execution; `None` if it exists and can be attached to.
    pub(super) fn admit(&self, id: ExecutionId, request: StartRequest) -> Result<Option<NewExecution>, StartError> {
        if request.execution.is_some()
            && let Some(answer) = self.existing(id, &request.workflow)
        {
            return answer.map(|()| None);
        }
        if let Some(error) = &self.failed {
            return Err(StartError::Log(error.clone().into()));
        }
        if self.stopping.is_some() {
            return Err(StartError::ShutDown);
        }
        let Some(workflow) = self.services.registry.find(&request.workflow) else {
            return Err(self.unknown_workflow(&request.workflow));
        };
        let new = self.new_execution(id, workflow, request.cause, request.input);
        new.map(Some).map_err(|rejection| StartError::Log(rejection.into()))
    }

    /// Starts an execution and makes it live.
    pub(super) fn begin(
        &mut self,
        id: ExecutionId,
        workflow: Arc<Workflow>,
        cause: Cause,
        input: Vec<(Key, Json)>,
    ) -> Result<(), Rejection> {
        let (state, decision, workflow) = self.new_execution(id, workflow, cause, input)?;
        self.go_live(state, workflow);
        self.record(id, decision);
        Ok(())
    }

    fn new_execution(
        &self,
        id: ExecutionId,
        workflow: Arc<Workflow>,
        cause: Cause,
        input: Vec<(Key, Json)>,
    ) -> Result<NewExecution, Rejection> {
        let begin = Start {
            id,
            graph: workflow.graph().clone(),
            fingerprint: workflow.fingerprint(),
            cause,
            environment: self.services.environment.clone(),
            options: self.services.config.execution_options(),
            input,
        };
        let (state, decision) = start(begin, self.now)?;
        Ok((state, decision, workflow))
    }

    /// Whether the execution with this id can be attached to; `None` if there is none. Only the scheduler's thread can
    /// tell: for any other, the execution may start and end between the check and the start.
    pub(super) fn existing(&self, id: ExecutionId, asked: &Arc<str>) -> Option<Result<(), StartError>> {
        let other = |workflow: &Arc<str>| {
            let other =
                || StartError::OtherWorkflow { execution: id, workflow: workflow.clone(), asked: asked.clone() };
            (workflow != asked).then(other)
        };
        if let Some(live) = self.live.get(&id) {
            return Some(other(live.state.workflow()).map_or(Ok(()), Err));
        }
        let entry = self.services.log.stream(stream_of(id));
        if let Ok(entry) = &entry
            && let Err(foreign) = ForeignId::check(id, entry.kind)
        {
            return Some(Err(foreign.into()));
        }
        if let Ok(entry) = &entry
            && let Ok(listed) = listed(entry, None)
            && let Some(other) = other(&listed.workflow)
        {
            return Some(Err(other));
        }
        match entry {
            Err(ReadError::NoStream(_)) => None,
            Err(error) => Some(Err(StartError::Log(error.into()))),
            Ok(entry) if !entry.open => Some(Ok(())),
            Ok(_) => Some(match (self.services.standings.held(id), &self.failed) {
                (Some(standing), _) => Err(StartError::Blocked { execution: id, standing: Box::new(standing) }),
                (None, Some(error)) => Err(StartError::Log(error.clone().into())),
                (None, None) => Ok(()),
            }),
        }
    }

    pub(super) fn answer_started(&mut self, id: ExecutionId, reply: Reply<Result<ExecutionId, StartError>>) {
        self.answer_when_durable(
            id,
            Box::new(move |durable| {
                let answer = durable.map(|()| id).map_err(|error| StartError::Log(error.into()));
                let _asker_may_be_gone = reply.send(answer);
            }),
        );
    }

    pub(super) fn unknown_workflow(&self, name: &Arc<str>) -> StartError {
        let names = self.services.registry.names();
        let nearest = nearest(name, names.iter().map(|name| &**name)).map(Into::into);
        StartError::UnknownWorkflow { name: name.clone(), nearest }
    }

    pub(super) fn go_live(&mut self, state: Execution, workflow: Arc<Workflow>) {
        let live = Live {
            workflow,
            completion: Arc::default(),
            events: Vec::new(),
            effects: Vec::new(),
            answers: Vec::new(),
            durable: Arc::default(),
            in_runnable: false,
            timer: None,
            state,
        };
        self.completions.0.insert(live.state.id(), live.completion.clone());
        self.live.insert(live.state.id(), live);
    }

    /// Removes a live execution.
    pub(super) fn forget_live(&mut self, execution: ExecutionId) -> Option<Live> {
        self.completions.0.remove(execution);
        self.live.remove(&execution)
    }
}
