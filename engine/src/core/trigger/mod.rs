//! Event triggers: events, fold and decisions.
//!
//! A trigger is a function that is polled. A poll is not an event; its outcome is. A fire and the execution that it
//! starts are one decision: the runtime appends both in one batch.

mod decide;
mod event;
mod fold;

pub use decide::{Command, Decision, Rejection, decide, define, label};
pub use event::{
    DropCause, Pace, TriggerDefined, TriggerDropped, TriggerEvent, TriggerFired, TriggerId, context_digest,
};
pub use fold::{Recorded, Trigger, fold};
