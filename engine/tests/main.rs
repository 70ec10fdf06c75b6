//! The tests of the core, in one test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

mod codec;
mod erasing;
mod graphs;
mod histories;
mod joins;
mod ledger;
mod legality;
mod properties;
mod reads;
mod recovery;
mod retrying;
mod rules;
mod schedules;
