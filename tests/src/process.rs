//! Processes that a test starts, reads from, and kills.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// A running victim and its output.
pub struct Victim {
    /// The process.
    pub process: Child,
    /// Its output, line by line.
    pub lines: Receiver<String>,
}

impl Victim {
    /// Starts a program on the log and the side effects in a directory.
    ///
    /// # Panics
    /// If the program cannot be started.
    #[must_use]
    pub fn begin(program: &str, directory: &Path, mode: &str) -> Self {
        let mut process = Command::new(program)
            .args([directory.join("log"), directory.join("effects"), PathBuf::from(mode)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the victim starts");
        let output = BufReader::new(process.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, lines }
    }

    /// Kills it, and returns all of its output.
    ///
    /// # Panics
    /// If it cannot be killed.
    #[must_use]
    pub fn kill(mut self, output: Vec<String>) -> Vec<String> {
        self.process.kill().expect("it is killed");
        self.process.wait().expect("it is dead");
        output.into_iter().chain(self.lines).collect()
    }
}
