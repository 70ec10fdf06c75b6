//! Starting several executions atomically, in one batch of the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina_store::log::{Acknowledge, Batch};

use super::Scheduler;
use crate::core::event::ExecutionId;
use crate::runtime::completion::{Answer, Durable};
use crate::runtime::config::StartRequest;
use crate::runtime::errors::{StartError, StartManyError};
use crate::runtime::message::Reply;
use crate::runtime::output_commit::Acknowledged;

/// Replies once all of several answers have arrived, or with the first error.
struct JoinedReply {
    left: AtomicUsize,
    reply: Reply<Result<(), StartManyError>>,
}

impl JoinedReply {
    fn answer(&self, at: usize, durable: Durable) {
        let reply = match durable {
            Ok(()) if self.left.fetch_sub(1, Ordering::SeqCst) > 1 => return,
            Ok(()) => Ok(()),
            Err(error) => Err(StartManyError { at, why: StartError::Log(error.into()) }),
        };
        // Only the first reply counts, and the asker may be gone.
        let _ = self.reply.try_send(reply);
    }
}

impl Scheduler {
    pub(super) fn start_many(
        &mut self,
        starts: Vec<(ExecutionId, StartRequest)>,
        reply: Reply<Result<(), StartManyError>>,
    ) {
        match self.begin_all(starts) {
            Ok(waits_for) => self.answer_all_started(waits_for, reply),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    /// Starts executions, or attaches to existing ones. Returns the executions whose durability the reply waits for,
    /// with the index of their request. An error changes nothing.
    fn begin_all(
        &mut self,
        starts: Vec<(ExecutionId, StartRequest)>,
    ) -> Result<Vec<(usize, ExecutionId)>, StartManyError> {
        let (mut existing, mut new) = (Vec::new(), Vec::with_capacity(starts.len()));
        let mut names: HashMap<ExecutionId, Arc<str>> = HashMap::new();
        for (at, (id, request)) in starts.into_iter().enumerate() {
            let is_named = request.execution.is_some();
            if let Some(workflow) = names.get(&id).filter(|_| is_named) {
                if *workflow == request.workflow {
                    continue;
                }
                let why =
                    StartError::OtherWorkflow { execution: id, workflow: workflow.clone(), asked: request.workflow };
                return Err(StartManyError { at, why });
            }
            if is_named {
                names.insert(id, request.workflow.clone());
            }
            match self.admit(id, request).map_err(|why| StartManyError { at, why })? {
                Some(execution) => new.push((at, id, execution)),
                None => existing.push((at, id)),
            }
        }
        // They share a batch, so waiting for the last one is enough.
        let mut waits_for = existing;
        waits_for.extend(new.last().map(|(at, id, _)| (*at, *id)));
        let group = new.iter().map(|(_, id, _)| *id).collect();
        for (_, id, (state, decision, workflow)) in new {
            self.go_live(state, workflow);
            self.record(id, decision);
        }
        self.start_groups.push(group);
        Ok(waits_for)
    }

    fn answer_all_started(&mut self, waits_for: Vec<(usize, ExecutionId)>, reply: Reply<Result<(), StartManyError>>) {
        let joint = Arc::new(JoinedReply { left: AtomicUsize::new(waits_for.len()), reply });
        for (at, id) in waits_for {
            let joint = joint.clone();
            self.answer_when_durable(id, Box::new(move |durable| joint.answer(at, durable)) as Answer);
        }
    }

    /// The batches of the groups of executions that start in this turn.
    pub(super) fn group_batches(&mut self) -> Vec<(Batch, Acknowledge)> {
        let groups = std::mem::take(&mut self.start_groups);
        groups.into_iter().filter_map(|executions| self.group_batch(executions)).collect()
    }

    fn group_batch(&mut self, executions: Vec<ExecutionId>) -> Option<(Batch, Acknowledge)> {
        let (mut joint, mut acknowledged) = (Batch::default(), Vec::with_capacity(executions.len()));
        for execution in executions {
            acknowledged.extend(self.add_to_batch(&mut joint, execution));
        }
        let perform = move |result: Result<_, _>| {
            acknowledged.into_iter().for_each(|one: Acknowledged| one.perform(result.clone()));
        };
        (!joint.frames.is_empty()).then_some((joint, Box::new(perform)))
    }

    /// Adds the new events of an execution to a batch.
    pub(super) fn add_to_batch(&mut self, joint: &mut Batch, execution: ExecutionId) -> Option<Acknowledged> {
        let (batch, acknowledged) = self.batch(execution)?;
        for definition in batch.definitions {
            if !joint.definitions.contains(&definition) {
                joint.definitions.push(definition);
            }
        }
        joint.frames.extend(batch.frames);
        Some(acknowledged)
    }
}
