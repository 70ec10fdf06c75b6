//! Shows long output in a pager: `$PAGER`, or `less`, which exits at once if everything fits on the screen.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::{Child, Command, Stdio};

/// Output of up to this many lines fits on a screen and needs no pager.
const SCREEN_LINES: usize = 20;

/// Standard output, through a pager if it is long. Short output goes to the terminal directly, and so does output that
/// is flushed while it is short: the header of a long history is visible while the rest is read.
pub struct Paging<'a> {
    sharing: &'a Sharing,
    /// The command of the pager; `None` to use none.
    pager: Option<OsString>,
    /// Output that is not written yet, because it may turn out to be short.
    buffer: Vec<u8>,
    out: Out,
}

/// State shared by the writers to one terminal.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Whether output must appear immediately, which rules out a pager.
    pub live: Cell<bool>,
    /// Whether a pager is running: then nothing else may write to the terminal.
    pub paged: Cell<bool>,
}

enum Out {
    Direct(io::Stdout),
    Paged(Box<Child>, BufWriter<std::process::ChildStdin>),
}

impl<'a> Paging<'a> {
    /// Creates the output. `terminal` says whether standard output is a terminal.
    pub fn new(terminal: bool, variable: &dyn Fn(&str) -> Option<OsString>, sharing: &'a Sharing) -> Self {
        let pager = match variable("PAGER") {
            // An empty $PAGER disables paging.
            Some(pager) => Some(pager).filter(|pager| !pager.is_empty() && pager != "cat"),
            None => Some("less".into()),
        };
        let pages = terminal && !is_dumb(variable);
        Self { sharing, pager: pager.filter(|_| pages), buffer: Vec::new(), out: Out::Direct(io::stdout()) }
    }

    /// Ends the output, and waits until the user quits the pager.
    ///
    /// # Errors
    /// Errors from writing to the screen.
    pub fn finish(&mut self) -> io::Result<()> {
        let written = self.flush();
        if let Out::Paged(mut child, stdin) = std::mem::replace(&mut self.out, Out::Direct(io::stdout())) {
            drop(stdin);
            child.wait()?;
            self.sharing.paged.set(false);
        }
        written
    }

    /// Returns whether the buffered output is long.
    fn is_long(&self) -> bool {
        self.buffer.len() > 8_192
            || self.pager.is_some() && self.buffer.iter().filter(|byte| **byte == b'\n').count() > SCREEN_LINES
    }

    fn write_buffer(&mut self) -> io::Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        match &mut self.out {
            Out::Direct(out) => out.write_all(&buffer),
            Out::Paged(_, stdin) => stdin.write_all(&buffer),
        }
    }
}

/// Returns whether the terminal can only print lines: then there is no pager, no colour and no progress bar.
pub fn is_dumb(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Returns whether the program of a pager command exists. Without this check, a shell that does not find it would
/// swallow the output.
fn exists(pager: &OsString) -> bool {
    let Some(text) = pager.to_str() else { return true };
    // In `LESS=FRX less -S`, the program follows the variables.
    let program = text.split_whitespace().find(|word| !word.contains('='));
    let Some(program) = program else { return false };
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "command -v \"$1\"", "sh", program])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    shell.status().is_ok_and(|status| status.success())
}

/// Starts a pager; `None` if that fails.
fn start(pager: &OsString) -> Option<(Child, std::process::ChildStdin)> {
    let mut command = if pager == "less" {
        Command::new("less")
    } else {
        if !exists(pager) {
            return None;
        }
        // The command may have arguments, which the shell parses.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(pager);
        shell
    };
    if std::env::var_os("LESS").is_none() {
        // Exit if everything fits, pass colours through, and do not clear the screen.
        command.env("LESS", "FRX");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
    let stdin = child.stdin.take()?;
    Some((child, stdin))
}

impl Write for Paging<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.is_long() {
            // Try to start the pager once only.
            let started = self.pager.take().filter(|_| !self.sharing.live.get()).and_then(|pager| start(&pager));
            if let Some((child, stdin)) = started {
                self.sharing.paged.set(true);
                self.out = Out::Paged(Box::new(child), BufWriter::new(stdin));
            }
            self.write_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_buffer()?;
        match &mut self.out {
            Out::Direct(out) => out.flush(),
            Out::Paged(_, stdin) => stdin.flush(),
        }
    }
}

/// Standard error. While a pager is running, output is held back until the user quits it.
pub struct Stderr<'a> {
    sharing: &'a Sharing,
    buffer: Vec<u8>,
}

impl<'a> Stderr<'a> {
    /// Creates the output.
    pub fn new(sharing: &'a Sharing) -> Self {
        Self { sharing, buffer: Vec::new() }
    }

    /// Writes the output that was held back.
    pub fn finish(self) {
        // There is nowhere to report an error of this write.
        let _ = io::stderr().write_all(&self.buffer);
    }
}

impl Write for Stderr<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sharing.paged.get() {
            self.buffer.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
