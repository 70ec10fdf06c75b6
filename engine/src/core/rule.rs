//! Trigger rules: whether a task runs once everything upstream is settled.
//!
//! The rule only decides whether the task runs. Whether a skip counts as a failure does not depend on the rule: a
//! skipped task with a failed upstream task is skipped by failure. Otherwise a failure could be lost together with the
//! skipped task that was meant to handle it.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::Value;

use super::context::Context;
use super::definition::{Condition, Operator, TriggerRule};
use super::event::{Key, Settled, SkipReason, TaskId};
use super::json::Json;

/// Everything that a rule can depend on.
pub struct RuleInputs<'a> {
    /// The task's dependencies, in order, with how they ended.
    pub dependencies: &'a [(&'a TaskId, Settled)],
    /// Looks up how a task that a condition names ended. All of these tasks are settled.
    pub settled: &'a dyn Fn(&str) -> Option<Settled>,
    /// Lists the failures upstream: among its dependencies and the tasks that its condition names.
    pub failures: &'a dyn Fn() -> Vec<(TaskId, Settled)>,
    /// The context that the task would see.
    pub context: &'a Context,
}

/// Returns why the task is skipped; `None` if it runs.
#[must_use]
pub fn skip_reason(rule: &TriggerRule, inputs: &RuleInputs<'_>) -> Option<SkipReason> {
    let deps = inputs.dependencies;
    let matching = |wanted: fn(Settled) -> bool| -> Vec<(TaskId, Settled)> {
        deps.iter().filter(|(_, settled)| wanted(*settled)).map(|(task, settled)| ((*task).clone(), *settled)).collect()
    };
    let succeeded = |settled: Settled| settled == Settled::Completed;
    let failed = is_failure;
    let (holds, tasks) = match rule {
        TriggerRule::NoneFailed => (matching(failed).is_empty(), matching(failed)),
        TriggerRule::AllSuccess => {
            (matching(succeeded).len() == deps.len(), matching(|settled| settled != Settled::Completed))
        }
        TriggerRule::AllDone | TriggerRule::Always => (true, Vec::new()),
        TriggerRule::AllFailed => (matching(failed).len() == deps.len(), matching(|settled| !is_failure(settled))),
        TriggerRule::OneSuccess => (deps.is_empty() || !matching(succeeded).is_empty(), matching(|_| true)),
        TriggerRule::OneFailed => (deps.is_empty() || !matching(failed).is_empty(), matching(|_| true)),
        TriggerRule::When(condition) => {
            let Verdict { holds, text, tasks, keys } = evaluate(condition, inputs);
            return (!holds).then(|| reason(text, tasks, keys, inputs));
        }
    };
    (!holds).then(|| reason(rule.name().into(), tasks, Vec::new(), inputs))
}

/// Builds the reason for a skip: what decided the rule, and the failures upstream, which make it a skip by failure.
fn reason(rule: Arc<str>, mut tasks: Vec<(TaskId, Settled)>, keys: Vec<Key>, inputs: &RuleInputs<'_>) -> SkipReason {
    let mut failures = (inputs.failures)();
    let failure = !failures.is_empty();
    let named: BTreeSet<TaskId> = tasks.iter().map(|(task, _)| task.clone()).collect();
    failures.retain(|(task, _)| !named.contains(task));
    tasks.extend(failures);
    SkipReason { rule, tasks, keys, failure }
}

/// Returns whether a rule reads an erased value: then only the log tells what the rule decided.
#[must_use]
pub fn reads_erased(rule: &TriggerRule, context: &Context) -> bool {
    match rule {
        TriggerRule::When(condition) => condition_reads_erased(condition, context),
        _ => false,
    }
}

fn condition_reads_erased(condition: &Condition, context: &Context) -> bool {
    match condition {
        Condition::All(parts) | Condition::Any(parts) | Condition::None(parts) => {
            parts.iter().any(|part| condition_reads_erased(part, context))
        }
        Condition::ContextValue { key, .. } => {
            context.get(key).and_then(|version| version.value()).is_some_and(Json::is_erased)
        }
        _ => false,
    }
}

/// Returns whether a task failed or was skipped by failure.
#[must_use]
pub fn is_failure(settled: Settled) -> bool {
    matches!(settled, Settled::Failed | Settled::SkippedByFailure)
}

/// Whether a condition holds, and which of its parts decided that.
struct Verdict {
    holds: bool,
    text: Arc<str>,
    tasks: Vec<(TaskId, Settled)>,
    keys: Vec<Key>,
}

