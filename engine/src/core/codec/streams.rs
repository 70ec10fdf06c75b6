//! Encodes and decodes the events of schedules and triggers.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::{DecodeError, EVENT, FORMAT, decode, encode_body, split_header};
use crate::core::envelope::StreamEvent;
use crate::core::event::{Key, Request};
use crate::core::json::Json;
use crate::core::schedule::{
    Catchup, ScheduleCreated, ScheduleEnabled, ScheduleEvent, ScheduleFired, ScheduleSkipped, ScheduleUpdated,
};
use crate::core::time::Timestamp;
use crate::core::trigger::{TriggerDefined, TriggerDropped, TriggerEvent, TriggerFired};

/// The layout of kind 32: a schedule without a name.
#[derive(Encode, Decode)]
struct UnnamedSchedule {
    workflow: Arc<str>,
    expression: Arc<str>,
    timezone: Arc<str>,
    catchup: Catchup,
    input: Vec<(Key, Json)>,
    next: Option<Timestamp>,
}

impl From<ScheduleCreated> for UnnamedSchedule {
    fn from(created: ScheduleCreated) -> Self {
        let ScheduleCreated { name: _, workflow, expression, timezone, catchup, input, next } = created;
        Self { workflow, expression, timezone, catchup, input, next }
    }
}

impl From<UnnamedSchedule> for ScheduleCreated {
    fn from(created: UnnamedSchedule) -> Self {
        let UnnamedSchedule { workflow, expression, timezone, catchup, input, next } = created;
        Self { name: None, workflow, expression, timezone, catchup, input, next }
    }
}

/// Encodes an event of a schedule.
#[must_use]
pub fn encode_schedule_event(event: &ScheduleEvent) -> Vec<u8> {
    let kind = event.kind();
    match event {
        ScheduleEvent::Created(body) if body.name.is_none() => {
            encode_body(EVENT, kind, &UnnamedSchedule::from(body.clone()))
        }
        ScheduleEvent::Created(body) => encode_body(EVENT, kind, body),
        ScheduleEvent::Updated(body) => encode_body(EVENT, kind, body),
        ScheduleEvent::Enabled(body) => encode_body(EVENT, kind, body),
        ScheduleEvent::Disabled(body) | ScheduleEvent::Deleted(body) => encode_body(EVENT, kind, body),
        ScheduleEvent::Fired(body) => encode_body(EVENT, kind, body),
        ScheduleEvent::Skipped(body) => encode_body(EVENT, kind, body),
    }
}

/// Decodes an event of a schedule.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_schedule_event(bytes: &[u8]) -> Result<ScheduleEvent, DecodeError> {
    let (kind, body) = split_header(EVENT, "an event", bytes)?;
    let what = ScheduleEvent::kind_name(kind);
    Ok(match kind {
        32 => ScheduleEvent::Created(decode::<UnnamedSchedule>(what, body)?.into()),
        33 => ScheduleEvent::Updated(decode::<ScheduleUpdated>(what, body)?),
        34 => ScheduleEvent::Enabled(decode::<ScheduleEnabled>(what, body)?),
        35 => ScheduleEvent::Disabled(decode::<Request>(what, body)?),
        36 => ScheduleEvent::Deleted(decode::<Request>(what, body)?),
        37 => ScheduleEvent::Fired(decode::<ScheduleFired>(what, body)?),
        38 => ScheduleEvent::Skipped(decode::<ScheduleSkipped>(what, body)?),
        39 => ScheduleEvent::Created(decode::<ScheduleCreated>(what, body)?),
        _ => return Err(unknown_kind("a schedule's event", kind)),
    })
}

/// Encodes an event of a trigger.
#[must_use]
pub fn encode_trigger_event(event: &TriggerEvent) -> Vec<u8> {
    let kind = event.kind();
    match event {
        TriggerEvent::Defined(body) => encode_body(EVENT, kind, body),
        TriggerEvent::Enabled(body) | TriggerEvent::Disabled(body) => encode_body(EVENT, kind, body),
        TriggerEvent::Fired(body) => encode_body(EVENT, kind, body),
        TriggerEvent::Dropped(body) => encode_body(EVENT, kind, body),
    }
}

/// Decodes an event of a trigger.
///
/// # Errors
/// [`DecodeError`]; never a guess.
pub fn decode_trigger_event(bytes: &[u8]) -> Result<TriggerEvent, DecodeError> {
    let (kind, body) = split_header(EVENT, "an event", bytes)?;
    let what = TriggerEvent::kind_name(kind);
    Ok(match kind {
        48 => TriggerEvent::Defined(decode::<TriggerDefined>(what, body)?),
        49 => TriggerEvent::Enabled(decode::<Request>(what, body)?),
        50 => TriggerEvent::Disabled(decode::<Request>(what, body)?),
        51 => TriggerEvent::Fired(decode::<TriggerFired>(what, body)?),
        52 => TriggerEvent::Dropped(decode::<TriggerDropped>(what, body)?),
        _ => return Err(unknown_kind("a trigger's event", kind)),
    })
}

fn unknown_kind(what: &str, kind: u16) -> DecodeError {
    DecodeError::Newer { what: format!("{what} of kind {kind}"), found: FORMAT + 1, known: FORMAT }
}

impl ScheduleEvent {
    /// Returns the number of its kind in the log. Numbers are never reused.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Created(created) if created.name.is_some() => 39,
            Self::Created(_) => 32,
            Self::Updated(_) => 33,
            Self::Enabled(_) => 34,
            Self::Disabled(_) => 35,
            Self::Deleted(_) => 36,
            Self::Fired(_) => 37,
            Self::Skipped(_) => 38,
        }
    }

    /// Returns its name, which is the same everywhere it is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        Self::kind_name(self.kind())
    }

    fn kind_name(kind: u16) -> &'static str {
        match kind {
            32 | 39 => "ScheduleCreated",
            33 => "ScheduleUpdated",
            34 => "ScheduleEnabled",
            35 => "ScheduleDisabled",
            36 => "ScheduleDeleted",
            37 => "ScheduleFired",
            38 => "ScheduleSkipped",
            _ => "a schedule's event of an unknown kind",
        }
    }
}

impl TriggerEvent {
    /// Returns the number of its kind in the log. Numbers are never reused.
    #[must_use]
    pub fn kind(&self) -> u16 {
        match self {
            Self::Defined(_) => 48,
            Self::Enabled(_) => 49,
            Self::Disabled(_) => 50,
            Self::Fired(_) => 51,
            Self::Dropped(_) => 52,
        }
    }

    /// Returns its name, which is the same everywhere it is shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        Self::kind_name(self.kind())
    }

    fn kind_name(kind: u16) -> &'static str {
        match kind {
            48 => "TriggerDefined",
            49 => "TriggerEnabled",
            50 => "TriggerDisabled",
            51 => "TriggerFired",
            52 => "TriggerDropped",
            _ => "a trigger's event of an unknown kind",
        }
    }
}

impl StreamEvent for ScheduleEvent {
    fn name(&self) -> &'static str {
        Self::name(self)
    }
}

impl StreamEvent for TriggerEvent {
    fn name(&self) -> &'static str {
        Self::name(self)
    }
}
