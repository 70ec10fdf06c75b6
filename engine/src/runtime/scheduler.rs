//! The scheduler: one thread that owns every live execution, and so needs no locks.
//!
//! It takes messages, decides, folds at once, and hands each execution's events to the log as one batch. **Output
//! commit:** the log's acknowledgement performs the effects of a batch, so no attempt runs and no caller is answered
//! before the events that led to it are durable. Meanwhile the scheduler works on other executions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use cloacina_store::log::{AppendError, EventLog};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::attempt::AttemptKey;
use super::clock::Clock;
use super::completion::{Completions, PublishedCompletions};
use super::config::EngineConfig;
use super::errors::EngineError;
use super::message::{Finished, Message, Source};
use super::output_commit::Released;
use super::standings::Standings;
use super::unfinished::Unfinished;
use super::workers::Workers;
use super::workflow::Registry;
use crate::core::decide::{Command, Decision, Effect, Rejection, decide};
use crate::core::event::{Environment, ExecutionId, Key, TaskId};
use crate::core::graph::TaskIndex;
use crate::core::retry::Jitter;
use crate::core::schedule::{Schedule, ScheduleId};
use crate::core::time::Timestamp;
use crate::core::trigger::{Trigger, TriggerId};

mod batches;
mod deferral;
mod live;
mod nested;
mod outbox;
mod recovery;
mod requests;
mod retries;
mod schedules;
mod settle;
mod shutdown;
mod slots;
mod sources;
mod stalls;
mod start;
mod start_many;
mod triggers;
mod waiters;

use live::{Live, LiveSchedule, LiveTrigger, live_triggers};
use slots::{Slots, slot_of};
use waiters::{NestedWaits, Settling, Stalls, Stopping};

/// The services that the scheduler uses.
pub(crate) struct Services {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: EngineConfig,
    pub(crate) environment: Environment,
    pub(crate) clock: Clock,
    pub(crate) workers: Arc<Workers>,
    pub(crate) messages: Receiver<Message>,
    /// The scheduler's own sender, for callbacks on other threads.
    pub(crate) own: Sender<Message>,
    pub(crate) standings: Standings,
    pub(crate) completions: Completions,
}

/// The unfinished streams of a log when it was opened.
pub(crate) struct OpenStreams {
    pub(crate) unfinished: BTreeMap<ExecutionId, Unfinished>,
    pub(crate) schedules: BTreeMap<ScheduleId, Schedule>,
    pub(crate) triggers: BTreeMap<TriggerId, Trigger>,
}

pub(crate) struct Scheduler {
    services: Services,
    live: HashMap<ExecutionId, Live>,
    /// The completions of the live executions.
    completions: PublishedCompletions,
    held: BTreeMap<ExecutionId, Unfinished>,
    /// Executions with ready tasks, round-robin: each gets one slot and moves to the back.
    runnable: VecDeque<ExecutionId>,
    /// Executions with events to append.
    dirty: Vec<ExecutionId>,
    /// Groups of executions that start atomically, each in one batch.
    start_groups: Vec<Vec<ExecutionId>>,
    /// Executions with an attempt that released or took a slot in this turn.
    slots_changed: HashSet<ExecutionId>,
    /// Executions with pending answers.
    to_answer: Vec<ExecutionId>,
    slots: Slots,
    nested: NestedWaits,
    stalls: Stalls,
    released: Released,
    /// The time of this turn by the wall clock, which schedules and triggers use.
    wall: Timestamp,
    /// The time of this turn; all events decided in it get this time.
    now: Timestamp,
    /// The next timer of each live execution, schedule and trigger that has one.
    timers: BTreeSet<(Timestamp, Alarm)>,
    schedules: BTreeMap<ScheduleId, LiveSchedule>,
    triggers: BTreeMap<TriggerId, LiveTrigger>,
    /// Schedules and triggers with events to append, and those with pending answers.
    dirty_sources: Vec<Source>,
    sources_to_answer: Vec<Source>,
    warned: HashSet<(Arc<str>, TaskId, Key)>,
    failed: Option<AppendError>,
    stopping: Option<Stopping>,
    settling: Settling,
}

