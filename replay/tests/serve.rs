//! `replay serve`: access control, and live updates while a log is written.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::common::{Log, Recorder, erase, error, histories, id, json, task};
use cloacina_engine::core::decide::Command;
use cloacina_engine::core::erasure::What;
use cloacina_engine::core::event::Request;
use cloacina_replay::reading::{entries, stream_of};
use cloacina_replay::serve::{Limits, Server};
use cloacina_store::{Options, open};
use serde_json::Value;
use tokio::sync::oneshot::Sender;

/// A server that runs until it is dropped.
struct Running {
    host: String,
    token: String,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn serve(log: &Path) -> Running {
    serve_within(log, Limits::default())
}

fn serve_within(log: &Path, limits: Limits) -> Running {
    let server = Server::bind(log.to_owned(), "./log".to_owned(), 0).unwrap().with_limits(limits);
    let url = server.url();
    let mut parts = url.strip_prefix("http://").unwrap().split('/');
    let (host, token) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
    assert!(host.starts_with("127.0.0.1:"), "{host}");
    assert!(token.len() >= 32, "{token}");
    let (stop, stopped) = tokio::sync::oneshot::channel();
    let thread = std::thread::spawn(move || {
        let until = async {
            let _ = stopped.await;
        };
        server.run(until).unwrap();
    });
    Running { host, token, stop: Some(stop), thread: Some(thread) }
}

impl Running {
    fn connect(&self, method: &str, path: &str, host: &str) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        BufReader::new(stream)
    }

    /// Sends a request. Returns the status, the head and the body of the response.
    fn ask(&self, method: &str, path: &str, host: &str) -> (u16, String, String) {
        let mut all = String::new();
        self.connect(method, path, host).read_to_string(&mut all).unwrap();
        let (head, body) = all.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_lowercase(), body.to_owned())
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        self.ask("GET", &format!("/{}/{path}", self.token), &self.host)
    }

    /// Opens a connection and sends a text, without reading.
    fn send(&self, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    }

    fn listen(&self, path: &str) -> Events {
        Events(self.connect("GET", &format!("/{}/{path}", self.token), &self.host))
    }
}

/// A stream of server-sent events.
struct Events(BufReader<TcpStream>);

impl Events {
    /// Returns the next message and its kind.
    fn any(&mut self) -> (String, Value) {
        let mut kind = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
            if let Some(name) = line.trim().strip_prefix("event: ") {
                name.clone_into(&mut kind);
            }
            if let Some(data) = line.strip_prefix("data: ").filter(|_| !kind.is_empty()) {
                return (kind, serde_json::from_str(data).unwrap());
            }
        }
    }

    /// Returns the next message of a kind.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let (is, message) = self.any();
            if is == kind {
                return message;
            }
        }
    }

    /// Returns the messages of a kind up to the first that satisfies `will_do`.
    fn until(&mut self, kind: &str, will_do: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            let message = self.next(kind);
            let done = will_do(&message);
            all.push(message);
            if done {
                return all;
            }
        }
    }
}

fn log_on_disk(directory: &Path) -> Log {
    Log(Arc::new(open(&directory.join("log"), &Options::default()).unwrap()))
}

#[test]
fn nobody_is_answered_without_the_token_or_under_another_name() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    histories::completed(&log, id(1));
    let server = serve(&directory.path().join("log"));
    let right = format!("/{}/", server.token);
    assert_eq!(server.ask("GET", &right, &server.host).0, 200);
    let other_token = format!("/{}x/", &server.token[1..]);
    for path in ["/", "/events", &other_token, &right[..right.len() - 2]] {
        let (status, _, body) = server.ask("GET", path, &server.host);
        assert_eq!(status, 403, "{path}");
        assert!(!body.contains("etl"));
    }
    for host in ["evil.example", "evil.example:80", "127.0.0.1", "localhost", "127.0.0.1.evil.example"] {
        let (status, _, body) = server.ask("GET", &right, host);
        assert_eq!(status, 421, "{host}");
        assert!(!body.contains("etl"));
    }
    let localhost = server.host.replace("127.0.0.1", "localhost");
    assert_eq!(server.ask("GET", &right, &localhost).0, 200);
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(server.ask(method, &right, &server.host).0, 405, "{method}");
    }
}

#[test]
fn two_servers_have_different_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    histories::completed(&log, id(1));
    let (one, other) = (serve(&directory.path().join("log")), serve(&directory.path().join("log")));
    assert_ne!(one.token, other.token);
    assert_eq!(one.ask("GET", &format!("/{}/", other.token), &one.host).0, 403);
}

