//! Hostile or broken clients of the socket while the log is written: they do not affect the writer, and leave nothing
//! behind when they are gone.

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

/// The least number of events written meanwhile.
const EVENTS: u64 = 300;

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// The numbers of requests, and of the answer with the end of the log.
const READ: u8 = 0;
const TAIL: u8 = 3;
const HEAD: u8 = 5;
const TREE: u8 = 8;
const SINCE: u8 = 9;
const CHANGE: u8 = 11;
const ANSWER_HEAD: u8 = 3;

/// A number as requests encode it.
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

/// Sends bytes, shuts down its own side, and returns the answer.
fn ask(log: &Path, request: &[u8]) -> Vec<u8> {
    let mut socket = connect(log);
    let mut answer = Vec::new();
    // The server may disconnect it before everything is sent or received.
    let _ = socket.write_all(request);
    let _ = socket.shutdown(Shutdown::Write);
    let _ = socket.read_to_end(&mut answer);
    answer
}

/// Repeats a request until it is answered: among so many connections, one may be dropped before its request is read.
fn ask_until_answered(log: &Path, request: &[u8]) -> Vec<u8> {
    (0..50).map(|_| ask(log, request)).find(|answer| !answer.is_empty()).unwrap_or_default()
}

/// Sends impossible lengths, invalid requests and ranges outside of the log.
fn send_nonsense(log: &Path) {
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
                let answer = ask_until_answered(log, &message(&[&[VERSION, request][..], &range].concat()));
                assert!(answer.len() >= 6, "request {request} was understood: {answer:?}");
            }
        }
    }
    // Changes of missing streams, of open streams, and of no record at all; lists with a huge declared length.
    for count in [0_u64, 1, 1_000_000, u64::MAX] {
        let erase = [&[VERSION, CHANGE, 0][..], &[7; 16], &number(count), &[0], &text, &text, &text].concat();
        ask(log, &message(&erase));
        let prune = [&[VERSION, CHANGE, 1][..], &number(count), &[1; 16], &[0; 32], &[0], &text, &text].concat();
        ask(log, &message(&prune));
    }
    for stream in [[1; 16], [0; 16]] {
        let prune = [&[VERSION, CHANGE, 1, 1][..], &stream, &[0; 32], &[0], &text, &text].concat();
        let answer = ask_until_answered(log, &message(&prune));
        assert!(answer.len() > 6, "it was refused with a reason: {answer:?}");
    }
}

/// Requests imports of paths that are no archives, and of a pipe, which a reader would wait for.
fn import_invalid_archives(log: &Path, beside: &Path) {
    let pipe = beside.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.to_str().unwrap(), "/dev/zero", "/", "/nowhere", "\0", ""] {
        let length = u8::try_from(path.len()).unwrap();
        let answer =
            ask_until_answered(log, &message(&[&[VERSION, CHANGE, 2, length][..], path.as_bytes(), &[0; 32]].concat()));
        assert!(answer.len() > 6, "the import of {path:?} was refused with a reason");
    }
}

/// Connects again and again, and disconnects in the middle of a request or of an answer.
fn connect_and_leave(log: &Path) {
    for number in 0..1_000 {
        let mut socket = connect(log);
        if number % 3 > 0 {
            let request = all();
            let _ = socket.write_all(&request[..request.len() - number % 2]);
        }
    }
}

