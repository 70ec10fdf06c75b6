//! Formats text, numbers and values for a terminal.

use std::fmt::Write as _;

use cloacina_engine::core::json::Json;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

pub use crate::words::span;

/// Returns the width of a text in columns.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// Formats a number of bytes.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", (bytes + 500) / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Formats a count with its noun: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Escapes control characters, so that the text cannot move the cursor or change colours.
#[must_use]
pub fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' => clean.push_str("\\n"),
            '\t' => clean.push_str("\\t"),
            '\r' => clean.push_str("\\r"),
            letter if letter.is_control() || is_bidi(letter) => {
                let _ = write!(clean, "\\u{{{:x}}}", u32::from(letter));
            }
            letter => clean.push(letter),
        }
    }
    clean
}

/// Returns whether a character changes the writing direction.
fn is_bidi(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to at most `columns`; `…` replaces the rest.
#[must_use]
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 1;
    for letter in text.chars() {
        used += letter.width().unwrap_or(0);
        if used > columns {
            break;
        }
        kept.push(letter);
    }
    kept.push('…');
    kept
}

/// Pads a text with spaces on the right, to `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Pads a text with spaces on the left, to `columns`.
#[must_use]
pub fn pad_left(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{}{text}", " ".repeat(missing))
}

/// Wraps a text into lines of at most `columns`, at spaces if possible. Returns at least one line.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        for (place, part) in parts(word, columns).into_iter().enumerate() {
            let gap = usize::from(place == 0 && used > 0);
            if place > 0 || used + gap + width(part) > columns && used > 0 {
                lines.push(part.to_owned());
                used = width(part);
            } else if let Some(line) = lines.last_mut() {
                line.push_str(&" "[..gap]);
                line.push_str(part);
                used += gap + width(part);
            }
        }
    }
    lines
}

/// Splits a word into parts of at most `columns`.
fn parts(word: &str, columns: usize) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut begin, mut used) = (0, 0);
    for (place, letter) in word.char_indices() {
        let next = letter.width().unwrap_or(0);
        if used + next > columns && place > begin {
            parts.push(&word[begin..place]);
            (begin, used) = (place, 0);
        }
        used += next;
    }
    parts.push(&word[begin..]);
    parts
}

/// Formats the size of a value, or that it was erased.
#[must_use]
pub fn value_size(value: &Json) -> String {
    if value.is_erased() { value.to_string() } else { size(value.as_str().len() as u64) }
}

/// Returns a note if a value is large, ` (12 KB)`, or was erased; otherwise an empty string.
#[must_use]
pub fn size_note(value: Option<&Json>) -> String {
    match value {
        Some(value) if value.is_erased() => format!(" ({value})"),
        Some(value) if value.as_str().len() >= 1_000 => format!(" ({})", size(value.as_str().len() as u64)),
        _ => String::new(),
    }
}

/// Formats a value in at most `columns`, and returns whether it was cut. A cut value is followed by its size.
#[must_use]
pub fn value(value: &Json, columns: usize) -> (String, bool) {
    // Look only at the beginning: the value may be long.
    let begin = clean(&value.as_str().chars().take(columns + 1).collect::<String>());
    if begin.len() >= value.as_str().len() && width(&begin) <= columns {
        return (begin, false);
    }
    let note = format!("… ({})", size(value.as_str().len() as u64));
    let room = columns.saturating_sub(width(&note)).max(8);
    let kept = cut(&begin, room + 1);
    (format!("{}{note}", kept.trim_end_matches('…')), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wraps_at_spaces_and_within_long_words() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("a abcdefgh b", 4), ["a", "abcd", "efgh", "b"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn a_cut_value_says_how_long_it_is() {
        let long = Json::from_serializer("\"abcdefghijklmnopqrstuvwxyz\"");
        assert_eq!(value(&long, 40), ("\"abcdefghijklmnopqrstuvwxyz\"".to_owned(), false));
        assert_eq!(value(&long, 20), ("\"abcdefghijk… (28 B)".to_owned(), true));
    }

    #[test]
    fn spans_and_sizes() {
        let shown = [0, 2_000, 99_499, 410_000, 3_420_000, 125_000_000, 3_720_000_000, 200_000_000_000].map(span);
        assert_eq!(shown, ["0.000 s", "0.002 s", "0.099 s", "0.41 s", "3.42 s", "2 min 05 s", "1 h 02 min", "2 d 8 h"]);
        // What is rounded up to the next unit is written in that.
        let shown = [499, 500, 99_500, 99_994_999, 99_995_000, 3_599_500_000, 172_770_000_000, u64::MAX].map(span);
        let written =
            ["0.000 s", "0.001 s", "0.10 s", "99.99 s", "1 min 40 s", "1 h 00 min", "2 d 0 h", "213503982 d 8 h"];
        assert_eq!(shown, written);
        assert_eq!([999, 1_000, 12_300, 1_250_000].map(size), ["999 B", "1 KB", "12 KB", "1.2 MB"]);
    }

    #[test]
    fn nothing_can_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2J\n\u{202e}b"), "a\\u{1b}[2J\\n\\u{202e}b");
    }
}
