//! Options of commands: every option in a command's help has an effect, and every other one is refused.

use std::collections::BTreeSet;

use crate::common::{self, Log, Ran, histories, replay};
use cloacina_engine::core::codec::encode_standing;
use cloacina_engine::core::standing::Standing;
use cloacina_engine::core::time::Timestamp;
use cloacina_replay::cli::arguments::Arguments;
use cloacina_replay::reading::stream_of;

/// For each option in the help of each command: a command line without it, and the option to add. Adding it must change
/// the output, the messages, or the exit code. Entries with `!` at the end need a terminal, a file or a process, and
/// are tested elsewhere.
const CHANGES: &[(&str, &str, &str, &str)] = &[
    ("", "full", "9f3ac102", "--full"),
    ("", "values", "9f3ac102", "--values"),
    ("", "at", "9f3ac102", "--at 3"),
    ("", "log", "9f3ac102", "--log other"),
    ("", "json", "9f3ac102", "--json"),
    ("", "jsonl", "9f3ac102", "--jsonl"),
    ("", "follow", "9f3ac102", "--follow"),
    ("", "interactive", "9f3ac102", "-i"),
    ("", "time", "9f3ac102", "--time utc"),
    ("", "color", "9f3ac102", "--color always"),
    ("list", "status", "list", "--status failed"),
    ("list", "workflow", "list", "--workflow etl"),
    ("list", "since", "list", "--since 1s"),
    ("list", "limit", "list", "--limit 1"),
    ("list", "log", "list", "--log other"),
    ("list", "json", "list", "--json"),
    ("list", "jsonl", "list", "--jsonl"),
    ("list", "time", "list", "--time relative"),
    ("list", "color", "list", "--color always"),
    ("context", "at", "9f3ac102 context", "--at 0"),
    ("context", "log", "9f3ac102 context", "--log other"),
    ("context", "json", "9f3ac102 context", "--json"),
    ("context", "time", "51b00007 context", "--time relative"),
    ("context", "color", "9f3ac102 context", "--color always"),
    ("why", "at", "9f3ac101 why rows", "--at 0"),
    ("why", "log", "9f3ac101 why rows", "--log other"),
    ("why", "json", "9f3ac101 why rows", "--json"),
    ("why", "time", "9f3ac101 why rows", "--time utc"),
    ("why", "color", "9f3ac101 why rows", "--color always"),
    ("explain", "at", "9f3ac101 explain load", "--at 0"),
    ("explain", "log", "9f3ac101 explain load", "--log other"),
    ("explain", "json", "9f3ac101 explain load", "--json"),
    ("explain", "time", "9f3ac101 explain load", "--time utc"),
    ("explain", "color", "9f3ac101 explain load", "--color always"),
    ("graph", "format", "9f3ac101 graph", "--format dot"),
    ("graph", "critical_path", "9f3ac101 graph", "--critical-path"),
    ("graph", "at", "9f3ac101 graph", "--at 0"),
    ("graph", "log", "9f3ac101 graph", "--log other"),
    ("graph", "json", "9f3ac101 graph", "--json"),
    ("graph", "time", "51b00007 graph", "--time relative"),
    ("graph", "color", "9f3ac101 graph", "--color always"),
    ("report", "output", "9f3ac101 report", "-o -"),
    ("report", "log", "9f3ac101 report -o -", "--log other"),
    ("report", "json", "9f3ac101 report!", "-o FILE --json"),
    ("serve", "port", "serve!", "--port 0"),
    ("serve", "log", "serve!", "--log PATH"),
    ("serve", "json", "serve!", "--json"),
    ("diff", "ignore", "diff A B!", "--ignore order,attempts,time"),
    ("diff", "log", "diff 9f3ac101 9f3ac102", "--log other"),
    ("diff", "json", "diff 9f3ac101 9f3ac102", "--json"),
    ("diff", "color", "diff 9f3ac101 51b00003", "--color always"),
    ("export", "to", "9f3ac101 export", "--to jsonl"),
    ("export", "output", "9f3ac101 export --to jsonl!", "-o FILE"),
    ("export", "log", "9f3ac101 export --to jsonl", "--log other"),
    ("export", "json", "9f3ac101 export --to jsonl!", "-o FILE --json"),
    ("explain-error", "json", "explain-error CL0001", "--json"),
    ("verify", "all", "verify", "--all"),
    ("verify", "checkpoint", "verify", "--checkpoint FILE"),
    ("verify", "proof", "verify", "--proof FILE"),
    ("verify", "key", "verify", "--key 00"),
    ("verify", "log", "9f3ac101 verify", "--log other"),
    ("verify", "json", "9f3ac101 verify", "--json"),
    ("verify", "time", "51b00007 verify", "--time relative"),
    ("verify", "color", "9f3ac101 verify", "--color always"),
    ("doctor", "log", "doctor", "--log other"),
    ("doctor", "json", "doctor!", "--json"),
    ("doctor", "time", "doctor!", "--time utc"),
    ("doctor", "color", "doctor!", "--color always"),
    ("prove", "since", "prove", "--since FILE"),
    ("prove", "checkpoint", "9f3ac101 prove 0", "--checkpoint FILE"),
    ("prove", "without_body", "9f3ac101 prove 0!", "--without-body"),
    ("prove", "log", "9f3ac101 prove 0", "--log other"),
    ("prove", "json", "9f3ac101 prove 0!", "--json"),
];

