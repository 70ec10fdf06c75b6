//! Runs `log_victim`, the program that writes a log, under the recorder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::recording::{self, Event};

/// The path of the log on a disk. Its parents are created with it.
pub const LOG: &str = "runs/here/log";

/// The time limit for the program; anything longer is a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// The exit code of the recorder if processes cannot be traced.
pub const NOT_PERMITTED: i32 = 94;

/// Builds the recorder, once. If it cannot be built or may not trace, prints that the test is skipped and returns `None`; panics if
/// `CLOACA_NOTHING_SKIPPED` is set.
pub fn recorder() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| made().inspect_err(|why| skip(why)).ok()).as_deref()
}

fn made() -> Result<PathBuf, String> {
    if !cfg!(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err("the recorder is for Linux on x86_64 and aarch64".to_owned());
    }
    let recorder = compiled("record", &["record.c", "tracee.c"])?;
    // Try it on a program that ends at once.
    let tried = Command::new(&recorder).args([env!("CARGO_BIN_EXE_log_victim"), "check"]).stdin(Stdio::null()).output();
    let tried = tried.unwrap();
    let stderr = String::from_utf8_lossy(&tried.stderr);
    if tried.status.code() == Some(NOT_PERMITTED) {
        return Err(stderr.trim().to_owned());
    }
    assert!(tried.status.success(), "the recorder fails: {} {stderr}", tried.status);
    Ok(recorder)
}

/// Compiles a program from C sources beside this file.
pub fn compiled(name: &str, sources: &[&str]) -> Result<PathBuf, String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("powercut");
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let program = directory.join(name);
    // Other tests may compile it at the same time.
    let unfinished = directory.join(format!("{name}.{}", std::process::id()));
    let built = Command::new("cc")
        .args(["-O1", "-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&unfinished)
        .args(sources.iter().map(|source| beside.join(source)))
        .arg("-lpthread")
        .status();
    let status = built.map_err(|error| format!("no C compiler to build the recorder (cc: {error})"))?;
    assert!(status.success(), "{name} does not compile");
    fs::rename(unfinished, &program).unwrap();
    Ok(program)
}

fn skip(why: &str) {
    let skipped = format!("SKIPPED: {why}");
    assert!(std::env::var_os("CLOACA_NOTHING_SKIPPED").is_none(), "{skipped}, but CLOACA_NOTHING_SKIPPED is set");
    // Not with `println`, whose output tests capture.
    let _ = writeln!(std::io::stderr(), "{skipped}");
}

/// The result of a recorded run.
pub struct Run {
    /// The recorded events, in order.
    pub events: Vec<Event>,
    /// The number of calls of each kind.
    pub counts: Vec<(String, u64)>,
    pub status: ExitStatus,
    /// Its standard error.
    pub stderr: String,
    /// The file of the recording.
    pub recording: PathBuf,
}

impl Run {
    /// The marks of the program.
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

/// Writes a load into the log of a disk and records it beside the disk, with an optional fault.
pub fn write(recorder: &Path, load: &str, phase: u64, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    run_victim(recorder, ["write", load, &phase.to_string()], root, fault)
}

/// Erases a stream of the log of a disk, with an optional fault.
pub fn erase(recorder: &Path, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    run_victim(recorder, ["erase", "secrets", "0"], root, fault)
}

/// Makes a change of the log of a disk (`changing.rs`) and records it.
pub fn change(recorder: &Path, what: &str, root: &Path) -> Result<Run, String> {
    run_victim(recorder, ["change", what, "0"], root, None)
}

fn run_victim(recorder: &Path, what: [&str; 3], root: &Path, fault: Option<&str>) -> Result<Run, String> {
    let mut victim = Command::new(recorder);
    victim.arg(env!("CARGO_BIN_EXE_log_victim")).args(what).args([root.join(LOG), marks_beside(root)]);
    run(victim, root, fault)
}

/// The file of marks of a program under the recorder.
pub fn marks_beside(root: &Path) -> PathBuf {
    root.with_extension("marks")
}

/// Runs the recorder with its program, and reads the recording.
pub fn run(mut recorder: Command, root: &Path, fault: Option<&str>) -> Result<Run, String> {
    let beside = |what: &str| root.with_extension(what);
    let (recording, counts, stderr) = (beside("recording"), beside("counts"), beside("stderr"));
    recorder
        .env("CLOACA_RECORD_ROOT", root)
        .env("CLOACA_RECORD_TO", &recording)
        .env("CLOACA_RECORD_MARKS", marks_beside(root))
        .env("CLOACA_RECORD_COUNTS", &counts)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&stderr).unwrap());
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
        stderr: fs::read_to_string(stderr).unwrap_or_default(),
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
