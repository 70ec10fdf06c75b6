//! Long output in a terminal goes through a pager: `$PAGER`, else `less`, which leaves at once where all of it fits.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::process::{Child, Command, Stdio};

/// Fewer lines than this fit a screen, and need no pager.
const FITS: usize = 20;

/// Standard output, through a pager or not. What is little, or is flushed while it is little, goes to the terminal itself:
/// the header of a long history stands there while the rest is read. Only more than that gets a pager.
pub struct Paging<'a> {
    sharing: &'a Sharing,
    /// The pager; `None` if there is to be none.
    pager: Option<OsString>,
    /// What was written and may still turn out to be little.
    kept: Vec<u8>,
    out: Out,
}

/// What those who write to one terminal have to know of each other.
#[derive(Debug, Default)]
pub struct Sharing {
    /// Whether what is shown is to be seen as it comes, which no pager lets.
    pub live: Cell<bool>,
    /// Whether a pager has the terminal: then nobody else may write to it.
    pub paged: Cell<bool>,
}

enum Out {
    Direct(io::Stdout),
    Paged(Box<Child>, BufWriter<std::process::ChildStdin>),
}

impl<'a> Paging<'a> {
    /// Output that is not opened yet. `terminal` says whether anybody sees it.
    pub fn new(terminal: bool, variable: &dyn Fn(&str) -> Option<OsString>, sharing: &'a Sharing) -> Self {
        let pager = match variable("PAGER") {
            // An empty one is a way to say that there is to be none.
            Some(pager) => Some(pager).filter(|pager| !pager.is_empty() && pager != "cat"),
            None => Some("less".into()),
        };
        let pages = terminal && !is_dumb(variable);
        Self { sharing, pager: pager.filter(|_| pages), kept: Vec::new(), out: Out::Direct(io::stdout()) }
    }

    /// Ends the output, and waits until the pager was left.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn finish(&mut self) -> io::Result<()> {
        let written = self.flush();
        if let Out::Paged(mut child, stdin) = std::mem::replace(&mut self.out, Out::Direct(io::stdout())) {
            drop(stdin);
            child.wait()?;
            self.sharing.paged.set(false);
        }
        written
    }

    /// Whether what is kept is no longer little.
    fn is_long(&self) -> bool {
        self.kept.len() > 8_192
            || self.pager.is_some() && self.kept.iter().filter(|byte| **byte == b'\n').count() > FITS
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let kept = std::mem::take(&mut self.kept);
        match &mut self.out {
            Out::Direct(out) => out.write_all(&kept),
            Out::Paged(_, stdin) => stdin.write_all(&kept),
        }
    }
}

/// Whether the terminal can do nothing but write lines: it gets no pager, no colours, and nothing that is written over.
pub fn is_dumb(variable: &dyn Fn(&str) -> Option<OsString>) -> bool {
    variable("TERM").is_some_and(|terminal| terminal == "dumb")
}

/// Whether the program that a pager names is there. A shell that does not find it takes the output and shows none of it.
fn is_there(pager: &OsString) -> bool {
    let Some(text) = pager.to_str() else { return true };
    // `LESS=FRX less -S` names the program after what it sets.
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

/// Starts a pager; `None` where there is none.
fn start(pager: &OsString) -> Option<(Child, std::process::ChildStdin)> {
    let mut command = if pager == "less" {
        Command::new("less")
    } else {
        if !is_there(pager) {
            return None;
        }
        // It may have arguments, as a shell reads them.
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(pager);
        shell
    };
    if std::env::var_os("LESS").is_none() {
        // Leave if all fits, let colours through, and leave on the screen what was shown.
        command.env("LESS", "FRX");
    }
    let mut child = command.stdin(Stdio::piped()).spawn().ok()?;
    let stdin = child.stdin.take()?;
    Some((child, stdin))
}

impl Write for Paging<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.kept.extend_from_slice(bytes);
        if self.is_long() {
            // It is tried once: where there is no pager, there will be none later.
            let started = self.pager.take().filter(|_| !self.sharing.live.get()).and_then(|pager| start(&pager));
            if let Some((child, stdin)) = started {
                self.sharing.paged.set(true);
                self.out = Out::Paged(Box::new(child), BufWriter::new(stdin));
            }
            self.hand_over()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        match &mut self.out {
            Out::Direct(out) => out.flush(),
            Out::Paged(_, stdin) => stdin.flush(),
        }
    }
}

/// Standard error. While a pager has the terminal, what is written waits until it was left.
pub struct Aside<'a> {
    sharing: &'a Sharing,
    kept: Vec<u8>,
}

impl<'a> Aside<'a> {
    /// Standard error of a terminal that is shared.
    pub fn new(sharing: &'a Sharing) -> Self {
        Self { sharing, kept: Vec::new() }
    }

    /// Writes what has waited.
    pub fn finish(self) {
        // Nobody is left to tell if this cannot be written.
        let _ = io::stderr().write_all(&self.kept);
    }
}

impl Write for Aside<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.sharing.paged.get() {
            self.kept.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
