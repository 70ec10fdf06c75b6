//! The scheduler: one thread that owns every live execution, and so needs no locks.
//!
//! It takes messages, decides, folds at once, and hands each execution's events to the log as one batch. **Output
//! commit:** the effects of a batch are performed by the log's acknowledgement, so nothing runs and nobody is answered
//! before what led to it is durable; meanwhile the scheduler goes on with other executions.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cloacina_store::log::{AppendError, Batch, Definition as StoredDefinition, EventLog, Frame, Listing, ReadError};
use cloacina_store::record::{Hash, StreamKind, Timestamp as StoreTimestamp};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::clock::Clock;
use super::completion::{Completion, Durable, Promise, Waiter};
use super::engine::{EngineConfig, EngineError, StartError, StartRequest, WaitError};
use super::message::{Attached, AttemptKey, Control, Finished, HeldReasons, Message, Reply, SlotRequest, Unfinished};
use super::outcome::{listed, outcome, stream_of};
use super::output_commit::{Acknowledged, Released, notices};
use super::workers::Workers;
use super::workflow::{Registry, Workflow};
use crate::core::codec;
use crate::core::decide::{Command, Decision, Effect, Rejection, Start, decide, encode, label, start};
use crate::core::event::{Attempt, Cause, Environment, Event, ExecutionId, ExecutionOptions, Key, Request, TaskId};
use crate::core::fold::Recorded;
use crate::core::graph::{TaskIndex, nearest};
use crate::core::json::Json;
use crate::core::retry::Jitter;
use crate::core::schedule::ScheduleId;
use crate::core::state::{Execution, Status, TaskState};
use crate::core::time::Timestamp;
use crate::core::trigger::TriggerId;

mod held;
mod outbox;
mod schedules;
mod settling;
mod slots;
mod triggers;

pub(crate) use outbox::Source;
pub(crate) use schedules::LiveSchedule;
use settling::Settling;
use slots::{Slots, first_slot, over};
pub(crate) use triggers::LiveTrigger;

/// What the scheduler works with.
pub(crate) struct Shell {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) config: EngineConfig,
    pub(crate) environment: Environment,
    pub(crate) clock: Clock,
    pub(crate) workers: Arc<Workers>,
    pub(crate) messages: Receiver<Message>,
    /// A way back to itself, for what happens on other threads.
    pub(crate) own: Sender<Message>,
    pub(crate) held_reasons: HeldReasons,
}

/// What a log was found to hold when it was opened.
pub(crate) struct Found {
    pub(crate) unfinished: BTreeMap<ExecutionId, Unfinished>,
    pub(crate) schedules: BTreeMap<ScheduleId, LiveSchedule>,
    pub(crate) triggers: BTreeMap<TriggerId, LiveTrigger>,
}

/// An answer that waits for what it tells to be durable.
type Answer = Box<dyn FnOnce(Durable) + Send>;

/// A live execution.
struct Live {
    state: Execution,
    workflow: Arc<Workflow>,
    completion: Arc<Completion>,
    /// Decided in this turn, not yet handed to the log.
    events: Vec<Recorded>,
    effects: Vec<Effect>,
    /// Answers of this turn, which wait for everything decided so far.
    answers: Vec<Answer>,
    /// Whether the last batch that was handed to the log is durable, and so all before it.
    durable: Arc<Promise<Durable>>,
    in_runnable: bool,
    /// Its entry in the queue of timers.
    timer: Option<Timestamp>,
}

