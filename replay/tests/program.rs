//! The program itself, on a log on disk, with and without a process that has it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crate::common::{Log, histories};
use cloacina_store::{Options, open};

fn program(directory: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_replay"));
    command.args(arguments.split_whitespace()).current_dir(directory);
    command.env_remove("CLOACA_LOG").env_remove("NO_COLOR").env("XDG_STATE_HOME", directory.join("state"));
    command
}

fn run(directory: &Path, arguments: &str) -> Output {
    program(directory, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn it_reads_a_log_that_a_process_has_and_one_that_nobody_has() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(Arc::new(open(&directory.path().join("tutorial_04.db"), &Options::default()).unwrap()));
    histories::all_into(&log);
    let live = run(directory.path(), "9f3ac102");
    assert_eq!(live.status.code(), Some(0), "{}", text(&live.stderr));
    assert!(text(&live.stdout).contains("read from ./tutorial_04.db; read-only, no task code is run"));
    assert!(!text(&live.stdout).contains('\u{1b}'), "no colours where no terminal reads");
    log.0.close().unwrap();
    drop(log);
    let copied = run(directory.path(), "9f3ac102");
    assert_eq!((text(&copied.stdout), text(&copied.stderr)), (text(&live.stdout), text(&live.stderr)));
    let verified = run(directory.path(), "@- verify");
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap()));
    histories::all_into(&log);
    let mut child = program(directory.path(), "9f3ac102 --json").stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"format\":\"cloaca.replay/1\""), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_no_log_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let none = run(directory.path(), "list");
    assert_eq!((none.status.code(), text(&none.stdout).as_str()), (Some(2), ""));
    assert!(text(&none.stderr).contains("\n\nhint: replay --log PATH list"), "{}", text(&none.stderr));
    std::fs::write(directory.path().join("old.db"), "SQLite format 3\0").unwrap();
    let old = run(directory.path(), "list --log old.db");
    assert_eq!(old.status.code(), Some(4));
    assert!(text(&old.stderr).contains("an SQLite database"), "{}", text(&old.stderr));
    let missing = run(directory.path(), "latest --log nowhere");
    assert_eq!(missing.status.code(), Some(4));
}
