//! A stream with one deadline for a whole transfer, however small its steps are.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// The size of a write, so that progress is visible during a longer one.
const CHUNK: usize = 64 * 1024;

/// A stream on which all reads and writes fail after a deadline.
pub(super) struct DeadlineStream<'a> {
    stream: &'a UnixStream,
    end: Instant,
    /// Called after each write.
    on_write: &'a dyn Fn(),
}

impl<'a> DeadlineStream<'a> {
    pub(super) fn within(stream: &'a UnixStream, patience: Duration) -> Self {
        Self { stream, end: Instant::now() + patience, on_write: &|| () }
    }

    /// Calls `on_write` whenever the other side has made room for more.
    pub(super) fn on_write(self, on_write: &'a dyn Fn()) -> Self {
        Self { on_write, ..self }
    }

    /// The time left.
    fn left(&self) -> io::Result<Duration> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for DeadlineStream<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for DeadlineStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        let written = self.stream.write(&bytes[..bytes.len().min(CHUNK)])?;
        (self.on_write)();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
