//! Comparison of two executions: the first divergence, task by task, and key by key.

use crate::common::{self, Log, Recorder, error, id, json, replay, task};
use cloacina_engine::core::definition::TaskDefinition;
use cloacina_engine::core::event::TaskError;
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::task_context::TaskContext;
use cloacina_engine::core::time::Millis;
use cloacina_replay::diff::{Diff, Difference, Ignored, Looked, Standing};
use cloacina_replay::history::History;

/// How a run of the workflow differs from the plain one.
#[derive(Clone)]
struct Run {
    day: &'static str,
    rows: &'static str,
    rate: &'static str,
    code: u8,
    failures: u32,
    fails: bool,
    check_first: bool,
    load_takes: i64,
    extra: bool,
    keep: bool,
}

const PLAIN: Run = Run {
    day: "\"2026-11-23\"",
    rows: r#"[{"id": 1, "price": 1.10}, {"id": 2, "price": 7}]"#,
    rate: "2",
    code: 1,
    failures: 0,
    fails: false,
    check_first: true,
    load_takes: 300,
    extra: false,
    keep: true,
};

fn get(context: &mut TaskContext, key: &str) -> String {
    context.get(key).unwrap().map_or_else(|| "null".to_owned(), |value| value.to_string())
}

fn workflow(run: &Run) -> Vec<TaskDefinition> {
    let mut transform = task("transform", &["extract"]);
    transform.code = [run.code; 32];
    transform.source = format!("def transform(context):\n    rate = {}\n    return rate\n", run.rate).into();
    let mut load = task("load", &["transform", "check"]);
    load.retry = RetryPolicy {
        backoff: Backoff::Fixed,
        initial_delay: Millis(100),
        jitter: false,
        max_attempts: 3,
        ..RetryPolicy::default()
    };
    let mut tasks = vec![task("extract", &[]), task("check", &["extract"]), transform, load];
    if run.extra {
        tasks.push(task("notify", &["load"]));
    }
    tasks
}

