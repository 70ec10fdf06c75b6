//! Clients of the socket that mean no good, or are broken, while the log is written: nothing that they do is felt by who
//! writes, or stays when they are gone.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::suite::{VERSION, one, stream};
use cloacina_store::log::{EventLog, LogReader};
use cloacina_store::{Options, open, open_reader};

/// How many events are written meanwhile, at the least.
const EVENTS: u64 = 300;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The numbers of requests, and of the answer that says where the log ends.
const READ: u8 = 0;
const TAIL: u8 = 3;
const HEAD: u8 = 5;
const TREE: u8 = 8;
const SINCE: u8 = 9;
const CHANGE: u8 = 11;
const ANSWER_HEAD: u8 = 3;

/// A number, as requests have it.
fn number(number: u64) -> Vec<u8> {
    [&[253][..], &number.to_le_bytes()].concat()
}

/// A request for all of the log, from its beginning.
fn all() -> Vec<u8> {
    message(&[&[VERSION, TAIL, 0, 252][..], &u32::MAX.to_le_bytes()].concat())
}

fn message(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn connect(log: &Path) -> UnixStream {
    let socket = UnixStream::connect(log.join("socket")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    socket
}

/// Says something, hangs up its own side, and hears what is answered.
fn ask(log: &Path, said: &[u8]) -> Vec<u8> {
    let mut socket = connect(log);
    let mut heard = Vec::new();
    // It may be cut off before it has said, or heard, all.
    let _ = socket.write_all(said);
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read_to_end(&mut heard);
    heard
}

/// Asks until there is an answer: among so many that come and go, one may be let go before it was asked.
fn hear(log: &Path, said: &[u8]) -> Vec<u8> {
    (0..50).map(|_| ask(log, said)).find(|answer| !answer.is_empty()).unwrap_or_default()
}

/// Lengths that nothing has, requests that are none, ranges that are not there.
fn nonsense(log: &Path) {
    let text = [1, b'x'];
    for huge in [u32::MAX, 1 << 31, 256 * 1024 + 1] {
        ask(log, &[&huge.to_be_bytes()[..], &[1; 1_000]].concat());
    }
    for request in 0..=20_u8 {
        for fields in [&[][..], &[0; 7], &[0xff; 64], &[253; 64], &[0; 300], &[0xff; 300]] {
            ask(log, &message(&[&[VERSION, request][..], fields].concat()));
        }
    }
    for from in [0_u64, 1, u64::MAX - 1, u64::MAX] {
        for limit in [0_u32, 1, u32::MAX] {
            let range = [&number(from)[..], &[252], &limit.to_le_bytes()].concat();
            ask(log, &message(&[&[VERSION, READ][..], &[0; 16], &range].concat()));
            for request in [TAIL, TREE, SINCE] {
                let heard = hear(log, &message(&[&[VERSION, request][..], &range].concat()));
                assert!(heard.len() >= 6, "request {request} was understood: {heard:?}");
            }
        }
    }
    // Changes of what is not there, of what is open, and of no record at all; lists that say that they are long.
    for count in [0_u64, 1, 1_000_000, u64::MAX] {
        let erase = [&[VERSION, CHANGE, 0][..], &[7; 16], &number(count), &[0], &text, &text, &text].concat();
        ask(log, &message(&erase));
        let prune = [&[VERSION, CHANGE, 1][..], &number(count), &[1; 16], &[0; 32], &[0], &text, &text].concat();
        ask(log, &message(&prune));
    }
    for stream in [[1; 16], [0; 16]] {
        let prune = [&[VERSION, CHANGE, 1, 1][..], &stream, &[0; 32], &[0], &text, &text].concat();
        let heard = hear(log, &message(&prune));
        assert!(heard.len() > 6, "it was refused with a reason: {heard:?}");
    }
}

/// Archives to import that are none, and one that a reader would wait for.
fn imports(log: &Path, beside: &Path) {
    let pipe = beside.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.to_str().unwrap(), "/dev/zero", "/", "/nowhere", "\0", ""] {
        let length = u8::try_from(path.len()).unwrap();
        let heard = hear(log, &message(&[&[VERSION, CHANGE, 2, length][..], path.as_bytes(), &[0; 32]].concat()));
        assert!(heard.len() > 6, "the import of {path:?} was refused with a reason");
    }
}

/// Comes and goes, and leaves in the middle of a request and of an answer.
fn restless(log: &Path) {
    for number in 0..1_000 {
        let mut socket = connect(log);
        if number % 3 > 0 {
            let request = all();
            let _ = socket.write_all(&request[..request.len() - number % 2]);
        }
    }
}

/// Asks for the whole log again and again, and reads no answer.
fn deaf(log: &Path) {
    let mut socket = connect(log);
    let request = all().repeat(1_000);
    while socket.write_all(&request).is_ok() {}
}

fn open_files() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads_of_readers() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("cloacina-reader")).count()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "not so: {what}");
        std::thread::yield_now();
    }
}

/// What is counted here is all of a process: so a test that counts has one of its own. Returns whether this is it; where it is not,
/// the test was run in one, and has passed.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "CLOACINA_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let module = module_path!().split_once("::").map_or("", |(_, module)| module);
    let name = if module.is_empty() { test.to_owned() } else { format!("{module}::{test}") };
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "it was run: {said}");
    false
}

