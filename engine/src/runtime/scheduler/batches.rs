//! Appending to the log: at the end of a turn, each execution's events become one batch; its effects wait for the
//! acknowledgement.

use std::sync::Arc;

use cloacina_store::log::{Batch, Definition as StoredDefinition, Frame, Listing};
use cloacina_store::record::{Hash, StreamKind, Timestamp as StoreTimestamp};

use super::Scheduler;
use crate::core::codec;
use crate::core::decide::{encode, label};
use crate::core::event::{Event, ExecutionId};
use crate::runtime::ids::stream_of;
use crate::runtime::outcome::outcome;
use crate::runtime::output_commit::{Acknowledged, notices};
use crate::runtime::workflow::Workflow;

impl Scheduler {
    /// Hands all events of this turn to the log at once, so that they share a flush.
    pub(super) fn append_dirty(&mut self) {
        // Batches of several executions first: they take those executions' events, so that none is appended twice.
        let mut batches = self.source_batches();
        batches.extend(self.group_batches());
        for execution in std::mem::take(&mut self.dirty) {
            let Some((batch, acknowledged)) = self.batch(execution) else { continue };
            batches.push((batch, Box::new(move |result| acknowledged.perform(result))));
        }
        if !batches.is_empty() {
            self.services.log.append_all_then(batches);
        }
    }

    /// The batch of an execution's new events, with its effects for the acknowledgement.
    pub(super) fn batch(&mut self, execution: ExecutionId) -> Option<(Batch, Acknowledged)> {
        let live = self.live.get_mut(&execution)?;
        let events = std::mem::take(&mut live.events);
        let (first, last) = (events.first()?, events.last()?);
        let begins = first.event.definition().is_some();
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
            max_value_bytes: self.services.config.max_value_bytes,
            workers: self.services.workers.clone(),
            released: self.released.clone(),
            own: self.services.own.clone(),
        };
        Some((Batch { definitions, frames: vec![frame] }, acknowledged))
    }
}

fn stored_definition(workflow: &Workflow) -> StoredDefinition {
    StoredDefinition { fingerprint: Hash(workflow.fingerprint().0), bytes: workflow.encoded.clone() }
}
