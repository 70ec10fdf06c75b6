//! The exports are valid input for the other programs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::common::{self, histories, replay};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode};
use serde_json::Value;

const IDS: [&str; 9] =
    ["9f3ac101", "9f3ac102", "51b00003", "51b00004", "51b00005", "51b00006", "51b00007", "51b00008", "51b00009"];

fn exported(id: &str, to: &str) -> String {
    let ran = replay(&histories::all(), &format!("{id} export --to {to}"));
    assert_eq!(ran.code, 0, "{id} {to}: {}", ran.err);
    ran.out
}

/// Checks an event against the Trace Event Format: the members that each kind must have.
fn check_trace_event(event: &Value) {
    let has = |name: &str| event.get(name).is_some();
    let number = |name: &str| event[name].as_u64().is_some();
    assert!(event["name"].is_string() && number("pid") && number("tid") && number("ts"), "{event}");
    match event["ph"].as_str().unwrap() {
        "X" => assert!(number("dur") && event["cat"].is_string(), "{event}"),
        "s" => assert!(number("id") && event["cat"].is_string() && !has("dur"), "{event}"),
        "f" => assert!(number("id") && event["bp"] == "e" && !has("dur"), "{event}"),
        "i" => assert!(event["s"] == "g", "{event}"),
        "M" => {
            assert!(["process_name", "thread_name"].contains(&event["name"].as_str().unwrap()), "{event}");
            assert!(event["args"]["name"].is_string(), "{event}");
        }
        other => panic!("nobody asked for '{other}': {event}"),
    }
}

#[test]
fn a_trace_has_a_track_for_each_worker_and_every_arrow_joins_two_attempts() {
    for id in IDS {
        let trace: Value = serde_json::from_str(&exported(id, "chrome")).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        events.iter().for_each(check_trace_event);
        let of = |kind: &'static str| events.iter().filter(move |event| event["ph"] == kind);
        let track = |event: &Value| (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        let span = |event: &Value| {
            let begin = event["ts"].as_u64().unwrap();
            (begin, begin + event["dur"].as_u64().unwrap())
        };
        let named: BTreeSet<_> = of("M").filter(|event| event["name"] == "thread_name").map(track).collect();
        let mut tracks: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in of("X") {
            assert!(named.contains(&track(slice)), "{id}: {slice} lies on a track without a name");
            tracks.entry(track(slice)).or_default().push(span(slice));
        }
        // Slices of a track do not overlap: a worker runs one attempt at a time.
        for (track, slices) in &mut tracks {
            slices.sort_unstable();
            for pair in slices.windows(2) {
                // An attempt without duration is drawn one microsecond long.
                assert!(pair[0].1 <= pair[1].0 + 1, "{id}: two attempts at once on {track:?}");
            }
        }
        let mut arrows: HashMap<u64, Vec<&Value>> = HashMap::new();
        for end in of("s").chain(of("f")) {
            arrows.entry(end["id"].as_u64().unwrap()).or_default().push(end);
            let at = end["ts"].as_u64().unwrap();
            let slices = &tracks[&track(end)];
            assert!(slices.iter().any(|(begin, after)| (*begin..*after).contains(&at)), "{id}: {end} ends nowhere");
        }
        for ends in arrows.values() {
            let [from, to] = ends[..] else { panic!("{id}: an arrow has {} ends", ends.len()) };
            assert_eq!((from["ph"].as_str(), to["ph"].as_str()), (Some("s"), Some("f")), "{id}");
            assert!(from["ts"].as_u64() <= to["ts"].as_u64(), "{id}: an arrow goes back in time");
        }
    }
}

#[test]
fn dependencies_and_retries_are_arrows() {
    let arrows = |id: &str, kind: &str| {
        let trace: Value = serde_json::from_str(&exported(id, "chrome")).unwrap();
        let events = trace["traceEvents"].as_array().unwrap().clone();
        events.iter().filter(|event| event["ph"] == "s" && event["cat"] == kind).count()
    };
    assert_eq!((arrows("9f3ac101", "dependency"), arrows("9f3ac101", "retry")), (2, 0));
    assert_eq!((arrows("51b00003", "dependency"), arrows("51b00003", "retry")), (1, 2));
    assert_eq!(arrows("51b00006", "dependency"), 4);
}

fn spans(id: &str) -> (ExportTraceServiceRequest, Vec<Span>) {
    let request: ExportTraceServiceRequest = serde_json::from_str(&exported(id, "otlp")).unwrap();
    let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
    let spans = spans.cloned().collect();
    (request, spans)
}

#[test]
fn spans_are_decoded_by_opentelemetrys_own_types() {
    for id in IDS {
        let log = histories::all();
        let whole = cloacina_replay::ids::resolve(&*log.0, id).unwrap();
        let (request, spans) = spans(id);
        let resource = request.resource_spans[0].resource.as_ref().unwrap();
        assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.name"), "{id}");
        let known: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
        assert_eq!(known.len(), spans.len(), "{id}: two spans have one id");
        for (place, span) in spans.iter().enumerate() {
            assert_eq!((span.trace_id.as_slice(), span.span_id.len()), (&whole.0[..], 8), "{id}");
            assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{id}");
            assert_eq!(span.parent_span_id, if place == 0 { Vec::new() } else { spans[0].span_id.clone() }, "{id}");
            assert!(span.links.iter().all(|link| known.contains(&link.span_id)), "{id}: a link leads nowhere");
        }
    }
}

#[test]
fn a_failed_attempt_is_a_span_with_its_exception_and_a_link_to_the_one_before() {
    let (_, spans) = spans("51b00003");
    let load: Vec<&Span> = spans.iter().filter(|span| span.name == "load").collect();
    assert_eq!(load.len(), 3);
    let text = |span: &Span, key: &str| {
        let attributes = &span.events[0].attributes;
        let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone());
        match value.unwrap().value.unwrap() {
            Any::StringValue(text) => text,
            other => panic!("{other:?}"),
        }
    };
    for span in &load {
        assert_eq!(span.status.as_ref().unwrap().code, StatusCode::Error as i32);
        assert_eq!(span.events[0].name, "exception");
        assert_eq!(text(span, "exception.type"), "TimeoutError");
        assert_eq!(text(span, "exception.message"), "no answer from db01");
        assert!(text(span, "exception.stacktrace").starts_with("Traceback"));
    }
    let extract = spans.iter().find(|span| span.name == "extract").unwrap();
    assert_eq!(load[0].links[0].span_id, extract.span_id);
    assert_eq!(load[1].links[0].span_id, load[0].span_id);
    assert_eq!(load[0].start_time_unix_nano % 1_000, 0, "microseconds become nanoseconds");
}

