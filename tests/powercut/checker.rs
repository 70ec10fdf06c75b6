//! Looking at a log that was harmed, from a process of its own: one that dies or hangs is an answer too.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// How long an answer may take; more is a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Every record that the tail shows, as a line: stream, seq, fingerprint of the body, hash.
    pub records: Vec<String>,
    /// Every stream that could be read, as a line: id, records, hash of the last, of all bodies, and whether it is as
    /// listed.
    pub streams: Vec<String>,
    /// What the check of the whole log found.
    pub findings: Vec<String>,
    /// What could not be read, and why.
    pub unread: Vec<String>,
}

/// What came of looking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Seen(Seen),
    /// An error that says what is wrong.
    Refused(String),
    /// The process ended: a panic or worse.
    Died(String),
    Hung,
}

/// A process that looks at logs.
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

    /// Reads everything in a log, and changes nothing.
    pub fn read(&mut self, log: &Path) -> Answer {
        self.ask(&format!("read {}", log.display()))
    }

    /// Opens a log for writing, appends three batches of a phase, closes it, and reads everything.
    pub fn go_on(&mut self, log: &Path, phase: u64) -> Answer {
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

/// Where images are made: in memory where there is such a place, for nothing of them has to last.
pub fn scratch() -> &'static Path {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) }
}
