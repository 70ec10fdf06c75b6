//! Output commit: the log's acknowledgement performs the effects of a batch once it is durable.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cloacina_store::log::{AppendError, Appended};
use crossbeam_channel::Sender;

use super::attempt::AttemptInfo;
use super::completion::{Completion, Durable, Promise};
use super::errors::WaitError;
use super::handle::TaskHandle;
use super::message::{Finished, Message};
use super::outcome::Outcome;
use super::task::{AttemptEnd, Notice, Observer, Results, TaskResult};
use super::trace;
use super::workers::Workers;
use super::workflow::Workflow;
use crate::core::context::values;
use crate::core::decide::Effect;
use crate::core::event::{Attempt, Event, ExecutionId, TaskError};
use crate::core::fold::Recorded;
use crate::core::graph::TaskIndex;
use crate::core::state::Execution;
use crate::core::task_context::{TaskContext, Write};

/// The effects of an execution's batch, performed once it is durable.
pub(super) struct Acknowledged {
    pub(super) execution: ExecutionId,
    pub(super) events: Vec<Recorded>,
    pub(super) notices: Vec<(Arc<Observer>, Notice)>,
    pub(super) effects: Vec<Effect>,
    pub(super) outcome: Option<Arc<Outcome>>,
    pub(super) durable: Arc<Promise<Durable>>,
    pub(super) completion: Arc<Completion>,
    pub(super) workflow: Arc<Workflow>,
    pub(super) strict: bool,
    pub(super) max_value_bytes: usize,
    pub(super) workers: Arc<Workers>,
    pub(super) released: Released,
    pub(super) own: Sender<Message>,
}

impl Acknowledged {
    /// Runs on the log's writer thread and must not block.
    pub(super) fn perform(mut self, result: Result<Appended, AppendError>) {
        if let Err(error) = result {
            // Tell the scheduler first, so that a caller who gets the error and asks again gets the same answer.
            let reason = error.clone();
            let _scheduler_may_be_gone = self.own.send(match error {
                AppendError::Conflict { .. } | AppendError::Invalid(_) => {
                    Message::Refused { execution: self.execution, error: reason }
                }
                _ => Message::LogFailed(reason),
            });
            self.durable.complete(Err(error.clone()));
            self.completion.complete(Err(WaitError::Log(error.into())));
            return;
        }
        self.durable.complete(Ok(()));
        for recorded in &self.events {
            trace::trace_event(self.execution, self.workflow.name(), &recorded.event);
        }
        for (observer, notice) in std::mem::take(&mut self.notices) {
            let _an_observer_that_panics_lets_go_of_its_notice = catch_unwind(AssertUnwindSafe(|| observer(notice)));
        }
        for effect in &self.effects {
            match effect {
                Effect::Run { task, attempt, view } => {
                    let context = TaskContext::new((**view).clone(), self.strict);
                    self.released.now();
                    self.run(*task, *attempt, context);
                }
                Effect::Stop { task, attempt, .. } => {
                    self.workers.stop(self.execution, self.workflow.graph().name(*task), *attempt);
                }
                Effect::Answer => {
                    // After the answer: a caller who asks while a notice delays the answer has to wait, too.
                    let (own, execution) = (self.own.clone(), self.execution);
                    let completion = Arc::downgrade(&self.completion);
                    self.completion.wait(Box::new(move |_| {
                        let _scheduler_may_be_gone = own.send(Message::Over { execution, completion });
                    }));
                    if let Some(outcome) = &self.outcome {
                        self.completion.answer(Ok(outcome.clone()));
                    }
                }
                Effect::UndeclaredRead { .. } | Effect::Collided { .. } => {}
            }
        }
    }

    fn run(&self, task: TaskIndex, attempt: Attempt, context: TaskContext) {
        let graph = self.workflow.graph();
        let info = AttemptInfo {
            execution: self.execution,
            workflow: self.workflow.name().clone(),
            task: graph.name(task).clone(),
            attempt,
        };
        let (execution, name, own, limit) = (self.execution, info.task.clone(), self.own.clone(), self.max_value_bytes);
        let report = Box::new(move |context: TaskContext, result: TaskResult, results: &mut Results| {
            let (writes, reads) = context.finish();
            let (writes, result) = refuse_long_values(writes, result, limit);
            results.add(&own, Finished { execution, task: name, attempt, writes, reads, result });
        });
        let handle = TaskHandle::new(info, self.own.clone());
        self.workers.start(&self.workflow.bodies[task.at()], handle, context, report);
    }
}

/// Returns the notices for observers of the attempts that ended with these events.
pub(super) fn notices(
    state: &Execution,
    workflow: &Workflow,
    completion: &Arc<Completion>,
    events: &[Recorded],
) -> Vec<(Arc<Observer>, Notice)> {
    let ended = events.iter().filter_map(|recorded| match &recorded.event {
        Event::TaskCompleted(ended) => Some((&ended.task, ended.attempt, AttemptEnd::Completed)),
        Event::TaskFailed(ended) if ended.retry_at.is_some() => {
            Some((&ended.task, ended.attempt, AttemptEnd::Retrying(ended.error.clone())))
        }
        Event::TaskFailed(ended) => Some((&ended.task, ended.attempt, AttemptEnd::Failed(ended.error.clone()))),
        _ => None,
    });
    ended
        .filter_map(|(task, attempt, end)| {
            let index = state.graph().find(task)?;
            let observer = workflow.observers[index.at()].clone()?;
            let context = match end {
                AttemptEnd::Completed => state.gives(index)?,
                AttemptEnd::Retrying(_) | AttemptEnd::Failed(_) => state.view(index).declared,
            };
            let context = values(&context).map(|(key, value)| (key.clone(), value.clone())).collect();
            let info =
                AttemptInfo { execution: state.id(), workflow: state.workflow().clone(), task: task.clone(), attempt };
            Some((observer, Notice { info, end, context, _hold: completion.hold() }))
        })
        .collect()
}

/// Fails an attempt that wrote a value over the limit, and drops that value only.
fn refuse_long_values(
    writes: Vec<Write>,
    result: Result<(), TaskError>,
    limit: usize,
) -> (Vec<Write>, Result<(), TaskError>) {
    let length = |write: &Write| write.value.as_ref().map_or(0, |value| value.as_str().len());
    let Some(long) = writes.iter().find(|write| length(write) > limit) else { return (writes, result) };
    let message = format!(
        "context key '{}': the value has {} bytes of JSON, more than max_value_bytes ({limit})",
        long.key,
        length(long)
    );
    let lineage = vec!["ValueTooLarge".into()];
    let error = TaskError { kind: "ValueTooLarge".into(), message: message.into(), lineage, ..TaskError::default() };
    (writes.into_iter().filter(|write| length(write) <= limit).collect(), result.and(Err(error)))
}

/// When attempts were last released to run.
#[derive(Clone)]
pub(super) struct Released {
    began: Instant,
    micros: Arc<AtomicU64>,
}

impl Released {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), micros: Arc::default() }
    }

    fn now(&self) {
        let micros = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.micros.store(micros, Ordering::Relaxed);
    }

    pub(super) fn at(&self) -> Instant {
        self.began + Duration::from_micros(self.micros.load(Ordering::Relaxed))
    }
}
