//! Screens: standard output, standard error and exit code of complete command lines.

use crate::common::{self, Log, Recorder, histories, id, replay, task};
use cloacina_engine::core::codec::encode_standing;
use cloacina_engine::core::decide::Command;
use cloacina_engine::core::event::{ExecutionId, Request, TaskError};
use cloacina_engine::core::retry::RetryPolicy;
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::history::History;
use cloacina_replay::reading::stream_of;
use serde_json::Value;

macro_rules! screen {
    ($name:ident, $arguments:expr) => {
        #[test]
        fn $name() {
            insta::assert_snapshot!(replay(&histories::all(), $arguments));
        }
    };
}

screen!(completed, "9f3ac101");
screen!(completed_values, "9f3ac101 --values --time utc");
screen!(tutorial, "9f3ac102");
screen!(tutorial_full, "9f3ac102 --full --values");
screen!(tutorial_at_task, "9f3ac102 --at prepare_dataset");
screen!(tutorial_context, "9f3ac102 context");
screen!(failed, "51b00003");
screen!(failed_at_time, "51b00003 --at +1.2s");
screen!(failed_full, "51b00003 --full");
screen!(recovered, "51b00004");
screen!(branches, "51b00005");
screen!(branches_values, "51b00005 --values");
screen!(collision, "51b00006");
screen!(running, "51b00007");
screen!(running_at, "51b00007 --at 99");
screen!(cancelled, "51b00008");
screen!(list, "list --time utc");
screen!(list_failed, "list --status failed --time relative");
screen!(context_value, "9f3ac101 context rows");
screen!(context_at, "9f3ac101 context rows --at extract");
screen!(context_unknown, "9f3ac101 context row");
screen!(verify_ok, "9f3ac101 verify");
screen!(ambiguous, "01935f --time utc");
screen!(unknown, "9f3ac1d2 --time utc");
screen!(no_id, "xyz");
screen!(latest, "@ --time utc --at 0");
screen!(help, "--help");
screen!(why_tutorial, "9f3ac102 why batch_1_result");
screen!(why_chain, "9f3ac101 why loaded");
screen!(why_at, "9f3ac101 why rows --at extract");
screen!(why_collision, "51b00006 why total");
screen!(why_without_effect, "51b00003 why progress");
screen!(why_unknown, "51b00003 why rowz");
screen!(explain_retried, "9f3ac102 explain distribute_workload");
screen!(explain_failed, "51b00003 explain load");
screen!(explain_skipped, "51b00003 explain report");
screen!(explain_condition, "51b00005 explain large");
screen!(explain_waiting, "51b00007 explain load");
screen!(explain_at, "51b00003 explain load --at 8");
screen!(explain_unknown, "51b00003 explain laod");
screen!(failed_undeclared, "51b00009");
screen!(option_without_meaning, "51b00003 verify --at 3");
screen!(no_option, "51b00003 --fill");
screen!(explain_error, "explain-error cl16");
screen!(explain_error_unknown, "explain-error CL9999");
screen!(jsonl_without_meaning, "51b00003 why rows --jsonl");
screen!(list_since, "list --since 2026-11-24T04:00:00Z --time utc");
screen!(list_since_span, "list --since 2h --time utc");
screen!(list_since_wrong, "list --since yesterday");
screen!(which, "verify");
screen!(no_execution_back, "@---------");

#[test]
fn narrow_terminal_with_colours() {
    let log = histories::all();
    let open = common::opener(&log);
    let ran = common::replay_with(&open, Some(60), "9f3ac102");
    insta::assert_snapshot!(ran.to_string().replace('\u{1b}', "ESC"));
}

/// Regression test: an execution that the engine held back (another graph, unregistered workflow, damage), or that no
/// process ran, was `Running` in every view, without a reason.
#[test]
fn every_view_says_how_an_execution_stands_why_and_what_to_do() {
    let (blocked, gone, hurt) = (id(0x31), id(0x32), id(0x33));
    let standings = [
        Standing::other_graph(blocked, "etl", "task 'new' is new"),
        Standing::not_registered(gone, "etl"),
        Standing::damaged(hurt, "the record at seq 1 is damaged"),
    ];
    for (standing, execution) in standings.into_iter().zip([blocked, gone, hurt]) {
        let log = left(execution);
        log.0.post(stream_of(execution), Some(encode_standing(&standing).into()));
        assert_views_say(&log, standing.status.name(), standing.reason.as_deref().unwrap());
        // After the engine resumes it, the reason is gone.
        log.0.post(stream_of(execution), None);
        let ran = replay(&log, "@ explain extract");
        assert!(ran.out.contains("extract: Running") && ran.out.contains("runs"), "{ran}");
    }
    let closed = left(id(0x34));
    closed.0.close().unwrap();
    assert_views_say(&closed, "NotRunning", "no process has the log");
    let mut paused = Recorder::start(&Log::default(), id(0x35), "etl", vec![task("extract", &[])], &[]);
    paused.command(Command::Pause(Request { by: "ann".into(), reason: None }));
    paused.log().0.close().unwrap();
    assert_views_say(&paused.log(), "Paused", "no process has the log");
}

