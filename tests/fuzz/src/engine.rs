//! Targets for the decoders of the engine: bodies of records, labels, definitions, values, cron expressions.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use cloacina_engine::core::codec;
use cloacina_engine::core::event::{Event, ExecutionId};
use cloacina_engine::core::fold::{Recorded, fold};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::schedule::Calendar;
use cloacina_engine::core::time::Timestamp;
use cloacina_engine::runtime::cron::CronExpression;

/// Checks that a decoded value has exactly one encoding, and decodes to the same value again. It compares bytes, not values, because
/// NaN is not equal to itself.
fn check_round_trip<T, E: Debug>(
    bytes: &[u8],
    decode: fn(&[u8]) -> Result<T, E>,
    encode: fn(&T) -> Vec<u8>,
) -> Option<T> {
    let read = decode(bytes).ok()?;
    let written = encode(&read);
    assert!(written.len() <= bytes.len(), "the encoding is longer than the input");
    let again = decode(&written).expect("an encoded value can be decoded");
    assert_eq!(encode(&again), written, "it decodes to the same value again");
    Some(read)
}

pub(crate) fn event(bytes: &[u8]) {
    check_round_trip(bytes, codec::decode_event, codec::encode_event);
    check_round_trip(bytes, codec::decode_schedule_event, codec::encode_schedule_event);
    check_round_trip(bytes, codec::decode_trigger_event, codec::encode_trigger_event);
}

pub(crate) fn label(bytes: &[u8]) {
    check_round_trip(bytes, codec::decode_label, codec::encode_label);
    check_round_trip(bytes, codec::decode_schedule_label, codec::encode_schedule_label);
    check_round_trip(bytes, codec::decode_trigger_label, codec::encode_trigger_label);
}

/// A definition and its graph.
pub(crate) fn definition(bytes: &[u8]) {
    let Some(definition) = check_round_trip(bytes, codec::decode_definition, codec::encode_definition) else { return };
    let tasks = definition.tasks.len();
    if let Ok(graph) = Graph::new(Arc::new(definition)) {
        assert_eq!(graph.len(), tasks);
        assert_eq!(graph.topological_order().len(), tasks, "the order has every task");
    }
}

/// A definition and events, each prefixed with its length (two bytes): folding accepts or refuses any of them without a panic.
pub(crate) fn history(bytes: &[u8]) {
    let mut parts = parts(bytes);
    let definition = parts.next().and_then(|part| codec::decode_definition(part).ok());
    let Some(graph) = definition.and_then(|definition| Graph::new(Arc::new(definition)).ok()) else { return };
    let fingerprint = codec::fingerprint(graph.definition());
    let graphs = BTreeMap::from([(fingerprint, Arc::new(graph))]);
    let mut state = None;
    for (seq, part) in (0..).zip(parts) {
        let Ok(mut event) = codec::decode_event(part) else { return };
        match &mut event {
            // The fuzzer cannot guess the fingerprint.
            Event::ExecutionStarted(started) => started.definition = fingerprint,
            Event::ExecutionRecovered(recovered) => recovered.definition = fingerprint,
            Event::ExecutionRetried(retried) => retried.definition = fingerprint,
            _ => {}
        }
        let recorded = Recorded { seq, time: Timestamp(1_000 * seq.cast_signed()), event };
        match fold(state, ExecutionId([7; 16]), &recorded, &graphs) {
            Ok(next) => {
                assert_eq!(next.next_seq(), seq + 1);
                let _ = (next.context(), next.next_timer(), next.ready().count());
                state = Some(next);
            }
            Err(_) => return,
        }
    }
}

/// Splits length-prefixed parts.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
        bytes = rest;
        Some(part)
    })
}

/// A value of a context.
pub(crate) fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(value) = Json::parse(text) else { return };
    assert_eq!(value.as_str(), text, "a value is kept unchanged");
    assert!(!value.is_erased(), "no value passes for an erased one");
    if let Some(read) = value.try_value() {
        assert_eq!(Json::from(&read).try_value(), Some(read), "a value decodes to the same value again");
    }
}

/// A cron expression, a newline and a time zone: its fire times increase.
pub(crate) fn cron(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (expression, zone) = text.split_once('\n').unwrap_or((text, "UTC"));
    let Ok(cron) = CronExpression::parse(expression, zone) else { return };
    for start in [0, 1_774_695_600_000_000, i64::MAX, i64::MIN] {
        let mut time = Timestamp(start);
        for _ in 0..3 {
            match cron.next_after(time) {
                Some(next) => {
                    assert!(next > time, "a schedule never fires twice for one time");
                    time = next;
                }
                None => break,
            }
        }
    }
}
