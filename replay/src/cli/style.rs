//! Colours. They only emphasize what the text says.

/// Whether to colour text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether colours are on.
    pub on: bool,
}

/// The meaning of a text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// Success.
    Good,
    /// Failure.
    Bad,
    /// Something that deserves attention.
    Warning,
    /// Less important.
    Dim,
    /// The most important part.
    Strong,
}

impl Style {
    /// Returns the text in the colour of its tone.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warning => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        if self.on && !text.is_empty() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Returns the tone for the status of an execution or the state of a task.
#[must_use]
pub fn tone_of(name: &str) -> Tone {
    match name {
        "Completed" => Tone::Good,
        "Failed" | "Damaged" => Tone::Bad,
        "Paused" | "Cancelled" | "WaitingRetry" | "Deferred" | "Blocked" | "NotRunning" => Tone::Warning,
        "Skipped" | "Pending" => Tone::Dim,
        _ => Tone::Plain,
    }
}
