//! Reaching a log that is to be changed: here, or through the process that has it.

use std::path::Path;

use crate::keeper::{Change, ChangeError, Changed, Keeper};
use crate::log::{EventLog, LogReader, OpenError};
use crate::reader::does_not_answer;
use crate::sled_log::{Options, SledLog, open};
use crate::socket::client::SocketReader;

/// Whoever has the log changes it; where nobody has, this process does.
enum Reached {
    Here(SledLog),
    There(SocketReader),
}

/// Opens the log in a directory to change it. If a process has it, that process is asked to; otherwise it is opened here,
/// and closed in order by [`Keeper::finish`], or when the keeper is dropped.
///
/// # Errors
/// As [`open`]. No log is made.
pub fn open_keeper(path: &Path) -> Result<Box<dyn Keeper>, OpenError> {
    let options = Options { create: false, serve_readers: false, ..Options::default() };
    match open(path, &options) {
        Ok(log) => Ok(Box::new(Reached::Here(log))),
        Err(OpenError::Locked { pid, host, .. }) => match SocketReader::connect(path) {
            Ok(client) => Ok(Box::new(Reached::There(client))),
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(does_not_answer(path, &error)),
            Err(error) => Err(OpenError::Io {
                path: path.to_owned(),
                doing: format!("asking process {pid} on host {host}, which has it"),
                reason: format!("{error}; do it on that host and as that user, or stop the process"),
            }),
        },
        Err(error) => Err(error),
    }
}

impl Reached {
    fn reader(&self) -> &dyn LogReader {
        match self {
            Self::Here(log) => log,
            Self::There(client) => client,
        }
    }
}

impl LogReader for Reached {
    crate::read_through!(self => self.reader());
}

impl Keeper for Reached {
    fn change(&self, change: Change) -> Result<Changed, ChangeError> {
        match self {
            Self::Here(log) => log.change(change),
            Self::There(client) => client.change(change),
        }
    }

    fn finish(&self) -> Result<(), ChangeError> {
        match self {
            Self::Here(log) => Ok(log.close()?),
            // The process that has the log writes over it in its own time.
            Self::There(_) => Ok(()),
        }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Self::Here(log) = self
            && let Err(error) = log.close()
        {
            // What was changed is durable; only the note that it was closed is missing.
            tracing::warn!(log = log.location(), %error, "the log could not be closed in order");
        }
    }
}
