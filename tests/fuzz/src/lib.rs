//! Fuzz targets: every decoder of bytes from a disk, a socket or a user, as a function of arbitrary bytes.
//!
//! A target panics if a decoder breaks its promise: it refuses bad input without a panic, what it accepts encodes to the
//! same bytes again, and its memory is bounded by a multiple of its input. `make fuzz` runs
//! each under libFuzzer. `corpus/` keeps, for each target, the inputs with the most coverage, and every input that ever
//! broke it; `tests/corpus.rs` runs all of them in every `make test`.

mod engine;
mod user_input;

use cloacina_store::fuzzing as store;
use peak_alloc::PeakAlloc;

/// Counts allocations; libFuzzer sees only the memory of the whole process.
#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// The allocation allowed regardless of the input: compiled tables, the description of the command line.
const BASE: usize = 8 << 20;

/// The allocation allowed per byte of input. A list of the smallest possible items takes the most.
const PER_BYTE: usize = 1_024;

/// A target: its name and its function.
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
    ("proof", user_input::proof),
    ("command_line", user_input::command_line),
];

/// Runs a target on some bytes.
///
/// # Panics
/// If there is no such target, if a promise is broken, or if it takes too much memory.
pub fn run(target: &str, bytes: &[u8]) {
    let Some((_, function)) = TARGETS.iter().find(|(name, _)| *name == target) else {
        panic!("there is no target {target}");
    };
    ALLOCATED.reset_peak_usage();
    let before = ALLOCATED.current_usage();
    function(bytes);
    let taken = ALLOCATED.peak_usage().saturating_sub(before);
    let allowed = BASE + PER_BYTE * bytes.len();
    assert!(
        taken <= allowed,
        "{target} allocated {taken} bytes for an input of {}; the limit is {allowed}",
        bytes.len()
    );
}
