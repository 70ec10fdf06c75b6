//! Checkpoints and proofs, written by `cloaca log` and `replay`, and checked twice: by `replay`, and by a verifier in
//! plain Python that shares no code with it (`tests/verifier/verify.py`). Both must agree on every input.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use crate::common::histories;
use crate::common::{Log, START};
use cloacina_admin::{Surroundings, code, run};
use cloacina_engine::core::time::Timestamp;
use cloacina_store::log::EventLog;
use cloacina_store::{Options, SledLog, open, open_reader};

struct World {
    directory: tempfile::TempDir,
    log: Option<Arc<SledLog>>,
}

struct Ran {
    out: String,
    err: String,
    code: i32,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = Arc::new(open(&directory.path().join("log"), &Options::default()).unwrap());
        histories::all_into(&Log(log.clone()));
        Self { directory, log: Some(log) }
    }

    fn close(&mut self) {
        self.log.take().unwrap().close().unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn variable(&self) -> impl Fn(&str) -> Option<OsString> + use<> {
        let home = self.directory.path().join("home").into_os_string();
        move |name| (name == "HOME").then(|| home.clone())
    }

    fn cloaca(&self, arguments: &str) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let variable = self.variable();
        let mut around = Surroundings {
            out: &mut out,
            err: &mut err,
            input: None,
            variable: &variable,
            directory: self.directory.path().to_owned(),
            now: Timestamp(START),
        };
        let words = ["cloaca", "log"].into_iter().chain(arguments.split_whitespace()).map(OsString::from).collect();
        let code = run(words, &mut around);
        Ran { out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), code }
    }

    fn replay(&self, arguments: &str) -> Ran {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let variable = self.variable();
        let mut around = cloacina_replay::cli::surroundings::Surroundings {
            out: &mut out,
            err: &mut err,
            terminal: None,
            variable: &variable,
            directory: self.directory.path().to_owned(),
            now: Timestamp(START),
            open: &open_reader,
            pause: &|_| false,
            sharing: &cloacina_replay::cli::paging::Sharing::default(),
            shows_progress: false,
        };
        let words = ["replay"].into_iter().chain(arguments.split_whitespace()).map(OsString::from).collect();
        let code = cloacina_replay::cli::run(words, &mut around);
        Ran { out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap(), code }
    }

    /// Runs the verifier in Python.
    fn python(&self, arguments: &str) -> Ran {
        let verifier = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/verifier/verify.py");
        let ran = Command::new("python3")
            .arg(verifier)
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        Ran {
            out: String::from_utf8(ran.stdout).unwrap(),
            err: String::from_utf8(ran.stderr).unwrap(),
            code: ran.status.code().unwrap(),
        }
    }

    /// Checks a proof with both verifiers, which must agree. Returns whether they accept it.
    fn both(&self, arguments: &str) -> bool {
        let ours = self.replay(&format!("verify --proof {arguments}"));
        let theirs = self.python(&format!("proof {arguments}"));
        assert_eq!(
            ours.code == 0,
            theirs.code == 0,
            "{arguments}: {}{}{}{}",
            ours.out,
            ours.err,
            theirs.out,
            theirs.err
        );
        ours.code == 0
    }

    /// Writes forgeries to files, and asserts that both verifiers reject each of them.
    fn both_refuse(&self, what: &str, forgeries: impl Iterator<Item = Vec<u8>>) {
        let ours = match what {
            "archive" => "verify --all --log",
            "checkpoint" => "verify --checkpoint",
            _ => "verify --proof",
        };
        let names: Vec<String> = forgeries
            .enumerate()
            .map(|(number, forgery)| {
                let name = format!("forged{number}");
                fs::write(self.path(&name), forgery).unwrap();
                name
            })
            .collect();
        assert!(names.len() > 20);
        for name in &names {
            let ran = self.replay(&format!("{ours} {name}"));
            assert_ne!(ran.code, 0, "{name}: {}", ran.out);
        }
        let theirs = self.python(&format!("{what} {}", names.join(" ")));
        assert_eq!(theirs.out.lines().filter(|line| line.starts_with("bad: ")).count(), names.len(), "{}", theirs.out);
    }

    fn checkpoint(&self, name: &str) {
        let ran = self.cloaca(&format!("checkpoint -o {name}"));
        assert_eq!(ran.code, code::OK, "{}", ran.err);
    }

    fn proven(&self, name: &str, arguments: &str) {
        let ran = self.replay(arguments);
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        self.write(name, &ran.out);
    }
}

