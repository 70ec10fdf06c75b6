//! A stream on which something must be done by a time, however little moves on it at once.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What is written at once: of more, it would not be seen while it moves.
const STEP: usize = 64 * 1024;

/// What is read and written through this is over by one time.
pub(super) struct Until<'a> {
    stream: &'a UnixStream,
    end: Instant,
    /// Is told whenever something was written.
    moved: &'a dyn Fn(),
}

impl<'a> Until<'a> {
    pub(super) fn within(stream: &'a UnixStream, patience: Duration) -> Self {
        Self { stream, end: Instant::now() + patience, moved: &|| () }
    }

    /// The same; `moved` is told whenever the other side has made room for more.
    pub(super) fn telling(self, moved: &'a dyn Fn()) -> Self {
        Self { moved, ..self }
    }

    /// What is left of the time.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Until<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Until<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        let written = self.stream.write(&bytes[..bytes.len().min(STEP)])?;
        (self.moved)();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
