//! Converts JSON text to the stored JSON text in one pass, without Python values in between.
//!
//! The stored form is canonical: no spaces, the fewest escapes, integers and floats as Python writes them. The result
//! is identical, byte for byte, to parsing with [`crate::parse`] and serializing with [`crate::json`]. This fast path
//! reports no errors: for anything unusual (invalid text, duplicate keys, deep nesting) it returns `None`, and the
//! caller takes the slow path through Python values.

use std::ops::Range;

use pyo3::prelude::*;
use pyo3::types::PyFloat;

use crate::json::write_text;
use crate::scan::{Cursor, Number};

/// Deeper texts take the slow path.
const MAX_DEPTH: usize = 100;

/// Objects with more keys take the slow path: the search for duplicates is quadratic.
const MAX_KEYS: usize = 48;

/// Any decimal number with this many digits is the shortest text of its float (`DBL_DIG`).
const SAFE_DIGITS: usize = 15;

/// The members of a JSON object, with each value in its stored form. `None`: take the slow path.
pub fn members(py: Python<'_>, text: &str) -> Option<Vec<(String, String)>> {
    let mut scanner = Scanner::new(py, text, false);
    let mut members: Vec<(String, String)> = Vec::new();
    scanner.cursor.skip_space();
    scanner.consume(b'{')?;
    scanner.cursor.skip_space();
    if !scanner.cursor.take(b'}') {
        loop {
            scanner.cursor.skip_space();
            let key = scanner.plain_key()?.to_owned();
            if members.len() == MAX_KEYS || members.iter().any(|(other, _)| *other == key) {
                return None;
            }
            scanner.cursor.skip_space();
            scanner.consume(b':')?;
            scanner.value(1)?;
            members.push((key, std::mem::take(&mut scanner.out)));
            scanner.cursor.skip_space();
            if scanner.cursor.take(b'}') {
                break;
            }
            scanner.consume(b',')?;
        }
    }
    scanner.cursor.skip_space();
    scanner.cursor.is_at_end().then_some(members)
}

/// A stored value with the keys of its objects sorted. `None`: take the slow path.
pub fn sorted(py: Python<'_>, stored: &str) -> Option<String> {
    let mut scanner = Scanner::new(py, stored, true);
    scanner.out.reserve(stored.len());
    scanner.value(0)?;
    scanner.cursor.is_at_end().then_some(scanner.out)
}

struct Scanner<'a, 'py> {
    py: Python<'py>,
    cursor: Cursor<'a>,
    out: String,
    /// Whether the input is in stored form already, and keys are to be sorted.
    sort_keys: bool,
    /// The keys of the open objects, as ranges of the text, and where in `out` their members begin.
    keys: Vec<(Range<usize>, usize)>,
}

