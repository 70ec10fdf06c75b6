//! The events of a schedule as JSON.

use std::collections::BTreeMap;

use cloacina_engine::core::event::Request;
use cloacina_engine::core::schedule::{ScheduleEvent, SkipCause};
use serde::Serialize;
use serde_json::value::RawValue;

use super::values::{maybe, raw};
use crate::schedules::ScheduleEntry;
use crate::time::rfc3339;

/// One event. Members that its kind does not have are omitted.
#[derive(Default, Serialize)]
pub struct ScheduleEntryJson {
    seq: u64,
    time: String,
    /// The name of its kind; `null` if it cannot be read.
    event: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workflow: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timezone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catchup: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    input: Option<BTreeMap<String, Box<RawValue>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scheduled: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    first: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl ScheduleEntryJson {
    /// Converts an event to JSON.
    ///
    /// # Errors
    /// Never for an event of this library.
    pub fn new(happened: &ScheduleEntry) -> serde_json::Result<Self> {
        let begin = Self { seq: happened.seq, time: rfc3339(happened.time), ..Self::default() };
        let event = match &happened.event {
            Ok(event) => event,
            Err(why) => return Ok(Self { trouble: Some(why.clone()), ..begin }),
        };
        let begin = Self { event: Some(event.name()), ..begin };
        Ok(match event {
            ScheduleEvent::Created(created) => {
                let input = created.input.iter().map(|(key, value)| Ok((key.to_string(), raw(value)?)));
                Self {
                    name: created.name.as_ref().map(ToString::to_string),
                    workflow: Some(created.workflow.to_string()),
                    expression: Some(created.expression.to_string()),
                    timezone: Some(created.timezone.to_string()),
                    catchup: Some(created.catchup.name()),
                    input: Some(input.collect::<serde_json::Result<_>>()?),
                    next: maybe(created.next),
                    ..begin
                }
            }
            ScheduleEvent::Updated(updated) => Self {
                expression: Some(updated.expression.to_string()),
                timezone: Some(updated.timezone.to_string()),
                next: maybe(updated.next),
                ..begin
            },
            ScheduleEvent::Enabled(enabled) => Self { next: maybe(enabled.next), ..begin.asked(&enabled.request) },
            ScheduleEvent::Disabled(request) | ScheduleEvent::Deleted(request) => begin.asked(request),
            ScheduleEvent::Fired(fired) => Self {
                scheduled: Some(rfc3339(fired.scheduled)),
                execution: Some(fired.execution.to_string()),
                next: maybe(fired.next),
                ..begin
            },
            ScheduleEvent::Skipped(skipped) => {
                let (why, limit) = match skipped.why {
                    SkipCause::Missed => ("missed", None),
                    SkipCause::LimitReached { limit } => ("limit_reached", Some(limit)),
                    SkipCause::CouldNotFire => ("could_not_fire", None),
                };
                let (first, until) = (Some(rfc3339(skipped.first)), Some(rfc3339(skipped.until)));
                Self { first, until, why: Some(why), limit, next: maybe(skipped.next), ..begin }
            }
        })
    }

    fn asked(self, request: &Request) -> Self {
        let reason = request.reason.as_ref().map(ToString::to_string);
        Self { by: Some(request.by.to_string()), reason, ..self }
    }
}
