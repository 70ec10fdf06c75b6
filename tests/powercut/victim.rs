//! Running the program that writes a log, under the recorder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::recording::{self, Event};

/// Where the log is on a disk. Its parents are made with it.
pub const LOG: &str = "runs/here/log";

/// How long the program may take; more is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// The exit code of the recorder where processes cannot be traced.
pub const NOT_PERMITTED: i32 = 94;

/// Builds the recorder, once. `None`, with a loud line, where it cannot be built or may not trace; a failure where nothing
/// may be skipped.
pub fn recorder() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| made().inspect_err(|why| skip(why)).ok()).as_deref()
}

fn made() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err("the recorder is for Linux on x86_64 and aarch64".to_owned());
    }
    let recorder = compiled("record", &["record.c", "tracee.c"])?;
    // A program that ends at once.
    let tried = Command::new(&recorder).args([env!("CARGO_BIN_EXE_log_victim"), "check"]).stdin(Stdio::null()).output();
    let tried = tried.unwrap();
    let said = String::from_utf8_lossy(&tried.stderr);
    if tried.status.code() == Some(NOT_PERMITTED) {
        return Err(said.trim().to_owned());
    }
    assert!(tried.status.success(), "the recorder does not work: {} {said}", tried.status);
    Ok(recorder)
}

/// Compiles a program from sources beside this one.
pub fn compiled(name: &str, sources: &[&str]) -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("powercut");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = directory.join(name);
    // Other tests may build it at the same time.
    let unfinished = directory.join(format!("{name}.{}", std::process::id()));
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&unfinished)
        .args(sources.iter().map(|source| beside.join(source)))
        .arg("-lpthread")
        .status();
    let status = built.map_err(|error| format!("there is no C compiler to build the recorder with (cc: {error})"))?;
    assert!(status.success(), "{name} does not compile");
    fs::rename(unfinished, &program).unwrap();
    Ok(program)
}

fn skip(why: &str) {
    let skipped = format!("SKIPPED: {why}");
    assert!(std::env::var_os("CLOACA_NOTHING_SKIPPED").is_none(), "{skipped}, and here nothing may be");
    // Not through `println`, which tests keep to themselves unless they fail.
    let _ = writeln!(std::io::stderr(), "{skipped}");
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
    run_victim(recorder, ["write", load, &phase.to_string()], root, fault)
}

/// Erases what a stream of the log of a disk says, with a fault if one is named.
pub fn erase(recorder: &Path, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    run_victim(recorder, ["erase", "secrets", "0"], root, fault)
}

/// Makes a change of the log of a disk (`changing.rs`), and records it.
pub fn change(recorder: &Path, what: &str, root: &Path) -> Result<Run, String> {
    run_victim(recorder, ["change", what, "0"], root, None)
}

fn run_victim(recorder: &Path, what: [&str; 3], root: &Path, fault: Option<&str>) -> Result<Run, String> {
    let mut victim = Command::new(recorder);
    victim.arg(env!("CARGO_BIN_EXE_log_victim")).args(what).args([root.join(LOG), marks_beside(root)]);
    run(victim, root, fault)
}

/// Where a program under the recorder says what it did.
pub fn marks_beside(root: &Path) -> PathBuf {
    root.with_extension("marks")
}

/// Runs a recorder and the program under it, and reads what it recorded of a disk.
pub fn run(mut recorder: Command, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    let beside = |what: &str| root.with_extension(what);
    let (recording, counts, said) = (beside("recording"), beside("counts"), beside("said"));
    recorder
        .env("CLOACA_RECORD_ROOT", root)
        .env("CLOACA_RECORD_TO", &recording)
        .env("CLOACA_RECORD_MARKS", marks_beside(root))
        .env("CLOACA_RECORD_COUNTS", &counts)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap());
    if let Some(fault) = fault {
        recorder.env("CLOACA_FAULT", fault);
    }
    let status = wait(recorder.spawn().unwrap())?;
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
