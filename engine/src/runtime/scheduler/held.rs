//! Executions that another process left unfinished: taken over, or held with the reason.

use std::sync::Arc;

use super::Scheduler;
use crate::core::decide::Command;
use crate::core::event::{ExecutionId, Request};
use crate::core::graph::difference;
use crate::core::state::Status;
use crate::runtime::engine::{EngineError, lock};
use crate::runtime::message::Unfinished;
use crate::runtime::workflow::Workflow;

impl Scheduler {
    /// Takes over every held execution whose workflow is registered with the same graph, and says why not of the others.
    pub(super) fn take_over_held(&mut self) {
        let ids: Vec<ExecutionId> = self.held.keys().copied().collect();
        for id in ids {
            if let Err(why) = self.take_over(id, false) {
                lock(&self.shell.held_reasons).insert(id, why);
            }
        }
    }

    pub(super) fn resume(&mut self, execution: ExecutionId) -> Result<(), EngineError> {
        if !self.held.contains_key(&execution) {
            let why = match self.live.get(&execution).map(|live| live.state.status()) {
                // Its end is told a moment before it is let go of.
                Some(status) if status.is_final() => format!("the execution has ended ({})", status.name()),
                Some(Status::Paused) => "it is paused, not blocked; unpause it".to_owned(),
                Some(_) => "it runs already".to_owned(),
                None => return Err(self.not_live(execution)),
            };
            return Err(EngineError::Rejected { execution, why });
        }
        self.take_over(execution, true).map_err(|why| EngineError::Rejected { execution, why })
    }

    /// Cancels a held execution, whatever became of its workflow: it is taken over as it began, only to end it, and none
    /// of its tasks runs.
    pub(super) fn cancel_held(&mut self, execution: ExecutionId, request: Request) -> Result<(), EngineError> {
        let rejected = |why: String| EngineError::Rejected { execution, why };
        let workflow = match self.held.get(&execution) {
            Some(Unfinished::Whole(state)) => Arc::new(Workflow::of_the_past(state.graph())),
            Some(Unfinished::Broken(why)) => return Err(rejected(why.clone())),
            None => return Err(self.not_live(execution)),
        };
        // First the attempts that its process took with it: they hold no slot here.
        self.recover(execution, workflow).map_err(rejected)?;
        self.decide(execution, Command::Cancel(request)).map_err(|rejection| rejected(rejection.to_string()))
    }

    /// Takes a held execution over; with another graph only `on_purpose`.
    fn take_over(&mut self, id: ExecutionId, on_purpose: bool) -> Result<(), String> {
        let workflow = {
            let state = match self.held.get(&id) {
                Some(Unfinished::Whole(state)) => state,
                Some(Unfinished::Broken(why)) => return Err(why.clone()),
                None => return Err("it is not held".to_owned()),
            };
            if !self.shell.config.recover && !on_purpose {
                return Err("recovery is turned off (enable_recovery)".to_owned());
            }
            let name = state.workflow();
            let Some(workflow) = self.shell.registry.find(name) else {
                return Err(format!("workflow '{name}' is not registered in this process"));
            };
            if let Some(difference) = difference(state.definition(), workflow.graph().definition())
                && !on_purpose
            {
                return Err(format!("workflow '{name}' has another graph now: {difference}"));
            }
            workflow
        };
        self.recover(id, workflow)?;
        tracing::info!(execution = %id, "took over an unfinished execution");
        Ok(())
    }

    /// Makes a held execution live, with this workflow.
    fn recover(&mut self, id: ExecutionId, workflow: Arc<Workflow>) -> Result<(), String> {
        let Some(Unfinished::Whole(state)) = self.held.remove(&id) else { return Ok(()) };
        lock(&self.shell.held_reasons).remove(&id);
        let definition = (workflow.fingerprint(), workflow.graph().clone());
        self.go_live(*state, workflow);
        let command = Command::Recover { environment: self.shell.environment.clone(), definition };
        self.decide(id, command).map_err(|rejection| rejection.to_string())
    }
}