/// Checks a run event and its facets against specification 2-0-2 of OpenLineage.
fn check_run_event(event: &Value) {
    let uri = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("https://"));
    let uuid = |value: &Value| {
        value.as_str().is_some_and(|text| text.parse::<cloacina_engine::core::event::ExecutionId>().is_ok())
    };
    let job =
        |value: &Value| value["namespace"].is_string() && value["name"].as_str().is_some_and(|name| !name.is_empty());
    let facet = |value: &Value| uri(&value["_producer"]) && uri(&value["_schemaURL"]);
    let known = ["eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"];
    assert!(event.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{event}");
    assert!(["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"].contains(&event["eventType"].as_str().unwrap()));
    assert!(event["eventTime"].as_str().is_some_and(|time| time.len() == 27 && time.ends_with('Z')), "{event}");
    assert!(uri(&event["producer"]), "{event}");
    assert_eq!(event["schemaURL"], "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent");
    assert!(uuid(&event["run"]["runId"]) && job(&event["job"]), "{event}");
    for data in event["inputs"].as_array().unwrap().iter().chain(event["outputs"].as_array().unwrap()) {
        assert!(job(data), "a dataset has a namespace and a name: {event}");
    }
    for (name, value) in event["run"]["facets"].as_object().unwrap() {
        assert!(facet(value), "{event}");
        match name.as_str() {
            "parent" => assert!(uuid(&value["run"]["runId"]) && job(&value["job"]), "{event}"),
            "errorMessage" => {
                assert!(value["message"].is_string() && value["programmingLanguage"] == "PYTHON", "{event}");
                assert!(value.get("stackTrace").is_none_or(Value::is_string), "{event}");
            }
            other => panic!("nobody asked for the facet '{other}'"),
        }
    }
}