/// One task is running, and another waits for it.
fn left(execution: ExecutionId) -> Log {
    let log = Log::default();
    let tasks = vec![task("extract", &[]), task("load", &["extract"])];
    Recorder::start(&log, execution, "etl", tasks, &[]).begin("extract", 0);
    log
}

fn assert_views_say(log: &Log, status: &str, reason: &str) {
    for arguments in ["list", "@", "@ explain extract", "@ graph", "@ context", "@ --at 0", "@ --full", "@ --follow"] {
        let ran = replay(log, arguments);
        let flat = ran.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(&format!("{status}: {reason}")), "{arguments}: {ran}");
        assert!(arguments == "list" || flat.contains(" next: "), "{arguments}: {ran}");
        assert!(!flat.contains(": runs") && !flat.contains("extract Running"), "{arguments}: {ran}");
    }
    for arguments in ["list --json", "@ --json", "@ explain extract --json", "@ graph --json", "@ --jsonl"] {
        let ran = replay(log, arguments);
        let line = ran.out.lines().next().unwrap();
        let said: Value = serde_json::from_str(&ran.out).or_else(|_| serde_json::from_str(line)).unwrap();
        let execution = if arguments.starts_with("list") { &said["executions"][0] } else { &said["execution"] };
        let told = (execution["status"].as_str().unwrap(), execution["reason"].as_str().unwrap());
        assert!(told.0 == status && told.1.contains(reason), "{arguments}: {ran}");
        assert!(execution["next_step"].is_string(), "{arguments}: {ran}");
    }
    let back = History::from_json(&replay(log, "@ --json").out).unwrap();
    assert_eq!(back.head.status(), status);
    let only = replay(log, &format!("list --status {status}"));
    assert!(only.out.contains("etl"), "{only}");
    let others = replay(log, "list --status Running");
    assert!(others.out.contains("no executions"), "{others}");
}

/// Regression test: an execution that waited for its next attempt, or for something outside, was `Running`.
#[test]
fn what_waits_is_waiting_and_says_until_when() {
    let log = left(id(0x36));
    let due = Timestamp(common::START + 3_600_000_000);
    let waiting = Standing::waiting_for_retry(&"extract".into(), due);
    log.0.post(stream_of(id(0x36)), Some(encode_standing(&waiting).into()));
    let ran = replay(&log, "@ --time utc");
    assert!(ran.out.contains("Waiting: task 'extract' waits for its next attempt, until 2026-11-24 04:22:10"), "{ran}");
    let deferred = Standing::deferred(&[&"extract".into(), &"load".into()]);
    log.0.post(stream_of(id(0x36)), Some(encode_standing(&deferred).into()));
    let ran = replay(&log, "list");
    assert!(ran.out.contains("Deferred: tasks 'extract', 'load' wait for something outside"), "{ran}");
}

/// Regression test: if `zeta` failed before `alpha`, the hint, the report and the failure line named the first by name.
#[test]
fn every_view_names_the_failure_that_came_first() {
    let log = Log::default();
    let tasks = ["alpha", "middle", "zeta"].map(|name| {
        let mut one = task(name, &[]);
        one.retry = RetryPolicy::never();
        one
    });
    let mut run = Recorder::start(&log, id(0x41), "three", tasks.to_vec(), &[]);
    run.begin("alpha", 0).begin("middle", 1).begin("zeta", 2).wait(10);
    run.finish("zeta", |_| Err(common::error("ValueError", "the cause"))).wait(10);
    run.finish("middle", |_| Err(common::error("ValueError", "then"))).wait(10);
    run.finish("alpha", |_| Err(common::error("ValueError", "last")));
    let ran = replay(&log, "@");
    assert!(ran.out.contains("zeta failed, attempt 1 of 1: ValueError: the cause"), "{ran}");
    assert!(ran.out.contains("also failed: middle, alpha"), "in the order in which they failed: {ran}");
    assert!(ran.err.contains("hint: replay 00000041 explain zeta"), "{ran}");
    let said: Value = serde_json::from_str(&replay(&log, "@ --json").out).unwrap();
    assert_eq!(said["first_failure"], "zeta");
    let report = replay(&log, "@ report -o -").out;
    assert!(report.contains("\"first_failure\":\"zeta\""), "the page names it, too");
}

