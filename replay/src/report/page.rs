//! The HTML page: bundles the scripts and styles of `replay/web/` into one self-contained file.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// The JavaScript modules, each after its imports.
const MODULES: [(&str, &str); 16] = [
    ("dom.js", include_str!("../../web/dom.js")),
    ("raw.js", include_str!("../../web/raw.js")),
    ("words.js", include_str!("../../web/words.js")),
    ("model.js", include_str!("../../web/model.js")),
    ("canvas.js", include_str!("../../web/canvas.js")),
    ("layout.js", include_str!("../../web/layout.js")),
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

/// Where a page is loaded from, which decides what it may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file. The page may make no requests.
    File,
    /// `replay serve`. The page may send requests to it.
    Server,
}

/// Writes a page that embeds JSON documents, each under its name.
///
/// The documents contain values that tasks wrote, which must never run as code. `<` is written as `\u003c`, the same in
/// JSON, so that nothing in a document can close its element. In addition, the page's content security policy allows no
/// script except its own, by hash.
///
/// # Errors
/// I/O errors of `out`.
pub fn write(out: &mut dyn Write, origin: Origin, title: &str, documents: &[(&str, &[u8])]) -> io::Result<()> {
    let program = program();
    writeln!(out, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">", policy(origin, &program))?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<meta name=\"color-scheme\" content=\"light dark\">")?;
    writeln!(out, "<meta name=\"referrer\" content=\"no-referrer\">")?;
    // Without an icon in the page, browsers request one from the server.
    writeln!(out, "<link rel=\"icon\" href=\"data:,\">")?;
    writeln!(out, "<title>{} · replay</title>", escaped(title))?;
    writeln!(out, "<style>{STYLE}</style>\n</head>\n<body>")?;
    writeln!(
        out,
        "<noscript>This page needs JavaScript, which is disabled here. The page's source contains all data as JSON, and <code>replay ID</code> shows it in a terminal.</noscript>"
    )?;
    for (name, json) in documents {
        write!(out, "<script type=\"application/json\" id=\"{name}\">")?;
        write_inert(out, json)?;
        writeln!(out, "</script>")?;
    }
    writeln!(out, "<script type=\"module\">{program}</script>\n</body>\n</html>")
}

/// Returns the content security policy of served pages, for the response header.
#[must_use]
pub fn server_policy() -> String {
    policy(Origin::Server, &program())
}

/// Returns a page's content security policy: it may load nothing, and run only its own script.
fn policy(origin: Origin, program: &str) -> String {
    let connect = match origin {
        Origin::File => "",
        Origin::Server => " connect-src 'self';",
    };
    format!(
        "default-src 'none';{connect} img-src data:; script-src '{}'; style-src '{}'; base-uri 'none'; form-action 'none'",
        hash(program),
        hash(STYLE)
    )
}

fn hash(text: &str) -> String {
    use base64::Engine as _;
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
}

/// Concatenates all modules, without imports and exports. That works because their top-level names are unique.
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

/// Escapes text for HTML. Removes control characters, which HTML cannot contain.
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
        write(&mut page, Origin::File, "</title><script>", &[("history", hostile)]).unwrap();
        let page = String::from_utf8(page).unwrap();
        assert_eq!(page.matches("<script").count(), 2, "the document and the program");
        assert!(page.contains(r#"{"x":"\u003c/script>"#));
        assert!(page.contains("&lt;/title&gt;&lt;script&gt;"));
    }
}
