//! The event log: append-only streams of sealed records.
//!
//! **Architecture invariant:** this crate knows bytes, order, durability and integrity. It knows nothing of workflows,
//! tasks or contexts: a record's body and a stream's label are opaque to it.
//!
//! - [`log`] says what a log does ([`LogReader`](log::LogReader), [`EventLog`](log::EventLog)), [`record`] what is in it.
//! - [`open`] makes or opens the log in a directory for writing; [`open_reader`] reads one, also while it is being
//!   written; [`MemoryLog`] is one in memory.
//! - What is appended is written once, to segments on a [`disk`]; sled is an index of them that can be thrown away at any time.
//! - [`keeper`] changes what is in a log other than by appending, [`archive`] puts streams of it into a file.
//! - [`checkpoint`] signs what a log holds, [`merkle`] proves what is in it.
//! - `FORMAT.md`, beside this crate's sources, says what each stored byte means.

pub mod archive;
mod bytes;
mod changes;
pub mod checkpoint;
mod codec;
mod compact;
mod core;
mod descriptors;
mod directory;
pub mod disk;
pub mod doctor;
pub mod forks;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod keeper;
mod layout;
mod leftover;
pub mod log;
pub mod log_event;
mod memory_log;
pub mod merkle;
mod own_stream;
pub mod paging;
mod parts;
mod reaching;
mod read_through;
mod reader;
pub mod record;
mod reopening;
pub mod repair;
pub mod seal;
mod segments;
mod since;
mod sled_log;
mod socket;
mod sync;
mod threads;
mod writer_thread;

pub use crate::compact::{Compacted, compact};
pub use crate::core::verify::Verified;
pub use crate::descriptors::reserve_standard_streams;
pub use crate::directory::holders::Process;
pub use crate::disk::memory::MemoryDisk;
pub use crate::layout::MAX_LABEL;
pub use crate::leftover::is_left_by_compact;
pub use crate::log::OpenError;
pub use crate::memory_log::MemoryLog;
pub use crate::reaching::open_keeper;
pub use crate::reader::{open_damaged, open_reader, verify};
pub use crate::sled_log::{LogClock, Options, SledLog, open};
