//! The power-cut harness: records the disk operations of a program, simulates power cuts, and judges the resulting logs.

pub mod change_cut;
pub mod changing;
pub mod checker;
pub mod dice;
pub mod disk;
pub mod images;
pub mod judge;
pub mod load;
pub mod recording;
pub mod victim;
