//! The fold: the one place where the state of a trigger changes.

use super::event::{TriggerDefined, TriggerEvent, TriggerId};
use crate::core::event::Seq;
use crate::core::fold::IllegalEvent;
use crate::core::time::Timestamp;

/// A trigger's event with its place and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// Its place in the stream.
    pub seq: Seq,
    /// When it was decided.
    pub time: Timestamp,
    /// What happened.
    pub event: TriggerEvent,
}

/// A trigger, as its events make it.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    id: TriggerId,
    definition: TriggerDefined,
    enabled: bool,
    fires: u64,
    drops: u64,
    next_seq: Seq,
    last: Timestamp,
}

/// Folds one event into the state that those before it gave; `None` before the first.
///
/// # Errors
/// [`IllegalEvent`]; the state is gone with it.
pub fn fold(state: Option<Trigger>, id: TriggerId, recorded: &Recorded) -> Result<Trigger, IllegalEvent> {
    match state {
        None => Trigger::begin(id, recorded),
        Some(mut state) => state.apply(recorded).map(|()| state),
    }
}

impl Trigger {
    fn begin(id: TriggerId, recorded: &Recorded) -> Result<Self, IllegalEvent> {
        let illegal =
            |what: &str| IllegalEvent { seq: recorded.seq, event: recorded.event.name(), what: what.to_owned() };
        let TriggerEvent::Defined(definition) = &recorded.event else {
            return Err(illegal("cannot be the first event; TriggerDefined is"));
        };
        if recorded.seq != 0 {
            return Err(illegal("is the first event, but not at seq 0"));
        }
        if TriggerId::of(&definition.name) != id {
            return Err(illegal("defines a trigger of another stream"));
        }
        let definition = definition.clone();
        Ok(Self { id, definition, enabled: true, fires: 0, drops: 0, next_seq: 1, last: recorded.time })
    }

    /// Folds one event after the first.
    pub(super) fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        let Recorded { seq, time, event } = recorded;
        let illegal = |what: String| IllegalEvent { seq: *seq, event: event.name(), what };
        if *seq != self.next_seq {
            return Err(illegal(format!("comes where seq {} should", self.next_seq)));
        }
        if *time < self.last {
            return Err(illegal("is older than the event before it".to_owned()));
        }
        self.change(event).map_err(illegal)?;
        self.next_seq += 1;
        self.last = *time;
        Ok(())
    }

    /// Each event's own change. Checks before it changes anything.
    fn change(&mut self, event: &TriggerEvent) -> Result<(), String> {
        match event {
            TriggerEvent::Defined(definition) => {
                if definition.name != self.definition.name {
                    return Err(format!("gives '{}' the name '{}'", self.definition.name, definition.name));
                }
                self.definition = definition.clone();
            }
            TriggerEvent::Enabled(_) => self.switch(true)?,
            TriggerEvent::Disabled(_) => self.switch(false)?,
            TriggerEvent::Fired(_) => {
                self.must_be_enabled()?;
                self.fires += 1;
            }
            TriggerEvent::Dropped(_) => {
                self.must_be_enabled()?;
                self.drops += 1;
            }
        }
        Ok(())
    }

    fn switch(&mut self, enabled: bool) -> Result<(), String> {
        if self.enabled == enabled {
            return Err(format!("comes when it is {} already", if enabled { "enabled" } else { "disabled" }));
        }
        self.enabled = enabled;
        Ok(())
    }

    fn must_be_enabled(&self) -> Result<(), String> {
        if self.enabled { Ok(()) } else { Err("comes when the trigger is disabled".to_owned()) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> TriggerId {
        self.id
    }

    /// How it is defined.
    #[must_use]
    pub fn definition(&self) -> &TriggerDefined {
        &self.definition
    }

    /// Whether it is polled.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// How often it has fired and started an execution.
    #[must_use]
    pub fn fires(&self) -> u64 {
        self.fires
    }

    /// How often it has fired and started nothing.
    #[must_use]
    pub fn drops(&self) -> u64 {
        self.drops
    }

    /// The place of its next event.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.next_seq
    }

    /// When its last event happened.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        self.last
    }
}
