//! Reading a log that another process has: it answers through a Unix socket in the log's directory.
//!
//! The socket is for this user alone (0600) and cannot change anything. A client can ask for what a [`LogReader`]
//! gives, in requests of bounded size; answers come in pages, so that neither side ever holds more than a page.
//!
//! [`LogReader`]: crate::log::LogReader

pub(crate) mod address;
pub(crate) mod answers;
pub(crate) mod client;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod transport;

#[cfg(test)]
mod tests;
