//! From JSON text to Python values: every integer as an int of its size, everything with a point or an exponent as the
//! nearest float.

use std::str::FromStr;

use num_bigint::BigInt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

/// Deeper texts are refused: whoever wrote them, they must not exhaust the stack.
const MAX_DEPTH: usize = crate::json::MAX_DEPTH + 8;

/// The value of a JSON text.
pub fn to_python<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let mut parser = Parser { py, text, bytes: text.as_bytes(), at: 0, depth: 0, keys: Vec::new() };
    let value = parser.value()?;
    parser.space();
    if parser.at < text.len() { Err(parser.unexpected()) } else { Ok(value) }
}

struct Parser<'a, 'py> {
    py: Python<'py>,
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Keys that were met, each in the place that its text gives: objects in a list have the same ones.
    keys: Vec<Option<(&'a str, Bound<'py, PyString>)>>,
}

/// How many keys are kept.
const KEPT_KEYS: usize = 128;

/// Longer keys are not.
const LONGEST_KEPT: usize = 64;

impl<'a, 'py> Parser<'a, 'py> {
    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        self.space();
        match self.bytes.get(self.at) {
            Some(b'"') => Ok(self.text()?.into_any()),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true").map(|()| PyBool::new(self.py, true).to_owned().into_any()),
            Some(b'f') => self.word("false").map(|()| PyBool::new(self.py, false).to_owned().into_any()),
            Some(b'n') => self.word("null").map(|()| self.py.None().into_bound(self.py)),
            _ => Err(self.unexpected()),
        }
    }

    fn nested(&mut self, inside: impl FnOnce(&mut Self) -> PyResult<Bound<'py, PyAny>>) -> PyResult<Bound<'py, PyAny>> {
        if self.depth >= MAX_DEPTH {
            return Err(PyValueError::new_err(format!("the JSON text is nested deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        self.at += 1;
        let value = inside(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        if self.take_after_space(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            self.space();
            if self.bytes.get(self.at) != Some(&b'"') {
                return Err(self.unexpected());
            }
            let key = self.key()?;
            self.expect(b':')?;
            dict.set_item(key, self.value()?)?;
            if self.take_after_space(b'}') {
                return Ok(dict.into_any());
            }
            self.expect(b',')?;
        }
    }

    fn list(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let mut items = Vec::new();
        if !self.take_after_space(b']') {
            loop {
                items.push(self.value()?);
                if self.take_after_space(b']') {
                    break;
                }
                self.expect(b',')?;
            }
        }
        Ok(PyList::new(self.py, items)?.into_any())
    }

    /// A key. One that was met before is the same object: it is made and hashed once.
    fn key(&mut self) -> PyResult<Bound<'py, PyString>> {
        let start = self.at + 1;
        let length =
            self.bytes[start..].iter().take(LONGEST_KEPT).position(|byte| matches!(byte, b'"' | b'\\' | 0..=31));
        let Some(length) = length.filter(|length| self.bytes[start + length] == b'"') else { return self.text() };
        let text = &self.text[start..start + length];
        let hash = text.bytes().fold(length, |hash, byte| (hash ^ byte as usize).wrapping_mul(0x0100_0193));
        if self.keys.is_empty() {
            self.keys = vec![None; KEPT_KEYS];
        }
        self.at = start + length + 1;
        let place = &mut self.keys[hash % KEPT_KEYS];
        match place {
            Some((kept, key)) if *kept == text => Ok(key.clone()),
            _ => {
                let key = PyString::new(self.py, text);
                *place = Some((text, key.clone()));
                Ok(key)
            }
        }
    }

    /// From the opening quote past the closing one.
    fn text(&mut self) -> PyResult<Bound<'py, PyString>> {
        self.at += 1;
        let start = self.at;
        let mut unescaped = None;
        let mut from = start;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    let out: &mut String = unescaped.get_or_insert_default();
                    out.push_str(&self.text[from..self.at]);
                    let escaped = self.escape()?;
                    out.push(escaped);
                    from = self.at;
                }
                Some(0..=31) | None => return Err(self.unexpected()),
                Some(_) => self.at += 1,
            }
        }
        let rest = &self.text[from..self.at];
        self.at += 1;
        Ok(match unescaped {
            None => PyString::new(self.py, rest),
            Some(mut out) => {
                out.push_str(rest);
                PyString::new(self.py, &out)
            }
        })
    }

    fn escape(&mut self) -> PyResult<char> {
        if let Some((char, length)) = unescaped(self.text, self.at) {
            self.at += length;
            return Ok(char);
        }
        if self.bytes.get(self.at + 1) != Some(&b'u') {
            return Err(self.unexpected());
        }
        let place = self.place();
        Err(PyValueError::new_err(format!("not JSON: no Unicode character is written like that, at character {place}")))
    }

    fn number(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let start = self.at;
        self.take(b'-');
        let digits = self.digits();
        if digits == 0 || (digits > 1 && self.bytes[self.at - digits] == b'0') {
            return Err(self.unexpected());
        }
        let mut integer = true;
        if self.take(b'.') {
            integer = false;
            if self.digits() == 0 {
                return Err(self.unexpected());
            }
        }
        if self.take(b'e') || self.take(b'E') {
            integer = false;
            if !self.take(b'+') {
                self.take(b'-');
            }
            if self.digits() == 0 {
                return Err(self.unexpected());
            }
        }
        let text = &self.text[start..self.at];
        if integer { integer_of(self.py, text) } else { float_of(self.py, text) }
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.bytes.get(self.at), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn word(&mut self, word: &str) -> PyResult<()> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.unexpected());
        }
        self.at += word.len();
        Ok(())
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(there);
        there
    }

    fn take_after_space(&mut self, byte: u8) -> bool {
        self.space();
        self.take(byte)
    }

    fn expect(&mut self, byte: u8) -> PyResult<()> {
        if self.take_after_space(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn place(&self) -> usize {
        self.text.get(..self.at).map_or(self.at, |before| before.chars().count()) + 1
    }

    fn unexpected(&self) -> PyErr {
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        let found = found.map_or_else(|| "the end of the text".to_owned(), |char| format!("{char:?}"));
        PyValueError::new_err(format!("not JSON: unexpected {found} at character {}", self.place()))
    }
}

/// The character that an escape at this place of the text stands for, and how many bytes the escape has.
pub fn unescaped(text: &str, at: usize) -> Option<(char, usize)> {
    let plain = match text.as_bytes().get(at + 1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unescaped_unicode(text, at),
        _ => return None,
    };
    Some((plain, 2))
}

fn unescaped_unicode(text: &str, at: usize) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4)?;
        digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
    };
    match unit(at + 2)? {
        high @ 0xD800..=0xDBFF => {
            let paired = text.get(at + 6..at + 8) == Some("\\u");
            let low = paired.then(|| unit(at + 8)).flatten().filter(|unit| (0xDC00..0xE000).contains(unit))?;
            Some((char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))?, 12))
        }
        code => Some((char::from_u32(code)?, 6)),
    }
}

fn integer_of<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    if let Ok(small) = text.parse::<i64>() {
        return Ok(PyInt::new(py, small).into_any());
    }
    // Not `int(text)`: Python refuses to read integers of more than 4,300 digits.
    let big = BigInt::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(big.into_pyobject(py)?.into_any())
}

fn float_of<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let value = f64::from_str(text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    if value.is_infinite() {
        return Err(PyValueError::new_err(format!("not a JSON value here: {text} is larger than any float")));
    }
    Ok(PyFloat::new(py, value).into_any())
}
