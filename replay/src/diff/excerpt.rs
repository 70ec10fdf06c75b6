//! Excerpts of two long texts around their first difference.

use cloacina_engine::core::json::Json;
use unicode_width::UnicodeWidthChar;

/// How many characters before the difference are shown.
const BEFORE: usize = 12;

/// Excerpts of two texts that both include the first difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpts {
    /// The excerpt of the text in A.
    pub a: String,
    /// The excerpt of the text in B.
    pub b: String,
    /// The first character that differs, from 0; `None` if both texts are shown from their beginning.
    pub at: Option<usize>,
}

impl Excerpts {
    /// Returns ` (from character 900 on)`, or nothing if the texts are shown from their beginning.
    #[must_use]
    pub fn place(&self) -> String {
        self.at.map(|at| format!(" (from character {at} on)")).unwrap_or_default()
    }
}

/// Cuts two values, as JSON, to `columns` each. Strings keep their quotes, with `…` inside them for what is cut.
#[must_use]
pub fn values(a: &Json, b: &Json, columns: usize) -> Excerpts {
    if let (Some(one), Some(other)) = (string(a), string(b)) {
        let found = between(&one, &other, columns.saturating_sub(2), json_of);
        return Excerpts { a: format!("\"{}\"", found.a), b: format!("\"{}\"", found.b), at: found.at };
    }
    texts(a.as_str(), b.as_str(), columns)
}

/// Cuts two texts to `columns` each.
#[must_use]
pub fn texts(a: &str, b: &str, columns: usize) -> Excerpts {
    between(a, b, columns, |letter| letter.to_string())
}

/// Returns the text of a JSON string; `None` for any other value.
fn string(json: &Json) -> Option<String> {
    if !json.as_str().starts_with('"') {
        return None;
    }
    serde_json::from_str(json.as_str()).ok()
}

/// Returns a character as it is written in a JSON string.
fn json_of(letter: char) -> String {
    let quoted = serde_json::Value::from(letter.to_string()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

fn between(a: &str, b: &str, columns: usize, shown: impl Fn(char) -> String) -> Excerpts {
    let columns = columns.max(2 * BEFORE);
    let same = a.chars().zip(b.chars()).take_while(|(one, other)| one == other).count();
    // Differences near the beginning are shown from the beginning.
    let near = width_of(a.chars().take(same + BEFORE), columns, &shown).is_some()
        && width_of(b.chars().take(same + BEFORE), columns, &shown).is_some();
    let first = if near { 0 } else { begin(a, same) };
    let cut = |text: &str| excerpt(text, first, columns, &shown);
    Excerpts { a: cut(a), b: cut(b), at: (first > 0).then_some(same) }
}

/// Returns where an excerpt begins: a little before the character at `same`, but not at a combining mark.
fn begin(text: &str, same: usize) -> usize {
    let mut first = same.saturating_sub(BEFORE);
    let before: Vec<char> = text.chars().take(first + 1).collect();
    while first > 0 && before.get(first).is_some_and(|letter| letter.width() == Some(0)) {
        first -= 1;
    }
    first
}

/// Returns the width of characters in columns; `None` if it exceeds `room`.
fn width_of(letters: impl Iterator<Item = char>, room: usize, shown: &impl Fn(char) -> String) -> Option<usize> {
    let mut used = 0;
    for letter in letters {
        used += width(&shown(letter));
        if used > room {
            return None;
        }
    }
    Some(used)
}

fn width(text: &str) -> usize {
    text.chars().map(|letter| letter.width().unwrap_or(1)).sum()
}

/// Returns the text from the character `first` on, in at most `columns`, with `…` for what is cut on either side.
fn excerpt(text: &str, first: usize, columns: usize, shown: &impl Fn(char) -> String) -> String {
    let mut kept = if first > 0 { "…".to_owned() } else { String::new() };
    let mut used = width(&kept);
    let mut letters = text.chars().skip(first).peekable();
    while let Some(letter) = letters.next() {
        let piece = shown(letter);
        used += width(&piece);
        let mark = usize::from(letters.peek().is_some());
        if used + mark > columns {
            kept.push('…');
            break;
        }
        kept.push_str(&piece);
    }
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking too")]

    use super::*;

    fn json(text: &str) -> Json {
        Json::from(serde_json::Value::from(text))
    }

    /// Regression test: texts that differ at character 900 were both cut at 40, and looked the same.
    #[test]
    fn the_place_that_differs_is_in_both_excerpts() {
        let long = "x".repeat(900);
        let found = values(&json(&format!("{long}LEFT")), &json(&format!("{long}RIGHT")), 40);
        assert_eq!((&*found.a, &*found.b), ("\"…xxxxxxxxxxxxLEFT\"", "\"…xxxxxxxxxxxxRIGHT\""));
        assert_eq!((found.at, &*found.place()), (Some(900), " (from character 900 on)"));
        let more = "y".repeat(900);
        let found = values(&json(&format!("{long}L{more}")), &json(&format!("{long}R{more}")), 40);
        assert!(found.a.starts_with("\"…xxxxxxxxxxxxLyy") && found.a.ends_with("y…\""), "{}", found.a);
        assert!(width(&found.a) <= 40, "{}", found.a);
    }

    #[test]
    fn what_is_seen_from_the_beginning_is_shown_from_there() {
        let found = values(&json("left"), &json("right"), 40);
        assert_eq!((&*found.a, &*found.b, found.at), ("\"left\"", "\"right\"", None));
        let tail = "z".repeat(90);
        let found = values(&json(&format!("left{tail}")), &json(&format!("right{tail}")), 40);
        assert!(found.at.is_none() && found.a.starts_with("\"leftzz") && found.a.ends_with("…\""), "{}", found.a);
    }

    /// One text may be the beginning of the other one.
    #[test]
    fn a_text_that_goes_on_differs_where_the_other_one_ends() {
        let long = "x".repeat(100);
        let found = texts(&long, &format!("{long} and on"), 40);
        assert_eq!((&*found.a, &*found.b), ("…xxxxxxxxxxxx", "…xxxxxxxxxxxx and on"));
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for pad in 895..905 {
            let long = "é".repeat(pad);
            // A letter with a mark that is a character of its own, a wide one, one outside of the first plane, a quote.
            for (one, other) in [("e\u{301}", "e\u{302}"), ("日", "月"), ("👩\u{200d}🚀", "👩\u{200d}🔬"), ("\"", "\n")]
            {
                let found = values(&json(&format!("{long}{one}!")), &json(&format!("{long}{other}!")), 40);
                for (side, letter) in [(&found.a, one), (&found.b, other)] {
                    let text: String = serde_json::from_str(side).unwrap();
                    assert!(text.starts_with("…é") && text.ends_with(&format!("{letter}!")), "{side}");
                }
            }
        }
    }

    #[test]
    fn numbers_and_lists_are_compared_as_they_are_written() {
        let (one, other) = (format!("1{}", "0".repeat(80)), format!("1{}1", "0".repeat(79)));
        let found = values(&Json::parse(&one).unwrap(), &Json::parse(&other).unwrap(), 30);
        assert_eq!((&*found.a, &*found.b), ("…0000000000000", "…0000000000001"));
    }
}