/// Returns copies of a text that each differ in one character of a value.
fn altered(text: &str) -> impl Iterator<Item = String> + '_ {
    let digits: Vec<usize> =
        text.char_indices().filter(|(_, letter)| letter.is_ascii_hexdigit()).map(|(at, _)| at).collect();
    let step = (digits.len() / 40).max(1);
    digits.into_iter().step_by(step).map(move |at| {
        let other = if &text[at..=at] == "1" { "2" } else { "1" };
        format!("{}{other}{}", &text[..at], &text[at + 1..])
    })
}

#[test]
fn every_event_of_an_execution_is_proven_and_checked_twice() {
    let mut world = World::new();
    world.checkpoint("first");
    for seq in [0, 4, 16] {
        world.proven("proof", &format!("9f3ac102 prove {seq}"));
        assert!(world.both("proof --checkpoint first"), "seq {seq}");
    }
    let shown = world.replay("verify --proof proof").out;
    assert!(shown.contains("ExecutionCompleted") && shown.contains("seq 16"), "{shown}");
    world.proven("hidden", "9f3ac102 prove 4 --without-body");
    assert!(world.both("hidden"));
    assert!(!fs::read_to_string(world.path("hidden")).unwrap().contains("\"body\""));

    world.close();
    world.proven("closed", "9f3ac102 prove 16 --checkpoint first");
    assert_eq!(fs::read_to_string(world.path("closed")).unwrap(), fs::read_to_string(world.path("proof")).unwrap());
    let missing = world.replay("9f3ac102 prove 17");
    assert_eq!(missing.code, 3, "{}", missing.err);
}

#[test]
fn a_proof_that_was_altered_holds_for_nobody() {
    let world = World::new();
    world.checkpoint("first");
    world.proven("proof", "9f3ac102 prove 4");
    let text = fs::read_to_string(world.path("proof")).unwrap();
    let nonsense =
        ["", "{}", "[]", "{\"format\":\"cloaca.proof/1\"}", "{\"format\":\"cloaca.proof/2\",\"kind\":\"inclusion\"}"];
    // The changed character may also be part of the JSON syntax: then the file is not a proof.
    let forgeries = altered(&text).chain(nonsense.map(str::to_owned));
    world.both_refuse("proof", forgeries.map(String::into_bytes));
}

/// Regression test: the verifier in Python could not read the output of `prove --json`, only a proof without its
/// wrapper object.
#[test]
fn a_proof_within_what_json_writes_is_checked_twice_too() {
    let world = World::new();
    world.checkpoint("first");
    world.proven("plain", "9f3ac102 prove 4");
    world.proven("wrapped", "9f3ac102 prove 4 --json");
    world.proven("growth", "prove --since first --json");
    world.proven("hidden", "9f3ac102 prove 4 --without-body --json");
    for name in ["wrapped", "growth", "hidden"] {
        assert!(world.both(&format!("{name} --checkpoint first")), "{name}");
    }
    let read = |name: &str| fs::read_to_string(world.path(name)).unwrap();
    let value = |name: &str| serde_json::from_str::<serde_json::Value>(&read(name)).unwrap();
    assert_eq!(value("wrapped")["proof"], value("plain"), "they are one proof");

    let wrapped = read("wrapped");
    let others = [
        wrapped.replace("cloaca.replay/1", "cloaca.replay/2"),
        wrapped.replace("\"what\":\"proof\"", "\"what\":\"history\""),
        wrapped.replace("cloaca.proof/1", "cloaca.proof/2"),
        wrapped.replace("\"proof\":", "\"poof\":"),
        wrapped.replace("\"what\":\"proof\",", ""),
    ];
    assert!(others.iter().all(|other| *other != wrapped));
    world.both_refuse("proof", altered(&wrapped).chain(others).map(String::into_bytes));
}

