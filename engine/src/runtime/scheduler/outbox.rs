//! New events of a schedule or a trigger until they are durable, and the executions that they start, in one batch.

use std::sync::Arc;

use cloacina_store::log::{AppendError, Appended, Frame, Listing};
use cloacina_store::record::Timestamp as StoreTimestamp;
use crossbeam_channel::Sender;

use crate::core::event::{ExecutionId, Seq};
use crate::core::time::Timestamp;
use crate::runtime::completion::{Answer, Durable, Promise};
use crate::runtime::message::{Message, Source};
use crate::runtime::output_commit::Acknowledged;

/// The new events of a source in this turn, and the answers that wait for them.
#[derive(Default)]
pub(super) struct Outbox {
    /// The `seq` of the first event, the time of the last, and the encoded events.
    events: Option<(Seq, Timestamp, Vec<Vec<u8>>)>,
    listing: Option<Listing>,
    /// Executions that these events start.
    starts: Vec<ExecutionId>,
    answers: Vec<Answer>,
    /// Completes when the last batch is durable, and so all batches before it.
    durable: Option<Arc<Promise<Durable>>>,
}

impl Outbox {
    /// Keeps events until the end of the turn.
    pub(super) fn record(&mut self, events: Vec<(Seq, Timestamp, Vec<u8>)>, listing: Listing) {
        for (seq, time, body) in events {
            let (_, last, bodies) = self.events.get_or_insert_with(|| (seq, time, Vec::new()));
            *last = time;
            bodies.push(body);
            self.listing = Some(listing.clone());
        }
    }

    /// Adds an execution that these events start.
    pub(super) fn starts(&mut self, execution: ExecutionId) {
        self.starts.push(execution);
    }

    /// The executions that the events of this turn start.
    pub(super) fn take_starts(&mut self) -> Vec<ExecutionId> {
        std::mem::take(&mut self.starts)
    }

    /// Answers once all events so far are durable.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.answers.push(answer);
    }

    /// Attaches the answers of this turn to the last batch.
    pub(super) fn release_answers(&mut self) {
        for answer in std::mem::take(&mut self.answers) {
            match &self.durable {
                Some(durable) => durable.wait(answer),
                None => answer(Ok(())),
            }
        }
    }

    /// Reports to the waiters that the events will never be durable.
    pub(super) fn fail(&mut self, error: &AppendError) {
        std::mem::take(&mut self.answers).into_iter().for_each(|answer| answer(Err(error.clone())));
    }

    /// The promise of the last batch, if that is not yet durable.
    pub(super) fn waits_for(&self) -> Option<&Arc<Promise<Durable>>> {
        self.durable.as_ref().filter(|durable| !durable.is_complete())
    }

    /// The frame of this turn, and the promise that it will be durable.
    pub(super) fn frame(&mut self, source: Source) -> Option<(Frame, Arc<Promise<Durable>>)> {
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

/// The effects of a source's batch, performed once it is durable.
pub(super) struct SourceAcknowledged {
    pub(super) source: Source,
    pub(super) durable: Arc<Promise<Durable>>,
    pub(super) executions: Vec<Acknowledged>,
    pub(super) own: Sender<Message>,
}

impl SourceAcknowledged {
    pub(super) fn perform(self, result: Result<Appended, AppendError>) {
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
