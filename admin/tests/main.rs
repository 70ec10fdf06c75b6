//! The tests of `cloaca log …`, in one program.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

// The histories that the tests of `replay` use.
#[path = "../../replay/tests/common/mod.rs"]
mod common;

mod commands;
mod golden;
mod proofs;
