//! Triggers: when they are polled, and the executions that they start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cloacina_store::log::Listing;

use super::Scheduler;
use super::live::LiveTrigger;
use crate::core::codec;
use crate::core::event::{Cause, Key};
use crate::core::json::Json;
use crate::core::time::Timestamp;
use crate::core::trigger::{
    Command, Decision, DropCause, TriggerEvent, TriggerId, context_digest, decide, define, label,
};
use crate::runtime::completion::Durable;
use crate::runtime::ids::new_execution_id;
use crate::runtime::message::{Message, Reply, Source, TriggerRequest};
use crate::runtime::trigger::{Poll, PollResult, Trigger};
use crate::runtime::triggers::TriggerError;

impl Scheduler {
    /// Starts to poll the triggers that are registered now, and stops polling all others.
    pub(super) fn sync_triggers(&mut self) {
        if self.failed.is_some() || self.stopping.is_some() {
            return;
        }
        let registered = self.services.registry.triggers();
        let known: Vec<TriggerId> = self.triggers.keys().copied().collect();
        for id in known {
            if !registered.iter().any(|trigger| TriggerId::of(trigger.name()) == id) {
                self.triggers.get_mut(&id).map(|live| live.polled.take());
                self.disarm(Source::Trigger(id));
            }
        }
        for trigger in registered {
            self.sync_trigger(trigger);
        }
    }

    fn sync_trigger(&mut self, trigger: Arc<Trigger>) {
        let id = TriggerId::of(trigger.name());
        let is_polled = |live: &LiveTrigger| live.polled.as_ref().is_some_and(|polled| Arc::ptr_eq(polled, &trigger));
        let decided = match self.triggers.get_mut(&id) {
            Some(live) => decide(&mut live.state, Command::Define(trigger.definition.clone()), self.now),
            None => define(trigger.definition.clone(), self.now).map(|(state, decision)| {
                self.triggers.insert(id, LiveTrigger::from_log(state));
                decision
            }),
        };
        match decided {
            Ok(decision) => self.record_trigger(id, decision),
            Err(rejection) => {
                return tracing::error!(trigger = %trigger.name(), %rejection, "a trigger cannot be defined");
            }
        }
        let Some(live) = self.triggers.get_mut(&id) else { return };
        let is_new = !is_polled(live);
        live.polled = Some(trigger.clone());
        let (name, workflow) = (live.state.definition().name.clone(), live.state.definition().workflow.clone());
        if is_new && self.services.registry.find(&workflow).is_none() {
            let unknown = self.unknown_workflow(&workflow);
            tracing::warn!(
                trigger = %name,
                "trigger '{name}' is not polled: {unknown}. Polling starts once the workflow is registered"
            );
        }
        let Some(live) = self.triggers.get_mut(&id) else { return };
        if (is_new || live.alarm.is_none()) && !live.polling {
            self.arm_trigger(id, trigger.first_poll(self.wall));
        }
    }

    /// Sets the time of a trigger's next poll, if it is polled at all.
    fn arm_trigger(&mut self, id: TriggerId, due: Option<Timestamp>) {
        let Some(live) = self.triggers.get(&id) else { return };
        let has_workflow = self.services.registry.find(&live.state.definition().workflow).is_some();
        let wanted = live.state.is_enabled() && live.polled.is_some() && has_workflow;
        self.arm(Source::Trigger(id), due.filter(|_| wanted));
    }

    pub(super) fn poll_trigger(&mut self, id: TriggerId) {
        self.disarm(Source::Trigger(id));
        let Some(live) = self.triggers.get_mut(&id) else { return };
        let Some(trigger) = live.polled.clone().filter(|_| !live.polling && live.state.is_enabled()) else { return };
        live.polling = true;
        live.last_poll = Some(self.wall);
        let own = self.services.own.clone();
        let report = Box::new(move |result| {
            let _scheduler_may_be_gone = own.send(Message::Triggers(TriggerRequest::Polled { id, result }));
        });
        self.services.workers.poll(&trigger.body, report);
    }

    fn polled(&mut self, id: TriggerId, result: PollResult) {
        let Some(live) = self.triggers.get_mut(&id) else { return };
        live.polling = false;
        let name = live.state.definition().name.clone();
        match result {
            Ok(Poll::Skip) => {}
            Ok(Poll::Fire(input)) => self.fire_trigger(id, input),
            Err(error) => tracing::error!(
                trigger = %name, traceback = error.traceback.as_deref().unwrap_or_default(),
                "trigger '{name}' failed: {}: {}; it will be polled again", error.kind, error.message
            ),
        }
        let Some(live) = self.triggers.get(&id) else { return };
        let next =
            live.polled.as_ref().and_then(|trigger| trigger.next_poll(live.last_poll.unwrap_or(self.wall), self.wall));
        self.arm_trigger(id, next);
    }

