//! Every decoder of bytes that come from a disk, a socket or a user, as a function of any bytes.
//!
//! A target panics where a decoder does not keep what it promises: that it refuses instead of panicking, that what it takes
//! is written again as it was read, and that it needs no more memory than a multiple of what it was given. `make fuzz` runs
//! each under libFuzzer. `corpus/` keeps, for each target, the inputs that reach the most of it, and every input that ever
//! broke it; `tests/corpus.rs` runs all of them in every `make test`.

mod engine;
mod people;

use cloacina_store::fuzzing as store;
use peak_alloc::PeakAlloc;

/// Counts what is allocated; libFuzzer can only look at the process as a whole.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What a target may allocate whatever it is given: compiled tables, the command line's description.
const BASE: usize = 8 << 20;

/// What it may allocate for each byte that it is given. A list of the smallest things there are takes the most.
const PER_BYTE: usize = 1_024;

/// A target: its name, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Each has a folder in `corpus/`, and a file in `fuzz_targets/` under the same name.
pub const TARGETS: [Target; 19] = [
    ("frame", store::frame),
    ("layout", store::layout),
    ("segment", store::segment),
    ("index_entry", store::index_entry),
    ("log_event", store::log_event),
    ("archive", store::archive),
    ("request", store::request),
    ("answer", store::answer),
    ("message", store::message),
    ("checkpoint", store::checkpoint),
    ("format_file", store::format_file),
    ("event", engine::event),
    ("label", engine::label),
    ("definition", engine::definition),
    ("history", engine::history),
    ("json", engine::json),
    ("cron", engine::cron),
    ("proof", people::proof),
    ("command_line", people::command_line),
];

/// Runs a target on some bytes.
///
/// # Panics
/// If there is no such target, if it breaks a promise, or if it takes too much memory.
pub fn run(target: &str, bytes: &[u8]) {
    let Some((_, function)) = TARGETS.iter().find(|(name, _)| *name == target) else {
        panic!("there is no target {target}");
    };
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    function(bytes);
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    let allowed = BASE + PER_BYTE * bytes.len();
    assert!(taken <= allowed, "{target} took {taken} bytes of memory for {} bytes, allowed are {allowed}", bytes.len());
}
