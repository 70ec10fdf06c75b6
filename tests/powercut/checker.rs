//! Checks a damaged log in a process of its own, so that a crash or a hang is a result, too.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// The time limit for an answer; anything longer is a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// The contents of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Every record that the tail shows, as a line: stream, seq, fingerprint of the body, hash.
    pub records: Vec<String>,
    /// Every stream that could be read, as a line: id, records, hash of the last, of all bodies, and whether it is as
    /// listed.
    pub streams: Vec<String>,
    /// The findings of `verify`.
    pub findings: Vec<String>,
    /// Everything that could not be read, with the error.
    pub unread: Vec<String>,
}

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Seen(Seen),
    /// The log was refused with this error.
    Refused(String),
    /// The process died: a panic or worse.
    Died(String),
    Hung,
}

/// A process that checks logs, restarted when it dies.
pub struct Checker {
    running: Option<Running>,
}

struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Checker {
    pub fn new() -> Self {
        Self { running: None }
    }

    /// Reads everything in a log, without changing it.
    pub fn read(&mut self, log: &Path) -> Answer {
        self.ask(&format!("read {}", log.display()))
    }

    /// Opens a log for writing, appends three batches of a phase, closes it, and reads everything.
    pub fn append_and_read(&mut self, log: &Path, phase: u64) -> Answer {
        self.ask(&format!("write {phase} {}", log.display()))
    }

    fn ask(&mut self, request: &str) -> Answer {
        let running = self.running.get_or_insert_with(start);
        let sent = running.child.stdin.as_mut().unwrap().write_all(format!("{request}\n").as_bytes());
        let mut seen = Seen::default();
        let mut refused = None;
        loop {
            let line = match running.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => {
                    let mut child = self.running.take().unwrap().child;
                    let _ = child.kill();
                    let status = child.wait().unwrap();
                    return match error {
                        std::sync::mpsc::RecvTimeoutError::Timeout => Answer::Hung,
                        std::sync::mpsc::RecvTimeoutError::Disconnected => Answer::Died(format!("{status}, {sent:?}")),
                    };
                }
            };
            let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
            match word {
                "end" => return refused.map_or(Answer::Seen(seen), Answer::Refused),
                "record" => seen.records.push(rest.to_owned()),
                "stream" => seen.streams.push(rest.to_owned()),
                "finding" => seen.findings.push(rest.to_owned()),
                "error" => refused = Some(rest.to_owned()),
                _ => seen.unread.push(rest.to_owned()),
            }
        }
    }
}

fn start() -> Running {
    let mut child = Command::new(env!("CARGO_BIN_EXE_log_victim"))
        .arg("check")
        .env("TMPDIR", scratch())
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (lines, receiver) = channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    Running { child, lines: receiver }
}

impl Drop for Checker {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            drop(running.child.stdin.take());
            let _ = running.child.wait();
        }
    }
}

/// The directory for images: in memory if possible, because they are temporary.
pub fn scratch() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) }
}
