//! The fold: the one place where the state of a trigger changes.

use super::event::{TriggerDefined, TriggerEvent, TriggerId};
use crate::core::envelope::{IllegalEvent, StreamEnd};
use crate::core::event::Seq;
use crate::core::time::Timestamp;

/// A trigger's event with its `seq` and its time.
pub type Recorded = crate::core::envelope::Recorded<TriggerEvent>;

/// The state of a trigger after the events folded so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    id: TriggerId,
    definition: TriggerDefined,
    enabled: bool,
    fires: u64,
    drops: u64,
    end: StreamEnd,
}

/// Applies one event to the state so far (`None` before the first event) and returns the new state.
///
/// # Errors
/// [`IllegalEvent`]; the state is dropped.
pub fn fold(state: Option<Trigger>, id: TriggerId, recorded: &Recorded) -> Result<Trigger, IllegalEvent> {
    match state {
        None => Trigger::begin(id, recorded),
        Some(mut state) => state.apply(recorded).map(|()| state),
    }
}

impl Trigger {
    fn begin(id: TriggerId, recorded: &Recorded) -> Result<Self, IllegalEvent> {
        let TriggerEvent::Defined(definition) = &recorded.event else {
            return Err(recorded.illegal("cannot be the first event; expected TriggerDefined"));
        };
        let end = StreamEnd::after_first(recorded)?;
        if TriggerId::of(&definition.name) != id {
            return Err(recorded.illegal("defines a trigger whose name belongs to another stream"));
        }
        let definition = definition.clone();
        Ok(Self { id, definition, enabled: true, fires: 0, drops: 0, end })
    }

    /// Folds one event after the first.
    pub(super) fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        self.end.check(recorded)?;
        self.change(&recorded.event).map_err(|what| recorded.illegal(what))?;
        self.end.advance(recorded);
        Ok(())
    }

    /// Makes the change that belongs to each event. Every check comes before the first change.
    fn change(&mut self, event: &TriggerEvent) -> Result<(), String> {
        match event {
            TriggerEvent::Defined(definition) => {
                if definition.name != self.definition.name {
                    return Err(format!("renames trigger '{}' to '{}'", self.definition.name, definition.name));
                }
                self.definition = definition.clone();
            }
            TriggerEvent::Enabled(_) => self.set_enabled(true)?,
            TriggerEvent::Disabled(_) => self.set_enabled(false)?,
            TriggerEvent::Fired(_) => {
                self.check_enabled()?;
                self.fires += 1;
            }
            TriggerEvent::Dropped(_) => {
                self.check_enabled()?;
                self.drops += 1;
            }
        }
        Ok(())
    }

    fn set_enabled(&mut self, enabled: bool) -> Result<(), String> {
        if self.enabled == enabled {
            return Err(format!("comes while already {}", if enabled { "enabled" } else { "disabled" }));
        }
        self.enabled = enabled;
        Ok(())
    }

    fn check_enabled(&self) -> Result<(), String> {
        if self.enabled { Ok(()) } else { Err("comes while the trigger is disabled".to_owned()) }
    }

    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> TriggerId {
        self.id
    }

    /// Returns the definition.
    #[must_use]
    pub fn definition(&self) -> &TriggerDefined {
        &self.definition
    }

    /// Returns whether it is polled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Returns how often it fired and started an execution.
    #[must_use]
    pub fn fires(&self) -> u64 {
        self.fires
    }

    /// Returns how often it fired without starting an execution.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// Returns the `seq` of the next event.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.end.next_seq
    }

    /// Returns the time of the last event.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.end.last
    }
}
