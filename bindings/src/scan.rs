//! A JSON tokenizer, for [`crate::parse`] and [`crate::canonical`].

/// A position in a JSON text. After a wrong token, it is before the first wrong byte.
pub struct Cursor<'a> {
    /// The complete text.
    pub text: &'a str,
    /// Index of the next byte.
    pub at: usize,
}

/// A number in a JSON text.
pub struct Number<'a> {
    /// Its text.
    pub text: &'a str,
    /// Number of digits before the point.
    pub whole: usize,
    /// Number of digits after the point, if there is one.
    pub fraction: Option<usize>,
    /// Whether it has an exponent.
    pub exponent: bool,
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// The next byte.
    pub fn peek(&self) -> Option<u8> {
        self.bytes().get(self.at).copied()
    }

    /// Whether the whole text is consumed.
    pub fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Skips white space.
    pub fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Consumes a byte if it is the next one. Returns whether it was.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// Skips white space, then does the same as [`Cursor::take`].
    pub fn take_after_space(&mut self, byte: u8) -> bool {
        self.skip_space();
        self.take(byte)
    }

    /// Consumes `true`, `false` or `null`, if it is next.
    pub fn word(&mut self, word: &str) -> bool {
        let found = self.bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Skips bytes of a string that are not escaped. Returns the byte after them: a quote, a backslash or a control
    /// character. `None` at the end of the text.
    pub fn skip_plain(&mut self) -> Option<u8> {
        let rest = &self.bytes()[self.at..];
        let length = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=31));
        self.at += length.unwrap_or(rest.len());
        self.peek()
    }

    /// Consumes an escape sequence and returns its character.
    pub fn escape(&mut self) -> Option<char> {
        let (char, length) = unescaped(self.text, self.at)?;
        self.at += length;
        Some(char)
    }

    /// Consumes a number.
    pub fn number(&mut self) -> Option<Number<'a>> {
        let start = self.at;
        self.take(b'-');
        let whole = self.digits();
        if whole == 0 || (whole > 1 && self.bytes()[self.at - whole] == b'0') {
            return None;
        }
        let fraction = if self.take(b'.') { Some(self.some_digits()?) } else { None };
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.some_digits()?;
        }
        Some(Number { text: &self.text[start..self.at], whole, fraction, exponent })
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn some_digits(&mut self) -> Option<usize> {
        Some(self.digits()).filter(|count| *count > 0)
    }
}

/// The character of the escape sequence at `at`, and the length of the sequence in bytes.
fn unescaped(text: &str, at: usize) -> Option<(char, usize)> {
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
