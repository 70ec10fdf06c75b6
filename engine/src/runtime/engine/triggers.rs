//! Triggers: listing, enabling, history.

use std::collections::BTreeMap;

use cloacina_store::log::{ReadError, StreamEntry};
use cloacina_store::record::StreamKind;

use super::Engine;
use crate::core::codec;
use crate::core::event::Request;
use crate::core::time::Timestamp;
use crate::core::trigger::{Command, TriggerEvent, TriggerId};
use crate::runtime::fault::LogFault;
use crate::runtime::message::{Message, TriggerRequest};
use crate::runtime::schedules::fire_standing;
use crate::runtime::streams::streams;
use crate::runtime::triggers::{ListedTrigger, PastTriggerFire, TriggerError, read_all};

impl Engine {
    /// Lists the triggers of this log by name: those polled by this engine, and those polled by earlier ones.
    ///
    /// # Errors
    /// [`TriggerError::Log`] if the listing cannot be read.
    pub fn triggers(&self) -> Result<Vec<ListedTrigger>, TriggerError> {
        // A trigger that was just registered is listed once it is durable in the log.
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

    /// Waits until every registered trigger is durable.
    fn settle_triggers(&self) -> Result<(), TriggerError> {
        match self.ask(|reply| Message::Triggers(TriggerRequest::AllDurable { reply })) {
            Some(result) => result,
            // After a shutdown everything is durable.
            None => Ok(()),
        }
    }

    /// Enables or disables a trigger. A disabled trigger is not polled.
    ///
    /// # Errors
    /// See [`TriggerError`].
    pub fn enable_trigger(&self, name: &str, enabled: bool) -> Result<(), TriggerError> {
        let request = Request { by: "user".into(), reason: None };
        let command = if enabled { Command::Enable(request) } else { Command::Disable(request) };
        let change = |reply| TriggerRequest::Change { name: name.into(), command, reply };
        self.ask(|reply| Message::Triggers(change(reply))).unwrap_or(Err(TriggerError::ShutDown))
    }

    /// Lists the fires of a trigger that started executions, newest first: at most `limit`, after the first `offset`.
    /// Empty for an unknown trigger.
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
                let standing = fire_standing(&**self.log(), event.execution)?;
                Ok(PastTriggerFire { fired, execution: event.execution, standing, context: event.context })
            })
            .collect()
    }
}
