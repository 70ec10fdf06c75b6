//! What a log promises, tried from outside. One program for all of it: each one more would be linked anew with every change of the log.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

mod suite;

mod compacting;
mod conformance;
mod damage;
mod directories;
mod faults;
mod group_commit;
mod hostile;
mod keeping;
mod paging;
mod readers;
mod rebuilding;
mod rewriting;
mod space;
mod wiping;