/// Requests the whole log again and again, and reads no answer.
fn request_without_reading(log: &Path) {
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

/// Some tests count threads, descriptors and memory of the whole process, so each runs in a process of its own. Returns true in that
/// process; elsewhere it runs the test in one, checks that it passed, and returns false.
fn runs_alone(test: &str) -> bool {
    const ALONE: &str = "CLOACINA_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let module = module_path!().split_once("::").map_or("", |(_, module)| module);
    let name = if module.is_empty() { test.to_owned() } else { format!("{module}::{test}") };
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", &name, "--nocapture"]).env(ALONE, "1").output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("1 passed"), "the test did not run: {stdout}");
    false
}

/// The peak memory of this process, in KiB.
fn peak_memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn hostile_clients_harm_nobody_and_leave_nothing_behind() {
    if !runs_alone("hostile_clients_harm_nobody_and_leave_nothing_behind") {
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
    let memory = peak_memory();
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
            scope.spawn(move || send_nonsense(path)),
            scope.spawn(move || import_invalid_archives(path, beside)),
            scope.spawn(move || connect_and_leave(path)),
            scope.spawn(move || request_without_reading(path)),
            scope.spawn(move || request_without_reading(path)),
        ];
        let mut seq = 0;
        while seq < EVENTS || clients.iter().any(|client| !client.is_finished()) {
            log.append(one(stream(2), seq, b"another")).unwrap();
            seq += 1;
        }
        for client in clients {
            client.join().unwrap();
        }
        // Some silent clients are still connected. The server may still be answering the last of those that have left;
        // until it is done, a reader can be one connection too many.
        let reader = std::iter::repeat_with(|| open_reader(path)).find_map(Result::ok).unwrap();
        assert_eq!(reader.read(stream(2), 0, usize::MAX).unwrap().len() as u64, seq);
        assert_eq!(reader.read(stream(1), 0, 10).unwrap().len(), 1);
        drop(silent);
        seq
    });
    assert_eq!(log.verify().findings, []);
    assert_eq!(log.read(stream(2), 0, usize::MAX).unwrap().len() as u64, written, "every event was kept");
    let grown = peak_memory() - memory;
    assert!(grown < 256 * 1024, "they made it take {grown} KiB of memory");
    log.close().unwrap();
    drop(log);
    // Nothing joins a thread that has just dropped its reader and is about to end.
    wait_until("no thread is left", || threads_of_readers() == 0);
    wait_until("no descriptor is left", || open_files() <= before);
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "nothing panicked");
}

/// Regression: thirty-two silent clients locked all others out for a minute, and one that sent a byte now and then for
/// longer.
#[test]
fn a_reader_is_answered_while_silent_clients_exceed_the_connection_limit() {
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
    // Each reader sends one request, without a retry.
    for _ in 0..3 {
        let reader = open_reader(&path).unwrap();
        assert_eq!(reader.read(stream(1), 0, 10).unwrap().len(), 1);
    }
    assert_eq!(first.read(stream(1), 0, 10).unwrap().len(), 1, "a reader that was disconnected reconnects");
    // The longest idle clients were disconnected. The last ones are still connected, and are answered once their request is complete.
    let mut longest = &silent[0];
    assert_eq!(longest.read(&mut [0; 1]).unwrap(), 0, "it was disconnected");
    let mut last = &silent[39];
    last.write_all(&message(&[VERSION, HEAD])[39 % 6..]).unwrap();
    let mut answer = [0; 6];
    last.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..], [VERSION, ANSWER_HEAD], "the head was answered");
    drop(silent);
    log.close().unwrap();
}

/// Regression: thirty-two clients that requested much and read nothing locked all others out for ten seconds.
#[test]
fn a_reader_is_answered_while_clients_that_read_no_answer_have_all_connections() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = open(&path, &Options::default()).unwrap();
    log.append(one(stream(1), 0, &[3; 100_000])).unwrap();
    let tail = all();
    let clients: Vec<_> = (0..32)
        .map(|_| {
            let mut socket = connect(&path);
            socket.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            // Until the socket is full: the server reads no further requests because nobody reads its answers.
            while socket.write_all(&tail.repeat(100)).is_ok() {}
            socket
        })
        .collect();
    let more = [(); 3].map(|()| {
        // Each sends one request, is answered at once, and stays connected.
        let mut socket = connect(&path);
        socket.write_all(&message(&[VERSION, HEAD])).unwrap();
        let mut answer = [0; 6];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer[4..], [VERSION, ANSWER_HEAD], "the head was answered");
        socket
    });
    // The client that had read nothing for the longest time was disconnected, with unread requests: the error may be a reset.
    let mut first = &clients[0];
    let ended = first.read_to_end(&mut Vec::new());
    assert!(!matches!(&ended, Err(error) if error.kind() == ErrorKind::WouldBlock), "it is still connected: {ended:?}");
    drop((clients, more));
    log.close().unwrap();
}
