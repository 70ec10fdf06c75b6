//! What schedules and triggers have in common: batches and alarms.

use cloacina_store::log::{Acknowledge, AppendError, Batch};

use super::outbox::{Outbox, SourceAcknowledged};
use super::{Alarm, Scheduler};
use crate::core::time::Timestamp;
use crate::runtime::message::Source;

impl Scheduler {
    /// The batches of this turn's sources, including the executions that they start.
    pub(super) fn source_batches(&mut self) -> Vec<(Batch, Acknowledge)> {
        let dirty = std::mem::take(&mut self.dirty_sources);
        dirty.into_iter().filter_map(|source| self.source_batch(source)).collect()
    }

    fn source_batch(&mut self, source: Source) -> Option<(Batch, Acknowledge)> {
        let outbox = self.outbox(source)?;
        let (frame, durable) = outbox.frame(source)?;
        let starts = outbox.take_starts();
        let mut batch = Batch { definitions: Vec::new(), frames: vec![frame] };
        let mut executions = Vec::new();
        for execution in starts {
            executions.extend(self.add_to_batch(&mut batch, execution));
        }
        let acknowledged = SourceAcknowledged { source, durable, executions, own: self.services.own.clone() };
        Some((batch, Box::new(move |result| acknowledged.perform(result))))
    }

    /// The outbox of a source, if this engine has it.
    pub(super) fn outbox(&mut self, source: Source) -> Option<&mut Outbox> {
        match source {
            Source::Schedule(id) => self.schedules.get_mut(&id).map(|live| &mut live.outbox),
            Source::Trigger(id) => self.triggers.get_mut(&id).map(|live| &mut live.outbox),
        }
    }

    /// Marks a source: at the end of the turn, its events are handed to the log and its answers attached.
    pub(super) fn mark_dirty(&mut self, source: Source) {
        if !self.dirty_sources.contains(&source) {
            self.dirty_sources.push(source);
        }
        if !self.sources_to_answer.contains(&source) {
            self.sources_to_answer.push(source);
        }
    }

    /// The log rejected events of a source, whose state is now ahead of its history: drops it.
    pub(super) fn source_refused(&mut self, source: Source, error: &AppendError) {
        tracing::error!(
            ?source, %error,
            "the log rejected events of this schedule or trigger; the engine stops running it"
        );
        if let Some(outbox) = self.outbox(source) {
            outbox.fail(error);
        }
        self.disarm(source);
        match source {
            Source::Schedule(id) => drop(self.schedules.remove(&id)),
            Source::Trigger(id) => drop(self.triggers.remove(&id)),
        }
    }

    /// Sets or clears a source's alarm.
    pub(super) fn arm(&mut self, source: Source, due: Option<Timestamp>) {
        let due = due.filter(|_| self.failed.is_none() && self.stopping.is_none()).map(|due| self.to_log_time(due));
        let alarm = match source {
            Source::Schedule(id) => self.schedules.get_mut(&id).map(|live| &mut live.alarm),
            Source::Trigger(id) => self.triggers.get_mut(&id).map(|live| &mut live.alarm),
        };
        let Some(alarm) = alarm else { return };
        let before = std::mem::replace(alarm, due);
        let ringing = Alarm::Source(source);
        before.map(|due| self.timers.remove(&(due, ringing)));
        due.map(|due| self.timers.insert((due, ringing)));
    }

    /// Converts a time of the wall clock to the log's time, for an alarm. While the log is ahead of the wall clock, its
    /// time advances at half the wall clock's pace or more, so the alarm is never late.
    fn to_log_time(&self, due: Timestamp) -> Timestamp {
        match self.now.micros_since(self.wall) {
            0 => due,
            _ => {
                Timestamp(self.now.0.saturating_add(i64::try_from(due.micros_since(self.wall) / 2).unwrap_or(i64::MAX)))
            }
        }
    }

    pub(super) fn disarm(&mut self, source: Source) {
        self.arm(source, None);
    }

    /// Clears all alarms: no schedule fires and no trigger is polled any more.
    pub(super) fn disarm_all(&mut self) {
        let schedules = self.schedules.keys().map(|id| Source::Schedule(*id));
        let all: Vec<Source> = schedules.chain(self.triggers.keys().map(|id| Source::Trigger(*id))).collect();
        all.into_iter().for_each(|source| self.disarm(source));
    }
}
