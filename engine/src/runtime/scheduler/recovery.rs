//! Recovery: executions that an earlier process left unfinished are recovered, or held with the reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Scheduler;
use super::requests::has_ended;
use crate::core::decide::Command;
use crate::core::event::{ExecutionId, Request};
use crate::core::graph::difference;
use crate::core::standing::{ExecutionStatus, Standing};
use crate::core::state::Status;
use crate::runtime::errors::EngineError;
use crate::runtime::trace;
use crate::runtime::unfinished::Unfinished;
use crate::runtime::workflow::Workflow;

impl Scheduler {
    /// Recovers every held execution whose workflow is registered with the same graph, and warns about the others.
    pub(super) fn recover_held(&mut self) {
        let ids: Vec<ExecutionId> = self.held.keys().copied().collect();
        let mut by_reason: BTreeMap<(&'static str, Option<String>), Vec<ExecutionId>> = BTreeMap::new();
        for id in ids {
            let Err(standing) = self.try_recover(id, false) else { continue };
            // Each damaged one has a reason of its own, which `replay` shows; the next step is the same for all of them.
            let reason = standing.reason.clone().filter(|_| standing.status != ExecutionStatus::Damaged);
            let reason = (standing.status.name(), reason);
            if self.services.standings.set(id, Some(standing)) {
                by_reason.entry(reason).or_default().push(id);
            }
        }
        // One line for each reason: there may be thousands of executions.
        for ids in by_reason.into_values() {
            if let Some(standing) = ids.first().and_then(|first| self.services.standings.get(*first)) {
                trace::warn_held(&ids, &standing);
            }
        }
    }

    pub(super) fn resume(&mut self, execution: ExecutionId) -> Result<(), EngineError> {
        if !self.held.contains_key(&execution) {
            let why = match self.live.get(&execution).map(|live| live.state.status()) {
                // It is removed shortly after its end is reported.
                Some(status) if status.is_final() => has_ended(execution, status.into()),
                Some(Status::Paused) => "it is paused, not blocked; unpause it".to_owned(),
                Some(_) => "it is already running".to_owned(),
                None => return Err(self.not_live(execution)),
            };
            return Err(EngineError::Rejected { execution, why });
        }
        self.try_recover(execution, true)
            .map_err(|standing| EngineError::Rejected { execution, why: standing.advice().unwrap_or_default() })
    }

    /// Cancels a held execution, also without its workflow: recovers it with its own definition, only to end it. None
    /// of its tasks runs.
    pub(super) fn cancel_held(&mut self, execution: ExecutionId, request: Request) -> Result<(), EngineError> {
        let rejected = |why: String| EngineError::Rejected { execution, why };
        let workflow = match self.held.get(&execution) {
            Some(Unfinished::Resumable(state)) => Arc::new(Workflow::from_log(state.graph())),
            Some(Unfinished::Unreadable(standing)) => return Err(rejected(standing.advice().unwrap_or_default())),
            None => return Err(self.not_live(execution)),
        };
        // Recovering first abandons the attempts of the earlier process, which hold no slot here.
        self.recover(execution, workflow).map_err(rejected)?;
        self.decide(execution, Command::Cancel(request)).map_err(|rejection| rejected(rejection.to_string()))
    }

    /// Recovers a held execution; with another graph only if `on_purpose`. Otherwise returns why it stays held.
    fn try_recover(&mut self, id: ExecutionId, on_purpose: bool) -> Result<(), Standing> {
        let workflow = {
            let state = match self.held.get(&id) {
                Some(Unfinished::Resumable(state)) => state,
                Some(Unfinished::Unreadable(standing)) => return Err((**standing).clone()),
                None => return Ok(()),
            };
            if !self.services.config.recover && !on_purpose {
                return Err(Standing::recovery_is_off(id));
            }
            let name = state.workflow();
            let Some(workflow) = self.services.registry.find(name) else {
                return Err(Standing::not_registered(id, name));
            };
            if let Some(difference) = difference(state.definition(), workflow.graph().definition())
                && !on_purpose
            {
                return Err(Standing::other_graph(id, name, &difference));
            }
            workflow
        };
        self.recover(id, workflow).map_err(|why| Standing::refused(&why))?;
        tracing::info!(execution = %id, "recovered an unfinished execution");
        Ok(())
    }

    /// Makes a held execution live with this workflow.
    fn recover(&mut self, id: ExecutionId, workflow: Arc<Workflow>) -> Result<(), String> {
        let Some(Unfinished::Resumable(state)) = self.held.remove(&id) else { return Ok(()) };
        self.services.standings.set(id, None);
        let definition = (workflow.fingerprint(), workflow.graph().clone());
        self.go_live(*state, workflow);
        let command = Command::Recover { environment: self.services.environment.clone(), definition };
        self.decide(id, command).map_err(|rejection| rejection.to_string())
    }
}
