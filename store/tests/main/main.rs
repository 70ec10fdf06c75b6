//! What a log promises, tried from outside. One program for all of it: each one more would be linked anew with every change of the log.

// Helpers outside of tests fail by panicking too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "../suite/mod.rs"]
mod suite;

mod conformance;
mod damage;
mod faults;
mod group_commit;
mod keeping;
mod paging;
mod space;
