//! Every command on every kind of history: standard output, standard error and exit code.

use std::fmt::Write as _;
use std::path::Path;

use crate::common::{self, Log, Ran, histories, replay_with};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::record::{Record, StreamId, StreamKind};
use cloacina_store::{open_reader, read_through};

/// Each is typed after the id.
const COMMANDS: [&str; 12] = [
    "",
    "--values --time utc",
    "--full",
    "--full --values --at 5",
    "--at 0",
    "--at 5",
    "context",
    "context --at 3",
    "graph --critical-path",
    "graph --at 3",
    "verify",
    "explain load",
];

fn all(id: &str, run: impl Fn(&str) -> Ran) -> String {
    let mut told = String::new();
    for command in COMMANDS {
        let line = format!("{id} {command}");
        writeln!(told, "$ replay {}\n{}\n", line.trim_end(), run(&line)).unwrap();
    }
    told
}

macro_rules! history {
    ($name:ident, $id:expr) => {
        #[test]
        fn $name() {
            let log = histories::all();
            let open = common::opener(&log);
            insta::assert_snapshot!(all($id, |line| replay_with(&open, None, line)));
        }
    };
}

history!(completed, "9f3ac101");
history!(undeclared_read_and_retry, "9f3ac102");
history!(failed, "51b00003");
history!(recovered_after_a_kill, "51b00004");
history!(skipped_branches, "51b00005");
history!(joined_with_a_collision, "51b00006");
history!(running, "51b00007");
history!(cancelled, "51b00008");
history!(failed_for_an_undeclared_read, "51b00009");

/// Commands about a key, a task, another execution or another program, on every kind of history: with a task and a key
/// that it has, and the execution before it.
#[test]
fn values_tasks_and_other_programs() {
    let log = histories::all();
    let open = common::opener(&log);
    let mut told = String::new();
    for (id, key, task) in [
        ("9f3ac101", "loaded", "transform"),
        ("9f3ac102", "batch_1_result", "distribute_workload"),
        ("51b00003", "rows", "report"),
        ("51b00004", "loaded", "load"),
        ("51b00005", "done", "merge"),
        ("51b00006", "sum", "join"),
        ("51b00007", "rows", "load"),
        ("51b00008", "rows", "extract"),
        ("51b00009", "dataset", "distribute_workload"),
    ] {
        for line in [
            format!("{id} why {key}"),
            format!("{id} context {key}"),
            format!("{id} explain {task}"),
            format!("{id} graph --format dot"),
            format!("{id} export --to openlineage"),
            format!("diff {id} 9f3ac101"),
            format!("{id} prove 1"),
        ] {
            writeln!(told, "$ replay {line}\n{}\n", replay_with(&open, None, &line)).unwrap();
        }
    }
    insta::assert_snapshot!(told);
}

/// An archive written by a released version: histories with an erased value, with skipped branches, and of a running
/// execution. The output of every command must stay what it was at the release.
const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/archive-v1/three.cloaca");

/// The commands about values, tasks and other programs, each with a key or task of one of the golden histories.
fn golden(id: &str, key: &str, task: &str, other: &str) -> String {
    let also = [
        format!("{id} context {key}"),
        format!("{id} why {key}"),
        format!("{id} explain {task}"),
        format!("{id} graph --format mermaid"),
        format!("{id} export --to jsonl"),
        format!("{id} export --to chrome"),
        format!("{id} export --to openlineage"),
        format!("diff {id} {other}"),
        format!("{id} verify --json"),
        format!("{id} --follow"),
    ];
    let told = COMMANDS.iter().map(|command| format!("{id} {command}")).chain(also).map(|line| {
        // The time of an erasure is in the local time zone unless `--time` is given.
        let has_no_zone = line.contains("--time") || line.contains(" export ") || line.starts_with("diff ");
        let zone = if has_no_zone { "" } else { " --time utc" };
        let ran = replay_with(&open_reader, None, &format!("{line}{zone} --log {GOLDEN}"));
        format!("$ replay {}\n{ran}\n\n", line.trim_end())
    });
    told.collect::<String>().replace(GOLDEN, "three.cloaca")
}

#[test]
fn golden_erased() {
    insta::assert_snapshot!(golden("9f3ac102", "dataset", "distribute_workload", "51b00005"));
}

#[test]
fn golden_branches() {
    insta::assert_snapshot!(golden("51b00005", "size", "large", "51b00007"));
}

#[test]
fn golden_running() {
    insta::assert_snapshot!(golden("51b00007", "rows", "load", "9f3ac102"));
}

#[test]
fn golden_log() {
    let lines =
        ["list --time utc", "list --json", "list --jsonl", "verify --all", "verify --all --json", "doctor", "latest"];
    let told = lines.iter().map(|line| {
        let ran = replay_with(&open_reader, None, &format!("{line} --log {GOLDEN}"));
        format!("$ replay {line}\n{ran}\n\n")
    });
    insta::assert_snapshot!(told.collect::<String>().replace(GOLDEN, "three.cloaca"));
}

/// A log with one altered record.
struct Damaged(Log);

impl LogReader for Damaged {
    read_through!(self => self.0.0; stream, streams, tail, tree, erasures, definition, head, location);

    fn read(&self, stream: StreamId, from: u64, limit: usize) -> Result<Vec<Record>, ReadError> {
        let records = self.0.0.read(stream, from, limit)?;
        let is_damaged = |record: &Record| record.kind == StreamKind::Execution && record.seq == 5;
        match records.iter().find(|record| is_damaged(record)) {
            Some(record) => {
                let what = "its hash is 00, its content gives 11".to_owned();
                Err(ReadError::Damaged { stream, seq: record.seq, what })
            }
            None => Ok(records),
        }
    }
}

/// Events before the damaged record are still shown, and each command that needs more names the record.
#[test]
fn damaged() {
    let log = histories::all();
    let open = move |_: &Path| Ok(Box::new(Damaged(log.clone())) as Box<dyn LogReader>);
    insta::assert_snapshot!(all("51b00003", |line| replay_with(&open, None, line)));
}
