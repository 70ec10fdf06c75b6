//! Decisions: turns commands to a trigger into events.

use std::sync::Arc;

use super::event::{DropCause, TriggerDefined, TriggerDropped, TriggerEvent, TriggerFired, TriggerId};
use super::fold::{Recorded, Trigger, fold};
use crate::core::envelope::IllegalEvent;
use crate::core::event::{ExecutionId, Request};
use crate::core::label::TriggerLabel;
use crate::core::time::Timestamp;

/// A command to a trigger.
#[derive(Clone, Debug)]
pub enum Command {
    /// Define the trigger. Has no effect if the definition is the same.
    Define(TriggerDefined),
    /// Poll it again. Has no effect if it is enabled.
    Enable(Request),
    /// Stop polling it. Has no effect if it is disabled.
    Disable(Request),
    /// A poll asks for an execution. Has no effect if the trigger was disabled in the meantime.
    Fire {
        /// The digest of the context.
        context: [u8; 32],
        /// The id of the execution, if one is started.
        execution: ExecutionId,
        /// A running execution of this trigger with the same context.
        same_runs: Option<ExecutionId>,
        /// Why an execution would be rejected.
        refused: Option<Arc<str>>,
    },
}

/// The result of a command: events to append, and an execution to start in the same batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// The execution to start.
    pub starts: Option<ExecutionId>,
}

/// Why a command was rejected. The state is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(String);

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self(format!("{} {}", illegal.event, illegal.what))
    }
}

/// Creates a trigger.
///
/// # Errors
/// [`Rejection`] if the fold rejects the definition, which does not happen.
pub fn define(definition: TriggerDefined, now: Timestamp) -> Result<(Trigger, Decision), Rejection> {
    let id = TriggerId::of(&definition.name);
    let recorded = Recorded { seq: 0, time: now, event: TriggerEvent::Defined(definition) };
    let state = fold(None, id, &recorded)?;
    Ok((state, Decision { events: vec![recorded], starts: None }))
}

/// Decides on a command, and folds the resulting events into the state.
///
/// # Errors
/// [`Rejection`]; the state is unchanged.
pub fn decide(state: &mut Trigger, command: Command, now: Timestamp) -> Result<Decision, Rejection> {
    let mut decision = Decision::default();
    let event = match command {
        Command::Define(definition) if definition == *state.definition() => return Ok(decision),
        Command::Define(definition) => TriggerEvent::Defined(definition),
        Command::Enable(_) if state.is_enabled() => return Ok(decision),
        Command::Enable(request) => TriggerEvent::Enabled(request),
        Command::Disable(_) | Command::Fire { .. } if !state.is_enabled() => return Ok(decision),
        Command::Disable(request) => TriggerEvent::Disabled(request),
        Command::Fire { context, execution, same_runs, refused } => {
            let runs = same_runs.filter(|_| !state.definition().allow_concurrent).map(DropCause::SameContextRuns);
            match runs.or(refused.map(DropCause::Refused)) {
                Some(why) => TriggerEvent::Dropped(TriggerDropped { context, why }),
                None => {
                    decision.starts = Some(execution);
                    TriggerEvent::Fired(TriggerFired { execution, context })
                }
            }
        }
    };
    let recorded = Recorded { seq: state.next_seq(), time: now.max(state.last()), event };
    state.apply(&recorded)?;
    decision.events.push(recorded);
    Ok(decision)
}

/// Returns the label of a trigger for the listing.
#[must_use]
pub fn label(state: &Trigger) -> TriggerLabel {
    TriggerLabel { definition: state.definition().clone(), enabled: state.is_enabled() }
}
