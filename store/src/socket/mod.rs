//! Reading a log that another process holds, through a Unix socket in the log's directory.
//!
//! Only this user can access the socket (0600). A client can use all methods of a [`LogReader`], in requests of bounded
//! size; answers come in pages, so that neither side ever holds more than a page. It can also make the changes of a
//! [`Keeper`], which the log's writer carries out; it cannot append. One request is answered when the log has grown, so
//! that readers need not poll; the number and duration of such waits are limited.
//!
//! [`LogReader`]: crate::log::LogReader
//! [`Keeper`]: crate::keeper::Keeper

pub(crate) mod address;
pub(crate) mod answers;
pub(crate) mod client;
mod deadline;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
pub(crate) mod requests;
pub(crate) mod server;
pub(crate) mod transport;

#[cfg(test)]
mod tests;
