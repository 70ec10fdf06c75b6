//! Every command on every kind of history: standard output, standard error and exit code.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::fmt::Write as _;
use std::path::Path;

use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::read_through;
use cloacina_store::record::{Record, StreamId, StreamKind};
use common::{Log, Ran, histories, replay_with};

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

/// A log of which one record is not what was written, as its reader finds it.
struct Damaged(Log);

impl LogReader for Damaged {
    read_through!(self => self.0.0; stream, streams, tail, hashes, erasures, definition, head, location);

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

/// What comes before the damaged record is still shown, and each command that needs more says where it ends.
#[test]
fn damaged() {
    let log = histories::all();
    let open = move |_: &Path| Ok(Box::new(Damaged(log.clone())) as Box<dyn LogReader>);
    insta::assert_snapshot!(all("51b00003", |line| replay_with(&open, None, line)));
}