/// The owner of a timer. Timers that are due at the same time fire in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Source(Source),
    Execution(ExecutionId),
}

/// Maximum number of messages handled in one turn, before its events go to the log.
const MAX_TURN_MESSAGES: usize = 256;

/// Attempts that end within this time after their common release count as ending together. About the time of one flush.
const GATHER_WINDOW: Duration = Duration::from_micros(400);

impl Scheduler {
    pub(crate) fn new(services: Services, open: OpenStreams) -> Self {
        let (now, wall) = (services.clock.now(), services.clock.wall());
        let slots = u32::try_from(services.config.max_concurrent_tasks.max(1)).unwrap_or(u32::MAX);
        Self {
            live: HashMap::new(),
            completions: PublishedCompletions(services.completions.clone()),
            services,
            wall,
            now,
            schedules: open.schedules.into_iter().map(|(id, state)| (id, LiveSchedule::from_log(state))).collect(),
            triggers: live_triggers(open.triggers, &open.unfinished),
            held: open.unfinished,
            dirty_sources: Vec::new(),
            sources_to_answer: Vec::new(),
            runnable: VecDeque::new(),
            dirty: Vec::new(),
            start_groups: Vec::new(),
            slots_changed: HashSet::new(),
            to_answer: Vec::new(),
            slots: Slots::new(slots),
            nested: NestedWaits::new(),
            stalls: Stalls::default(),
            released: Released::new(),
            timers: BTreeSet::new(),
            warned: HashSet::new(),
            failed: None,
            stopping: None,
            settling: Settling::default(),
        }
    }

