//! Every kind of JSON object conforms to the committed schema.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::{self, Altered, histories, replay, replay_with};
use cloacina_engine::core::codec::encode_schedule_event;
use cloacina_engine::core::event::Request;
use cloacina_engine::core::schedule::{
    Catchup, ScheduleCreated, ScheduleEnabled, ScheduleEvent, ScheduleFired, ScheduleSkipped, ScheduleUpdated,
    SkipCause,
};
use cloacina_store::checkpoint;
use cloacina_store::keeper::{Change, Keeper};
use cloacina_store::log::{Batch, EventLog, Frame, Listing, LogReader};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use serde_json::Value;

const SCHEMA: &str = include_str!("../schema/cloaca.replay-1.schema.json");

/// The keywords that this checker supports. Others in the schema would not be checked.
const WORDS: [&str; 17] = [
    "$schema",
    "$defs",
    "$ref",
    "title",
    "description",
    "type",
    "enum",
    "const",
    "minimum",
    "pattern",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "oneOf",
    "anyOf",
    "format",
];

/// Checks a value. The error names the place and what is wrong.
fn check(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    for word in schema.as_object().into_iter().flat_map(|schema| schema.keys()) {
        assert!(WORDS.contains(&word.as_str()), "the schema says '{word}', which is not checked");
    }
    let wrong = |what: &str| Err(format!("{place}: {what}: {value}"));
    if let Some(name) = schema["$ref"].as_str() {
        check(root, root.pointer(name.trim_start_matches('#')).expect(name), value, place)?;
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is_a(name, value)) {
        return wrong(&format!("is no {types:?}"));
    }
    if schema.get("const").is_some_and(|wanted| wanted != value) {
        return wrong("is another constant");
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return wrong("is none of the words");
    }
    let form = schema["pattern"].as_str().zip(value.as_str());
    if form.is_some_and(|(pattern, text)| !matches(pattern, text)) {
        return wrong("has another form");
    }
    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
        check(root, &schema["items"], item, &format!("{place}/{number}"))?;
    }
    members(root, schema, value, place)?;
    for (several, at_most) in [("oneOf", 1), ("anyOf", usize::MAX)] {
        if let Some(all) = schema[several].as_array() {
            let (fits, not): (Vec<_>, Vec<_>) =
                all.iter().map(|one| check(root, one, value, place)).partition(Result::is_ok);
            if fits.is_empty() || fits.len() > at_most {
                // Report the alternative that got furthest.
                let told =
                    not.into_iter().filter_map(Result::err).max_by_key(|told| told.split(':').next().map(str::len));
                return wrong(&format!("fits {} of {several}, {}", fits.len(), told.unwrap_or_default()));
            }
        }
    }
    Ok(())
}

fn members(root: &Value, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
    let Some(object) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !object.contains_key(name) {
            return Err(format!("{place}: has no '{name}'"));
        }
    }
    for (name, member) in object {
        match schema["properties"].get(name) {
            Some(part) => check(root, part, member, &format!("{place}/{name}"))?,
            None if schema["additionalProperties"] == Value::Bool(false) => {
                return Err(format!("{place}: has '{name}', of which the schema does not know"));
            }
            None => {}
        }
    }
    Ok(())
}

fn is_a(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        // Every integer of the schema has the minimum 0.
        "integer" => value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type '{other}'"),
    }
}

fn matches(pattern: &str, text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match pattern {
        "^[0-9a-f]{64}$" => text.len() == 64 && hex(text),
        "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$" => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(|part| hex(part))
        }
        "Z$|^-?[0-9]+ us$" => text.ends_with('Z') || text.ends_with(" us"),
        other => panic!("the pattern '{other}' is not checked"),
    }
}

pub fn holds(written: &str) -> Result<(), String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema");
    check(&schema, &schema, &serde_json::from_str(written).expect("JSON"), "")
}

const IDS: [&str; 9] =
    ["9f3ac101", "9f3ac102", "51b00003", "51b00004", "51b00005", "51b00006", "51b00007", "51b00008", "51b00009"];