#[test]
fn a_log_that_grew_goes_on_from_its_older_checkpoints() {
    let mut world = World::new();
    world.checkpoint("first");
    let after = world.cloaca("erase 9f3ac102 --key dataset --reason case-7 --yes");
    assert_eq!(after.code, 0, "{}", after.err);
    let pruned = world.cloaca("prune --status Failed --yes");
    assert_eq!(pruned.code, 0, "{}", pruned.err);
    world.checkpoint("second");
    world.close();
    world.checkpoint("third");
    for since in ["first", "second", "third"] {
        world.proven("growth", &format!("prove --since {since}"));
        assert!(world.both("growth --checkpoint third"), "{since}");
        assert!(since == "third" || !world.both(&format!("growth --checkpoint {since}")));
        let held = world.replay(&format!("verify --checkpoint {since}"));
        assert_eq!(held.code, 0, "neither erasing nor pruning changes the tree: {}", held.err);
    }
    let growth = fs::read_to_string(world.path("growth")).unwrap();
    world.both_refuse("proof", altered(&growth).map(String::into_bytes));
}

#[test]
fn another_log_is_not_what_was_signed() {
    let (one, other) = (World::new(), World::new());
    one.checkpoint("first");
    let text = fs::read_to_string(one.path("first")).unwrap();
    other.write("first", &text);
    for arguments in ["verify --checkpoint first", "prove --since first", "9f3ac102 prove 4 --checkpoint first"] {
        let ran = other.replay(arguments);
        assert_ne!(ran.code, 0, "{arguments}");
    }
    assert_eq!(other.replay("verify --checkpoint first").code, 5);
}

#[test]
fn who_signed_is_checked_where_it_is_asked() {
    let world = World::new();
    world.checkpoint("first");
    let text = fs::read_to_string(world.path("first")).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("key ")).unwrap().to_owned();
    assert!(!world.both("first"), "a checkpoint is no proof");
    for (given, holds) in [(key.clone(), true), (key.to_uppercase(), true), (format!("{}00", &key[2..]), false)] {
        assert_eq!(world.replay(&format!("verify --checkpoint first --key {given}")).code == 0, holds);
        assert_eq!(world.python(&format!("checkpoint first --key {given}")).code == 0, holds);
    }
    world.both_refuse("checkpoint", altered(&text).map(String::into_bytes));
}