    /// Runs until it is shut down or all senders are gone.
    pub(crate) fn run(mut self) {
        self.resume_waiting();
        self.finish_turn();
        loop {
            if self.is_done_stopping() {
                return self.stop();
            }
            let received = self.receive();
            self.now = self.services.clock.now();
            self.wall = self.services.clock.wall();
            match received {
                Ok(message) => {
                    self.handle(message);
                    for message in self.services.messages.clone().try_iter().take(MAX_TURN_MESSAGES) {
                        self.handle(message);
                    }
                    self.gather();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.fire_timers();
            self.finish_turn();
            self.answer_if_settled();
        }
    }

    /// Waits for a message, but not past the next timer.
    fn receive(&self) -> Result<Message, RecvTimeoutError> {
        let timer = self.timers.first().and_then(|(due, _)| self.services.clock.instant(*due));
        let stop = self.stopping.as_ref().and_then(Stopping::until);
        match [timer, stop, self.settling.until(), self.stalls.until()].into_iter().flatten().min() {
            Some(deadline) => self.services.messages.recv_deadline(deadline),
            None => self.services.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// With a backlog of ready tasks, waits briefly for the other attempts that were released together with the one
    /// that ended: short tasks end together, and their successors can then share a flush. Without a backlog, or for
    /// longer attempts, returns immediately.
    fn gather(&mut self) {
        let until = self.released.at() + GATHER_WINDOW;
        while !self.runnable.is_empty() && self.slots.are_partly_free() {
            let Ok(message) = self.services.messages.recv_deadline(until) else { return };
            self.handle(message);
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Start { request, id, reply } => self.start(request, id, reply),
            Message::Execute { request, id, then } => self.execute(request, id, then),
            Message::StartMany { starts, reply } => self.start_many(starts, reply),
            Message::Wait { execution, waiter, reply } => {
                let attached = self.attach(execution, waiter);
                let _asker_may_be_gone = reply.send(attached);
            }
            Message::Finished(finished) => finished.into_iter().for_each(|one| self.attempt_finished(one)),
            Message::WaitBegins { ticket, wait } => drop(self.nested.insert(ticket, wait)),
            Message::WaitEnds { ticket } => drop(self.nested.remove(&ticket)),
            Message::OnStall(ask_report) => self.stalls.on_stall(ask_report),
            Message::Activities(report) => self.handle_report(&report),
            Message::Slot { attempt, request } => self.slot_requested(attempt, request),
            Message::Counts { attempt, counts } => self.count(&attempt, counts),
            Message::Registered => self.resume_waiting(),
            Message::Control { execution, control, reply } => match self.control(execution, control) {
                Ok(()) => self.answer_when_durable(
                    execution,
                    Box::new(move |durable| {
                        let answer = durable.map_err(|error| EngineError::Log(error.into()));
                        let _asker_may_be_gone = reply.send(answer);
                    }),
                ),
                Err(error) => drop(reply.send(Err(error))),
            },
            Message::Peek { execution, reply } => self.peek(execution, reply),
            Message::Retry { retry, reply } => self.retry(retry, reply),
            Message::Over { execution, completion } => self.execution_is_over(execution, &completion),
            Message::Refused { execution, error } => self.refused(execution, &error),
            Message::LogFailed(error) => self.log_failed(error),
            Message::Schedules(request) => self.schedule_request(*request),
            Message::Triggers(request) => self.trigger_request(request),
            Message::SourceRefused { source, error } => self.source_refused(source, &error),
            Message::Settle { reply } => self.settle(reply),
            Message::Durable(execution) => self.settling.durable(execution),
            Message::Shutdown { grace, reply } => self.begin_stop(grace, reply),
        }
    }

    /// Picks up executions, schedules and triggers that waited for this engine or for a registration.
    fn resume_waiting(&mut self) {
        self.recover_held();
        self.catch_up_schedules();
        self.sync_triggers();
    }

    fn attempt_finished(&mut self, finished: Finished) {
        let Finished { execution, task, attempt, writes, reads, result } = finished;
        let Some(live) = self.live.get(&execution) else { return };
        let key = (execution, task.clone(), attempt);
        let slot = slot_of(&live.state, &key);
        let command = Command::AttemptFinished { task, attempt, writes, reads, result, jitter: jitter() };
        match self.decide(execution, command) {
            Ok(()) => {
                if let Some(slot) = slot {
                    self.slots.leave(&key, slot);
                }
            }
            Err(rejection) => tracing::debug!(%execution, %rejection, "a late result was ignored"),
        }
    }

    /// Starts the timeout of an attempt, or marks it as not counting yet.
    fn count(&mut self, (execution, task, attempt): &AttemptKey, counts: bool) {
        let Some(live) = self.live.get_mut(execution) else { return };
        match live.state.count_attempt(task, *attempt, counts.then_some(self.now)) {
            Ok(()) => self.record(*execution, Decision::default()),
            Err(why) => tracing::debug!(%execution, why, "a late timing report was ignored"),
        }
    }

    fn fire_timers(&mut self) {
        while let Some((_, alarm)) = self.timers.first().copied().filter(|(due, _)| *due <= self.now) {
            let execution = match alarm {
                Alarm::Execution(execution) => execution,
                Alarm::Source(Source::Schedule(id)) => {
                    self.fire_schedule(id);
                    continue;
                }
                Alarm::Source(Source::Trigger(id)) => {
                    self.poll_trigger(id);
                    continue;
                }
            };
            if let Err(rejection) = self.decide(execution, Command::TimerFired { jitter: jitter() }) {
                tracing::error!(%execution, %rejection, "a timer could not fire; this is a bug");
                self.timers.pop_first();
            }
        }
    }

    fn decide(&mut self, execution: ExecutionId, command: Command) -> Result<(), Rejection> {
        let Some(live) = self.live.get_mut(&execution) else { return Ok(()) };
        let decision = decide(&mut live.state, command, self.now)?;
        self.record(execution, decision);
        Ok(())
    }

    /// Records a decision until the end of the turn. Effects that need no durability are performed immediately.
    fn record(&mut self, execution: ExecutionId, decision: Decision) {
        let Some(live) = self.live.get_mut(&execution) else { return };
        if live.events.is_empty() && !decision.events.is_empty() {
            self.dirty.push(execution);
        }
        live.events.extend(decision.events);
        let next = live.state.next_timer().map(|(due, _)| due);
        if next != live.timer {
            live.timer.map(|due| self.timers.remove(&(due, Alarm::Execution(execution))));
            next.map(|due| self.timers.insert((due, Alarm::Execution(execution))));
            live.timer = next;
        }
        if !live.in_runnable && live.state.ready().next().is_some() {
            live.in_runnable = true;
            self.runnable.push_back(execution);
        }
        for effect in decision.effects {
            match effect {
                Effect::UndeclaredRead { task, key, writer } => {
                    warn_undeclared(&mut self.warned, live.state.workflow(), task, key, &writer)
                }
                Effect::Collided { task, collision } => {
                    tracing::warn!(
                        %execution, %task, key = %collision.key,
                        "concurrent branches wrote context key '{}'; task '{task}' sees the value of the one later in its dependencies",
                        collision.key
                    );
                }
                Effect::Stop { task, attempt, worker } => {
                    self.slots.leave(&(execution, live.state.graph().name(task).clone(), attempt), worker);
                    live.effects.push(effect);
                }
                Effect::Run { .. } | Effect::Answer => live.effects.push(effect),
            }
        }
    }

    /// Gives free slots to ready tasks, and hands all new events to the log.
    fn finish_turn(&mut self) {
        self.fill_slots();
        self.refuse_deadlocked_wait(&[]);
        self.check_for_stall();
        self.update_standings();
        self.append_dirty();
        for execution in std::mem::take(&mut self.to_answer) {
            let Some(live) = self.live.get_mut(&execution) else { continue };
            let durable = live.durable.clone();
            std::mem::take(&mut live.answers).into_iter().for_each(|answer| durable.wait(answer));
        }
        for source in std::mem::take(&mut self.sources_to_answer) {
            if let Some(outbox) = self.outbox(source) {
                outbox.release_answers();
            }
        }
        self.forget_deleted_schedules();
    }

    fn fill_slots(&mut self) {
        if self.failed.is_some() {
            return;
        }
        self.resume_deferred();
        if self.stopping.is_some() {
            return;
        }
        while let Some(worker) = self.slots.take() {
            let Some((execution, task)) = self.next_ready() else { return self.slots.put(worker) };
            if let Err(rejection) = self.decide(execution, Command::StartTask { task, worker }) {
                self.slots.put(worker);
                tracing::error!(%execution, %rejection, "a ready task could not be started; this is a bug");
            }
        }
    }

    /// The next ready task, round-robin over the executions.
    fn next_ready(&mut self) -> Option<(ExecutionId, TaskIndex)> {
        while let Some(execution) = self.runnable.pop_front() {
            let Some(live) = self.live.get_mut(&execution) else { continue };
            live.in_runnable = false;
            if let Some(task) = live.state.ready().next() {
                return Some((execution, task));
            }
        }
        None
    }
}

fn warn_undeclared(
    warned: &mut HashSet<(Arc<str>, TaskId, Key)>,
    workflow: &Arc<str>,
    task: TaskId,
    key: Key,
    writer: &TaskId,
) {
    if warned.insert((workflow.clone(), task.clone(), key.clone())) {
        tracing::warn!(
            %workflow, %task, %key, %writer,
            "`{task}` reads `{key}`, which `{writer}` writes: add it to its dependencies"
        );
    }
}

fn jitter() -> Jitter {
    Jitter(rand::random_range(0..=1_000))
}