#[test]
fn pages_may_run_nothing_but_their_own_program_and_ask_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    histories::all_into(&log);
    let server = serve(&directory.path().join("log"));
    let execution = format!("x/{}", id(histories::COMPLETED));
    for path in ["", &execution] {
        let (status, head, body) = server.get(path);
        assert_eq!(status, 200);
        let policy = head.lines().find(|line| line.starts_with("content-security-policy")).unwrap().to_owned();
        assert!(policy.contains("default-src 'none'; connect-src 'self'"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(head.contains("cache-control: no-store") && head.contains("x-content-type-options: nosniff"));
        assert!(body.starts_with("<!doctype html>"));
    }
    assert_eq!(server.get("x/latest").0, 404);
    let (status, _, body) = server.get(&format!("x/{}", id(0x77)));
    assert_eq!(status, 404, "{body}");
}

/// The seqs of all events or frames that a page has received.
fn seqs(messages: &[Value], name: &str) -> Vec<u64> {
    let members = messages.iter().flat_map(|message| message[name].as_array().unwrap());
    members.map(|member| member["seq"].as_u64().unwrap()).collect()
}

#[test]
fn an_execution_is_pushed_event_by_event_while_it_runs_and_whole_when_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    let id = id(3);
    let tasks = vec![task("a", &[]), task("b", &["a"])];
    let mut run = Recorder::start(&log, id, "moving", tasks, &[("in", "{\r\n\"x\": 1\n}")]);
    let server = serve(&directory.path().join("log"));
    let mut all = server.listen(&format!("x/{id}/events"));
    let mut late = server.listen(&format!("x/{id}/events?from=2"));
    let mut list = server.listen("events");
    assert_eq!(all.next("standing")["live"], true);
    let first = all.next("add");
    assert_eq!(seqs(std::slice::from_ref(&first), "events"), [0, 1]);
    assert_eq!(first["layouts"][0]["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(first["definitions"][0]["workflow"], "moving");
    let set = |key: &'static str| {
        move |context: &mut cloacina_engine::core::task_context::TaskContext| {
            context.set(key, json("1"));
            Ok(())
        }
    };
    run.begin("a", 0);
    let started = all.next("add");
    assert_eq!(started["frames"][0]["tasks"]["a"], serde_json::json!(["Running", 1, false]));
    run.wait(5).finish("a", set("rows"));
    run.run("b", 5, set("done"));
    let whole = all.next("whole");
    let history: Value = serde_json::from_str(whole["history"].as_str().unwrap()).unwrap();
    assert_eq!(history["execution"]["status"], "Completed");
    assert_eq!(history["events"].as_array().unwrap().len(), 9);
    let whole = late.next("whole");
    assert!(whole["report"].as_str().unwrap().contains("\"frames\""));
    let seen = list.until("executions", |message| message["executions"][0]["status"] == "Completed");
    assert!(seen.iter().all(|message| message["executions"][0]["id"] == id.to_string()));
}

/// A page that shows the end of an execution stays connected, and shows the retry and the next end.
#[test]
fn a_page_that_has_the_end_gets_the_retry_and_the_next_end() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    let id = id(3);
    let mut only = task("a", &[]);
    only.retry = cloacina_engine::core::retry::RetryPolicy::never();
    let mut run = Recorder::start(&log, id, "shaky", vec![only], &[]);
    run.run("a", 5, |_| Err(error("ValueError", "no")));
    let server = serve(&directory.path().join("log"));
    let mut page = server.listen(&format!("x/{id}/events"));
    let history = |whole: &Value| -> Value { serde_json::from_str(whole["history"].as_str().unwrap()).unwrap() };
    assert_eq!(history(&page.next("whole"))["execution"]["status"], "Failed");
    run.wait(5).retry();
    let retried = history(&page.next("whole"));
    assert_eq!(
        (retried["execution"]["status"].as_str(), retried["execution"]["retries"].as_u64()),
        (Some("Running"), Some(1))
    );
    run.run("a", 5, |_| Ok(()));
    let ended = history(&page.next("whole"));
    assert_eq!(ended["execution"]["status"], "Completed");
    assert_eq!(ended["events"].as_array().unwrap().len(), 8);
}

