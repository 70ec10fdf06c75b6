//! The program in a pseudo-terminal, and the content of its screen.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::common::{Log, Recorder, histories, id, json, task};
use cloacina_store::{Options, open};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// The timeout of every wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The output that a terminal has received.
struct Received {
    parser: vt100::Parser,
    /// All output, including what has scrolled off the screen.
    all: Vec<u8>,
    ended: bool,
}

struct Terminal {
    screen: Arc<(Mutex<Received>, Condvar)>,
    keys: Box<dyn Write + Send>,
    child: Box<dyn Child + Send + Sync>,
    _master: Box<dyn MasterPty + Send>,
}

impl Terminal {
    fn start(directory: &Path, arguments: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_at(120, directory, arguments, variables)
    }

    /// Starts the program in a terminal of `cols` columns.
    fn start_at(cols: u16, directory: &Path, arguments: &str, variables: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 30, cols, pixel_width: 0, pixel_height: 0 };
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
        let got = Received { parser: vt100::Parser::new(30, cols, 1_000), all: Vec::new(), ended: false };
        let screen = Arc::new((Mutex::new(got), Condvar::new()));
        let shared = screen.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            loop {
                // A pseudo-terminal returns an error at its end.
                let count = reader.read(&mut bytes).unwrap_or(0);
                let mut screen = shared.0.lock().unwrap();
                screen.parser.process(&bytes[..count]);
                screen.all.extend_from_slice(&bytes[..count]);
                screen.ended = count == 0;
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

    /// Waits until the screen shows all of these texts, since it is drawn piece by piece.
    fn shows(&self, texts: &[&str]) {
        texts.iter().for_each(|text| self.until(text));
    }

    /// Waits until the screen shows this text.
    fn until(&self, text: &str) {
        self.wait(text, |got| got.parser.screen().contents().contains(text));
    }

    /// Waits until this text has been shown, even if it is gone again.
    fn was_shown(&self, text: &str) {
        self.wait(text, |got| String::from_utf8_lossy(&got.all).contains(text));
    }

    fn wait(&self, text: &str, has: impl Fn(&Received) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut screen = self.screen.0.lock().unwrap();
        while !has(&screen) {
            let shown = screen.parser.screen().contents();
            assert!(!screen.ended && Instant::now() < until, "the screen never showed '{text}':\n{shown}");
            screen = self.screen.1.wait_timeout(screen, Duration::from_secs(1)).unwrap().0;
        }
    }

    /// Sends the process a signal.
    fn signal(&self, name: &str) {
        signal(name, self.child.process_id().unwrap());
    }

    /// Waits for the end of the process. Returns the content of the screen and the exit code.
    fn end(mut self) -> (String, u32) {
        let code = self.child.wait().unwrap().exit_code();
        let until = Instant::now() + PATIENCE;
        let mut screen = self.screen.0.lock().unwrap();
        while !screen.ended && Instant::now() < until {
            screen = self.screen.1.wait_timeout(screen, Duration::from_secs(1)).unwrap().0;
        }
        (screen.parser.screen().contents(), code)
    }
}

fn signal(name: &str, process: u32) {
    let sent = std::process::Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.unwrap().success());
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
    // The last events of tasks are those of skipped ones.
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
    terminal.press("w").until("why KEY: batch_1_result");
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

/// Regression test: in a terminal of 80 columns the line of keys was cut in the middle of a word, without "quit", and
/// nothing said how to see the rest.
#[test]
fn the_keys_and_messages_of_stepping_fit_in_narrow_terminals_and_help_is_a_key_away() {
    let directory = log();
    for columns in [80, 60] {
        let mut terminal = Terminal::start_at(columns, directory.path(), "51b00003 -i", &[]);
        terminal.shows(&["$ replay 51b00003 --at 16", "nightly Failed · seq 16 of 16", "? help · q quit", "▶     16"]);
        terminal.shows(&["read-only", "←/→ event · shift ←/→ task ·"]);
        // A long filter does not hide the rest of the line.
        terminal.press("/ExecutionFailedAndMuchMoreThanFitsIntoALineOfThisWidth");
        terminal.until("OfThisWidth▏");
        terminal.press("\r").until("0 of 17");
        terminal.press("/");
        terminal.press(&"\u{7f}".repeat(60));
        terminal.press("\r").until("▶     16");
        terminal.press("?");
        terminal.shows(&["Keys", "where the value of a key came", "closes this help", "? help · q quit"]);
        terminal.press("?").until("▶     16");
        terminal.press("?").until("closes this help");
        // Escape closes the help and not the program; other keys keep their function.
        terminal.press("\u{1b}").until("▶     16");
        terminal.press("?").until("closes this help");
        terminal.press(LEFT).until("--at 15");
        terminal.press("q");
        assert_eq!(terminal.end().1, 0);
    }
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
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error[CL0025]: `--interactive` needs a terminal"));
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
    // The hint is printed below the pager's output.
    let (shown, _) = Terminal::start(directory.path(), "51b00003 --full", &pager).end();
    let last = shown.trim_end().lines().last().unwrap();
    assert!(last.starts_with("hint: replay 51b00003"), "{shown}");
}

/// Regression test: a `PAGER` that is not installed swallowed the output; a dumb terminal got colours and a pager.
#[test]
fn without_a_pager_that_is_there_and_in_a_dumb_terminal_output_is_written_as_it_is() {
    let directory = log();
    for pager in ["no-such-pager-anywhere -R", "LESS=FRX no-such-pager-anywhere", "/nowhere/less"] {
        let (shown, code) = Terminal::start(directory.path(), "9f3ac102 --full", &[("PAGER", pager)]).end();
        assert!(shown.contains("ExecutionCompleted"), "{pager}: {shown}");
        assert_eq!(code, 0, "{pager}");
    }
    let dumb = [("TERM", "dumb"), ("PAGER", "sed s/^/paged:/")];
    let (shown, code) = Terminal::start(directory.path(), "9f3ac102 --full", &dumb).end();
    assert!(shown.contains("TaskStarted") && !shown.contains("paged:") && !shown.contains('\u{1b}'), "{shown}");
    assert_eq!(code, 0);
    assert_eq!(Terminal::start(directory.path(), "51b00003 -i", &dumb).end().1, 2, "it cannot be stepped through");
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

/// An execution of 40,082 events: a chain of forty tasks that each write a thousand keys.
fn long() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(Arc::new(open(&directory.path().join("flow.db"), &Options::default()).unwrap()));
    let names: Vec<String> = (0..40).map(|number| format!("task_{number}")).collect();
    let before = |number: usize| if number == 0 { Vec::new() } else { vec![&*names[number - 1]] };
    let tasks = names.iter().enumerate().map(|(number, name)| task(name, &before(number))).collect();
    let mut run = Recorder::start(&log, id(1), "long", tasks, &[]);
    for name in &names {
        run.run(name, 5, |context| {
            (0..1_000).for_each(|number| context.set(format!("key_{number}"), json("1")));
            Ok(())
        });
    }
    log.0.close().unwrap();
    directory
}

/// Stops the process for a second, so that the progress bar appears however fast the machine is.
fn let_a_second_go_by(process: u32) {
    signal("STOP", process);
    std::thread::sleep(Duration::from_millis(1_100));
    signal("CONT", process);
}

#[test]
fn what_takes_longer_than_a_second_says_in_a_terminal_how_far_it_is() {
    let directory = long();
    let terminal = Terminal::start(directory.path(), "00000001 verify", &[]);
    // The header of a long history is shown before the rest is read.
    terminal.until("read-only, no task code is run");
    let_a_second_go_by(terminal.child.process_id().unwrap());
    terminal.was_shown(" of 40,082 events, ");
    let (shown, code) = terminal.end();
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("ok: this execution is intact"), "{shown}");
    assert!(!shown.contains(" of 40,082 events, "), "the bar is gone when it is over:\n{shown}");
}

