//! Decisions: what a command makes of a trigger.

use std::sync::Arc;

use super::event::{DropCause, TriggerDefined, TriggerDropped, TriggerEvent, TriggerFired, TriggerId};
use super::fold::{Recorded, Trigger, fold};
use crate::core::envelope::IllegalEvent;
use crate::core::event::{ExecutionId, Request};
use crate::core::label::TriggerLabel;
use crate::core::time::Timestamp;

/// What is asked of a trigger.
#[derive(Clone, Debug)]
pub enum Command {
    /// Be defined like this. Nothing happens if it is.
    Define(TriggerDefined),
    /// Be polled again. Nothing happens if it is.
    Enable(Request),
    /// Be polled no more. Nothing happens if it is not.
    Disable(Request),
    /// A poll says that there is something to do. Nothing happens if the trigger was disabled meanwhile.
    Fire {
        /// The digest of the context.
        context: [u8; 32],
        /// The id of the execution, should one be started.
        execution: ExecutionId,
        /// An execution of this trigger that runs with the same context.
        same_runs: Option<ExecutionId>,
        /// Why an execution would be refused.
        refused: Option<Arc<str>>,
    },
}

/// What a command makes: events to append, and an execution to start in the same batch.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// The events, already folded.
    pub events: Vec<Recorded>,
    /// The execution.
    pub starts: Option<ExecutionId>,
}

/// A command that the trigger cannot take. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Rejection(String);

impl From<IllegalEvent> for Rejection {
    fn from(illegal: IllegalEvent) -> Self {
        Self(format!("{} {}", illegal.event, illegal.what))
    }
}

/// Begins a trigger.
///
/// # Errors
/// [`Rejection`], never for a definition.
pub fn define(definition: TriggerDefined, now: Timestamp) -> Result<(Trigger, Decision), Rejection> {
    let id = TriggerId::of(&definition.name);
    let recorded = Recorded { seq: 0, time: now, event: TriggerEvent::Defined(definition) };
    let state = fold(None, id, &recorded)?;
    Ok((state, Decision { events: vec![recorded], starts: None }))
}

/// Decides on a command, and folds what it decides.
///
/// # Errors
/// [`Rejection`]; the state is as it was.
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

/// What the listing shows of a trigger.
#[must_use]
pub fn label(state: &Trigger) -> TriggerLabel {
    TriggerLabel { definition: state.definition().clone(), enabled: state.is_enabled() }
}
