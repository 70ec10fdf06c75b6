//! The comparison of two executions as JSON.

use cloacina_engine::core::event::Seq;
use cloacina_engine::core::json::Json;
use serde::Serialize;
use serde_json::value::RawValue;

use super::facts::ExecutionJson;
use super::outcomes::ErrorJson;
use super::values::raw;
use crate::diff::{Diff, Difference, Divergence, KeyDiff, Looked, Ran, ReadDiff, TaskDiff};

/// The differences between two executions, A and B.
#[derive(Debug, Serialize)]
pub struct DiffJson {
    same: bool,
    a: ExecutionJson,
    b: ExecutionJson,
    first: Option<DivergenceJson>,
    input: Vec<KeyJson>,
    tasks: Vec<TaskJson>,
    context: Vec<KeyJson>,
}

#[derive(Debug, Serialize)]
struct DivergenceJson {
    aspect: &'static str,
    task: Option<String>,
    a_seq: Option<Seq>,
    b_seq: Option<Seq>,
    says: String,
}

#[derive(Debug, Serialize)]
struct TaskJson {
    task: String,
    standing: &'static str,
    a: Option<RanJson>,
    b: Option<RanJson>,
    differences: Vec<DifferenceJson>,
}

#[derive(Debug, Serialize)]
struct RanJson {
    first: Option<Seq>,
    outcome: &'static str,
    attempts: u32,
    took_us: Option<u64>,
    error: Option<ErrorJson>,
}

/// A difference. Members other than `what` depend on its kind.
#[derive(Debug, Serialize)]
struct DifferenceJson {
    what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<ReadJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<KeyJson>,
}

#[derive(Debug, Serialize)]
struct ReadJson {
    key: String,
    a: LookedJson,
    b: LookedJson,
    undeclared: bool,
    places: Vec<PlaceJson>,
    more: u64,
}

#[derive(Debug, Serialize)]
struct LookedJson {
    /// `not_read`, `nothing` or `value`.
    saw: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Box<RawValue>>,
}

/// A key whose values differ. Missing values have no member.
#[derive(Debug, Serialize)]
struct KeyJson {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<Box<RawValue>>,
    places: Vec<PlaceJson>,
    more: u64,
}

#[derive(Debug, Serialize)]
struct PlaceJson {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    a: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b: Option<Box<RawValue>>,
}

impl DiffJson {
    /// Converts a comparison to JSON. `logs` are the locations of the two logs.
    ///
    /// # Errors
    /// Never for values of this library.
    pub fn new(diff: &Diff, logs: (&str, &str)) -> serde_json::Result<Self> {
        Ok(Self {
            same: diff.is_same(),
            a: ExecutionJson::new(&diff.a, logs.0),
            b: ExecutionJson::new(&diff.b, logs.1),
            first: diff.first.as_ref().map(DivergenceJson::new),
            input: keys(&diff.input)?,
            tasks: diff.tasks.iter().map(TaskJson::new).collect::<Result<_, _>>()?,
            context: keys(&diff.context)?,
        })
    }
}

impl DivergenceJson {
    fn new(first: &Divergence) -> Self {
        Self {
            aspect: first.aspect,
            task: first.task.as_ref().map(ToString::to_string),
            a_seq: first.a,
            b_seq: first.b,
            says: first.sentence.clone(),
        }
    }
}

impl TaskJson {
    fn new(task: &TaskDiff) -> serde_json::Result<Self> {
        Ok(Self {
            task: task.task.to_string(),
            standing: task.standing().name(),
            a: task.a.as_ref().map(RanJson::new),
            b: task.b.as_ref().map(RanJson::new),
            differences: task.differences.iter().map(DifferenceJson::new).collect::<Result<_, _>>()?,
        })
    }
}

impl RanJson {
    fn new(ran: &Ran) -> Self {
        Self {
            first: ran.first,
            outcome: ran.outcome,
            attempts: ran.attempts,
            took_us: ran.took,
            error: ran.error.as_ref().map(ErrorJson::from),
        }
    }
}

impl DifferenceJson {
    fn new(difference: &Difference) -> serde_json::Result<Self> {
        let mut json = Self {
            what: difference.name(),
            part: None,
            line: None,
            a: None,
            b: None,
            other: None,
            read: None,
            output: None,
        };
        match difference {
            Difference::Definition { part, a, b } => {
                (json.part, json.a, json.b) = (Some(*part), Some(a.clone()), Some(b.clone()));
            }
            Difference::Code { line: Some(line), a, b } => {
                (json.line, json.a, json.b) = (Some(*line), Some(a.clone()), Some(b.clone()));
            }
            Difference::Order { other } => json.other = Some(other.to_string()),
            Difference::Input(read) => json.read = Some(ReadJson::new(read)?),
            Difference::Output(output) => json.output = Some(key(output)?),
            _ => {}
        }
        Ok(json)
    }
}

impl ReadJson {
    fn new(read: &ReadDiff) -> serde_json::Result<Self> {
        let (places, more) = read.values.as_ref().map_or((&[][..], 0), |values| (&values.places[..], values.more));
        Ok(Self {
            key: read.key.to_string(),
            a: LookedJson::new(&read.a)?,
            b: LookedJson::new(&read.b)?,
            undeclared: read.undeclared,
            places: self::places(places)?,
            more,
        })
    }
}

impl LookedJson {
    fn new(looked: &Looked) -> serde_json::Result<Self> {
        Ok(match looked {
            Looked::NotRead => Self { saw: "not_read", value: None },
            Looked::Nothing => Self { saw: "nothing", value: None },
            Looked::Value(value) => Self { saw: "value", value: Some(raw(value)?) },
        })
    }
}

fn keys(diffs: &[KeyDiff]) -> serde_json::Result<Vec<KeyJson>> {
    diffs.iter().map(key).collect()
}

fn key(diff: &KeyDiff) -> serde_json::Result<KeyJson> {
    let value = |side: &Option<Json>| side.as_ref().map(raw).transpose();
    Ok(KeyJson {
        key: diff.key.to_string(),
        a: value(&diff.a)?,
        b: value(&diff.b)?,
        places: places(&diff.places)?,
        more: diff.more,
    })
}

fn places(places: &[crate::diff::Place]) -> serde_json::Result<Vec<PlaceJson>> {
    let value = |side: &Option<Json>| side.as_ref().map(raw).transpose();
    places
        .iter()
        .map(|place| Ok(PlaceJson { path: place.path.clone(), a: value(&place.a)?, b: value(&place.b)? }))
        .collect()
}
