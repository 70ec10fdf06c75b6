//! Random workflows whose tasks are pure functions of what they see.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use cloacina_engine::core::context::View;
use cloacina_engine::core::definition::{Condition, Operator, TaskDefinition, Timeout, TriggerRule};
use cloacina_engine::core::event::{Reads, TaskError};
use cloacina_engine::core::graph::Graph;
use cloacina_engine::core::json::Json;
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::task_context::{TaskContext, Write};
use cloacina_engine::core::time::Millis;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{error, workflow};

const NAMES: [&str; 12] = ["m", "c", "t", "a", "x", "e", "q", "b", "z", "f", "k", "h"];
const KEYS: [&str; 4] = ["doc", "list", "n", "rows"];

/// What a task does to one key.
#[derive(Clone, Debug)]
pub enum Op {
    Set(u8),
    /// Writes the value that it sees again.
    Keep,
    Append(u8),
    Prepend(u8),
    DropFirst,
    Put(u8, u8),
    Take(u8),
    Remove,
    /// Copies from a key, which may be an undeclared read.
    Copy(u8),
}

#[derive(Clone, Debug)]
pub struct TaskPlan {
    dependencies: Vec<u8>,
    rule: RulePlan,
    place: u8,
    ops: Vec<(u8, Op)>,
    /// How many attempts fail before one succeeds.
    fails: u32,
    attempts: u32,
    timeout: Option<u64>,
    jitter: bool,
}

#[derive(Clone, Debug)]
enum RulePlan {
    Named(u8),
    When(ConditionPlan),
}

#[derive(Clone, Debug)]
enum ConditionPlan {
    Always,
    All(Vec<ConditionPlan>),
    Any(Vec<ConditionPlan>),
    None(Vec<ConditionPlan>),
    Task(u8, u8),
    Value(u8, u8, u8),
}

#[derive(Clone)]
pub struct Plan {
    pub graph: Arc<Graph>,
    pub tasks: BTreeMap<String, TaskPlan>,
    pub input: Vec<(String, Value)>,
}

fn op(undeclared: bool) -> impl Strategy<Value = Op> {
    let reads = if undeclared { 2 } else { 0 };
    prop_oneof![
        3 => (0..4_u8).prop_map(Op::Set),
        1 => Just(Op::Keep),
        4 => (0..6_u8).prop_map(Op::Append),
        2 => (0..6_u8).prop_map(Op::Prepend),
        2 => Just(Op::DropFirst),
        3 => (0..3_u8, 0..4_u8).prop_map(|(key, value)| Op::Put(key, value)),
        1 => (0..3_u8).prop_map(Op::Take),
        1 => Just(Op::Remove),
        reads => (0..4_u8).prop_map(Op::Copy),
    ]
}

fn condition() -> impl Strategy<Value = ConditionPlan> {
    let leaf = prop_oneof![
        1 => Just(ConditionPlan::Always),
        4 => (0..3_u8, any::<u8>()).prop_map(|(what, task)| ConditionPlan::Task(what, task)),
        3 => (0..4_u8, 0..8_u8, 0..4_u8).prop_map(|(key, operator, value)| ConditionPlan::Value(key, operator, value)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(ConditionPlan::All),
            vec(inner.clone(), 0..3).prop_map(ConditionPlan::Any),
            vec(inner, 0..3).prop_map(ConditionPlan::None),
        ]
    })
}

fn task_plan(wild: bool) -> impl Strategy<Value = TaskPlan> {
    let rule = prop_oneof![
        4 => Just(RulePlan::Named(0)),
        4 => (0..7_u8).prop_map(RulePlan::Named),
        2 => condition().prop_map(RulePlan::When),
    ];
    let timeouts = prop_oneof![if wild { 1 } else { 0 } => (500..3_000_u64).prop_map(Some), 4 => Just(None)];
    let fails = prop_oneof![6 => Just(0_u32), 1 => 1..4_u32];
    (
        vec(any::<u8>(), 0..4),
        rule,
        any::<u8>(),
        vec((0..4_u8, op(wild)), 0..3),
        fails,
        1..4_u32,
        timeouts,
        any::<bool>(),
    )
        .prop_map(|(dependencies, rule, place, ops, fails, attempts, timeout, jitter)| TaskPlan {
            dependencies,
            rule,
            place,
            ops,
            fails,
            attempts,
            timeout,
            jitter,
        })
}

/// The shape of the graph.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Chain,
    Fan,
    Layers,
    Random,
}

/// Generates workflows of up to twelve tasks. Wild ones also have undeclared reads and timeouts.
pub fn plans(wild: bool) -> impl Strategy<Value = Plan> {
    let shape = prop_oneof![
        1 => Just(Shape::Chain), 1 => Just(Shape::Fan), 2 => Just(Shape::Layers), 4 => Just(Shape::Random)
    ];
    let input = prop_oneof![
        Just(Vec::new()),
        Just(vec![("list".to_owned(), json!([1, 2])), ("doc".to_owned(), json!({"k0": 0, "k1": [1]}))]),
        Just(vec![("n".to_owned(), json!(1)), ("n".to_owned(), json!(2)), ("rows".to_owned(), json!([]))]),
    ];
    (vec(task_plan(wild), 1..=12), shape, input).prop_map(|(tasks, shape, input)| build(tasks, shape, input))
}