pub(crate) struct Scheduler {
    shell: Shell,
    live: HashMap<ExecutionId, Live>,
    held: BTreeMap<ExecutionId, Unfinished>,
    /// Executions with ready tasks; each gets one slot before it goes to the end again.
    runnable: VecDeque<ExecutionId>,
    /// Executions with something for the log.
    touched: Vec<ExecutionId>,
    /// Executions with answers.
    asked: Vec<ExecutionId>,
    slots: Slots,
    released: Released,
    /// The time of this turn: everything that is decided in it happens then.
    now: Timestamp,
    /// The next timer of each live execution, schedule and trigger that has one.
    timers: BTreeSet<(Timestamp, Alarm)>,
    schedules: BTreeMap<ScheduleId, LiveSchedule>,
    triggers: BTreeMap<TriggerId, LiveTrigger>,
    /// Schedules and triggers with something for the log, and with answers.
    touched_sources: Vec<Source>,
    asked_sources: Vec<Source>,
    warned: HashSet<(Arc<str>, TaskId, Key)>,
    failed: Option<AppendError>,
    stopping: Option<Stopping>,
    settling: Settling,
}

/// Whose timer it is. What is due at the same time rings in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Source(Source),
    Execution(ExecutionId),
}

struct Stopping {
    /// `None` lies beyond all clocks.
    until: Option<Instant>,
    reply: Reply<Result<(), EngineError>>,
}

/// Messages that are taken before what they led to goes to the log.
const TURN: usize = 256;

/// How long after they were let go attempts count as ones that end together. About as long as a flush takes.
const TOGETHER: Duration = Duration::from_micros(400);

impl Scheduler {
    pub(crate) fn new(shell: Shell, found: Found) -> Self {
        let now = shell.clock.now();
        let slots = u32::try_from(shell.config.max_concurrent_tasks.max(1)).unwrap_or(u32::MAX);
        Self {
            shell,
            now,
            live: HashMap::new(),
            held: found.unfinished,
            schedules: found.schedules,
            triggers: found.triggers,
            touched_sources: Vec::new(),
            asked_sources: Vec::new(),
            runnable: VecDeque::new(),
            touched: Vec::new(),
            asked: Vec::new(),
            slots: Slots::new(slots),
            released: Released::new(),
            timers: BTreeSet::new(),
            warned: HashSet::new(),
            failed: None,
            stopping: None,
            settling: Settling::default(),
        }
    }