#[test]
fn every_object_is_what_the_schema_says() {
    let log = histories::all();
    let mut lines = vec![
        "list --json".to_owned(),
        "9f3ac101 context rows --json".to_owned(),
        "9f3ac101 why loaded --json".to_owned(),
        "9f3ac102 why batch_1_result --json".to_owned(),
        "51b00006 why total --json".to_owned(),
        "51b00003 explain load --json".to_owned(),
        "51b00003 explain report --json".to_owned(),
        "51b00005 explain large --json".to_owned(),
        "51b00007 explain load --json".to_owned(),
    ];
    for id in IDS {
        for view in ["", " --at 0", " --at 4", " context", " verify", " graph", " graph --at 3"] {
            lines.push(format!("{id}{view} --json"));
        }
    }
    // All pairs: different workflows, failures, input, order.
    lines.extend(IDS.iter().flat_map(|a| IDS.iter().map(move |b| format!("diff {a} {b} --json"))));
    for line in lines {
        let ran = replay(&log, &line);
        assert!(ran.code == 0 || ran.code == 1 && line.starts_with("diff"), "{line}: {}", ran.err);
        holds(&ran.out).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn every_line_is_what_the_schema_says() {
    let log = histories::all();
    let mut lines: Vec<String> = IDS.iter().map(|id| format!("{id} --jsonl")).collect();
    lines.extend(["list --jsonl".to_owned(), "explain-error CL0016 --json".to_owned()]);
    for arguments in lines {
        let ran = replay(&log, &arguments);
        assert_eq!(ran.code, 0, "{arguments}: {}", ran.err);
        let written = if arguments.ends_with("--jsonl") { ran.out.lines().collect() } else { vec![&*ran.out] };
        for line in written {
            holds(line).unwrap_or_else(|error| panic!("{arguments}: {error}"));
        }
    }
}

/// Output about a log on disk and about files: `verify --all`, `doctor`, `report`, `export`, proofs.
#[test]
fn what_is_said_of_logs_and_files_is_what_the_schema_says() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/archive-v1");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let log = std::sync::Arc::new(cloacina_store::open(&path, &cloacina_store::Options::default()).expect("a log"));
    histories::all_into(&common::Log(log.clone()));
    let checkpoint = checkpoint::sign(&*log, &[7; 32], Timestamp(common::START)).expect("a checkpoint");
    log.change(Change::Sign(checkpoint.clone())).expect("a signed log");
    let signed = directory.path().join("checkpoint");
    std::fs::write(&signed, checkpoint.to_text()).expect("a file");
    let (signed, key) = (signed.display(), checkpoint::hex(&checkpoint.key));
    let (log_option, out) = (format!("--log {}", path.display()), directory.path().join("out"));
    let (out, golden) = (out.display(), golden.display());
    for line in [
        format!("verify --all {log_option}"),
        format!("doctor {log_option}"),
        format!("verify --all --log {golden}/three.cloaca"),
        format!("verify --proof {golden}/inclusion.json"),
        format!("verify --proof {golden}/erased.json"),
        format!("verify --proof {golden}/growth.json"),
        format!("9f3ac102 prove 4 {log_option}"),
        format!("9f3ac102 prove 4 --without-body {log_option}"),
        format!("prove --since {signed} {log_option}"),
        format!("verify --checkpoint {signed} {log_option}"),
        format!("verify --checkpoint {signed} --key {key} {log_option}"),
        format!("9f3ac101 report -o {out} {log_option}"),
        format!("9f3ac101 export --to chrome -o {out} {log_option}"),
        format!("9f3ac101 export --to archive -o {out}.cloaca {log_option}"),
    ] {
        let ran = replay_with(&cloacina_store::open_reader, None, &format!("{line} --json"));
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
        assert_eq!(ran.err, "", "{line}");
        holds(&ran.out).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn a_schedule_is_what_the_schema_says() {
    let log = histories::all();
    let request = Request { by: "ann".into(), reason: Some("holidays".into()) };
    let moment = cloacina_engine::core::time::Timestamp(common::START);
    let next = Some(moment);
    let skipped = |why| ScheduleEvent::Skipped(ScheduleSkipped { first: moment, until: moment, why, next });
    let (expression, timezone): (std::sync::Arc<str>, std::sync::Arc<str>) = ("@daily".into(), "UTC".into());
    let events = [
        ScheduleEvent::Created(ScheduleCreated {
            name: None,
            workflow: "nightly".into(),
            expression: expression.clone(),
            timezone: timezone.clone(),
            catchup: Catchup::RunAll,
            input: vec![("rows".into(), common::json("[1]"))],
            next,
        }),
        ScheduleEvent::Updated(ScheduleUpdated { expression, timezone, next: None }),
        ScheduleEvent::Disabled(request.clone()),
        ScheduleEvent::Enabled(ScheduleEnabled { request: request.clone(), next }),
        ScheduleEvent::Fired(ScheduleFired { scheduled: moment, execution: common::id(1), next }),
        skipped(SkipCause::Missed),
        skipped(SkipCause::LimitReached { limit: 7 }),
        ScheduleEvent::Deleted(request),
    ];
    let frame = Frame {
        stream: StreamId::from_bytes(common::id(0x5c4e_d001).0),
        kind: StreamKind::Schedule,
        expected_seq: 0,
        time: Timestamp(common::START),
        bodies: events.iter().map(encode_schedule_event).collect(),
        listing: Listing::Open(Vec::new()),
    };
    log.0.append(Batch { definitions: Vec::new(), frames: vec![frame] }).expect("a schedule");
    let ran = replay(&log, "5c4ed001 --json");
    assert_eq!(ran.code, 0, "{}", ran.err);
    holds(&ran.out).unwrap_or_else(|error| panic!("{error}"));
}

/// The output of `serve` for programs that start it: its address.
#[test]
fn where_a_log_is_served_is_what_the_schema_says() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = cloacina_store::open(&directory.path().join("log"), &cloacina_store::Options::default()).expect("a log");
    let mut child = Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(["serve", "--json", "--log", "log"])
        .current_dir(directory.path())
        .env("XDG_STATE_HOME", directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a server");
    // The process keeps running, so parse only the first JSON value.
    let out = child.stdout.take().expect("its output");
    let written = serde_json::Deserializer::from_reader(out).into_iter::<Value>().next();
    child.kill().expect("it still serves");
    child.wait().expect("it ends");
    let written = written.expect("an object").expect("JSON");
    assert_eq!((&written["what"], &written["log"]), (&Value::from("serve"), &Value::from("log")));
    holds(&written.to_string()).unwrap_or_else(|error| panic!("{error}"));
    log.close().expect("it closes");
}

#[test]
fn what_is_broken_is_what_the_schema_says_too() {
    let log = histories::all();
    let open = move |_: &Path| {
        let altered = Altered(log.clone(), |mut records| {
            records.retain(|record| record.seq != 5);
            records
        });
        Ok(Box::new(altered) as Box<dyn LogReader>)
    };
    let ran = replay_with(&open, None, "9f3ac101 verify --json");
    assert_eq!(ran.code, 5, "{}", ran.err);
    holds(&ran.out).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_schema_takes_no_other_object() {
    let written = replay(&histories::all(), "51b00003 --json").out;
    assert_eq!(holds(&written), Ok(()));
    for (from, to) in [
        ("cloaca.replay/1", "cloaca.replay/2"),
        ("\"outcome\":\"failed\"", "\"outcome\":\"broken\""),
        ("\"trouble\":null,", ""),
        ("\"worker\":0", "\"worker\":-1"),
        ("\"event\":\"TaskSkipped\"", "\"event\":\"TaskStarted\""),
        ("\"attempt\":2", "\"attempt\":2,\"more\":1"),
    ] {
        let altered = written.replace(from, to);
        assert_ne!(written, altered, "{from}");
        assert!(holds(&altered).is_err(), "{from} became {to}");
    }
}
