//! Shared code of the benches in `src/bin/`.

pub mod disk;
pub mod load;
