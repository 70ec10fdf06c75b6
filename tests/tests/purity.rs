//! Checks of the architecture: the core has no clock, no randomness, no I/O, no async, no threads, no global state and links
//! no runtime; the debugger links no executor.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The names that the core must not use, and what each would bring in.
const FORBIDDEN: &[(&str, &str)] = &[
    ("std::time", "a clock"),
    ("SystemTime", "a clock"),
    ("Instant", "a clock"),
    ("chrono", "a clock"),
    ("rand::", "randomness"),
    ("random", "randomness"),
    ("now_v7", "a clock and randomness"),
    ("new_v4", "randomness"),
    ("RandomState", "randomness"),
    ("std::fs", "I/O"),
    ("std::io", "I/O"),
    ("std::net", "I/O"),
    ("std::os", "I/O"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("thread_local", "global state"),
    ("crossbeam", "threads"),
    ("tokio", "async"),
    ("async ", "async"),
    (".await", "async"),
    ("Future", "async"),
    ("tracing", "global state"),
    ("Mutex", "shared state"),
    ("RwLock", "shared state"),
    ("Atomic", "shared state"),
    ("OnceLock", "global state"),
    ("LazyLock", "global state"),
    ("OnceCell", "hidden state"),
    ("static ", "global state"),
    ("println!", "I/O"),
    ("eprintln!", "I/O"),
    ("print!", "I/O"),
    ("dbg!", "I/O"),
    ("cloacina_store", "the store"),
    ("crate::runtime", "the runtime"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns every Rust file below a directory, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                found.push((entry.clone(), fs::read_to_string(&entry).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// A line without its comment.
fn code(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

/// Whether `code` has `word` as a separate word: `'static ` does not have `static `, nor `Instantiate` have `Instant`.
fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        let is_part = |neighbour: Option<char>| neighbour.is_some_and(|char| char.is_alphanumeric() || char == '_');
        let starts = word.chars().next().is_some_and(char::is_alphanumeric);
        let prefix = matches!(word, "Atomic" | "random");
        before != Some('\'')
            && !(starts && is_part(before))
            && (prefix || !word.ends_with(char::is_alphanumeric) || !is_part(after))
    })
}

fn complaints(path: &Path, text: &str) -> String {
    let mut complaints = String::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (word, what) in FORBIDDEN.iter().filter(|(word, _)| names(code(line), word)) {
            let file = path.strip_prefix(root()).unwrap_or(path).display();
            let line = line.trim();
            writeln!(complaints, "{file}:{number}: `{word}` brings {what} into the core: {line}").unwrap();
        }
    }
    complaints
}

#[test]
fn the_core_has_no_clock_no_randomness_no_io_no_async_no_threads_and_no_global_state() {
    let sources = sources(&root().join("engine/src/core"));
    assert!(sources.len() > 10, "the core was moved; adjust this test");
    let complaints: String = sources.iter().map(|(path, text)| complaints(path, text)).collect();
    assert!(complaints.is_empty(), "\n{complaints}time, ids and results arrive as data; see engine/src/core/mod.rs\n");
}

#[test]
fn the_check_finds_each_kind_of_violation() {
    let found = |text: &str| complaints(Path::new("x.rs"), text).lines().count();
    assert_eq!(found("let now = SystemTime::now();"), 1);
    assert_eq!(found("static COUNT: AtomicU64 = AtomicU64::new(0);"), 2);
    assert_eq!(found("async fn fetch() {}"), 1);
    assert_eq!(found("fn name() -> &'static str { \"Instantiate\" } // std::time"), 0);
}

/// Returns the crates that a package links with these features.
fn linked(package: &str, more: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--locked", "--edges", "normal", "--prefix", "none", "-p", package])
        .args(more)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn assert_links_none(package: &str, more: &[&str], forbidden: &[&str]) {
    let tree = linked(package, more);
    assert!(tree.starts_with(package), "{tree}");
    let crates: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let found: Vec<&&str> = forbidden.iter().filter(|name| crates.contains(*name)).collect();
    assert!(found.is_empty(), "{package} {more:?} links {found:?}; see `cargo tree -p {package} -i {}`", found[0]);
}

#[test]
fn the_engine_without_its_runtime_links_no_executor_and_no_log() {
    let forbidden = ["tokio", "crossbeam-channel", "rand", "sled", "cloacina-store", "tracing", "rustix"];
    assert_links_none("cloacina-engine", &["--no-default-features"], &forbidden);
}

#[test]
fn the_debugger_can_run_no_task() {
    for more in [&[][..], &["--no-default-features"]] {
        let features = linked("cloacina-replay", &[&["--format", "{p} {f}"], more].concat());
        let engine = features.lines().find(|line| line.starts_with("cloacina-engine")).unwrap();
        assert!(!engine.contains("runtime"), "cloacina-replay can run tasks: {engine}");
    }
}

#[test]
fn only_the_server_of_the_debugger_links_an_executor() {
    assert_links_none("cloacina-replay", &["--no-default-features"], &["tokio", "axum"]);
}

#[test]
fn only_the_bindings_may_contain_unsafe_code() {
    let mut found = Vec::new();
    for member in ["store", "engine", "replay", "admin", "tests", "benches"] {
        for (path, text) in sources(&root().join(member)) {
            let word = concat!("uns", "afe ");
            let lines = (1..).zip(text.lines()).filter(|(_, line)| names(code(line), word));
            found.extend(lines.map(|(number, line)| format!("{}:{number}: {}", path.display(), line.trim())));
        }
    }
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

/// Otherwise a file beside `tests/main.rs` that no program includes would silently never run.
#[test]
fn every_file_of_tests_is_part_of_a_program() {
    for member in ["store", "engine", "replay", "admin", "tests"] {
        let tests = root().join(member).join("tests");
        let main = fs::read_to_string(tests.join("main.rs")).unwrap();
        let manifest = fs::read_to_string(root().join(member).join("Cargo.toml")).unwrap();
        for path in fs::read_dir(&tests).unwrap().map(|entry| entry.unwrap().path()) {
            let Some(name) = path.file_name().unwrap().to_str().unwrap().strip_suffix(".rs") else { continue };
            let (module, program) = (format!("mod {name};"), format!("path = \"tests/{name}.rs\""));
            let is_named = main.lines().any(|line| line == module) || manifest.lines().any(|line| line == program);
            assert!(is_named, "{} is in no program: name it in {}/main.rs", path.display(), tests.display());
        }
    }
}
