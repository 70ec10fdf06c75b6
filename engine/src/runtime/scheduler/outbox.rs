//! What was decided on a schedule or a trigger, until it is durable: its events, and the executions that they start, in
//! one batch.

use std::sync::Arc;

use cloacina_store::log::{Acknowledge, AppendError, Appended, Batch, Frame, Listing};
use cloacina_store::record::{StreamId, StreamKind, Timestamp as StoreTimestamp};
use crossbeam_channel::Sender;

use super::{Answer, Scheduler};
use crate::core::event::{ExecutionId, Seq};
use crate::core::schedule::ScheduleId;
use crate::core::time::Timestamp;
use crate::core::trigger::TriggerId;
use crate::runtime::completion::{Durable, Promise};
use crate::runtime::message::Message;
use crate::runtime::output_commit::Acknowledged;

/// A stream that starts executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    Schedule(ScheduleId),
    Trigger(TriggerId),
}

impl Source {
    fn stream(self) -> StreamId {
        match self {
            Self::Schedule(id) => StreamId::from_bytes(id.0),
            Self::Trigger(id) => StreamId::from_bytes(id.0),
        }
    }

    fn kind(self) -> StreamKind {
        match self {
            Self::Schedule(_) => StreamKind::Schedule,
            Self::Trigger(_) => StreamKind::Trigger,
        }
    }
}

/// What was decided on a source in this turn, and who waits for it.
#[derive(Default)]
pub(super) struct Outbox {
    /// The encoded events, the place of the first, and the time of the last.
    events: Option<(Seq, Timestamp, Vec<Vec<u8>>)>,
    listing: Option<Listing>,
    /// Executions that these events start.
    starts: Vec<ExecutionId>,
    answers: Vec<Answer>,
    /// Whether the last batch is durable, and so all before it.
    durable: Option<Arc<Promise<Durable>>>,
}

impl Outbox {
    /// Keeps events until the end of the turn.
    pub(super) fn keep(&mut self, events: Vec<(Seq, Timestamp, Vec<u8>)>, listing: Listing) {
        for (seq, time, body) in events {
            let (_, last, bodies) = self.events.get_or_insert_with(|| (seq, time, Vec::new()));
            *last = time;
            bodies.push(body);
            self.listing = Some(listing.clone());
        }
    }

    /// An execution that these events start.
    pub(super) fn starts(&mut self, execution: ExecutionId) {
        self.starts.push(execution);
    }

    /// The executions that the events of this turn start.
    pub(super) fn take_starts(&mut self) -> Vec<ExecutionId> {
        std::mem::take(&mut self.starts)
    }

    /// Answers once everything that was decided so far is durable.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// Gives the answers of this turn to the batch that they wait for.
    pub(super) fn release_answers(&mut self) {
        for answer in std::mem::take(&mut self.answers) {
            match &self.durable {
                Some(durable) => durable.wait(answer),
                None => answer(Ok(())),
            }
        }
    }

    /// Tells those who wait that it will never be durable.
    pub(super) fn fail(&mut self, error: &AppendError) {
        std::mem::take(&mut self.answers).into_iter().for_each(|answer| answer(Err(error.clone())));
    }

    /// What is not yet durable, if anything.
    pub(super) fn waits_for(&self) -> Option<&Arc<Promise<Durable>>> {
        self.durable.as_ref().filter(|durable| !durable.is_kept())
    }

    /// The frame of this turn, and the promise that it will be durable.
    fn frame(&mut self, source: Source) -> Option<(Frame, Arc<Promise<Durable>>)> {
        let (expected_seq, time, bodies) = self.events.take()?;
        let frame = Frame {
            stream: source.stream(),
            kind: source.kind(),
            expected_seq,
            time: StoreTimestamp(time.0),
            bodies,
            listing: self.listing.take().unwrap_or(Listing::Keep),
        };
        let durable = Arc::<Promise<Durable>>::default();
        self.durable = Some(durable.clone());
        Some((frame, durable))
    }
}

/// What has to be done once the batch of a source is durable.
struct SourceAcknowledged {
    source: Source,
    durable: Arc<Promise<Durable>>,
    executions: Vec<Acknowledged>,
    own: Sender<Message>,
}

