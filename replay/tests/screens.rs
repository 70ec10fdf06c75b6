//! What stands on the screen: standard output, standard error and exit code of whole command lines.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use common::{histories, replay};

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
            // The header is whole: what it names is what one looks for, or types.
            for line in ran.out.lines().skip_while(|line| !line.is_empty()) {
                assert!(line.chars().count() <= width, "{arguments} at {width}: {line}");
            }
        }
    }
}
