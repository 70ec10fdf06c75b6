//! `replay`.
fn main() {}
