//! Parses JSON text to Python values. Integers of any size become an int; numbers with a point or an exponent become
//! the nearest float.

use std::str::FromStr;

use num_bigint::BigInt;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};

use crate::scan::Cursor;

/// Deeper texts are rejected, to bound the use of the stack.
const MAX_DEPTH: usize = crate::json::MAX_DEPTH + 8;

/// Parses a JSON text.
pub fn to_python<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let mut parser = Parser { py, cursor: Cursor::new(text), depth: 0, keys: Vec::new() };
    let value = parser.value()?;
    parser.cursor.skip_space();
    if parser.cursor.is_at_end() { Ok(value) } else { Err(parser.unexpected()) }
}

struct Parser<'a, 'py> {
    py: Python<'py>,
    cursor: Cursor<'a>,
    depth: usize,
    /// Cache of keys, indexed by hash: objects in a list usually have the same keys.
    keys: Vec<Option<(&'a str, Bound<'py, PyString>)>>,
}

/// Size of the key cache.
const CACHED_KEYS: usize = 128;

/// Longest key that is cached, in bytes.
const LONGEST_CACHED: usize = 64;

impl<'a, 'py> Parser<'a, 'py> {
    fn value(&mut self) -> PyResult<Bound<'py, PyAny>> {
        self.cursor.skip_space();
        match self.cursor.peek() {
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
        self.cursor.at += 1;
        let value = inside(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let dict = PyDict::new(self.py);
        if self.cursor.take_after_space(b'}') {
            return Ok(dict.into_any());
        }
        loop {
            self.cursor.skip_space();
            if self.cursor.peek() != Some(b'"') {
                return Err(self.unexpected());
            }
            let key = self.key()?;
            self.consume(b':')?;
            dict.set_item(key, self.value()?)?;
            if self.cursor.take_after_space(b'}') {
                return Ok(dict.into_any());
            }
            self.consume(b',')?;
        }
    }

    fn list(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let mut items = Vec::new();
        if !self.cursor.take_after_space(b']') {
            loop {
                items.push(self.value()?);
                if self.cursor.take_after_space(b']') {
                    break;
                }
                self.consume(b',')?;
            }
        }
        Ok(PyList::new(self.py, items)?.into_any())
    }

    /// Parses a key. Repeated keys reuse one Python object, which is created and hashed once.
    fn key(&mut self) -> PyResult<Bound<'py, PyString>> {
        let start = self.cursor.at + 1;
        let bytes = self.cursor.text.as_bytes();
        let length = bytes[start..].iter().take(LONGEST_CACHED).position(|byte| matches!(byte, b'"' | b'\\' | 0..=31));
        let Some(length) = length.filter(|length| bytes[start + length] == b'"') else { return self.text() };
        let text = &self.cursor.text[start..start + length];
        let hash = text.bytes().fold(length, |hash, byte| (hash ^ byte as usize).wrapping_mul(0x0100_0193));
        if self.keys.is_empty() {
            self.keys = vec![None; CACHED_KEYS];
        }
        self.cursor.at = start + length + 1;
        let place = &mut self.keys[hash % CACHED_KEYS];
        match place {
            Some((kept, key)) if *kept == text => Ok(key.clone()),
            _ => {
                let key = PyString::new(self.py, text);
                *place = Some((text, key.clone()));
                Ok(key)
            }
        }
    }

    /// Parses a string, from the opening quote past the closing one.
    fn text(&mut self) -> PyResult<Bound<'py, PyString>> {
        self.cursor.at += 1;
        let mut unescaped = None;
        let mut from = self.cursor.at;
        loop {
            match self.cursor.skip_plain() {
                Some(b'"') => break,
                Some(b'\\') => {
                    let out: &mut String = unescaped.get_or_insert_default();
                    out.push_str(&self.cursor.text[from..self.cursor.at]);
                    out.push(self.escape()?);
                    from = self.cursor.at;
                }
                _ => return Err(self.unexpected()),
            }
        }
        let rest = &self.cursor.text[from..self.cursor.at];
        self.cursor.at += 1;
        Ok(match unescaped {
            None => PyString::new(self.py, rest),
            Some(mut out) => {
                out.push_str(rest);
                PyString::new(self.py, &out)
            }
        })
    }

    fn escape(&mut self) -> PyResult<char> {
        if let Some(char) = self.cursor.escape() {
            return Ok(char);
        }
        if self.cursor.text.as_bytes().get(self.cursor.at + 1) != Some(&b'u') {
            return Err(self.unexpected());
        }
        let place = self.place();
        Err(PyValueError::new_err(format!("not JSON: invalid \\u escape at character {place}")))
    }

    fn number(&mut self) -> PyResult<Bound<'py, PyAny>> {
        let number = self.cursor.number().ok_or_else(|| self.unexpected())?;
        let is_integer = number.fraction.is_none() && !number.exponent;
        if is_integer { integer_of(self.py, number.text) } else { float_of(self.py, number.text) }
    }

    fn word(&mut self, word: &str) -> PyResult<()> {
        if self.cursor.word(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn consume(&mut self, byte: u8) -> PyResult<()> {
        if self.cursor.take_after_space(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn place(&self) -> usize {
        self.cursor.text.get(..self.cursor.at).map_or(self.cursor.at, |before| before.chars().count()) + 1
    }

    fn unexpected(&self) -> PyErr {
        let found = self.cursor.text.get(self.cursor.at..).and_then(|rest| rest.chars().next());
        let found = found.map_or_else(|| "the end of the text".to_owned(), |char| format!("{char:?}"));
        PyValueError::new_err(format!("not JSON: unexpected {found} at character {}", self.place()))
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
        return Err(PyValueError::new_err(format!("a number in the JSON text is larger than any float: {text}")));
    }
    Ok(PyFloat::new(py, value).into_any())
}