#[test]
fn the_secret_key_is_made_once_and_for_this_user_alone() {
    let world = World::new();
    let file = world.path("home/.config/cloaca/checkpoint.key");
    let ran = world.cloaca("checkpoint -o first");
    assert!(ran.err.contains("created a new key"), "{}", ran.err);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let ran = world.cloaca("checkpoint -o second");
    assert!(!ran.err.contains("created a new key"), "{}", ran.err);
    let key = |name: &str| {
        let text = fs::read_to_string(world.path(name)).unwrap();
        text.lines().find(|line| line.starts_with("key ")).unwrap().to_owned()
    };
    assert_eq!(key("first"), key("second"));
    assert_eq!(world.cloaca("checkpoint -o second").code, code::NOT_DONE, "a file is not written over");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = world.cloaca("checkpoint");
    assert_eq!(ran.code, code::NOT_DONE);
    assert!(ran.err.contains("chmod 600"), "{}", ran.err);
    world.write("short.key", "abcd\n");
    fs::set_permissions(world.path("short.key"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(world.cloaca("checkpoint --key short.key").code, code::NOT_DONE);
}

/// A user who can write the files can also forge a checkpoint event. The next checkpoint must not build on it.
#[test]
fn a_checkpoint_of_another_key_is_not_gone_on_from() {
    let world = World::new();
    world.checkpoint("ours");
    let other = world.cloaca("checkpoint -o theirs --key other.key");
    assert_eq!(other.code, 0, "{}", other.err);
    world.checkpoint("again");
    for name in ["ours", "theirs", "again"] {
        assert_eq!(world.replay(&format!("verify --checkpoint {name}")).code, 0);
    }
    world.proven("growth", "prove --since ours");
    assert!(world.both("growth --checkpoint again"));
}

#[test]
fn archives_are_read_alike_whole_and_damaged() {
    let world = World::new();
    world.cloaca("erase 9f3ac102 --key dataset --reason case-7 --yes");
    let ran = world.cloaca("archive 9f3ac102 51b00005 51b00007 -o some.cloaca");
    assert_eq!(ran.code, 0, "{}", ran.err);
    let theirs = world.python("archive some.cloaca");
    assert_eq!(theirs.code, 0, "{}", theirs.err);
    let digest = ran.out.split("digest ").nth(1).unwrap().trim();
    assert!(theirs.out.contains(digest), "{}", theirs.out);
    let ours = world.replay("verify --all --log some.cloaca");
    assert_eq!(ours.code, 0, "{}", ours.err);
    assert!(ours.out.contains(digest));

    let whole = fs::read(world.path("some.cloaca")).unwrap();
    let places = || (0..whole.len()).step_by(whole.len() / 40);
    let flipped = places().map(|at| {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        damaged
    });
    world.both_refuse("archive", flipped.chain(places().map(|at| whole[..at].to_vec())));
}

#[test]
fn verifying_a_whole_log_says_what_was_checked() {
    let mut world = World::new();
    let held = world.replay("verify --all");
    assert_eq!(held.code, 0, "{}{}", held.out, held.err);
    world.close();
    let closed = world.replay("verify --all");
    assert_eq!(closed.code, 0, "{}", closed.err);
    assert!(closed.out.contains("are intact and complete"), "{}", closed.out);
    for (arguments, code) in
        [("9f3ac102 verify --all", 2), ("verify --key ab", 2), ("verify --proof none", 4), ("prove", 2)]
    {
        assert_eq!(world.replay(arguments).code, code, "{arguments}");
    }
}

/// Both verifiers must read the files of every released version, and accept them, for ever.
#[test]
fn the_golden_archive_checkpoints_and_proofs_of_format_1_hold() {
    let world = World::new();
    let golden = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/archive-v1"));
    for entry in fs::read_dir(&golden).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), world.path(entry.file_name().to_str().unwrap())).unwrap();
    }
    assert!(world.both("inclusion.json --checkpoint first.checkpoint"));
    assert!(world.both("erased.json --checkpoint second.checkpoint"));
    assert!(world.both("growth.json --checkpoint second.checkpoint"));
    assert!(!world.both("inclusion.json --checkpoint second.checkpoint"));
    assert_eq!(world.python("archive three.cloaca").code, 0);
    assert_eq!(world.replay("verify --all --log three.cloaca").code, 0);
    for arguments in ["9f3ac102", "51b00005 context", "51b00007", "9f3ac102 verify"] {
        let ran = world.replay(&format!("{arguments} --log three.cloaca"));
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
    }
    assert!(world.replay("9f3ac102 why dataset --log three.cloaca").out.contains("erased"));
    // The archive contains the record that the proof proves.
    let hash = fs::read_to_string(world.path("inclusion.json")).unwrap();
    let hash = hash.split("\"hash\": \"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    assert!(world.replay("9f3ac102 --json --log three.cloaca").out.contains(&hash));
}
