//! The keys: what each does, in the line at the bottom and in the help.

use crate::cli::text;

/// A key, what it does in a word or two, and in a sentence.
struct Key {
    keys: &'static str,
    short: &'static str,
    does: &'static str,
}

const fn key(keys: &'static str, short: &'static str, does: &'static str) -> Key {
    Key { keys, short, does }
}

/// In the order in which the line at the bottom names them as far as there is room.
const KEYS: [Key; 10] = [
    key("←/→", "event", "the event before, after (also h, l)"),
    key("shift ←/→", "task", "the start of the task before, after"),
    key("/", "filter", "show only events that contain a text"),
    key("w", "why", "where the value of a key came from"),
    key("d", "step", "what this event changed"),
    key("g", "graph", "the graph at this event"),
    key("s", "state", "all tasks and the context at this event"),
    key("home/end", "first, last", "the first, last event"),
    key("↑/↓", "scroll", "scroll what is on the right (also page up, page down)"),
    key("q", "quit", "leave (also Esc and Ctrl-C)"),
];

/// What the line always ends with.
const ALWAYS: &str = "? help · q quit";

/// The keys in a line of so many columns: as many as fit, and always how to see all of them.
pub fn footer(columns: usize) -> String {
    let mut line = String::new();
    for key in KEYS.iter().filter(|key| key.keys != "q") {
        let longer = format!("{line}{} {} · ", key.keys, key.short);
        if text::width(&longer) + text::width(ALWAYS) > columns {
            break;
        }
        line = longer;
    }
    text::cut(&format!("{line}{ALWAYS}"), columns)
}

/// All keys, in lines of so many columns.
pub fn help(columns: usize) -> Vec<String> {
    const NAMES: usize = 11;
    let mut lines = vec!["Keys".to_owned(), String::new()];
    for key in &KEYS {
        let mut names = text::pad(key.keys, NAMES);
        for words in text::wrap(key.does, columns.saturating_sub(NAMES).max(12)) {
            lines.push(format!("{names}{words}"));
            names = " ".repeat(NAMES);
        }
    }
    lines.push(String::new());
    lines.extend(text::wrap(
        "? or Esc closes this help. The first line is the shell command for what is shown.",
        columns,
    ));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_fits_at_every_width_and_names_the_help() {
        for columns in 15..200 {
            let line = footer(columns);
            assert!(text::width(&line) <= columns, "{columns}: {line}");
            assert!(line.ends_with(ALWAYS), "{columns}: {line}");
        }
        assert!(footer(80).contains("/ filter") && footer(60).contains("shift ←/→ task"), "{}", footer(60));
        assert!(KEYS.iter().all(|key| footer(200).contains(key.short)));
    }

    #[test]
    fn the_help_fits_at_every_width() {
        for columns in 30..120 {
            assert!(help(columns).iter().all(|line| text::width(line) <= columns), "{columns}: {:?}", help(columns));
        }
    }
}
