//! The page: its program and style out of `replay/web/`, put together into one file that needs nothing else.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// The modules of the page's program, each after those that it imports from.
const MODULES: [(&str, &str); 16] = [
    ("dom.js", include_str!("../../web/dom.js")),
    ("raw.js", include_str!("../../web/raw.js")),
    ("words.js", include_str!("../../web/words.js")),
    ("model.js", include_str!("../../web/model.js")),
    ("canvas.js", include_str!("../../web/canvas.js")),
    ("placing.js", include_str!("../../web/placing.js")),
    ("graph.js", include_str!("../../web/graph.js")),
    ("timeline.js", include_str!("../../web/timeline.js")),
    ("lists.js", include_str!("../../web/lists.js")),
    ("value.js", include_str!("../../web/value.js")),
    ("inspector.js", include_str!("../../web/inspector.js")),
    ("slider.js", include_str!("../../web/slider.js")),
    ("header.js", include_str!("../../web/header.js")),
    ("live.js", include_str!("../../web/live.js")),
    ("log.js", include_str!("../../web/log.js")),
    ("main.js", include_str!("../../web/main.js")),
];

const STYLE: &str = include_str!("../../web/page.css");

/// Where a page is opened from, and so what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file: it asks nobody.
    File,
    /// Our own server, which it may ask.
    Server,
}

/// Writes a page with some JSON documents in it, each under its name.
///
/// The documents hold whatever tasks wrote. In a page they are text that is never run: `<` is written as `\u003c`, which
/// means the same in JSON, so that nothing in them can end the element that they are in. And the policy of the page lets
/// no script run but its own, whose hash it names.
///
/// # Errors
/// Whatever writing gives.
pub fn write(out: &mut dyn Write, place: Place, title: &str, documents: &[(&str, &[u8])]) -> io::Result<()> {
    let program = program();
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">", policy(place, &program))?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta name=\"color-scheme\" content=\"light dark\">")?;
    writeln!(out, "<meta name=\"referrer\" content=\"no-referrer\">")?;
    // Browsers ask a server for an icon unless the page has one.
    writeln!(out, "<link rel=\"icon\" href=\"data:,\">")?;
    writeln!(out, "<title>{} · replay</title>", escaped(title))?;
    writeln!(out, "<style>{STYLE}</style>\n</head>\n<body>")?;
    writeln!(
        out,
        "<noscript>This page shows an execution with a program of its own, which is not allowed here. The facts are in the page's source as JSON, and <code>replay ID</code> shows them in a terminal.</noscript>"
    )?;
    for (name, json) in documents {
        write!(out, "<script type=\"application/json\" id=\"{name}\">")?;
        write_inert(out, json)?;
        writeln!(out, "</script>")?;
    }
    writeln!(out, "<script type=\"module\">{program}</script>\n</body>\n</html>")
}

/// The policy of the pages of our own server, for the head of its answers.
#[must_use]
pub fn server_policy() -> String {
    policy(Place::Server, &program())
}

/// The policy of a page: nothing may be loaded, and nothing run but its own program.
fn policy(place: Place, program: &str) -> String {
    let asks = match place {
        Place::File => "",
        Place::Server => " connect-src 'self';",
    };
    format!(
        "default-src 'none';{asks} img-src data:; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        hash(program),
        hash(STYLE)
    )
}

fn hash(text: &str) -> String {
    use base64::Engine as _;
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
}

/// All modules as one: their names are unique, so what one exports the next can use as it is.
fn program() -> String {
    let mut program = String::from("\n");
    for (_, module) in MODULES {
        for line in module.lines().filter(|line| !line.starts_with("import ")) {
            program.push_str(line.strip_prefix("export ").unwrap_or(line));
            program.push('\n');
        }
    }
    program
}

fn write_inert(out: &mut dyn Write, json: &[u8]) -> io::Result<()> {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'<') {
        out.write_all(&rest[..at])?;
        out.write_all(b"\\u003c")?;
        rest = &rest[at + 1..];
    }
    out.write_all(rest)
}

/// A text as HTML. Control characters, which HTML cannot hold, are left out.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for letter in text.chars().filter(|letter| !letter.is_control()) {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            other => html.push(other),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_is_in_the_program_and_no_import_is_left() {
        let program = program();
        for (name, module) in MODULES {
            let last = module.lines().rev().find(|line| line.len() > 3).unwrap();
            assert!(program.contains(last.strip_prefix("export ").unwrap_or(last)), "{name}");
            for line in module.lines().filter(|line| line.starts_with("import ")) {
                assert!(line.ends_with(".js\";"), "{name}: an import is one line: {line}");
            }
        }
        assert!(!program.lines().any(|line| line.starts_with("import ") || line.starts_with("export ")));
        assert!(!program.contains("</script"), "it would end the element that it is in");
    }

    #[test]
    fn no_two_modules_give_the_same_name_to_something() {
        let mut names = std::collections::BTreeMap::new();
        for (module, text) in MODULES {
            for line in text.lines() {
                let line = line.strip_prefix("export ").unwrap_or(line);
                let line = line.strip_prefix("async ").unwrap_or(line);
                let Some((kind, rest)) = line.split_once(' ') else { continue };
                if !["function", "const", "let", "class"].contains(&kind) {
                    continue;
                }
                let end = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(rest.len());
                if let Some(other) = names.insert(rest[..end].to_owned(), module) {
                    panic!("`{}` is in {other} and in {module}", &rest[..end]);
                }
            }
        }
        assert!(names.len() > 20);
    }

    #[test]
    fn a_document_cannot_end_its_element() {
        let mut page = Vec::new();
        let hostile = br#"{"x":"</script><script>alert(1)</script><!--"}"#;
        write(&mut page, Place::File, "</title><script>", &[("history", hostile)]).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert_eq!(page.matches("<script").count(), 2, "the document and the program");
        assert!(page.contains(r#"{"x":"\u003c/script>"#));
        assert!(page.contains("&lt;/title&gt;&lt;script&gt;"));
    }
}