#[test]
fn how_far_it_is_is_never_said_in_a_pipe() {
    let directory = long();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(["00000001", "verify"])
        .current_dir(directory.path())
        .env_remove("CLOACA_LOG")
        .env("XDG_STATE_HOME", directory.path().join("state"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    out.read_line(&mut shown).unwrap();
    let_a_second_go_by(child.id());
    out.read_to_string(&mut shown).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// Ctrl-C from the terminal ends `--follow` and not the execution.
#[test]
fn ctrl_c_detaches_from_what_is_followed_and_it_runs_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = Log(Arc::new(open(&directory.path().join("flow.db"), &Options::default()).unwrap()));
    let mut run = Recorder::start(&log, id(7), "etl", vec![task("extract", &[]), task("load", &["extract"])], &[]);
    let mut terminal = Terminal::start(directory.path(), "@ --follow", &[]);
    terminal.until("ExecutionStarted");
    run.begin("extract", 0);
    terminal.until("TaskStarted");
    terminal.press("\u{3}");
    let (shown, code) = terminal.end();
    assert_eq!(code, 6, "{shown}");
    assert!(
        shown.contains("stopped following after seq 1; the execution continues\nhint: replay 00000007 --follow"),
        "{shown}"
    );

    // The same by a signal to the process only.
    let terminal = Terminal::start(directory.path(), "@ --follow", &[]);
    terminal.until("TaskStarted");
    terminal.signal("INT");
    assert_eq!(terminal.end().1, 6);

    let terminal = Terminal::start(directory.path(), "@ --follow", &[]);
    terminal.until("TaskStarted");
    run.wait(5).finish("extract", |_| Ok(())).run("load", 5, |_| Ok(()));
    let (shown, code) = terminal.end();
    assert!(shown.contains("ExecutionCompleted"), "{shown}");
    assert_eq!(code, 0, "{shown}");
}
