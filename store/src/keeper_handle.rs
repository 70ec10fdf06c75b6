//! Opens a log to change it: in this process, or through the process that holds it.

use std::path::Path;

use crate::keeper::{Change, ChangeError, Changed, Keeper};
use crate::log::{EventLog, LogReader, OpenError};
use crate::reader::does_not_answer;
use crate::sled_log::{Options, SledLog, open};
use crate::socket::client::SocketReader;

/// The log opened here, or a client of the process that holds it.
enum KeeperHandle {
    Local(SledLog),
    Remote(SocketReader),
}

/// Opens the log in a directory to change it. If a process holds it, that process makes the changes. Otherwise the log
/// is opened here, and closed cleanly by [`Keeper::finish`] or when the keeper is dropped.
///
/// # Errors
/// As [`open`]. Never creates a log.
pub fn open_keeper(path: &Path) -> Result<Box<dyn Keeper>, OpenError> {
    let options = Options { create: false, serve_readers: false, ..Options::default() };
    match open(path, &options) {
        Ok(log) => Ok(Box::new(KeeperHandle::Local(log))),
        Err(OpenError::Locked { pid, host, .. }) => match SocketReader::connect(path) {
            Ok(client) => Ok(Box::new(KeeperHandle::Remote(client))),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(does_not_answer(path, &error)),
            Err(error) => Err(OpenError::Io {
                path: path.to_owned(),
                doing: format!("contacting process {pid} on host {host}, which holds it"),
                reason: format!("{error}; run the command on that host and as that user, or stop the process"),
            }),
        },
        Err(error) => Err(error),
    }
}

impl KeeperHandle {
    fn reader(&self) -> &dyn LogReader {
        match self {
            Self::Local(log) => log,
            Self::Remote(client) => client,
        }
    }
}

impl LogReader for KeeperHandle {
    crate::read_through!(self => self.reader());
}

impl Keeper for KeeperHandle {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        match self {
            Self::Local(log) => log.change(change),
            Self::Remote(client) => client.change(change),
        }
    }

    fn finish(&self) -> Result<(), ChangeError> {
        match self {
            Self::Local(log) => Ok(log.close()?),
            // The process that holds the log overwrites the data on its own schedule.
            Self::Remote(_) => Ok(()),
        }
    }
}

impl Drop for KeeperHandle {
    fn drop(&mut self) {
        if let Self::Local(log) = self
            && let Err(error) = log.close()
        {
            // The changes are durable; only the record of the clean shutdown is missing.
            tracing::warn!(log = log.location(), %error, "the log could not be closed cleanly");
        }
    }
}