fn run_events(id: &str) -> Vec<Value> {
    exported(id, "openlineage").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn each_run_of_openlineage_starts_once_and_ends_once() {
    for id in IDS {
        let events = run_events(id);
        events.iter().for_each(check_run_event);
        let mut runs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for event in &events {
            let (run, kind) = (event["run"]["runId"].as_str().unwrap(), event["eventType"].as_str().unwrap());
            runs.entry(run).or_default().push(kind);
        }
        for (run, kinds) in runs {
            match kinds[..] {
                ["START", "COMPLETE" | "FAIL" | "ABORT"] => {}
                ["START"] => assert_eq!(id, "51b00007", "{run}: only what still runs has no end"),
                ref other => panic!("{id}: the run {run} has {other:?}"),
            }
        }
        let times: Vec<&str> = events.iter().map(|event| event["eventTime"].as_str().unwrap()).collect();
        assert!(times.is_sorted(), "{id}");
    }
}

#[test]
fn what_a_task_read_and_wrote_are_its_datasets() {
    let events = run_events("9f3ac101");
    let done = events.iter().find(|event| event["job"]["name"] == "etl.extract" && event["eventType"] == "COMPLETE");
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|data| data["name"].as_str().unwrap().to_owned()).collect()
    };
    let done = done.unwrap();
    assert_eq!(
        (names(&done["inputs"]), names(&done["outputs"])),
        (vec!["etl.request_id".to_owned()], vec!["etl.rows".to_owned()])
    );
    assert_eq!(done["run"]["facets"]["parent"]["run"]["runId"], "01935f01-0000-7000-8000-00009f3ac101");
    let failed = run_events("51b00003");
    let failed: Vec<&Value> = failed.iter().filter(|event| event["eventType"] == "FAIL").collect();
    assert_eq!(failed.len(), 4, "three attempts and the execution");
    assert!(
        failed
            .iter()
            .all(|event| event["run"]["facets"]["errorMessage"]["message"] == "TimeoutError: no answer from db01")
    );
    assert!(failed.iter().all(|event| event["outputs"].as_array().unwrap().is_empty()), "without effect");
}

#[test]
fn jsonl_is_the_same_as_the_option() {
    let log = histories::all();
    assert_eq!(replay(&log, "51b00003 export --to jsonl").out, replay(&log, "51b00003 --jsonl").out);
}

#[test]
fn an_archive_takes_the_place_of_an_id_in_every_command() {
    use cloacina_store::{Options, open};
    use std::sync::Arc;
    let directory = tempfile::tempdir().unwrap();
    let log = common::Log(Arc::new(open(&directory.path().join("log.db"), &Options::default()).unwrap()));
    histories::all_into(&log);
    let run = |arguments: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_replay"));
        command.args(arguments.split_whitespace()).current_dir(directory.path());
        command.env_remove("CLOACA_LOG").env("XDG_STATE_HOME", directory.path().join("state"));
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run("51b00003 export --to archive -o failed.cloaca");
    assert_eq!((code, &*out), (Some(0), ""), "{err}");
    assert!(err.starts_with("wrote failed.cloaca (") && err.ends_with("hint: replay failed.cloaca\n"), "{err}");
    run("9f3ac101 export --to archive -o ok.cloaca");
    log.0.close().unwrap();
    std::fs::remove_dir_all(directory.path().join("log.db")).unwrap();
    for (arguments, expected, says) in [
        ("failed.cloaca", 0, "load failed, attempt 3 of 3: TimeoutError"),
        ("failed.cloaca why rows", 0, "written by extract, attempt 1"),
        ("failed.cloaca verify", 0, "17 of 17 records match their hashes"),
        ("./failed.cloaca explain load", 0, "load: Failed"),
        ("failed.cloaca graph", 0, "failed"),
        ("failed.cloaca --at 3", 0, "after seq 3"),
        ("diff failed.cloaca ok.cloaca", 1, "different workflows"),
        ("diff failed.cloaca failed.cloaca", 0, "same:"),
        ("list --log failed.cloaca", 0, "…51b00003"),
        ("nowhere.cloaca", 4, ""),
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!(code, Some(expected), "{arguments}: {out}{err}");
        assert!(out.contains(says), "{arguments}: {out}{err}");
    }
    let (_, _, err) = run("failed.cloaca");
    assert!(err.contains("hint: replay failed.cloaca explain load"), "{err}");
    let (code, _, err) = run("failed.cloaca export --to archive");
    assert_eq!(code, Some(2), "{err}");
}