fn evaluate(condition: &Condition, inputs: &RuleInputs<'_>) -> Verdict {
    match condition {
        Condition::Always => Verdict { holds: true, text: "always".into(), tasks: Vec::new(), keys: Vec::new() },
        Condition::All(parts) => combine("all_of", parts, inputs, |verdicts| verdicts.iter().all(|part| part.holds)),
        Condition::Any(parts) => combine("any_of", parts, inputs, |verdicts| verdicts.iter().any(|part| part.holds)),
        Condition::None(parts) => combine("none_of", parts, inputs, |verdicts| !verdicts.iter().any(|part| part.holds)),
        Condition::TaskSuccess(task) => {
            evaluate_task("task_success", task, inputs, |settled| settled == Settled::Completed)
        }
        Condition::TaskFailed(task) => evaluate_task("task_failed", task, inputs, |settled| settled == Settled::Failed),
        Condition::TaskSkipped(task) => evaluate_task("task_skipped", task, inputs, |settled| {
            matches!(settled, Settled::Skipped | Settled::SkippedByFailure)
        }),
        Condition::ContextValue { key, operator, value } => {
            let actual = inputs.context.get(key).and_then(|version| version.value()).map(Json::value);
            let wanted = value.as_ref().map(Json::value);
            let against = value.as_ref().map(|value| format!(" {value}")).unwrap_or_default();
            Verdict {
                holds: compare(*operator, actual.as_ref(), wanted.as_ref()),
                text: format!("context_value {key} {operator:?}{against}").into(),
                tasks: Vec::new(),
                keys: vec![key.clone()],
            }
        }
    }
}

fn evaluate_task(name: &str, task: &TaskId, inputs: &RuleInputs<'_>, wanted: impl Fn(Settled) -> bool) -> Verdict {
    let settled = (inputs.settled)(task);
    Verdict {
        holds: settled.is_some_and(wanted),
        text: format!("{name} {task}").into(),
        tasks: settled.map(|settled| (task.clone(), settled)).into_iter().collect(),
        keys: Vec::new(),
    }
}

/// Combines the verdicts of the parts, and names the parts that decided: in a false `all_of` those that are false, in a
/// true `any_of` or a false `none_of` those that are true, otherwise all parts.
fn combine(name: &str, parts: &[Condition], inputs: &RuleInputs<'_>, holds: impl Fn(&[Verdict]) -> bool) -> Verdict {
    let verdicts: Vec<Verdict> = parts.iter().map(|part| evaluate(part, inputs)).collect();
    let holds = holds(&verdicts);
    let decided = if name == "none_of" { !holds } else { holds };
    let deciding: Vec<&Verdict> = verdicts.iter().filter(|part| part.holds == decided).collect();
    let text = deciding.iter().map(|part| &*part.text).collect::<Vec<_>>().join(", ");
    let mut tasks: Vec<(TaskId, Settled)> = deciding.iter().flat_map(|part| part.tasks.iter().cloned()).collect();
    let mut keys: Vec<Key> = deciding.iter().flat_map(|part| part.keys.iter().cloned()).collect();
    tasks.sort();
    tasks.dedup();
    keys.sort();
    keys.dedup();
    Verdict { holds, text: format!("{name}({text})").into(), tasks, keys }
}

/// Compares a context value. A missing value equals nothing, contains nothing, and is neither greater nor less.
fn compare(operator: Operator, actual: Option<&Value>, wanted: Option<&Value>) -> bool {
    let same = || actual.zip(wanted).is_some_and(|(left, right)| equal(left, right));
    let order = || actual.zip(wanted).and_then(|(left, right)| order(left, right));
    let contains = || actual.zip(wanted).is_some_and(|(whole, part)| contains(whole, part));
    match operator {
        Operator::Exists => actual.is_some(),
        Operator::NotExists => actual.is_none(),
        Operator::Equals => same(),
        Operator::NotEquals => !same(),
        Operator::GreaterThan => order() == Some(Ordering::Greater),
        Operator::LessThan => order() == Some(Ordering::Less),
        Operator::Contains => contains(),
        Operator::NotContains => !contains(),
    }
}

fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(_), Value::Number(_)) => order(left, right) == Some(Ordering::Equal),
        _ => left == right,
    }
}

/// Orders numbers and strings. Integers that fit 128 bits compare exactly, other numbers as floats.
fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let exact = left.to_string().parse::<i128>().ok().zip(right.to_string().parse::<i128>().ok());
            match exact {
                Some((left, right)) => Some(left.cmp(&right)),
                None => left.as_f64()?.partial_cmp(&right.as_f64()?),
            }
        }
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::String(text), Value::String(part)) => text.contains(part.as_str()),
        (Value::Array(list), part) => list.iter().any(|element| equal(element, part)),
        (Value::Object(object), Value::String(key)) => object.contains_key(key),
        _ => false,
    }
}
