//! Every command on every kind of history: standard output, standard error and exit code.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::fmt::Write as _;
use std::path::Path;

use cloacina_store::log::LogReader;
use common::{Altered, Ran, histories, replay_with};

/// Each is typed behind the id.
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

/// A record in the middle is another one than was written: what comes before it is still shown.
#[test]
fn damaged() {
    let log = histories::all();
    let open = move |_: &Path| {
        let altered = Altered(log.clone(), |mut records| {
            if let Some(record) = records.iter_mut().find(|record| record.seq == 5) {
                record.time.0 += 1;
            }
            records
        });
        Ok(Box::new(altered) as Box<dyn LogReader>)
    };
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let told = all("51b00003", |line| replay_with(&open, None, line));
    // Hashes rest on random salts.
    let told: Vec<String> = told
        .lines()
        .map(|line| {
            let words = line.split(' ').map(|word| if hex(word.trim_end_matches(',')) { "HASH" } else { word });
            words.collect::<Vec<_>>().join(" ")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}
