//! The program in a terminal: a pseudo-terminal, and what its screen shows.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

mod common;

use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use cloacina_store::{Options, open};
use common::{Log, histories};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// What nobody waits for longer.
const PATIENCE: Duration = Duration::from_secs(60);

struct Terminal {
    screen: Arc<(Mutex<(vt100::Parser, bool)>, Condvar)>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    fn start(directory: &Path, arguments: &str, variables: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 30, cols: 120, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_replay"));
        command.args(arguments.split_whitespace());
        command.cwd(directory);
        command.env_remove("CLOACA_LOG");
        command.env("XDG_STATE_HOME", directory.join("state"));
        command.env("TERM", "xterm-256color");
        command.env("PAGER", "");
        variables.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let screen = Arc::new((Mutex::new((vt100::Parser::new(30, 120, 1_000), false)), Condvar::new()));
        let shared = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                // At its end a pseudo-terminal gives an error.
                let count = reader.read(&mut bytes).unwrap_or(0);
                let mut screen = shared.0.lock().unwrap();
                screen.0.process(&bytes[..count]);
                screen.1 = count == 0;
                shared.1.notify_all();
                if count == 0 {
                    return;
                }
            }
        });
        Self { screen, keys: pair.master.take_writer().unwrap(), child, _master: pair.master }
    }

    fn press(&mut self, keys: &str) -> &mut Self {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
        self
    }

    /// Waits until the screen shows all of this. It is drawn piece by piece.
    fn shows(&self, texts: &[&str]) {
        texts.iter().for_each(|text| self.until(text));
    }

    /// Waits until the screen shows this.
    fn until(&self, text: &str) {
        let until = Instant::now() + PATIENCE;
        let mut screen = self.screen.0.lock().unwrap();
        loop {
            let shown = screen.0.screen().contents();
            if shown.contains(text) {
                return;
            }
            assert!(!screen.1 && Instant::now() < until, "the screen never showed '{text}':\n{shown}");
            screen = self.screen.1.wait_timeout(screen, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// Waits for its end, and gives all that is on the screen and the exit code.
    fn end(mut self) -> (String, u32) {
        let code = self.child.wait().unwrap().exit_code();
        let until = Instant::now() + PATIENCE;
        let mut screen = self.screen.0.lock().unwrap();
        while !screen.1 && Instant::now() < until {
            screen = self.screen.1.wait_timeout(screen, Duration::from_secs(1)).unwrap().0;
        }
        (screen.0.screen().contents(), code)
    }
}

fn log() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(Arc::new(open(&directory.path().join("flow.db"), &Options::default()).unwrap()));
    histories::all_into(&log);
    log.0.close().unwrap();
    directory
}

const RIGHT: &str = "\u{1b}[C";
const LEFT: &str = "\u{1b}[D";
const SHIFT_LEFT: &str = "\u{1b}[1;2D";
const HOME: &str = "\u{1b}[H";

#[test]
fn stepping_shows_the_state_after_each_event_and_the_command_for_it() {
    let directory = log();
    let mut terminal = Terminal::start(directory.path(), "51b00003 -i", &[]);
    terminal.shows(&["$ replay 51b00003 --at 16", "nightly Failed · seq 16 of 16", "read-only, no task code is run"]);
    terminal.shows(&["after seq 16", "no answer f", "▶     16  ExecutionFailed"]);
    terminal.press(LEFT).until("$ replay 51b00003 --at 15");
    terminal.press(RIGHT).until("$ replay 51b00003 --at 16");
    // The last tasks that began are those that were skipped.
    terminal.press(SHIFT_LEFT).until("--at 15");
    terminal.press(SHIFT_LEFT).press(SHIFT_LEFT);
    terminal.shows(&["$ replay 51b00003 --at 11", "▶     11  TaskStarted load", "load     Running"]);
    terminal.press(HOME).until("$ replay 51b00003 --at 0");
    terminal.press("q");
    assert_eq!(terminal.end().1, 0);
}

#[test]
fn panels_tell_why_what_a_step_changed_and_the_graph() {
    let directory = log();
    let mut terminal = Terminal::start(directory.path(), "9f3ac102 -i", &[]);
    terminal.until("$ replay 9f3ac102 --at");
    // The key that was written last is proposed.
    terminal.press("w").until("why which key? batch_1_result");
    terminal.press("\r");
    terminal.shows(&["$ replay 9f3ac102 why batch_1_result --at 16", "undeclared", "written by process_batch_1"]);
    terminal.press("g");
    terminal.shows(&["$ replay 9f3ac102 graph --at 16", "●  prepare_dataset", "critical path"]);
    terminal.press("/failed\r").until("filter 'failed': 1 of 17");
    terminal.press("d");
    terminal.shows(&["diff <(replay 9f3ac102 --at 2) <(replay 9f3ac102 --at 3)"]);
    terminal.until("distribute_workload: Running → WaitingRetry");
    terminal.press("/\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\u{7f}\r").until("seq 3 of 16 · read-only");
    terminal.press(RIGHT).press(RIGHT).press(RIGHT);
    terminal.shows(&["--at 6)", "prepare_dataset: Running → Completed"]);
    terminal.until("preparation_complete is not there before and true now");
    terminal.press("\u{3}");
    assert_eq!(terminal.end().1, 0);
}

#[test]
fn without_a_terminal_nothing_is_stepped_through() {
    let directory = log();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(["51b00003", "-i"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error[CL0025]: stepping needs a terminal"));
}

#[test]
fn long_output_goes_through_the_pager_and_short_output_does_not() {
    let directory = log();
    let pager = [("PAGER", "sed s/^/paged:/")];
    let long = Terminal::start(directory.path(), "9f3ac102 --json", &pager).end();
    assert!(long.0.contains("paged:") && long.1 == 0, "{}", long.0);
    let (shown, code) = Terminal::start(directory.path(), "9f3ac101", &pager).end();
    assert!(shown.contains("execution …9f3ac101") && !shown.contains("paged:"), "{shown}");
    assert_eq!(code, 0);
    // The hint stands below what the pager showed, not in it.
    let (shown, _) = Terminal::start(directory.path(), "51b00003 --full", &pager).end();
    let last = shown.trim_end().lines().last().unwrap();
    assert!(last.starts_with("hint: replay 51b00003"), "{shown}");
}

#[test]
fn a_shell_is_offered_commands_and_the_ids_of_executions() {
    let directory = log();
    let complete = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_replay"))
            .arg("--")
            .arg("replay")
            .args(words)
            .current_dir(directory.path())
            .env_remove("CLOACA_LOG")
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("_CLAP_IFS", "\n")
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let ids = complete(&["51b0"]);
    assert!(ids.contains("51b00003") && ids.contains("51b00009") && !ids.contains("9f3ac101"), "{ids}");
    let diff = complete(&["diff", "9f3"]);
    assert!(diff.contains("9f3ac101") && diff.contains("9f3ac102"), "{diff}");
    let commands = complete(&["9f3ac101", "gr"]);
    assert!(commands.contains("graph"), "{commands}");
}
