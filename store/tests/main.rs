//! Tests of the guarantees of a log, through its public API. They are one program: every further one would be linked again at each change.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod suite;

mod compacting;
mod conformance;
mod damage;
mod damage_while_open;
mod directories;
mod erasing_and_pruning;
mod faults;
mod group_commit;
mod hostile;
mod paging;
mod readers;
mod rebuilding;
mod rewriting;
mod space;
mod wiping;
