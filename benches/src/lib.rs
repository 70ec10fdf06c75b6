//! What several benches need; they stand in `src/bin/`.

pub mod disk;
pub mod load;