/// Regression test: a recovery with other code or another graph showed only the process. `explain` did not know a
/// removed task, although the table had its events.
#[test]
fn what_a_recovery_changed_is_told_and_what_it_took_out_can_be_explained() {
    let log = Log::default();
    let mut check = task("check", &["extract"]);
    check.retry = RetryPolicy::never();
    let tasks = vec![task("extract", &[]), check, task("load", &["check"]), task("never", &["load"])];
    let mut run = Recorder::start(&log, id(0x42), "etl", tasks, &[]);
    run.run("extract", 5, |_| Ok(())).begin("check", 0).wait(5);
    let mut load = task("load", &["extract"]);
    load.code = [7; 32];
    load.retry = RetryPolicy::never();
    run.recover_with(vec![task("extract", &[]), load, task("tell", &["load"])]);
    for arguments in ["@", "@ --full"] {
        let ran = replay(&log, arguments);
        let changes = [
            "code changed: load",
            "task added: tell",
            "task removed: check, never",
            "dependencies or rule changed: load",
        ];
        for change in changes.into_iter().chain(["retry policy or timeout changed: load"]) {
            assert!(ran.out.contains(change), "{arguments}: {change}: {ran}");
        }
    }
    let ran = replay(&log, "@ explain check");
    assert_eq!(ran.code, 0, "{ran}");
    assert!(ran.out.contains("check: removed") && ran.out.contains("attempt 1 (seq 3"), "{ran}");
    let ran = replay(&log, "@ explain never");
    assert!(ran.out.contains("it had no events before that"), "{ran}");
    let ran = replay(&log, "@ explain chek");
    assert!(ran.err.contains("explain check"), "{ran}");
    let ran = replay(&log, "@ graph");
    assert!(ran.out.contains("removed: check is no longer in the graph"), "{ran}");
    let said: Value = serde_json::from_str(&replay(&log, "@ explain check --json").out).unwrap();
    assert_eq!(said["tasks"][0]["task"], "check");
    // A recovery with the same workflow shows no changes.
    run.recover();
    let ran = replay(&log, "@ --full");
    assert_eq!(ran.out.matches("code changed").count(), 1, "{ran}");
}

/// Regression test: tracebacks began with a library's frames, and three attempts with the same one filled the screen.
#[test]
fn a_traceback_begins_with_the_users_own_frame_and_is_told_once() {
    let log = Log::default();
    let mut fetch = task("fetch", &[]);
    fetch.retry = RetryPolicy { max_attempts: 3, jitter: false, ..RetryPolicy::default() };
    let mut run = Recorder::start(&log, id(0x43), "etl", vec![fetch], &[]);
    for _ in 0..3 {
        run.wait(10_000).run("fetch", 5, |_| {
            let traceback = "Traceback (most recent call last):\n  File \"/app/flow.py\", line 7, in fetch\n    get(url)\n  File \"/app/.venv/lib/python3.12/site-packages/http.py\", line 99, in get\n    raise Refused\nRefused\n";
            Err(TaskError { traceback: Some(traceback.into()), ..common::error("Refused", "no") })
        });
    }
    let ran = replay(&log, "@ explain fetch");
    assert_eq!(ran.out.matches("| Traceback").count(), 1, "{ran}");
    assert_eq!(ran.out.matches("(the same traceback as attempt 1)").count(), 2, "{ran}");
    let own = "  File \"/app/flow.py\", line 7, in fetch: get(url) (raised below it, in";
    assert_eq!(ran.out.matches(own).count(), 3, "{ran}");
    assert!(replay(&log, "@").out.contains(own), "the table, too");
}

/// Regression test: `serve --help` offered `--at`, `--time` and `--jsonl`, and other commands options that they refuse.
#[test]
fn the_help_of_a_command_offers_only_what_has_a_meaning_for_it() {
    let log = histories::all();
    let offered = |command: &str| {
        let help = replay(&log, &format!("{command} --help")).out;
        let options = help
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("--").or(line.trim_start().strip_prefix("-o, --")));
        options.map(|option| option.split([' ', '=']).next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offered("serve"), ["port", "log", "json"]);
    assert_eq!(offered("doctor"), ["log", "json", "time", "color"]);
    assert_eq!(offered("explain"), ["at", "log", "json", "time", "color"]);
    assert_eq!(offered("diff"), ["ignore", "log", "json", "color"]);
    assert_eq!(offered("list"), ["status", "workflow", "since", "limit", "log", "json", "jsonl", "time", "color"]);
    assert_eq!(offered("report"), ["output", "log", "json"]);
    // Hidden options are still parsed, and refused with a message.
    let ran = replay(&log, "@ verify --at 3");
    assert!(ran.err.contains("`--at` cannot be used with `verify`"), "{ran}");
    assert_eq!(replay(&log, "@ explain extract --at 3 --time utc").code, 3, "no such task, but such options");
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    let log = histories::all();
    let open = common::opener(&log);
    let views = ["list", "9f3ac102", "9f3ac102 --values", "51b00003", "51b00005", "51b00006", "51b00007", "51b00008"];
    let more =
        ["9f3ac102 context", "9f3ac102 --at 6", "9f3ac102 why batch_1_result", "9f3ac102 explain distribute_workload"];
    for width in [60, 80, 100, 200] {
        for arguments in views.iter().chain(&more) {
            let ran = common::replay_with(&open, Some(width), &format!("{arguments} --color never"));
            assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
            // The header is never cut: users search for and type its ids and names.
            for line in ran.out.lines().skip_while(|line| !line.is_empty()) {
                assert!(line.chars().count() <= width, "{arguments} at {width}: {line}");
            }
        }
    }
}