/// extract, then check and transform in parallel, then load, which multiplies by a rate that is not declared.
fn record(log: &Log, end: u32, run: &Run) {
    let input = [("day", run.day), ("temporary", "1")];
    let mut recorder = Recorder::start(log, id(end), "prices", workflow(run), &input);
    let rows = run.rows;
    let keep = run.keep;
    recorder.run("extract", 50, move |context| {
        get(context, "day");
        context.set("rows", json(rows));
        if !keep {
            context.remove("temporary").unwrap();
        }
        Ok(())
    });
    let check = |recorder: &mut Recorder| {
        recorder.run("check", 10, |context| {
            get(context, "rows");
            Ok(())
        });
    };
    let rate = run.rate;
    let transform = |recorder: &mut Recorder| {
        recorder.run("transform", 20, move |context| {
            let rows = get(context, "rows");
            context.set("priced", json(&format!(r#"{{"rows": {rows}, "rate": {rate}}}"#)));
            Ok(())
        });
    };
    if run.check_first {
        check(&mut recorder);
        transform(&mut recorder);
    } else {
        transform(&mut recorder);
        check(&mut recorder);
    }
    for _ in 0..run.failures {
        recorder.run("load", 40, |_| Err::<(), TaskError>(error("TimeoutError", "no answer from db01"))).wait(100);
    }
    let fails = run.fails;
    if fails {
        for attempt in 0..3 - run.failures {
            recorder.run("load", 40, |context| {
                get(context, "priced");
                Err(error("ValueError", "no such column"))
            });
            if attempt < 2 - run.failures {
                recorder.wait(100);
            }
        }
        return;
    }
    recorder.run("load", run.load_takes, |context| {
        get(context, "priced");
        context.set("loaded", json("true"));
        Ok(())
    });
    if run.extra {
        recorder.run("notify", 5, |_| Ok(()));
    }
}

const A: u32 = 0x7700_0001;
const B: u32 = 0x7700_0002;

fn both(b: &Run) -> Log {
    let log = Log::default();
    record(&log, A, &PLAIN);
    record(&log, B, b);
    log
}

fn compare(b: &Run) -> Diff {
    let log = both(b);
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    open(A).diff(&open(B), &[])
}

fn sentence(b: &Run) -> String {
    compare(b).first.unwrap().sentence
}

fn differs_in(diff: &Diff) -> Vec<(&str, Vec<&str>)> {
    let told = diff.tasks.iter().filter(|task| !task.differences.is_empty() || task.standing() != Standing::Same);
    told.map(|task| (&*task.task, task.differences.iter().map(Difference::name).collect())).collect()
}

#[test]
fn two_runs_of_the_same_are_the_same() {
    let diff = compare(&PLAIN);
    assert!(diff.is_same());
    assert_eq!((&diff.first, differs_in(&diff)), (&None, vec![]));
    assert_eq!(
        diff.tasks.iter().map(|task| &*task.task).collect::<Vec<_>>(),
        ["extract", "check", "transform", "load"]
    );
}

#[test]
fn another_input_is_where_they_part() {
    let diff = compare(&Run { day: "\"2026-11-24\"", rows: "[]", ..PLAIN });
    let first = diff.first.clone().unwrap();
    assert_eq!(first.sentence, r#"the input differs: day is "2026-11-23" in A and "2026-11-24" in B"#);
    assert_eq!((first.aspect, first.task), ("input", None));
    assert_eq!(differs_in(&diff)[0], ("extract", vec!["input", "output"]));
}

#[test]
fn the_first_other_output_is_told_to_its_place() {
    let rows = r#"[{"id": 1, "price": 1.20}, {"id": 2, "price": 7}]"#;
    let diff = compare(&Run { rows, ..PLAIN });
    let first = diff.first.clone().unwrap();
    assert_eq!(first.sentence, "extract wrote different values: rows[0].price is 1.10 in A and 1.20 in B");
    assert_eq!((first.task.as_deref(), first.a, first.b), (Some("extract"), Some(3), Some(3)));
    let expected = vec![
        ("extract", vec!["output"]),
        ("check", vec!["input"]),
        ("transform", vec!["input", "output"]),
        ("load", vec!["input"]),
    ];
    assert_eq!(differs_in(&diff), expected);
    let paths: Vec<_> = diff.context.iter().flat_map(|key| &key.places).map(|place| &*place.path).collect();
    assert_eq!(paths, ["priced.rows[0].price", "rows[0].price"]);
}

#[test]
fn other_code_is_told_with_what_it_changed() {
    assert_eq!(
        sentence(&Run { code: 2, rate: "3", ..PLAIN }),
        "transform has different code in B: wrote different values: priced.rate is 2 in A and 3 in B"
    );
    assert_eq!(sentence(&Run { code: 2, ..PLAIN }), "transform has different code in B");
    let later = sentence(&Run { code: 2, fails: true, ..PLAIN });
    assert_eq!(
        later,
        "transform has different code in B, with the same result; then load completed in A, and failed (ValueError: no such column) in B"
    );
}

#[test]
fn a_failure_and_a_retry_are_differences() {
    let failed = compare(&Run { fails: true, ..PLAIN });
    assert_eq!(differs_in(&failed), [("load", vec!["outcome", "attempts", "output"])]);
    let retried = compare(&Run { failures: 2, ..PLAIN });
    let sentence = "the same except for retries: load was tried once in A and 3 times in B";
    assert_eq!(retried.first.as_ref().unwrap().sentence, sentence);
    assert!(!retried.is_same());
}

/// Regression test: a task that was only retried was the first divergence, although a later one had another result.
#[test]
fn a_retry_is_not_where_two_executions_part_if_something_else_differs() {
    let log = Log::default();
    let fetch_and_sum = |end: u32, failures: u32, sum: &'static str| {
        let mut fetch = task("fetch", &[]);
        fetch.retry = RetryPolicy { max_attempts: 3, jitter: false, ..RetryPolicy::default() };
        let mut run = Recorder::start(&log, id(end), "sums", vec![fetch, task("sum", &["fetch"])], &[]);
        for _ in 0..failures {
            run.run("fetch", 5, |_| Err(error("ConnectionError", "reset"))).wait(5_000);
        }
        run.run("fetch", 5, |_| Ok(()));
        run.run("sum", 5, move |context| {
            context.set("sum", json(sum));
            Ok(())
        });
    };
    fetch_and_sum(A, 0, "1");
    fetch_and_sum(B, 1, "2");
    fetch_and_sum(A + 8, 1, "1");
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    let first = open(A).diff(&open(B), &[]).first.unwrap();
    assert_eq!((first.aspect, first.task.as_deref()), ("output", Some("sum")), "{}", first.sentence);
    let same = open(A).diff(&open(A + 8), &[Ignored::Attempts, Ignored::Time]);
    assert_eq!((same.is_same(), same.first), (true, None));

    let ids = (id(A).to_string(), id(A + 8).to_string());
    let ran = replay(&log, &format!("diff {} {}", ids.0, ids.1));
    assert_eq!(ran.code, 1, "{ran}");
    assert!(ran.out.contains("the same except for retries: fetch") && !ran.out.contains("first divergence"), "{ran}");
    let ran = replay(&log, &format!("diff {} {} --ignore order,attempts,time", ids.0, ids.1));
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("same: every task"), "{ran}");
    let ran = replay(&log, &format!("diff {} {} --ignore output", ids.0, ids.1));
    assert_eq!(ran.code, 2, "{ran}");
}

/// Regression test: of two long texts that differ late, the screen and the sentence showed only the common beginning.
/// The same for nested values, lists of texts, and lines of code.
#[test]
fn of_long_values_the_place_that_differs_is_shown() {
    let log = Log::default();
    let write = |end: u32, tail: &'static str| {
        let mut page = task("page", &[]);
        page.code = [u8::try_from(end % 7).unwrap(); 32];
        page.source = format!("def page(context):\n    return {}{tail}\n", "1 + ".repeat(60)).into();
        let mut run = Recorder::start(&log, id(end), "text", vec![page], &[]);
        run.run("page", 5, move |context| {
            let long = "é日".repeat(450);
            context.set("page", json(&format!("\"{long}{tail}\"")));
            context.set("pages", json(&format!("[\"same\", {{\"deep\": [\"{long}{tail} and more {long}\"]}}]")));
            Ok(())
        });
    };
    write(A, "LEFT");
    write(B, "RIGHT");
    let ran = replay(&log, &format!("diff {} {}", id(A), id(B)));
    for shown in ["page: \"…é日é日é日é日é日é日LEFT\" ", "\"…é日é日é日é日é日é日RIGHT\" ", "(from character 900 on)"]
    {
        assert!(ran.out.contains(shown), "{shown}: {ran}");
    }
    assert!(ran.out.contains("pages[1].deep[0]: \"…é日é日é日é日é日é日LEFT and"), "{ran}");
    assert!(
        ran.out.contains("line 2 in A: …1 + 1 + 1 + LEFT") && ran.out.contains("in B: …1 + 1 + 1 + RIGHT"),
        "{ran}"
    );
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    let sentence = open(A).diff(&open(B), &[]).first.unwrap().sentence;
    assert!(sentence.contains("LEFT\" in A and ") && sentence.contains("RIGHT\" in B"), "{sentence}");
}

#[test]
fn another_order_and_more_time_are_told_but_make_no_difference() {
    let order = compare(&Run { check_first: false, ..PLAIN });
    assert!(order.is_same());
    let first = order.first.unwrap();
    assert_eq!(first.sentence, "the same except for the order: check and transform ran in the opposite order");
    assert!(!first.counts);
    let slower = compare(&Run { load_takes: 900, ..PLAIN });
    assert!(slower.is_same());
    assert_eq!(slower.first.unwrap().sentence, "the same except for time: load took 0.30 s in A and 0.90 s in B");
}

#[test]
fn a_task_that_only_one_has_stands_where_it_ran() {
    let diff = compare(&Run { extra: true, ..PLAIN });
    let standings: Vec<_> = diff.tasks.iter().map(|task| (&*task.task, task.standing())).collect();
    assert_eq!(standings.last(), Some(&("notify", Standing::OnlyB)));
    let first = diff.first.unwrap();
    assert_eq!((first.aspect, first.task.as_deref()), ("tasks", Some("notify")));
    assert_eq!(first.sentence, "notify is only in B: the workflow of A has no such task");
}

#[test]
fn a_key_that_one_removed_is_a_difference() {
    let first = compare(&Run { keep: false, ..PLAIN }).first.unwrap();
    assert_eq!(first.sentence, "extract wrote different values: temporary was removed in one of them");
    let same = Run { keep: false, ..PLAIN };
    let log = Log::default();
    record(&log, A, &same);
    record(&log, B, &same);
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    assert_eq!(open(A).diff(&open(B), &[]).first, None);
}

/// An undeclared read depends on timing, and the sentence says so.
#[test]
fn a_race_is_named_as_one() {
    let log = Log::default();
    for (end, writer_first) in [(A, true), (B, false)] {
        let tasks = vec![task("writer", &[]), task("reader", &[])];
        let mut run = Recorder::start(&log, id(end), "race", tasks, &[]);
        let read = |context: &mut TaskContext| {
            let seen = get(context, "total");
            context.set("seen", json(&seen));
            Ok(())
        };
        let write = |context: &mut TaskContext| {
            context.set("total", json("7"));
            Ok(())
        };
        if writer_first {
            run.run("writer", 1, write).run("reader", 1, read);
        } else {
            run.run("reader", 1, read).run("writer", 1, write);
        }
    }
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    let diff = open(A).diff(&open(B), &[]);
    let reader = diff.tasks.iter().find(|task| &*task.task == "reader").unwrap();
    let Difference::Input(read) = &reader.differences[0] else { panic!("{:?}", reader.differences) };
    assert_eq!((&read.a, &read.b), (&Looked::Value(json("7")), &Looked::Nothing));
    assert!(read.undeclared);
    assert_eq!(
        diff.first.unwrap().sentence,
        "reader read a different total: 7 in A and not there in B (an undeclared read: its value depends on timing)"
    );
}

#[test]
fn two_workflows_are_told_to_be_two() {
    let log = Log::default();
    record(&log, A, &PLAIN);
    common::histories::completed(&log, id(B));
    let open = |end| History::open(&*log.0, id(end)).unwrap();
    assert_eq!(open(A).diff(&open(B), &[]).first.unwrap().sentence, "different workflows: prices in A, etl in B");
}

macro_rules! screen {
    ($name:ident, $run:expr, $arguments:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(replay(&both(&$run), $arguments));
        }
    };
}

screen!(screen_same, PLAIN, "diff 77000001 77000002");
screen!(
    screen_output,
    Run { rows: r#"[{"id": 1, "price": 1.20}, {"id": 2, "price": 7}, {"id": 3}]"#, ..PLAIN },
    "diff 77000001 @"
);
screen!(screen_failed, Run { code: 2, fails: true, check_first: false, ..PLAIN }, "diff @- @");
screen!(screen_code, Run { code: 2, rate: "3", ..PLAIN }, "diff @- @");
screen!(screen_only, Run { extra: true, ..PLAIN }, "diff @ @-");
screen!(screen_slower, Run { load_takes: 900, ..PLAIN }, "diff @- @");
screen!(screen_unknown, PLAIN, "diff @ 12345678");
screen!(screen_one_id, PLAIN, "diff @");
screen!(screen_id_before, PLAIN, "@ diff @ @-");

#[test]
fn every_difference_round_trips_into_the_exit_code() {
    let code = |run: &Run| replay(&both(run), "diff @- @ --json").code;
    assert_eq!(code(&PLAIN), 0);
    assert_eq!(code(&Run { load_takes: 900, ..PLAIN }), 0);
    assert_eq!(code(&Run { failures: 1, ..PLAIN }), 1);
}
