//! Recording what a program asks of a disk, cutting the power, and judging what is left.

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
