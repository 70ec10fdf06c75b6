//! Targets for input from users of `replay`: proofs, and the command line.

use std::sync::OnceLock;

use clap::Parser;
use cloacina_replay::cli::arguments::Arguments;
use cloacina_replay::ids;
use cloacina_replay::moment::{At, Since};
use cloacina_replay::proof::Proof;
use cloacina_replay::time::{parse_rfc3339, rfc3339};
use cloacina_store::{MemoryDisk, MemoryLog};

/// A proof, as JSON.
pub(crate) fn proof(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(proof) = Proof::from_json(text) else { return };
    let again = proof.to_json().expect("a proof can be encoded");
    assert_eq!(Proof::from_json(&again).as_ref(), Ok(&proof), "a proof decodes to the same proof again");
    let _ = proof.check();
}

/// The words of a command line, one per line; also parses each word as a moment, a time and an id.
pub(crate) fn command_line(bytes: &[u8]) {
    static EMPTY: OnceLock<MemoryLog> = OnceLock::new();
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for word in text.lines().take(20) {
        if let Ok(at) = word.parse::<At>() {
            let _ = at.to_string();
        }
        let _ = word.parse::<Since>();
        if let Some(time) = parse_rfc3339(word) {
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "a time parses to the same time again");
        }
        let log = EMPTY.get_or_init(|| MemoryLog::open(&MemoryDisk::new()).expect("a new log opens"));
        let _ = ids::resolve(log, word);
    }
    let _ = Arguments::try_parse_from(std::iter::once("replay").chain(text.lines()));
}
