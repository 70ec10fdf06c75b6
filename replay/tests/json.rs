//! The JSON output: the same facts as the screen, values verbatim, and parsed back.

use crate::common::{histories, replay};
use cloacina_replay::history::History;
use cloacina_replay::ids::resolve;
use cloacina_replay::moment::At;
use cloacina_replay::reading::stream_of;

const ALL: [&str; 9] =
    ["9f3ac101", "9f3ac102", "51b00003", "51b00004", "51b00005", "51b00006", "51b00007", "51b00008", "51b00009"];

/// Removes hashes, which depend on random salts.
fn without_hashes(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(place) = ["\"previous\":\"", "\"hash\":\"", "\"head\":\""]
        .iter()
        .filter_map(|name| rest.find(name).map(|at| at + name.len()))
        .min()
    {
        kept.push_str(&rest[..place]);
        kept.push('…');
        rest = &rest[place + 64..];
    }
    kept + rest
}

macro_rules! json {
    ($name:ident, $arguments:expr) => {
        #[test]
        fn $name() {
            let ran = replay(&histories::all(), $arguments);
            let value: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
            assert_eq!(value["format"], "cloaca.replay/1");
            insta::assert_snapshot!(without_hashes(&ran.to_string()));
        }
    };
}

json!(completed, "9f3ac101 --json");
json!(list, "list --json --limit 2");
json!(state, "51b00007 --at 5 --json");
json!(context, "9f3ac101 context --json");
json!(value, "9f3ac101 context rows --json");
json!(verify, "9f3ac101 verify --json");
json!(why, "9f3ac101 why loaded --json");
json!(explain, "51b00003 explain report --json");

#[test]
fn values_are_the_text_that_was_written() {
    let out = replay(&histories::all(), "9f3ac101 --json").out;
    assert!(out.contains(r#"[{"id": 12345678901234567890, "price": 1.10, "net": 1e2}]"#));
}

#[test]
fn what_was_written_reads_back_as_the_same_history() {
    let log = histories::all();
    for id in ALL {
        let id = resolve(&*log.0, id).unwrap();
        let history = History::open(&*log.0, id).unwrap();
        let text = history.to_json().unwrap();
        let back = History::from_json(&text).unwrap();
        assert_eq!(back.entries, history.entries);
        assert_eq!(back.head.label, history.head.label);
        assert_eq!(back.to_json().unwrap(), text);
        let (then, now) = (history.state(At::End).unwrap(), back.state(At::End).unwrap());
        assert_eq!(then.status(), now.status());
        let values =
            |state: &cloacina_engine::core::state::Execution| cloacina_engine::core::context::digest(&state.context());
        assert_eq!(values(&then), values(&now));
    }
}

#[test]
fn lines_read_back_as_the_same_history() {
    let log = histories::all();
    for id in ALL {
        let written = replay(&log, &format!("{id} --jsonl")).out;
        let history = History::open(&*log.0, resolve(&*log.0, id).unwrap()).unwrap();
        let back = History::from_json(&written).unwrap();
        assert_eq!(back.entries, history.entries);
        assert_eq!(back.graphs.keys().collect::<Vec<_>>(), history.graphs.keys().collect::<Vec<_>>());
        assert_eq!(back.diff(&history, &[]).first, None);
    }
    let cut = replay(&log, &format!("{} --jsonl --at 4", ALL[0])).out;
    assert_eq!(History::from_json(&cut).unwrap().entries.len(), 5);
}

#[test]
fn the_command_line_writes_what_the_library_does() {
    let log = histories::all();
    let id = resolve(&*log.0, "51b00004").unwrap();
    let written = replay(&log, "51b00004 --json").out;
    let back = History::from_json(&written).unwrap();
    assert_eq!(back.entries, History::open(&*log.0, id).unwrap().entries);
    assert_eq!(back.head.entry.records, log.0.stream(stream_of(id)).unwrap().records);
}

#[test]
fn another_format_is_refused() {
    let text = replay(&histories::all(), "9f3ac101 --json").out.replace("cloaca.replay/1", "cloaca.replay/2");
    let error = History::from_json(&text).unwrap_err();
    assert_eq!(error.to_string(), "this has the format 'cloaca.replay/2', not 'cloaca.replay/1'");
}

#[test]
fn an_altered_definition_is_refused() {
    let text = replay(&histories::all(), "9f3ac101 --json").out;
    let altered = text.replace(r#""max_attempts":3"#, r#""max_attempts":4"#);
    assert_ne!(text, altered);
    assert!(History::from_json(&altered).unwrap_err().to_string().contains("a definition has the fingerprint"));
}