fn build(tasks: Vec<TaskPlan>, shape: Shape, input: Vec<(String, Value)>) -> Plan {
    let last = tasks.len() - 1;
    let mut definitions: Vec<(u8, TaskDefinition)> = Vec::new();
    for (at, plan) in tasks.iter().enumerate() {
        let mut dependencies: Vec<usize> = match shape {
            _ if at == 0 => Vec::new(),
            Shape::Chain => vec![at - 1],
            Shape::Fan if at == last => (1..at).rev().collect(),
            Shape::Fan => vec![0],
            Shape::Layers => {
                let layer = at / 3 * 3;
                plan.dependencies.iter().filter(|_| layer > 0).map(|up| layer - 3 + usize::from(*up) % 3).collect()
            }
            Shape::Random => plan.dependencies.iter().map(|up| usize::from(*up) % at).collect(),
        };
        let mut known = Vec::new();
        dependencies.retain(|up| {
            !known.contains(up) && {
                known.push(*up);
                true
            }
        });
        let definition = TaskDefinition {
            dependencies: dependencies.iter().map(|up| NAMES[*up].into()).collect(),
            rule: plan.rule.decode(at),
            retry: RetryPolicy {
                max_attempts: plan.attempts,
                backoff: Backoff::Exponential { base: 2.0, multiplier: 1.0 },
                jitter: plan.jitter,
                ..RetryPolicy::default()
            },
            timeout: plan.timeout.map_or(Timeout::Inherited, |limit| Timeout::After(Millis(limit))),
            ..TaskDefinition::new(NAMES[at])
        };
        definitions.push((plan.place, definition));
    }
    definitions.sort_by_key(|(place, _)| *place);
    Plan {
        graph: workflow(definitions.into_iter().map(|(_, definition)| definition)),
        tasks: NAMES.iter().map(ToString::to_string).zip(tasks).collect(),
        input,
    }
}

impl RulePlan {
    fn decode(&self, at: usize) -> TriggerRule {
        let rules = [
            TriggerRule::NoneFailed,
            TriggerRule::AllSuccess,
            TriggerRule::AllDone,
            TriggerRule::AllFailed,
            TriggerRule::OneSuccess,
            TriggerRule::OneFailed,
            TriggerRule::Always,
        ];
        match self {
            Self::Named(rule) => rules[usize::from(*rule)].clone(),
            Self::When(condition) => TriggerRule::When(condition.decode(at)),
        }
    }
}

impl ConditionPlan {
    fn decode(&self, at: usize) -> Condition {
        let each = |parts: &[Self]| parts.iter().map(|part| part.decode(at)).collect();
        match self {
            Self::All(parts) => Condition::All(each(parts)),
            Self::Any(parts) => Condition::Any(each(parts)),
            Self::None(parts) => Condition::None(each(parts)),
            Self::Task(what, task) if at > 0 => {
                let task = NAMES[usize::from(*task) % at].into();
                match what {
                    0 => Condition::TaskSuccess(task),
                    1 => Condition::TaskFailed(task),
                    _ => Condition::TaskSkipped(task),
                }
            }
            Self::Always | Self::Task(..) => Condition::Always,
            Self::Value(key, operator, value) => {
                let operators = [
                    Operator::Equals,
                    Operator::NotEquals,
                    Operator::GreaterThan,
                    Operator::LessThan,
                    Operator::Contains,
                    Operator::NotContains,
                    Operator::Exists,
                    Operator::NotExists,
                ];
                Condition::ContextValue {
                    key: KEYS[usize::from(*key)].into(),
                    operator: operators[usize::from(*operator)],
                    value: (*operator < 6).then(|| Json::from(json!(value))),
                }
            }
        }
    }
}

/// The result of an attempt.
pub type Outcome = (Vec<Write>, Reads, Result<(), TaskError>);

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "input {}", Value::Object(self.input.iter().cloned().collect()))?;
        for task in &self.graph.definition().tasks {
            let plan = &self.tasks[&*task.id];
            writeln!(
                f,
                "{} after {:?} if {:?} does {:?}, fails {} times of {}, limit {:?}",
                task.id, task.dependencies, task.rule, plan.ops, plan.fails, plan.attempts, plan.timeout
            )?;
        }
        Ok(())
    }
}

impl Plan {
    /// Runs an attempt at a task after this many failures. The result is a pure function of what it sees.
    pub fn run(&self, task: &str, failures: u32, view: View) -> Outcome {
        let plan = &self.tasks[task];
        let mut context = TaskContext::new(view, false);
        for (key, op) in &plan.ops {
            op.apply(KEYS[usize::from(*key)], &mut context);
        }
        let result = if failures < plan.fails { Err(error("ValueError", "as planned")) } else { Ok(()) };
        let (writes, reads) = context.finish();
        (writes, reads, result)
    }
}

impl Op {
    fn apply(&self, key: &str, context: &mut TaskContext) {
        let seen = context.all().get(key).map(Json::value);
        let list = || seen.as_ref().and_then(Value::as_array).cloned().unwrap_or_default();
        let object = || seen.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        let new: Option<Value> = match self {
            Self::Set(value) => Some(json!(value)),
            Self::Keep => seen.clone(),
            Self::Append(value) => Some(Value::Array(list().into_iter().chain([json!(value)]).collect())),
            Self::Prepend(value) => Some(Value::Array([json!(value)].into_iter().chain(list()).collect())),
            Self::DropFirst => Some(Value::Array(list().into_iter().skip(1).collect())),
            Self::Put(name, value) => {
                let mut map: Map<String, Value> = object();
                map.insert(format!("k{name}"), json!(value));
                Some(Value::Object(map))
            }
            Self::Take(name) => {
                let mut map = object();
                map.shift_remove(&format!("k{name}"));
                Some(Value::Object(map))
            }
            Self::Remove => {
                if seen.is_some() {
                    context.remove(key).unwrap();
                }
                return;
            }
            Self::Copy(from) => context.get(KEYS[usize::from(*from)]).unwrap().map(|value| value.value()),
        };
        if let Some(new) = new {
            context.set(key, Json::from(new));
        }
    }
}
