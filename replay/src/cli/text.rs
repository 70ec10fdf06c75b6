//! Words, numbers and values as text for a terminal.

use std::fmt::Write as _;

use cloacina_engine::core::json::Json;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How many columns a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// A span of microseconds.
#[must_use]
pub fn span(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    match micros {
        0..100_000 => format!("{}.{:03} s", seconds, micros / 1_000),
        100_000..100_000_000 => format!("{}.{:02} s", seconds, micros / 10_000 % 100),
        100_000_000..3_600_000_000 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3_600_000_000..172_800_000_000 => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A number of bytes.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} KB", (bytes + 500) / 1_000),
        1_000_000..1_000_000_000 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// A count with its noun: `1 event`, `2 events`.
#[must_use]
pub fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A text that cannot move the cursor or change colours: control characters are written out.
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

/// Marks that make a terminal write in the other direction.
fn is_bidi(letter: char) -> bool {
    matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The beginning of a text, so that it takes at most `columns`; `…` stands for the rest.
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

/// A text with spaces behind it, so that it takes `columns`.
#[must_use]
pub fn pad(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}

/// A text with spaces before it, so that it takes `columns`.
#[must_use]
pub fn pad_left(text: &str, columns: usize) -> String {
    let missing = columns.saturating_sub(width(text));
    format!("{}{text}", " ".repeat(missing))
}

/// A text in lines of at most `columns`, broken at spaces where it has some. At least one line.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.len() - 1;
        let used = width(&lines[line]);
        if used > 0 && used + 1 + width(word) > columns {
            lines.push(word.to_owned());
        } else {
            if used > 0 {
                lines[line].push(' ');
            }
            lines[line].push_str(word);
        }
    }
    lines
}

/// The size of a value, where it is worth saying: ` (12 KB)`.
#[must_use]
pub fn size_note(value: Option<&Json>) -> String {
    match value {
        Some(value) if value.as_str().len() >= 1_000 => format!(" ({})", size(value.as_str().len() as u64)),
        _ => String::new(),
    }
}

/// A value in at most `columns`. If it was cut, with its size behind it.
#[must_use]
pub fn value(value: &Json, columns: usize) -> (String, bool) {
    // A long value is not gone through as a whole for its first line.
    let mut text = clean(&value.as_str().chars().take(columns + 1).collect::<String>());
    if text.len() >= value.as_str().len() && width(&text) <= columns {
        return (text, false);
    }
    let note = format!(" ({})", size(value.as_str().len() as u64));
    text = cut(&format!("{text} "), columns.saturating_sub(width(&note)).max(8));
    (format!("{text}{note}"), true)
}
