//! Writes a log with executions of every kind, for tests of replay: `histories DIRECTORY`.
//!
//! In addition to the shared histories of replay's tests, it contains one with hostile texts, and one of 5,000 tasks.

#![allow(clippy::unwrap_used, reason = "it serves tests, and fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "it is a program")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::Arc;

use cloacina_engine::core::erasure::What;
use cloacina_engine::core::retry::{Backoff, RetryPolicy};
use cloacina_engine::core::time::Millis;
use cloacina_store::{Options, open};
use common::{Log, Recorder, erase, error, histories, id, json, task};

/// The executions that only browser tests use.
const HOSTILE: u32 = 0xbad0_0010;
const MANY: u32 = 0x5000_0011;
const DIAMOND: u32 = 0xd1a0_0012;
const ERASED: u32 = 0xe7a5_0013;

fn main() {
    let directory = std::env::args_os().nth(1).unwrap();
    common::begin_now();
    let log = Log(Arc::new(open(Path::new(&directory), &Options::default()).unwrap()));
    histories::all_into(&log);
    hostile(&log);
    many(&log);
    diamond(&log);
    erased(&log);
    log.0.close().unwrap();
}

/// Texts that would be parsed as markup, or change the direction of a line, if not escaped.
fn hostile(log: &Log) {
    let name = "</script><script>window.pwned=1</script>";
    let rtl = "\u{202e}gnp.exe\u{202c} \u{5e9}\u{5dc}\u{5d5}\u{5dd}";
    let tasks = vec![task(name, &[]), task("__proto__", &[name]), task(rtl, &["__proto__"]), task("constructor", &[])];
    let input = [
        ("__proto__", r#"{"__proto__": {"polluted": true}}"#),
        ("<img src=x onerror=window.pwned=1>", r#""</script><!-- <script>window.pwned=1</script>""#),
        ("numbers", "[12345678901234567890, 1.10, 1e2, -0.0]"),
        ("lines", "{\r\n  \"a\" :\t1,\n  \"b\": \"\\u202e\\u0000\\u001b[31m\"\n}"),
    ];
    let mut run = Recorder::start(log, id(HOSTILE), "<b>hostile</b> \u{2028} & co", tasks, &input);
    run.run(name, 10, |context| {
        context.set("huge", json(&format!("\"{}\"", "x".repeat(1_000_000))));
        context.set("javascript:window.pwned=1", json("true"));
        Ok(())
    });
    run.run("constructor", 5, |context| {
        context.set("constructor", json("{\"toString\": null}"));
        Ok(())
    });
    run.run("__proto__", 5, |context| {
        context.get("__proto__").unwrap();
        context.set("__proto__", json("[\"'><svg/onload=window.pwned=1>\"]"));
        Ok(())
    });
    for _ in 0..3 {
        run.run(rtl, 5, |_| {
            Err(error("<Error>", "bad \u{1b}[31m\u{0} \u{202e}txet\u{202c} </script><script>window.pwned=1</script>"))
        });
        run.wait(120_000);
    }
}

/// Fifteen tasks that split, meet, and are retried.
fn diamond(log: &Log) {
    let parts = ["north", "east", "south", "west"];
    let mut tasks =
        vec![task("load_customers", &[]), task("load_orders", &[]), task("join", &["load_customers", "load_orders"])];
    tasks.extend(parts.map(|part| task(&format!("clean_{part}"), &["join"])));
    for part in parts {
        let clean = format!("clean_{part}");
        tasks.push(task(&format!("score_{part}"), &[&clean]));
    }
    let scores = parts.map(|part| format!("score_{part}"));
    let scores: Vec<&str> = scores.iter().map(|name| &**name).collect();
    tasks.push(task("rank", &scores));
    tasks.push(task("report", &["rank", "join"]));
    tasks.push(task("publish", &["report"]));
    tasks.push(task("archive", &["report", "load_orders"]));
    for task in &mut tasks {
        let (backoff, initial_delay) = (Backoff::Fixed, Millis(300));
        task.retry = RetryPolicy { backoff, initial_delay, jitter: false, ..RetryPolicy::default() };
        task.source = format!("@task(id=\"{}\")\ndef {}(context):\n    rows = context.get(\"rows\")\n    context.set(\"{}\", len(rows))\n", task.id, task.id, task.id).into();
    }
    let mut run =
        Recorder::start(log, id(DIAMOND), "customer_scores", tasks, &[("day", "\"2026-11-23\""), ("limit", "250")]);
    run.begin("load_customers", 0).wait(3).begin("load_orders", 1).wait(180).finish("load_orders", |context| {
        context.get("day").unwrap();
        context.set("orders", json(r#"[{"id": 1, "total": 12.50}, {"id": 2, "total": 99.00}]"#));
        Ok(())
    });
    run.wait(90).finish("load_customers", |context| {
        context.get("limit").unwrap();
        context.set("customers", json(&histories::dataset()));
        Ok(())
    });
    run.run("join", 140, |context| {
        context.get("orders").unwrap();
        context.get("customers").unwrap();
        context.set("rows", json("[1, 2, 3, 4, 5, 6, 7]"));
        Ok(())
    });
    for (worker, part) in (0..).zip(parts) {
        run.begin(&format!("clean_{part}"), worker).wait(4);
    }
    for part in parts {
        run.wait(35).finish(&format!("clean_{part}"), |context| {
            context.get("rows").unwrap();
            context.set(format!("rows_{part}"), json("[1, 2]"));
            context.set("shared", json(&format!("{{\"by\": \"{part}\", \"{part}\": 1}}")));
            Ok(())
        });
    }
    for (worker, part) in (0..).zip(parts) {
        run.begin(&format!("score_{part}"), worker).wait(2);
    }
    run.wait(60).finish("score_east", |context| {
        context.get("rows_east").unwrap();
        Err(error("ConnectionError", "scores.internal refused the connection"))
    });
    for part in ["north", "south", "west"] {
        run.wait(20).finish(&format!("score_{part}"), |context| {
            context.get(&format!("rows_{part}")).unwrap();
            context.set(format!("score_{part}"), json("0.83"));
            Ok(())
        });
    }
    run.wait(260).run("score_east", 70, |context| {
        context.get("rows_east").unwrap();
        context.set("score_east", json("0.91"));
        Ok(())
    });
    run.run("rank", 50, |context| {
        for part in parts {
            context.get(&format!("score_{part}")).unwrap();
        }
        context.set("ranking", json(r#"["east", "north", "south", "west"]"#));
        Ok(())
    });
    run.run("report", 200, |context| {
        context.get("ranking").unwrap();
        context.get("rows").unwrap();
        context.set("report", json(r##"{"title": "Scores", "body": "# Scores\n\neast leads"}"##));
        Ok(())
    });
    run.begin("archive", 0).begin("publish", 1).wait(40).finish("archive", |_| Ok(())).wait(60).finish(
        "publish",
        |context| {
            context.get("report").unwrap();
            context.set("published", json("true"));
            Ok(())
        },
    );
}

/// 5,000 tasks: fifty stages that split into 99 and meet again.
fn many(log: &Log) {
    const STAGES: usize = 50;
    const WIDE: usize = 99;
    let mut tasks = Vec::new();
    for stage in 0..STAGES {
        let before: Vec<String> = match stage {
            0 => Vec::new(),
            _ => (0..WIDE).map(|part| format!("work_{}_{part}", stage - 1)).collect(),
        };
        tasks.push(task(&format!("split_{stage}"), &before.iter().map(|name| &**name).collect::<Vec<_>>()));
        let split = format!("split_{stage}");
        tasks.extend((0..WIDE).map(|part| task(&format!("work_{stage}_{part}"), &[&split])));
    }
    let mut run = Recorder::start(log, id(MANY), "many_tasks", tasks, &[("seed", "1")]);
    for stage in 0..STAGES {
        run.run(&format!("split_{stage}"), 5, |context| {
            context.set("stage", json(&stage.to_string()));
            Ok(())
        });
        for part in 0..WIDE {
            let worker = u32::try_from(part % 16).unwrap();
            run.begin(&format!("work_{stage}_{part}"), worker);
        }
        for part in 0..WIDE {
            run.wait(1).finish(&format!("work_{stage}_{part}"), |context| {
                context.get("stage").unwrap();
                if part % 5 == 0 {
                    context.set(format!("result_{stage}_{part}"), json(&format!("{{\"part\": {part}}}")));
                }
                Ok(())
            });
        }
    }
}

/// A history with an erased value.
fn erased(log: &Log) {
    let id = id(ERASED);
    let mut run = Recorder::start(log, id, "signup", vec![task("greet", &[])], &[("person", "{\"name\": \"Ada\"}")]);
    run.run("greet", 3, |context| {
        context.get("person").unwrap();
        context.set("greeted", json("true"));
        Ok(())
    });
    erase(log, id, What::Key("person".to_owned()), "Art. 17, case 311 </script>");
}
