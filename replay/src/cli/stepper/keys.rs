//! The keys and what they do, for the footer and the help.

use crate::cli::text;

/// Keys, with a short and a long description.
struct Key {
    keys: &'static str,
    short: &'static str,
    long: &'static str,
}

const fn key(keys: &'static str, short: &'static str, long: &'static str) -> Key {
    Key { keys, short, long }
}

/// The keys in the order of the footer, which shows as many as fit.
const KEYS: [Key; 10] = [
    key("←/→", "event", "previous, next event (also h, l)"),
    key("shift ←/→", "task", "start of the previous, next task"),
    key("/", "filter", "show only events that contain a text"),
    key("w", "why", "show where the value of a key came from"),
    key("d", "step", "show what this event changed"),
    key("g", "graph", "show the graph at this event"),
    key("s", "state", "show all tasks and the context at this event"),
    key("home/end", "first, last", "first, last event"),
    key("↑/↓", "scroll", "scroll the panel on the right (also page up, page down)"),
    key("q", "quit", "quit (also Esc and Ctrl-C)"),
];

/// The end of the footer, which is always shown.
const ALWAYS: &str = "? help · q quit";

/// Returns the footer: as many keys as fit into `columns`, and always how to show all of them.
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

/// Returns the help: all keys, wrapped to `columns`.
pub fn help(columns: usize) -> Vec<String> {
    const KEYS_WIDTH: usize = 11;
    let mut lines = vec!["Keys".to_owned(), String::new()];
    for key in &KEYS {
        let mut names = text::pad(key.keys, KEYS_WIDTH);
        for words in text::wrap(key.long, columns.saturating_sub(KEYS_WIDTH).max(12)) {
            lines.push(format!("{names}{words}"));
            names = " ".repeat(KEYS_WIDTH);
        }
    }
    lines.push(String::new());
    lines.extend(text::wrap(
        "? or Esc closes this help. The first line is the shell command that prints the same.",
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