/// The most memory that this process ever had, in KiB.
fn most_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn clients_that_mean_no_good_harm_nobody_and_leave_nothing() {
    if !is_alone("clients_that_mean_no_good_harm_nobody_and_leave_nothing") {
        return;
    }
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        eprintln!("{panic}");
    }));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let before = open_files();
    let log = Arc::new(open(&path, &Options::default()).unwrap());
    log.append(one(stream(1), 0, &[3; 100_000])).unwrap();
    let memory = most_memory();
    let written = std::thread::scope(|scope| {
        let (path, beside) = (&path, directory.path());
        let silent: Vec<_> = (0..8)
            .map(|length| {
                let mut socket = connect(path);
                socket.write_all(&message(&[VERSION, HEAD, 0, 0, 0])[..length]).unwrap();
                socket
            })
            .collect();
        let clients = [
            scope.spawn(move || nonsense(path)),
            scope.spawn(move || imports(path, beside)),
            scope.spawn(move || restless(path)),
            scope.spawn(move || deaf(path)),
            scope.spawn(move || deaf(path)),
        ];
        let mut seq = 0;
        while seq < EVENTS || clients.iter().any(|client| !client.is_finished()) {
            log.append(one(stream(2), seq, b"goes on")).unwrap();
            seq += 1;
        }
        for client in clients {
            client.join().unwrap();
        }
        // While some are still there, and say nothing. The last of the others may still be answered, though they are gone:
        // until then a reader can be one too many.
        let reader = std::iter::repeat_with(|| open_reader(path)).find_map(Result::ok).unwrap();
        assert_eq!(reader.read(stream(2), 0, usize::MAX).unwrap().len() as u64, seq);
        assert_eq!(reader.read(stream(1), 0, 10).unwrap().len(), 1);
        drop(silent);
        seq
    });
    assert_eq!(log.verify().findings, []);
    assert_eq!(log.read(stream(2), 0, usize::MAX).unwrap().len() as u64, written, "every event was kept");
    let grown = most_memory() - memory;
    assert!(grown < 256 * 1024, "they made it take {grown} KiB of memory");
    log.close().unwrap();
    drop(log);
    // A thread that has just let go of its reader is on its last steps, with nobody to wait for it.
    wait_until("no thread is left", || threads_of_readers() == 0);
    wait_until("no descriptor is left", || open_files() <= before);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "nothing panicked");
}

/// Thirty-two clients that said nothing locked all others out for a minute, and one that said a byte now and then for
/// longer.
#[test]
fn a_reader_is_answered_while_more_clients_than_there_are_places_say_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    log.append(one(stream(1), 0, b"there")).unwrap();
    let first = open_reader(&path).unwrap();
    let half = &message(&[VERSION, HEAD])[..5];
    let silent: Vec<_> = (0..40)
        .map(|number| {
            let mut socket = connect(&path);
            socket.write_all(&half[..number % 6]).unwrap();
            socket
        })
        .collect();
    // Each is asked once: nothing is tried again.
    for _ in 0..3 {
        let reader = open_reader(&path).unwrap();
        assert_eq!(reader.read(stream(1), 0, 10).unwrap().len(), 1);
    }
    assert_eq!(first.read(stream(1), 0, 10).unwrap().len(), 1, "one that was let go comes back");
    // Those that waited longest had to go, the last ones are still there, and are answered once they have said all.
    let mut longest = &silent[0];
    assert_eq!(longest.read(&mut [0; 1]).unwrap(), 0, "it was let go");
    let mut last = &silent[39];
    last.write_all(&message(&[VERSION, HEAD])[39 % 6..]).unwrap();
    let mut answer = [0; 6];
    last.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [VERSION, ANSWER_HEAD], "the head was answered");
    drop(silent);
    log.close().unwrap();
}

/// Thirty-two clients that asked for much and read nothing locked all others out for ten seconds.
#[test]
fn a_reader_is_answered_while_clients_that_read_no_answer_have_all_places() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    log.append(one(stream(1), 0, &[3; 100_000])).unwrap();
    let tail = all();
    let deaf: Vec<_> = (0..32)
        .map(|_| {
            let mut socket = connect(&path);
            socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            // Until the socket takes no more requests: then nobody reads them, for nobody reads the answers.
            while socket.write_all(&tail.repeat(100)).is_ok() {}
            socket
        })
        .collect();
    let more = [(); 3].map(|()| {
        // Each asks once, is not told to try again later, and stays.
        let mut socket = connect(&path);
        socket.write_all(&message(&[VERSION, HEAD])).unwrap();
        let mut heard = [0; 6];
        socket.read_exact(&mut heard).unwrap();
        assert_eq!(heard[4..], [VERSION, ANSWER_HEAD], "the head was answered");
        socket
    });
    // The one that had taken nothing for longest had to go. What it asked for besides was not read: its system says so.
    let mut first = &deaf[0];
    let ended = first.read_to_end(&mut Vec::new());
    assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "it was let go: {ended:?}");
    drop((deaf, more));
    log.close().unwrap();
}