#[test]
fn a_page_stays_open_while_the_engine_goes_away_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let log = log_on_disk(directory.path());
    histories::completed(&log, id(1));
    let server = serve(&path);
    let mut list = server.listen("events");
    assert_eq!(list.next("standing")["live"], true);
    list.next("executions");
    log.0.close().unwrap();
    drop(log);
    let gone = list.next("standing");
    assert_eq!(gone["live"], false);
    assert!(gone["why"].as_str().unwrap().contains("no engine has the log open"), "{gone}");
    assert!(server.get("").2.contains("\"workflow\":\"etl\""), "what is there is still shown");
    let log = log_on_disk(directory.path());
    assert_eq!(list.next("standing")["live"], true);
    histories::failed(&log, id(2));
    let of_new = |message: &Value| {
        let executions = message["executions"].as_array().unwrap();
        executions.iter().any(|execution| execution["status"] == "Failed")
    };
    list.until("executions", of_new);
}

#[test]
fn a_log_that_nobody_has_is_copied_once_and_not_for_every_page() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    histories::completed(&log, id(1));
    log.0.close().unwrap();
    drop(log);
    let server = serve(&directory.path().join("log"));
    let mut list = server.listen("events");
    assert_eq!(list.next("standing")["live"], false);
    list.next("executions");
    for _ in 0..3 {
        assert_eq!(server.get("").0, 200);
    }
    // Reopening the log would resend the list. It was not reopened: the next message says that an engine has the log open.
    let log = log_on_disk(directory.path());
    let (kind, standing) = list.any();
    assert_eq!((&*kind, &standing["live"]), ("standing", &Value::Bool(true)));
    drop(log);
}

/// A value is erased while two pages show it: one made after the end of the execution, one before.
#[test]
fn what_is_erased_while_a_page_is_open_goes_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    let id = id(histories::COMPLETED);
    histories::completed(&log, id);
    let server = serve(&directory.path().join("log"));
    let records = log.0.stream(stream_of(id)).unwrap().records;
    let mut page = server.listen(&format!("x/{id}/events?from={records}"));
    assert_eq!(page.next("standing")["live"], true);
    let mut late = server.listen(&format!("x/{id}/events?from=2"));
    assert!(late.next("whole")["history"].as_str().unwrap().contains("12345678901234567890"));

    erase(&log, id, What::Key("rows".to_owned()), "case 311");
    for page in [&mut page, &mut late] {
        let (kind, whole) = page.any();
        let history = whole["history"].as_str().unwrap();
        assert_eq!(kind, "whole", "what the page had was all of it, so this is the first that it is told");
        assert!(history.contains("case 311") && !history.contains("12345678901234567890"), "{history}");
    }
    let erased = entries(&*log.0, id).filter(|entry| entry.as_ref().unwrap().erased.is_some()).count();
    // A new page has this erasure, and receives only the next one.
    let mut knows = server.listen(&format!("x/{id}/events?from=99&erased={erased}"));
    knows.next("standing");
    erase(&log, id, What::Key("request_id".to_owned()), "case 312");
    // The body is gone a moment before the log says why, so a page may first receive an erasure without a reason.
    while !knows.next("whole")["history"].as_str().unwrap().contains("case 312") {}
}

/// A log with one execution, which no engine has.
fn left(directory: &Path) -> std::path::PathBuf {
    let log = log_on_disk(directory);
    histories::completed(&log, id(1));
    log.0.close().unwrap();
    directory.join("log")
}

/// Waits until the server closes a connection, ignoring any data.
fn is_closed(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
    }
}

const FOR_EVER: Duration = Duration::from_secs(3_600);

/// Regression test: any user of the machine could lock the owner out by opening connections and sending half a request
/// on each. The server kept them for ever, without having seen the token.
#[test]
fn whoever_holds_connections_without_the_token_makes_place_for_the_owner() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { connections: 8, pages: 4, head: FOR_EVER, grace: Duration::ZERO };
    let server = serve_within(&left(directory.path()), limits);
    let mut list = server.listen("events");
    list.next("standing");
    let stranger = format!("POST /none/ HTTP/1.1\r\nHost: {}\r\n", server.host);
    let halves = [
        "",
        "G",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: x\r\nX: ",
        // Slow bodies: a complete head, and a body that never arrives.
        &format!("{stranger}Content-Length: 1000\r\n\r\n1"),
        &format!("{stranger}Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
        &format!("{stranger}Expect: 100-continue\r\nContent-Length: 9\r\n\r\n"),
    ];
    let mut held = Vec::new();
    for _ in 0..8 {
        held.extend(halves.iter().map(|half| server.send(half)));
        assert_eq!(server.get("").0, 200);
    }
    // The first ones were evicted; the event stream with the token was not.
    held[..40].iter_mut().for_each(is_closed);
    assert_eq!(server.get("").0, 200);
    let log = log_on_disk(directory.path());
    assert_eq!(list.next("standing")["live"], true);
    drop(log);
}

