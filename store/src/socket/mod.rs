//! Reading a log that another process has: it answers through a Unix socket in the log's directory.
//!
//! The socket is for this user alone (0600). A client can ask for what a [`LogReader`] gives, in requests of bounded size;
//! answers come in pages, so that neither side ever holds more than a page. And it can ask for what a [`Keeper`] does,
//! which the log's writer then does: nothing can be appended through it. One request is answered when the log has moved, so
//! that nobody has to look again and again; few may wait so, and none for long.
//!
//! [`LogReader`]: crate::log::LogReader
//! [`Keeper`]: crate::keeper::Keeper

pub(crate) mod address;
pub(crate) mod answers;
pub(crate) mod client;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod transport;
mod until;

#[cfg(test)]
mod tests;
