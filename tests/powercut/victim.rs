//! Running the program that writes a log, under the recorder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use crate::recording::{self, Event};

/// Where the log is on a disk. Its parents are made with it.
pub const LOG: &str = "runs/here/log";

/// How long the program may take; more is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// Builds the recorder, once. `None`, with a loud line, where there is no C compiler; a failure where nothing may be
/// skipped.
pub fn recorder() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("powercut/record.c");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let library = directory.join("record.so");
    // Other tests may build it at the same time.
    let unfinished = directory.join(format!("record.{}.so", std::process::id()));
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&unfinished)
        .arg(&source)
        .args(["-ldl", "-lpthread"])
        .status();
    match built {
        Ok(status) => {
            assert!(status.success(), "{} does not compile", source.display());
            fs::rename(unfinished, &library).unwrap();
            Some(library)
        }
        Err(error) => {
            let skipped = format!("SKIPPED: there is no C compiler to build the recorder with (cc: {error})");
            assert!(std::env::var_os("CLOACA_NOTHING_SKIPPED").is_none(), "{skipped}, and here nothing may be");
            // Not through `println`, which tests keep to themselves unless they fail.
            let _ = writeln!(std::io::stderr(), "{skipped}");
            None
        }
    }
}

/// What a run left.
pub struct Run {
    /// What happened, in order.
    pub events: Vec<Event>,
    /// How many calls of each kind there were.
    pub counts: Vec<(String, u64)>,
    pub status: ExitStatus,
    /// What it wrote to the standard error.
    pub said: String,
    /// Where the recording is.
    pub recording: PathBuf,
}

impl Run {
    /// What the program told.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        self.events.iter().filter_map(|event| match event {
            Event::Mark(text) => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn count(&self, kind: &str) -> u64 {
        self.counts.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count)
    }
}

/// Writes a load into the log of a disk, everything recorded beside it, with a fault if one is named.
pub fn write(recorder: &Path, load: &str, phase: u64, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    run(recorder, ["write", load, &phase.to_string()], root, fault)
}

/// Erases what a stream of the log of a disk says, with a fault if one is named.
pub fn erase(recorder: &Path, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    run(recorder, ["erase", "secrets", "0"], root, fault)
}

fn run(recorder: &Path, what: [&str; 3], root: &Path, fault: Option<&str>) -> Result<Run, String> {
    let beside = |what: &str| root.with_extension(what);
    let (recording, counts, said) = (beside("recording"), beside("counts"), beside("said"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_log_victim"));
    command
        .args(what)
        .args([root.join(LOG), beside("marks")])
        .env("LD_PRELOAD", recorder)
        .env("CLOACA_RECORD_ROOT", root)
        .env("CLOACA_RECORD_TO", &recording)
        .env("CLOACA_RECORD_MARKS", beside("marks"))
        .env("CLOACA_RECORD_COUNTS", &counts)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap());
    if let Some(fault) = fault {
        command.env("CLOACA_FAULT", fault);
    }
    let status = wait(command.spawn().unwrap())?;
    let counts = fs::read_to_string(counts).unwrap_or_default();
    let counts = counts.lines().filter_map(|line| line.split_once(' '));
    Ok(Run {
        events: recording::read(&recording),
        counts: counts.map(|(kind, count)| (kind.to_owned(), count.parse().unwrap())).collect(),
        status,
        said: fs::read_to_string(said).unwrap_or_default(),
        recording,
    })
}

fn wait(mut child: Child) -> Result<ExitStatus, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return Ok(status);
        }
        if Instant::now() >= until {
            let _ = child.kill();
            let _ = child.wait();
            return Err(format!("it hung for {} s", PATIENCE.as_secs()));
        }
        thread::sleep(Duration::from_millis(2));
    }
}