/// For each command, a command line that is valid until something is added.
const LINES: &[(&str, &str)] = &[
    ("list", "list"),
    ("context", "9f3ac101 context"),
    ("why", "9f3ac101 why rows"),
    ("explain", "9f3ac101 explain load"),
    ("graph", "9f3ac101 graph"),
    ("report", "9f3ac101 report -o -"),
    ("serve", "serve"),
    ("diff", "diff 9f3ac101 9f3ac102"),
    ("export", "9f3ac101 export --to jsonl"),
    ("explain-error", "explain-error CL0001"),
    ("verify", "9f3ac101 verify"),
    ("doctor", "doctor"),
    ("prove", "9f3ac101 prove 0"),
];

/// The options in the help of a command, by name.
fn shown(command: &clap::Command) -> BTreeSet<String> {
    let mut command = command.clone();
    command.build();
    let options = command.get_arguments().filter(|one| !one.is_positional() && !one.is_hide_set());
    let names = options.map(|option| option.get_id().to_string());
    names.filter(|name| name != "help" && name != "version").collect()
}

/// Every command with the options of its help: `""` is `replay ID`.
fn commands() -> Vec<(String, BTreeSet<String>)> {
    let mut line = Arguments::line();
    line.build();
    let own = (String::new(), shown(&line));
    let others = line.get_subcommands().map(|command| (command.get_name().to_owned(), shown(command)));
    std::iter::once(own).chain(others).collect()
}

/// Many histories; the one that ends in 51b00007 waits for its next attempt.
fn logs() -> Log {
    let log = histories::all();
    let until = Timestamp(common::START + 3_600_000_000);
    let waiting = Standing::waiting_for_retry(&"extract".into(), until);
    log.0.post(stream_of(common::id(histories::RUNNING)), Some(encode_standing(&waiting).into()));
    log
}

fn said(ran: &Ran) -> String {
    ran.to_string()
}

fn is_refused(ran: &Ran, option: &str, command: &str) -> bool {
    ran.code == 2 && ran.err.contains(&format!("`--{option}` cannot be used with `{command}`"))
}

/// Regression test: `-i`, `--full` and others were in the help of commands that ignored them.
#[test]
fn every_option_in_a_help_has_a_meaning_that_is_known() {
    let known: BTreeSet<(String, String)> =
        CHANGES.iter().map(|(command, option, ..)| ((*command).to_owned(), (*option).to_owned())).collect();
    let offered: BTreeSet<(String, String)> = commands()
        .into_iter()
        .flat_map(|(command, options)| options.into_iter().map(move |option| (command.clone(), option)))
        .collect();
    let strange: Vec<_> = offered.symmetric_difference(&known).collect();
    assert!(strange.is_empty(), "in a help, or in the table, but not in both: {strange:?}");
}

#[test]
fn every_option_in_a_help_changes_something() {
    let log = logs();
    let elsewhere = |line: &str| line.ends_with('!');
    let mut inert = Vec::new();
    for (command, option, line, added) in CHANGES.iter().filter(|(_, _, line, _)| !elsewhere(line)) {
        let (without, with) = (replay(&log, line), replay(&log, &format!("{line} {added}")));
        if said(&without) == said(&with) || with.err.contains("cannot be used with") {
            inert.push(format!("{command} --{option}: {line} {added}"));
        }
    }
    assert!(inert.is_empty(), "these change nothing: {inert:#?}");
}

/// Options that are only in the help of `replay` itself are refused in any position.
#[test]
fn every_other_option_is_refused_in_words() {
    let log = histories::all();
    let typed = |option: &str| match option {
        "at" => "--at 3".to_owned(),
        "log" => "--log other".to_owned(),
        "time" => "--time utc".to_owned(),
        "color" => "--color auto".to_owned(),
        other => format!("--{other}"),
    };
    let commands = commands();
    let (_, every) = &commands[0];
    for (command, offered) in &commands[1..] {
        let Some((_, line)) = LINES.iter().find(|(known, _)| known == command) else { panic!("no line for {command}") };
        for option in every.difference(offered) {
            let before = replay(&log, &format!("{} {line}", typed(option)));
            assert!(is_refused(&before, option, command), "{} {line}: {before}", typed(option));
            assert!(before.err.contains("\n\nhint: replay "), "{before}");
            let behind = replay(&log, &format!("{line} {}", typed(option)));
            let is_unknown = behind.code == 2 && behind.err.contains("unexpected argument");
            assert!(is_unknown || is_refused(&behind, option, command), "{line} {}: {behind}", typed(option));
        }
    }
}

#[test]
fn options_that_do_nothing_together_are_refused() {
    let log: Log = histories::all();
    for (line, option) in [
        ("9f3ac101 -i --json", "interactive"),
        ("9f3ac101 -i --follow", "interactive"),
        ("9f3ac101 -i --at 3", "at"),
        ("9f3ac101 -i --full", "full"),
        ("9f3ac101 -i --values", "values"),
        ("9f3ac101 -i --color never", "color"),
        ("9f3ac101 --follow --json", "json"),
        ("9f3ac101 --follow --at 3", "at"),
        ("9f3ac101 --follow --full", "full"),
        ("9f3ac101 --values --at 3", "values"),
        ("9f3ac101 graph --format dot --json", "json"),
        ("9f3ac101 report -o - --json", "json"),
        ("9f3ac101 export --to chrome --json", "json"),
        ("verify --proof FILE --log other", "log"),
    ] {
        let ran = replay(&log, line);
        assert!(ran.code == 2 && ran.err.contains(&format!("`--{option}` cannot be used with ")), "{line}: {ran}");
    }
    assert_eq!(replay(&log, "9f3ac101 graph --format json --json").code, 0, "the same twice");
}
