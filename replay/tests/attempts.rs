//! Past attempts: the context that they saw and the values that they wrote.

use std::path::Path;

use crate::common::histories::{self, COMPLETED, TUTORIAL};
use crate::common::{id, opener};
use cloacina_engine::core::event::Seen;
use cloacina_replay::attempt::{NoAttempt, PastAttempt};
use cloacina_replay::history::History;
use cloacina_replay::story::Outcome;

fn past(execution: u32) -> History {
    let reader = opener(&histories::all())(Path::new("log")).unwrap();
    History::open(&*reader, id(execution)).unwrap()
}

fn sees(attempt: &PastAttempt) -> Vec<(String, String)> {
    attempt.context.peek().iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
}

#[test]
fn an_attempt_sees_what_its_ancestors_had_written_and_nothing_later() {
    let transform = past(COMPLETED).attempt("transform", None).unwrap();
    let rows = r#"[{"id": 12345678901234567890, "price": 1.10}]"#;
    assert_eq!(sees(&transform), [("request_id".into(), "42".into()), ("rows".into(), rows.into())]);
    assert_eq!(transform.outcome, Outcome::Completed);
    let written: Vec<_> = transform.writes.iter().map(|write| (&*write.key, write.value.is_some())).collect();
    assert_eq!(written, [("rows", true)]);
}

/// An attempt does not see writes of other tasks after its start.
#[test]
fn every_attempt_has_the_view_of_its_own_start() {
    let history = past(TUTORIAL);
    let first = history.attempt("distribute_workload", Some(1)).unwrap();
    assert!(matches!(first.outcome, Outcome::Failed { .. }));
    let mut context = first.context.clone();
    assert_eq!(context.get("dataset").unwrap(), None);
    let second = history.attempt("distribute_workload", None).unwrap();
    assert_eq!((second.number, &second.outcome), (2, &Outcome::Completed));
    let mut context = second.context.clone();
    assert!(context.get("dataset").unwrap().is_some());
    assert!(matches!(context.finish().1.keys[0].seen, Seen::Undeclared(_)));
}

#[test]
fn what_never_started_has_no_attempt() {
    let history = past(COMPLETED);
    let unknown = history.attempt("tranform", None).unwrap_err();
    assert_eq!(unknown.to_string(), "no attempt of task 'tranform' was started; did you mean 'transform'?");
    let many = history.attempt("load", Some(2)).unwrap_err();
    assert_eq!(many, NoAttempt::Number { task: "load".into(), number: 2, attempts: 1 });
}