    /// Runs until it is shut down, or nobody is left who could ask for anything.
    pub(crate) fn run(mut self) {
        self.attend();
        self.finish_turn();
        loop {
            if self.is_done_stopping() {
                return self.stop();
            }
            let received = self.receive();
            self.now = self.shell.clock.now();
            match received {
                Ok(message) => {
                    self.take(message);
                    for message in self.shell.messages.clone().try_iter().take(TURN) {
                        self.take(message);
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
        let timer = self.timers.first().and_then(|(due, _)| self.shell.clock.instant(*due));
        let stop = self.stopping.as_ref().and_then(|stopping| stopping.until);
        match [timer, stop, self.settling.until()].into_iter().flatten().min() {
            Some(deadline) => self.shell.messages.recv_deadline(deadline),
            None => self.shell.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Where more is ready than there are slots, waits a moment for the other attempts that were let go together with the
    /// one that has ended: short tasks end together, and their successors can then share a flush. Without a backlog, and
    /// for attempts that run longer, nobody waits.
    fn gather(&mut self) {
        let until = self.released.at() + TOGETHER;
        while !self.runnable.is_empty() && self.slots.are_partly_free() {
            let Ok(message) = self.shell.messages.recv_deadline(until) else { return };
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Start { request, id, reply } => self.start(request, id, reply),
            Message::Wait { execution, waiter, reply } => {
                let attached = self.attach(execution, waiter);
                let _asker_may_be_gone = reply.send(attached);
            }
            Message::Finished(finished) => self.attempt_finished(finished),
            Message::Slot { attempt, request } => self.slot_requested(attempt, request),
            Message::Registered => self.attend(),
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
            Message::Over(execution) => {
                let answers = self.live.remove(&execution).map(|live| live.answers);
                answers.into_iter().flatten().for_each(|answer| answer(Ok(())));
            }
            Message::Refused { execution, error } => self.refused(execution, &error),
            Message::LogFailed(error) => self.log_failed(error),
            Message::Schedules(request) => self.schedule_request(*request),
            Message::Triggers(request) => self.trigger_request(request),
            Message::SourceRefused { source, error } => self.source_refused(source, &error),
            Message::Settle { reply } => self.settle(reply),
            Message::Durable(execution) => self.settling.durable(execution),
            Message::Shutdown { grace, reply } => {
                self.stopping.get_or_insert(Stopping { until: Instant::now().checked_add(grace), reply });
                self.disarm_all();
            }
        }
    }

    /// Looks after whatever waited for something to be registered, or for this engine.
    fn attend(&mut self) {
        self.take_over_held();
        self.attend_schedules();
        self.attend_triggers();
    }

    fn start(&mut self, request: StartRequest, id: ExecutionId, reply: Reply<Result<ExecutionId, StartError>>) {
        let refuse = |error| drop(reply.send(Err(error)));
        if request.execution.is_some()
            && let Some(answer) = self.existing(id, &request.workflow)
        {
            return match answer {
                Ok(()) => self.answer_started(id, reply),
                Err(error) => refuse(error),
            };
        }
        if let Some(error) = &self.failed {
            return refuse(StartError::Log(error.clone().into()));
        }
        if self.stopping.is_some() {
            return refuse(StartError::ShutDown);
        }
        let Some(workflow) = self.shell.registry.find(&request.workflow) else {
            return refuse(self.unknown_workflow(&request.workflow));
        };
        match self.begin(id, workflow, request.cause, request.input) {
            Ok(()) => self.answer_started(id, reply),
            Err(rejection) => refuse(StartError::Log(rejection.into())),
        }
    }

    /// Begins an execution.
    fn begin(
        &mut self,
        id: ExecutionId,
        workflow: Arc<Workflow>,
        cause: Cause,
        input: Vec<(Key, Json)>,
    ) -> Result<(), Rejection> {
        let config = &self.shell.config;
        let begin = Start {
            id,
            graph: workflow.graph().clone(),
            fingerprint: workflow.fingerprint(),
            cause,
            environment: self.shell.environment.clone(),
            options: ExecutionOptions {
                timeout: config.workflow_timeout,
                task_timeout: config.task_timeout,
                strict_context: config.strict_context,
                max_recoveries: config.max_recoveries,
            },
            input,
        };
        let (state, decision) = start(begin, self.now)?;
        self.go_live(state, workflow);
        self.keep(id, decision);
        Ok(())
    }

    /// Whether an execution of this workflow with this id can be attached to; `None` if there is none. Only this thread
    /// can tell: on any other, it may begin and end between the question and the start.
    fn existing(&self, id: ExecutionId, asked: &Arc<str>) -> Option<Result<(), StartError>> {
        let other = |workflow: &Arc<str>| {
            let other =
                || StartError::OtherWorkflow { execution: id, workflow: workflow.clone(), asked: asked.clone() };
            (workflow != asked).then(other)
        };
        if let Some(live) = self.live.get(&id) {
            return Some(other(live.state.workflow()).map_or(Ok(()), Err));
        }
        let entry = self.shell.log.stream(stream_of(id));
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
            Ok(_) => Some(match (self.held_reason(id), &self.failed) {
                (Some(why), _) => Err(StartError::Blocked { execution: id, why }),
                (None, Some(error)) => Err(StartError::Log(error.clone().into())),
                (None, None) => Ok(()),
            }),
        }
    }

    fn answer_started(&mut self, id: ExecutionId, reply: Reply<Result<ExecutionId, StartError>>) {
        self.answer_when_durable(
            id,
            Box::new(move |durable| {
                let answer = durable.map(|()| id).map_err(|error| StartError::Log(error.into()));
                let _asker_may_be_gone = reply.send(answer);
            }),
        );
    }

    /// How a live execution stands, told once all of it is durable. Where that fails, and where it is not live, the log
    /// has to tell.
    fn peek(&mut self, execution: ExecutionId, reply: Reply<Option<Box<super::engine::Outcome>>>) {
        let told = self.live.get(&execution).map(|live| Box::new(outcome(&live.state)));
        self.answer_when_durable(
            execution,
            Box::new(move |durable| {
                let _asker_may_be_gone = reply.send(told.filter(|_| durable.is_ok()));
            }),
        );
    }

    /// Answers once everything that was decided on an execution so far is durable. What is not live is.
    fn answer_when_durable(&mut self, execution: ExecutionId, answer: Answer) {
        let Some(live) = self.live.get_mut(&execution) else { return answer(Ok(())) };
        if live.answers.is_empty() {
            self.asked.push(execution);
        }
        live.answers.push(answer);
    }

    fn held_reason(&self, execution: ExecutionId) -> Option<String> {
        super::engine::lock(&self.shell.held_reasons).get(&execution).cloned()
    }

    fn unknown_workflow(&self, name: &Arc<str>) -> StartError {
        let names = self.shell.registry.names();
        let nearest = nearest(name, names.iter().map(|name| &**name)).map(Into::into);
        StartError::UnknownWorkflow { name: name.clone(), nearest }
    }

    fn go_live(&mut self, state: Execution, workflow: Arc<Workflow>) {
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
        self.live.insert(live.state.id(), live);
    }

    fn attach(&self, execution: ExecutionId, waiter: Waiter) -> Attached {
        if let Some(live) = self.live.get(&execution) {
            live.completion.wait(waiter);
            return Attached::Waiting;
        }
        match self.held_reason(execution) {
            Some(why) => Attached::Blocked(why, waiter),
            None => Attached::NotLive(waiter, self.failed.clone()),
        }
    }

    fn attempt_finished(&mut self, finished: Finished) {
        let Finished { execution, task, attempt, writes, reads, result } = finished;
        let Some(live) = self.live.get(&execution) else { return };
        let key = (execution, task.clone(), attempt);
        let first = first_slot(&live.state, &key);
        let command = Command::AttemptFinished { task, attempt, writes, reads, result, jitter: jitter() };
        match self.decide(execution, command) {
            Ok(()) => {
                if let Some(first) = first {
                    self.slots.leave(&key, first);
                }
            }
            Err(rejection) => tracing::debug!(%execution, %rejection, "a late result was ignored"),
        }
    }

    fn slot_requested(&mut self, attempt: AttemptKey, request: SlotRequest) {
        let first = self.live.get(&attempt.0).and_then(|live| first_slot(&live.state, &attempt));
        match (first, request) {
            (Some(first), request) => self.slots.request(attempt, first, request),
            (None, SlotRequest::Take(waiter)) => waiter(Err(over(&attempt))),
            (None, SlotRequest::GiveBack) => {}
        }
    }

    fn control(&mut self, execution: ExecutionId, control: Control) -> Result<(), EngineError> {
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
            (Some(Status::Paused), Command::Pause(_)) => "it is paused already",
            (Some(Status::Running), Command::Unpause(_)) => "it is not paused",
            (Some(_), command) => {
                let rejected = |rejection: Rejection| EngineError::Rejected { execution, why: rejection.to_string() };
                return self.decide(execution, command).map_err(rejected);
            }
        };
        Err(EngineError::Rejected { execution, why: why.to_owned() })
    }

    /// Why nothing can be asked of an execution that is not live.
    fn not_live(&self, execution: ExecutionId) -> EngineError {
        if let Some(why) = self.held_reason(execution) {
            return EngineError::Rejected { execution, why: format!("it is blocked ({why}); resume or cancel it") };
        }
        match self.shell.log.stream(stream_of(execution)) {
            Ok(entry) => match listed(&entry, None) {
                Ok(listed) => {
                    EngineError::Rejected { execution, why: format!("the execution has ended ({:?})", listed.status) }
                }
                Err(error) => EngineError::Log(error.into()),
            },
            Err(ReadError::NoStream(_)) => EngineError::NotFound(execution),
            Err(error) => EngineError::Log(error.into()),
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
        self.keep(execution, decision);
        Ok(())
    }

    /// Keeps a decision until the end of the turn, and does at once what needs no durability.
    fn keep(&mut self, execution: ExecutionId, decision: Decision) {
        let Some(live) = self.live.get_mut(&execution) else { return };
        if live.events.is_empty() && !decision.events.is_empty() {
            self.touched.push(execution);
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
                        "branches wrote context key '{}' without seeing each other; task '{task}' sees the value of the one that is later in its dependencies",
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

    /// Gives free slots to ready tasks, and hands everything that was decided to the log.
    fn finish_turn(&mut self) {
        self.fill_slots();
        self.hand_over();
        for execution in std::mem::take(&mut self.asked) {
            let Some(live) = self.live.get_mut(&execution) else { continue };
            let durable = live.durable.clone();
            std::mem::take(&mut live.answers).into_iter().for_each(|answer| durable.wait(answer));
        }
        for source in std::mem::take(&mut self.asked_sources) {
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
        self.slots.let_return();
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

    /// The task whose turn it is.
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

    /// Hands everything that was decided in this turn to the log, at once: it shares a flush.
    fn hand_over(&mut self) {
        // First those with the executions that they start; what is left is executions by themselves.
        let mut batches = self.source_batches();
        for execution in std::mem::take(&mut self.touched) {
            let Some((batch, acknowledged)) = self.batch(execution) else { continue };
            batches.push((batch, Box::new(move |result| acknowledged.perform(result))));
        }
        if !batches.is_empty() {
            self.shell.log.append_all_then(batches);
        }
    }

    /// What was decided on an execution, with its effects for the acknowledgement.
    fn batch(&mut self, execution: ExecutionId) -> Option<(Batch, Acknowledged)> {
        let live = self.live.get_mut(&execution)?;
        let events = std::mem::take(&mut live.events);
        let (first, last) = (events.first()?, events.last()?);
        let begins = matches!(first.event, Event::ExecutionStarted(_) | Event::ExecutionRecovered(_));
        let is_final = live.state.status().is_final();
        let changes_listing = begins
            || is_final
            || events
                .iter()
                .any(|recorded| matches!(recorded.event, Event::ExecutionPaused(_) | Event::ExecutionUnpaused(_)));
        let text = || codec::encode_label(&label(&live.state));
        let frame = Frame {
            stream: stream_of(execution),
            kind: StreamKind::Execution,
            expected_seq: first.seq,
            time: StoreTimestamp(last.time.0),
            bodies: encode(&events),
            listing: match (changes_listing, is_final) {
                (false, _) => Listing::Keep,
                (true, false) => Listing::Open(text()),
                (true, true) => Listing::Closed(text()),
            },
        };
        let definitions = if begins { vec![stored_definition(&live.workflow)] } else { Vec::new() };
        live.durable = Arc::default();
        let acknowledged = Acknowledged {
            execution,
            notices: notices(&live.state, &live.workflow, &live.completion, &events),
            events,
            effects: std::mem::take(&mut live.effects),
            outcome: is_final.then(|| Arc::new(outcome(&live.state))),
            durable: live.durable.clone(),
            completion: live.completion.clone(),
            workflow: live.workflow.clone(),
            strict: live.state.options().strict_context,
            max_value_bytes: self.shell.config.max_value_bytes,
            workers: self.shell.workers.clone(),
            released: self.released.clone(),
            own: self.shell.own.clone(),
        };
        Some((Batch { definitions, frames: vec![frame] }, acknowledged))
    }

    /// The log has failed: everybody who waits is told, and nothing is taken any more.
    fn log_failed(&mut self, error: AppendError) {
        if self.failed.is_some() {
            return;
        }
        tracing::error!(%error, "the log failed; the engine takes nothing more");
        self.failed = Some(error.clone());
        for (_, live) in self.live.drain() {
            live.completion.complete(Err(WaitError::Log(error.clone().into())));
            live.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
        }
        let sources: Vec<Source> = std::mem::take(&mut self.asked_sources);
        for source in sources {
            if let Some(outbox) = self.outbox(source) {
                outbox.fail(&error);
            }
        }
        self.touched.clear();
        self.touched_sources.clear();
        self.asked.clear();
        self.runnable.clear();
        self.timers.clear();
        self.slots.close();
    }

    /// The log refused a batch of an execution, whose state is now ahead of its history: it is given up here. What the
    /// log has of it is held.
    fn refused(&mut self, execution: ExecutionId, error: &AppendError) {
        let Some(live) = self.live.remove(&execution) else { return };
        tracing::error!(%execution, %error, "the log refused what was decided on an execution; it is given up");
        live.timer.map(|due| self.timers.remove(&(due, Alarm::Execution(execution))));
        for task in live.state.running() {
            let slot = live.state.task(task);
            if let TaskState::Running { worker, .. } = slot.state() {
                self.slots.leave(&(execution, live.state.graph().name(task).clone(), slot.attempts()), worker);
            }
            self.shell.workers.stop(execution, live.state.graph().name(task), slot.attempts());
        }
        live.completion.complete(Err(WaitError::Log(error.clone().into())));
        live.answers.into_iter().for_each(|answer| answer(Err(error.clone())));
        if self.shell.log.stream(stream_of(execution)).is_ok_and(|entry| entry.open) {
            self.held.insert(execution, Unfinished::Broken(error.to_string()));
            super::engine::lock(&self.shell.held_reasons).insert(execution, error.to_string());
        }
    }

    fn is_done_stopping(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        self.failed.is_some()
            || stopping.until.is_some_and(|until| Instant::now() >= until)
            || (!self.polls() && self.live.values().all(|live| self.is_idle(live)))
    }

    /// Whether none of its attempts runs, apart from those that wait for something outside: nobody knows for how long.
    fn is_idle(&self, live: &Live) -> bool {
        running_attempts(live).into_iter().all(|(task, attempt)| self.slots.is_away(&(live.state.id(), task, attempt)))
    }

    /// Abandons what still runs, waits until everything is durable, and closes the log.
    fn stop(mut self) {
        let ids: Vec<ExecutionId> = self.live.keys().copied().collect();
        for execution in ids {
            let running: Vec<(TaskId, Attempt)> = self.live.get(&execution).map(running_attempts).unwrap_or_default();
            if running.is_empty() || self.decide(execution, Command::Shutdown).is_err() {
                continue;
            }
            for (task, attempt) in running {
                self.shell.workers.stop(execution, &task, attempt);
            }
        }
        self.hand_over();
        self.shell.workers.close();
        // Closing waits for what was handed over before. A log that has failed is let go of, too.
        let closed = self.shell.log.close().map_err(|error| EngineError::Log(error.into()));
        let closed = match &self.failed {
            Some(error) => Err(EngineError::Log(error.clone().into())),
            None => closed,
        };
        // What is over was answered, or will be when the last notice that holds the answer back is dropped.
        for (id, live) in self.live.drain().filter(|(_, live)| !live.state.status().is_final()) {
            live.completion.complete(Err(WaitError::ShutDown(id)));
        }
        if let Some(stopping) = self.stopping {
            let _asker_may_be_gone = stopping.reply.send(closed);
        }
    }
}

fn running_attempts(live: &Live) -> Vec<(TaskId, Attempt)> {
    let graph = live.state.graph();
    live.state.running().map(|task| (graph.name(task).clone(), live.state.task(task).attempts())).collect()
}

fn stored_definition(workflow: &Workflow) -> StoredDefinition {
    StoredDefinition { fingerprint: Hash(workflow.fingerprint().0), bytes: workflow.encoded.clone() }
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
