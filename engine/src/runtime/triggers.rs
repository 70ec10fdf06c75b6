//! Triggers: what a program asks of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloacina_store::log::{EventLog, LogReader, ReadError, StreamEntry};
use cloacina_store::record::{StreamId, StreamKind};

use super::engine::Engine;
use super::fault::LogFault;
use super::message::{Message, TriggerRequest, Unfinished};
use super::scheduler::LiveTrigger;
use super::schedules::{Standing, how_it_stands, streams};
use crate::core::codec;
use crate::core::context::digest;
use crate::core::event::{Cause, ExecutionId, Request};
use crate::core::time::Timestamp;
use crate::core::trigger::{Command, Recorded, Trigger, TriggerDefined, TriggerEvent, TriggerId, fold};

/// A trigger in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedTrigger {
    /// How it is defined.
    pub definition: TriggerDefined,
    /// Whether it is polled.
    pub enabled: bool,
    /// When this engine polled it last.
    pub last_poll: Option<Timestamp>,
    /// Whether its workflow is registered: it is not polled before.
    pub is_registered: bool,
}

/// A fire in a trigger's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastTriggerFire {
    /// When it fired.
    pub fired: Timestamp,
    /// The execution that it started.
    pub execution: ExecutionId,
    /// How that stands.
    pub standing: Standing,
    /// The digest of the context that it fired with.
    pub context: [u8; 32],
}

/// Why something asked of a trigger was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TriggerError {
    /// There is no such trigger.
    #[error("there is no trigger '{0}' in this log")]
    NotFound(Arc<str>),
    /// The trigger cannot take it.
    #[error("trigger '{name}': {why}")]
    Rejected {
        /// The trigger.
        name: Arc<str>,
        /// Why.
        why: String,
    },
    /// The log failed.
    #[error(transparent)]
    Log(#[from] LogFault),
    /// The engine is shut down.
    #[error("the engine is shut down")]
    ShutDown,
}

impl From<ReadError> for TriggerError {
    fn from(error: ReadError) -> Self {
        Self::Log(error.into())
    }
}

impl Engine {
    /// The triggers of this log, in the order of their names: those that are polled here, and those that were polled before.
    ///
    /// # Errors
    /// [`TriggerError::Log`] if the listing cannot be read.
    pub fn triggers(&self) -> Result<Vec<ListedTrigger>, TriggerError> {
        // What was registered just now has to be in the log, and durable, to be seen there.
        self.settle_triggers()?;
        let polls = self.ask(|reply| Message::Triggers(TriggerRequest::LastPolls { reply })).unwrap_or_default();
        let entries = streams(&**self.log(), StreamKind::Trigger, false)?;
        let mut found: Vec<_> =
            entries.iter().map(|entry| self.listed_trigger(entry, &polls)).collect::<Result<_, _>>()?;
        found.sort_by(|one, other| one.definition.name.cmp(&other.definition.name));
        Ok(found)
    }

    fn listed_trigger(
        &self,
        entry: &StreamEntry,
        polls: &BTreeMap<TriggerId, Timestamp>,
    ) -> Result<ListedTrigger, TriggerError> {
        let label = codec::decode_trigger_label(&entry.label).map_err(LogFault::from)?;
        let last_poll = polls.get(&TriggerId::of(&label.definition.name)).copied();
        let is_registered = self.registry().find(&label.definition.workflow).is_some();
        Ok(ListedTrigger { definition: label.definition, enabled: label.enabled, last_poll, is_registered })
    }

    /// Waits until every trigger that is registered is durable.
    fn settle_triggers(&self) -> Result<(), TriggerError> {
        match self.ask(|reply| Message::Triggers(TriggerRequest::AllDurable { reply })) {
            Some(result) => result,
            // After a shutdown everything is.
            None => Ok(()),
        }
    }

    /// Lets a trigger be polled, or not.
    ///
    /// # Errors
    /// See [`TriggerError`].
    pub fn enable_trigger(&self, name: &str, enabled: bool) -> Result<(), TriggerError> {
        let request = Request { by: "user".into(), reason: None };
        let command = if enabled { Command::Enable(request) } else { Command::Disable(request) };
        let change = |reply| TriggerRequest::Change { name: name.into(), command, reply };
        self.ask(|reply| Message::Triggers(change(reply))).unwrap_or(Err(TriggerError::ShutDown))
    }

    /// The fires of a trigger that started executions, the last one first: at most `limit`, after the first `offset`.
    /// Empty for a trigger that the log does not know.
    ///
    /// # Errors
    /// [`TriggerError::Log`] if the log cannot be read.
    pub fn trigger_history(
        &self,
        name: &str,
        limit: usize,
        offset: usize,
    ) -> Result<Vec<PastTriggerFire>, TriggerError> {
        let id = TriggerId::of(name);
        let mut fires = match read_all(&**self.log(), id) {
            Ok(events) => events,
            Err(LogFault::Read(ReadError::NoStream(_))) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        fires.reverse();
        let fires = fires.into_iter().filter_map(|recorded| match recorded.event {
            TriggerEvent::Fired(fired) => Some((recorded.time, fired)),
            _ => None,
        });
        fires
            .skip(offset)
            .take(limit)
            .map(|(fired, event)| {
                let standing = how_it_stands(&**self.log(), event.execution)?;
                Ok(PastTriggerFire { fired, execution: event.execution, standing, context: event.context })
            })
            .collect()
    }
}

/// Records that are read at once.
const PAGE: usize = 512;

fn read_all(log: &dyn LogReader, id: TriggerId) -> Result<Vec<Recorded>, LogFault> {
    let stream = StreamId::from_bytes(id.0);
    let mut events = Vec::new();
    loop {
        let page = log.read(stream, events.len() as u64, PAGE)?;
        if page.is_empty() {
            return Ok(events);
        }
        for record in page {
            let seq = record.seq;
            let bytes = record.body.bytes().ok_or(LogFault::Erased { stream, seq })?;
            let event = codec::decode_trigger_event(bytes).map_err(|error| LogFault::Decode { stream, seq, error })?;
            events.push(Recorded { seq, time: Timestamp(record.time.0), event });
        }
    }
}

fn rebuild(log: &dyn LogReader, id: TriggerId) -> Result<Option<Trigger>, LogFault> {
    let mut state = None;
    for recorded in read_all(log, id)? {
        let folded = fold(state, id, &recorded);
        state = Some(folded.map_err(|error| LogFault::Illegal { stream: StreamId::from_bytes(id.0), error })?);
    }
    Ok(state)
}

/// The triggers of a log, each folded, with those of their executions that are unfinished.
pub(crate) fn found(
    log: &dyn EventLog,
    unfinished: &BTreeMap<ExecutionId, Unfinished>,
) -> Result<BTreeMap<TriggerId, LiveTrigger>, ReadError> {
    let mut found = BTreeMap::new();
    for entry in streams(log, StreamKind::Trigger, false)? {
        let id = TriggerId(*entry.stream.as_bytes());
        match rebuild(log, id) {
            Ok(Some(state)) => drop(found.insert(id, LiveTrigger::found(state))),
            Ok(None) => {}
            Err(error) => tracing::error!(trigger = %id, %error, "a trigger cannot be read; it is not polled"),
        }
    }
    for (execution, unfinished) in unfinished {
        if let Unfinished::Whole(state) = unfinished
            && let Cause::Trigger { name } = state.cause()
            && let Some(trigger) = found.get_mut(&TriggerId::of(name))
        {
            trigger.left_running(*execution, digest(&state.input()));
        }
    }
    Ok(found)
}
