//! The event log: append-only streams of sealed records.
//!
//! **Architecture invariant:** this crate knows bytes, order, durability and integrity. It knows nothing of workflows,
//! tasks or contexts: a record's body and a stream's label are opaque to it.
//!
//! - [`log`] defines the interface ([`LogReader`](log::LogReader), [`EventLog`](log::EventLog)), [`record`] the
//!   records.
//! - [`open`] opens or creates the log in a directory for writing; [`open_reader`] reads one, also while another
//!   process writes it; [`MemoryLog`] is a log in memory.
//! - Every append is written once, to segments on a [`disk`]. sled holds an index of them, which can be deleted.
//! - [`keeper`] changes a log other than by appending, [`archive`] exports streams to a file.
//! - [`checkpoint`] signs the state of a log, [`merkle`] proves what it contains.
//! - `FORMAT.md`, beside this crate's sources, defines every stored byte.

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
mod encoding;
pub mod forks;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod index;
pub mod keeper;
mod keeper_handle;
mod layout;
mod leftover;
pub mod log;
pub mod log_event;
mod memory_log;
pub mod merkle;
mod own_stream;
pub mod paging;
mod read_through;
mod reader;
pub mod record;
mod reopening_reader;
pub mod repair;
pub mod seal;
mod segments;
mod sled_log;
mod socket;
mod streams_since;
mod sync;
mod threads;
mod writer_thread;

pub use crate::compact::{Compacted, compact};
pub use crate::core::verify::Verified;
pub use crate::descriptors::reserve_standard_streams;
pub use crate::directory::holders::Process;
pub use crate::disk::memory::MemoryDisk;
pub use crate::keeper_handle::open_keeper;
pub use crate::layout::MAX_LABEL;
pub use crate::leftover::is_left_by_compact;
pub use crate::log::OpenError;
pub use crate::memory_log::MemoryLog;
pub use crate::reader::{open_damaged, open_reader, verify};
pub use crate::sled_log::{LogClock, Options, SledLog, open};