#[test]
fn a_head_that_does_not_come_and_a_connection_that_is_not_used_are_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { head: Duration::from_millis(50), ..Limits::default() };
    let server = serve_within(&left(directory.path()), limits);
    for half in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        is_closed(&mut server.send(half));
    }
    // With the token and keep-alive: after the response, the timeout for the next head applies.
    let mut kept = server.send(&format!("GET /{}/ HTTP/1.1\r\nHost: {}\r\n\r\n", server.token, server.host));
    let mut answer = String::new();
    kept.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // Without the token there is no keep-alive.
    let mut refused = server.send(&format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", server.host));
    let mut answer = String::new();
    refused.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("403") && answer.contains("connection: close"), "{answer}");
    // The timeout does not apply to an event stream.
    let mut list = server.listen("events");
    list.next("standing");
    let log = log_on_disk(directory.path());
    assert_eq!(list.next("standing")["live"], true);
    drop(log);
}

/// Tabs of a suspended browser keep listening and read nothing. The newest page, which the user sees, must be served.
#[test]
fn the_newest_page_is_served_however_many_listen_and_read_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { connections: 12, pages: 3, ..Limits::default() };
    let server = serve_within(&left(directory.path()), limits);
    let listen = format!("GET /{}/events HTTP/1.1\r\nHost: {}\r\n\r\n", server.token, server.host);
    let mut unread: Vec<TcpStream> = Vec::new();
    for _ in 0..20 {
        unread.push(server.send(&listen));
        let mut newest = server.listen("events");
        assert_eq!(newest.next("standing")["live"], false);
    }
    unread[..16].iter_mut().for_each(is_closed);
    assert_eq!(server.get("").0, 200);
}

/// The same in a process with few descriptors: after an error of `accept`, the server neither ends nor waits until
/// clients disconnect.
#[test]
fn a_server_that_has_no_descriptor_left_answers_on() {
    let directory = tempfile::tempdir().unwrap();
    let log = left(directory.path());
    let words = format!("ulimit -n 64; exec {} serve --log {}", env!("CARGO_BIN_EXE_replay"), log.display());
    let mut child = std::process::Command::new("sh")
        .args(["-c", &words])
        .env("XDG_STATE_HOME", directory.path().join("state"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let mut parts = url.trim().strip_prefix("http://").unwrap().split('/');
    let (host, token) = (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned());
    let server = Running { host, token, stop: None, thread: None };
    let held: Vec<TcpStream> = (0..90).map(|_| server.send("GET / HT")).collect();
    for _ in 0..3 {
        assert_eq!(server.get("").0, 200);
    }
    assert!(child.try_wait().unwrap().is_none());
    drop(held);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Regression test: the list said "Failed" without the reason.
#[test]
fn the_list_says_why_an_execution_failed_was_cancelled_or_is_paused() {
    let directory = tempfile::tempdir().unwrap();
    let log = log_on_disk(directory.path());
    histories::all_into(&log);
    // Attempts that are running at a pause end after it.
    let mut run = Recorder::start(&log, id(0x99), "held", vec![task("a", &[]), task("b", &["a"])], &[]);
    run.begin("a", 0).command(Command::Pause(Request { by: "ann".into(), reason: Some("until Monday".into()) }));
    run.wait(5).finish("a", |_| Ok(()));
    let server = serve(&directory.path().join("log"));
    let mut list = server.listen("events");
    let told = list.next("executions");
    let reason = |status: &str| {
        let mut all = told["executions"].as_array().unwrap().iter();
        all.find(|execution| execution["status"] == status).unwrap()["reason"].clone()
    };
    let failed = reason("Failed");
    assert!(failed.as_str().unwrap().contains(" failed, attempt "), "{failed}");
    assert!(reason("Cancelled").as_str().unwrap().starts_with("cancelled by "), "{}", reason("Cancelled"));
    assert_eq!(reason("Paused"), "paused by ann: until Monday");
    assert_eq!(reason("Completed"), Value::Null);
    let page = server.get("").2;
    let (_, after) = page.split_once("id=\"log\">").unwrap();
    let shown: Value = serde_json::from_str(after.split_once("</script>").unwrap().0).unwrap();
    assert_eq!(shown["executions"].as_array().unwrap().len(), told["executions"].as_array().unwrap().len());
    assert!(shown["executions"].as_array().unwrap().iter().any(|execution| execution["reason"] == failed));
}