    fn fire_trigger(&mut self, id: TriggerId, input: Vec<(Key, Json)>) {
        let context = context_digest(&input);
        let refused = self.why_refused(&input);
        let Some(live) = self.triggers.get_mut(&id) else { return };
        let (executions, held) = (&self.live, &self.held);
        live.running.retain(|execution, _| {
            held.contains_key(execution)
                || executions.get(execution).is_some_and(|live| !live.state.status().is_final())
        });
        let same_runs = live.running.iter().find(|(_, running)| **running == context).map(|(id, _)| *id);
        let workflow = self.services.registry.find(&live.state.definition().workflow);
        let refused = match &workflow {
            Some(_) => refused,
            None => Some(format!("workflow '{}' is not registered", live.state.definition().workflow).into()),
        };
        let execution = new_execution_id();
        let decided = decide(&mut live.state, Command::Fire { context, execution, same_runs, refused }, self.now);
        let decision = match decided {
            Ok(decision) => decision,
            Err(rejection) => {
                return tracing::error!(trigger = ?id, %rejection, "a trigger could not fire; this is a bug");
            }
        };
        let (starts, name) = (decision.starts, live.state.definition().name.clone());
        log_dropped(&name, &decision);
        if starts.is_some() {
            live.running.insert(execution, context);
            live.outbox.starts(execution);
        }
        self.record_trigger(id, decision);
        if let (Some(execution), Some(workflow)) = (starts, workflow)
            && let Err(rejection) = self.begin(execution, workflow, Cause::Trigger { name: name.clone() }, input)
        {
            tracing::error!(trigger = %name, %rejection, "the execution of a trigger could not be started; this is a bug");
        }
    }

    fn why_refused(&self, input: &[(Key, Json)]) -> Option<Arc<str>> {
        let limit = self.services.config.max_value_bytes;
        let (key, value) = input.iter().find(|(_, value)| value.as_str().len() > limit)?;
        let bytes = value.as_str().len();
        Some(
            format!("context key '{key}': the value has {bytes} bytes of JSON, more than max_value_bytes ({limit})")
                .into(),
        )
    }

    fn record_trigger(&mut self, id: TriggerId, decision: Decision) {
        let Some(live) = self.triggers.get_mut(&id) else { return };
        let listing = Listing::Open(codec::encode_trigger_label(&label(&live.state)));
        let encode = |event: &TriggerEvent| codec::encode_trigger_event(event);
        let events = decision.events.iter().map(|recorded| (recorded.seq, recorded.time, encode(&recorded.event)));
        live.outbox.record(events.collect(), listing);
        self.mark_dirty(Source::Trigger(id));
    }

    pub(super) fn trigger_request(&mut self, request: TriggerRequest) {
        match request {
            TriggerRequest::Polled { id, result } => self.polled(id, result),
            TriggerRequest::Change { name, command, reply } => match self.change_trigger(&name, command) {
                Ok(()) => {
                    let source = Source::Trigger(TriggerId::of(&name));
                    self.mark_dirty(source);
                    if let Some(outbox) = self.outbox(source) {
                        outbox.answer(Box::new(move |durable| {
                            let result = durable.map_err(|error| TriggerError::Log(error.into()));
                            let _asker_may_be_gone = reply.send(result);
                        }));
                    }
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            TriggerRequest::AllDurable { reply } => self.answer_when_triggers_are_durable(reply),
            TriggerRequest::LastPolls { reply } => {
                let polls = self.triggers.iter().filter_map(|(id, live)| Some((*id, live.last_poll?)));
                let _asker_may_be_gone = reply.send(polls.collect());
            }
        }
    }

    /// Replies once all events of all triggers are durable.
    fn answer_when_triggers_are_durable(&mut self, reply: Reply<Result<(), TriggerError>>) {
        let left = Arc::new(reply);
        let ids: Vec<TriggerId> = self.triggers.keys().copied().collect();
        let count = Arc::new(AtomicUsize::new(ids.len()));
        if ids.is_empty() {
            let _asker_may_be_gone = left.send(Ok(()));
        }
        for id in ids {
            self.mark_dirty(Source::Trigger(id));
            let (left, count) = (left.clone(), count.clone());
            let Some(outbox) = self.outbox(Source::Trigger(id)) else { continue };
            outbox.answer(Box::new(move |durable: Durable| {
                let is_last = count.fetch_sub(1, Ordering::SeqCst) == 1;
                match durable {
                    Err(error) => drop(left.try_send(Err(TriggerError::Log(error.into())))),
                    Ok(()) if is_last => drop(left.try_send(Ok(()))),
                    Ok(()) => {}
                }
            }));
        }
    }

    fn change_trigger(&mut self, name: &Arc<str>, command: Command) -> Result<(), TriggerError> {
        if let Some(reason) = &self.failed {
            return Err(TriggerError::Log(reason.clone().into()));
        }
        if self.stopping.is_some() {
            return Err(TriggerError::ShutDown);
        }
        let id = TriggerId::of(name);
        let live = self.triggers.get_mut(&id).ok_or_else(|| TriggerError::NotFound(name.clone()))?;
        let decision = decide(&mut live.state, command, self.now)
            .map_err(|rejection| TriggerError::Rejected { name: name.clone(), why: rejection.to_string() })?;
        let (changed, polling) = (!decision.events.is_empty(), live.polling);
        let first = live.polled.as_ref().and_then(|trigger| trigger.first_poll(self.wall));
        self.record_trigger(id, decision);
        if changed && !polling {
            self.arm_trigger(id, first);
        }
        Ok(())
    }

    /// Whether a trigger is being polled.
    pub(super) fn is_polling(&self) -> bool {
        self.triggers.values().any(|live| live.polling)
    }
}

fn log_dropped(name: &str, decision: &Decision) {
    for recorded in &decision.events {
        let TriggerEvent::Dropped(dropped) = &recorded.event else { continue };
        match &dropped.why {
            DropCause::SameContextRuns(running) => tracing::info!(
                trigger = %name, execution = %running,
                "a fire of trigger '{name}' was dropped: execution {running} runs with the same context"
            ),
            DropCause::Refused(why) => {
                tracing::error!(trigger = %name, "a fire of trigger '{name}' was dropped: {why}");
            }
        }
    }
}