impl<'a, 'py> Scanner<'a, 'py> {
    fn new(py: Python<'py>, text: &'a str, sort_keys: bool) -> Self {
        Self { py, cursor: Cursor::new(text), out: String::new(), sort_keys, keys: Vec::new() }
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        self.cursor.skip_space();
        match self.cursor.peek()? {
            b'"' => self.string(),
            b'{' if depth < MAX_DEPTH => self.object(depth),
            b'[' if depth < MAX_DEPTH => self.list(depth),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    fn list(&mut self, depth: usize) -> Option<()> {
        self.cursor.at += 1;
        self.out.push('[');
        self.cursor.skip_space();
        if !self.cursor.take(b']') {
            loop {
                self.value(depth + 1)?;
                self.cursor.skip_space();
                if self.cursor.take(b']') {
                    break;
                }
                self.consume(b',')?;
                self.out.push(',');
            }
        }
        self.out.push(']');
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.cursor.at += 1;
        self.out.push('{');
        let (first, begin) = (self.keys.len(), self.out.len());
        self.cursor.skip_space();
        if !self.cursor.take(b'}') {
            loop {
                self.cursor.skip_space();
                let key = self.plain_key()?;
                let place = self.cursor.at - 1 - key.len()..self.cursor.at - 1;
                let siblings = &self.keys[first..];
                let is_there = |(other, _): &(Range<usize>, usize)| self.cursor.text.get(other.clone()) == Some(key);
                if siblings.len() == MAX_KEYS || siblings.iter().any(is_there) {
                    return None;
                }
                self.keys.push((place, self.out.len()));
                self.out.push('"');
                self.out.push_str(key);
                self.out.push_str("\":");
                self.cursor.skip_space();
                self.consume(b':')?;
                self.value(depth + 1)?;
                self.cursor.skip_space();
                if self.cursor.take(b'}') {
                    break;
                }
                self.consume(b',')?;
                self.out.push(',');
            }
        }
        if self.sort_keys {
            self.sort(first, begin);
        }
        self.keys.truncate(first);
        self.out.push('}');
        Some(())
    }

    /// Sorts the members that were written from `begin` on by key.
    fn sort(&mut self, first: usize, begin: usize) {
        let text = self.cursor.text;
        let key = |(place, _): &(Range<usize>, usize)| &text[place.clone()];
        let members = &self.keys[first..];
        if members.is_sorted_by_key(key) {
            return;
        }
        let ends = members[1..].iter().map(|(_, next)| next - 1).chain([self.out.len()]);
        let mut spans: Vec<(&str, Range<usize>)> =
            members.iter().zip(ends).map(|(member, end)| (key(member), member.1..end)).collect();
        spans.sort_unstable_by_key(|(key, _)| *key);
        let mut in_order = String::with_capacity(self.out.len() - begin);
        for (_, span) in spans {
            if !in_order.is_empty() {
                in_order.push(',');
            }
            in_order.push_str(&self.out[span]);
        }
        self.out.truncate(begin);
        self.out.push_str(&in_order);
    }

    /// Consumes a key without escapes, including its quotes.
    fn plain_key(&mut self) -> Option<&'a str> {
        self.consume(b'"')?;
        let start = self.cursor.at;
        self.cursor.skip_plain()?;
        let key = &self.cursor.text[start..self.cursor.at];
        self.consume(b'"')?;
        Some(key)
    }

    fn string(&mut self) -> Option<()> {
        let text = self.cursor.text;
        let mut from = self.cursor.at;
        self.cursor.at += 1;
        loop {
            match self.cursor.skip_plain()? {
                b'"' => break,
                b'\\' => match text.as_bytes().get(self.cursor.at + 1)? {
                    b'"' | b'\\' | b'n' | b'r' | b't' | b'b' | b'f' => self.cursor.at += 2,
                    b'/' | b'u' => {
                        self.out.push_str(&text[from..self.cursor.at]);
                        self.unescape()?;
                        from = self.cursor.at;
                    }
                    _ => return None,
                },
                _ => return None,
            }
        }
        self.cursor.at += 1;
        self.out.push_str(&text[from..self.cursor.at]);
        Some(())
    }

    /// Consumes an escape that has another stored form.
    fn unescape(&mut self) -> Option<()> {
        let char = self.cursor.escape()?;
        let quoted = self.out.len();
        write_text(&mut self.out, char.encode_utf8(&mut [0; 4]));
        self.out.pop();
        self.out.remove(quoted);
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let Number { text, whole, fraction, exponent } = self.cursor.number()?;
        match fraction {
            None if !exponent => {
                self.out.push_str(if text == "-0" { "0" } else { text });
                Some(())
            }
            Some(fraction) if self.sort_keys || (!exponent && is_shortest(text, whole, fraction)) => {
                self.out.push_str(text);
                Some(())
            }
            _ => self.float(text),
        }
    }

    /// Writes a float as Python does.
    fn float(&mut self, text: &str) -> Option<()> {
        let value: f64 = text.parse().ok().filter(|value: &f64| value.is_finite())?;
        let text = PyFloat::new(self.py, value).repr().ok()?;
        self.out.push_str(&text.to_string_lossy());
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.cursor.word(word).then_some(())?;
        self.out.push_str(word);
        Some(())
    }

    fn consume(&mut self, byte: u8) -> Option<()> {
        self.cursor.take(byte).then_some(())
    }
}

/// Whether a decimal number without an exponent is exactly what Python writes for its float: it has few enough digits
/// to be the shortest text, no trailing zeros, not many leading zeros (`1e-05`), and is not long (`1e+16`).
fn is_shortest(text: &str, whole: usize, fraction: usize) -> bool {
    if whole + fraction > SAFE_DIGITS || (fraction > 1 && text.ends_with('0')) {
        return false;
    }
    let digits = text.as_bytes();
    let (point, end) = (digits.len() - fraction, digits.len());
    let is_small = digits[point - 1 - whole..point - 1] == *b"0";
    let begins_with_zeros = digits[point..end.min(point + 4)].iter().all(|digit| *digit == b'0');
    !is_small || !begins_with_zeros || fraction == 1
}