impl SourceAcknowledged {
    fn perform(self, result: Result<Appended, AppendError>) {
        if let Err(error) = &result {
            let _scheduler_may_be_gone = self.own.send(match error {
                AppendError::Conflict { .. } | AppendError::Invalid(_) => {
                    Message::SourceRefused { source: self.source, error: error.clone() }
                }
                _ => Message::LogFailed(error.clone()),
            });
            self.durable.complete(Err(error.clone()));
        } else {
            self.durable.complete(Ok(()));
        }
        self.executions.into_iter().for_each(|execution| execution.perform(result.clone()));
    }
}

impl Scheduler {
    /// The batches of the sources of this turn, with the executions that they start in them.
    pub(super) fn source_batches(&mut self) -> Vec<(Batch, Acknowledge)> {
        let touched = std::mem::take(&mut self.touched_sources);
        touched.into_iter().filter_map(|source| self.source_batch(source)).collect()
    }

    fn source_batch(&mut self, source: Source) -> Option<(Batch, Acknowledge)> {
        let outbox = self.outbox(source)?;
        let (frame, durable) = outbox.frame(source)?;
        let starts = outbox.take_starts();
        let mut batch = Batch { definitions: Vec::new(), frames: vec![frame] };
        let mut executions = Vec::new();
        for execution in starts {
            executions.extend(self.join(&mut batch, execution));
        }
        let acknowledged = SourceAcknowledged { source, durable, executions, own: self.shell.own.clone() };
        Some((batch, Box::new(move |result| acknowledged.perform(result))))
    }

    /// What was decided on a source, if it is known here.
    pub(super) fn outbox(&mut self, source: Source) -> Option<&mut Outbox> {
        match source {
            Source::Schedule(id) => self.schedules.get_mut(&id).map(|live| &mut live.outbox),
            Source::Trigger(id) => self.triggers.get_mut(&id).map(|live| &mut live.outbox),
        }
    }

    /// Has the source's events handed over at the end of the turn, and answered for.
    pub(super) fn touch(&mut self, source: Source) {
        if !self.touched_sources.contains(&source) {
            self.touched_sources.push(source);
        }
        if !self.asked_sources.contains(&source) {
            self.asked_sources.push(source);
        }
    }

    /// The log refused what was decided on a source, whose state is now ahead of its history: it is given up here.
    pub(super) fn source_refused(&mut self, source: Source, error: &AppendError) {
        tracing::error!(?source, %error, "the log refused what was decided; this schedule or trigger is given up");
        if let Some(outbox) = self.outbox(source) {
            outbox.fail(error);
        }
        self.disarm(source);
        match source {
            Source::Schedule(id) => drop(self.schedules.remove(&id)),
            Source::Trigger(id) => drop(self.triggers.remove(&id)),
        }
    }

    /// Has a source's alarm ring at a time, or not at all.
    pub(super) fn arm(&mut self, source: Source, due: Option<Timestamp>) {
        let due = due.filter(|_| self.failed.is_none() && self.stopping.is_none()).map(|due| self.by_log(due));
        let alarm = match source {
            Source::Schedule(id) => self.schedules.get_mut(&id).map(|live| &mut live.alarm),
            Source::Trigger(id) => self.triggers.get_mut(&id).map(|live| &mut live.alarm),
        };
        let Some(alarm) = alarm else { return };
        let before = std::mem::replace(alarm, due);
        let ringing = super::Alarm::Source(source);
        before.map(|due| self.timers.remove(&(due, ringing)));
        due.map(|due| self.timers.insert((due, ringing)));
    }

    /// When, by the time of the log, to look again at what is due at a time by the wall clock. Where the log is ahead, its time goes
    /// at half the pace, or at the wall's: so this is not too late.
    fn by_log(&self, due: Timestamp) -> Timestamp {
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

    /// Lets no schedule fire any more, and polls no trigger.
    pub(super) fn disarm_all(&mut self) {
        let schedules = self.schedules.keys().map(|id| Source::Schedule(*id));
        let all: Vec<Source> = schedules.chain(self.triggers.keys().map(|id| Source::Trigger(*id))).collect();
        all.into_iter().for_each(|source| self.disarm(source));
    }
}
