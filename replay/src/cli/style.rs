//! Colours. They never carry a meaning that the words do not.

/// Whether and how text is coloured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether it is.
    pub on: bool,
}

/// What a text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// It went well.
    Good,
    /// It went wrong.
    Bad,
    /// Something to look at.
    Warning,
    /// Less important.
    Dim,
    /// What to look at first.
    Strong,
}

impl Style {
    /// The text in the colour of its meaning.
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

/// The tone of a status or a task's state.
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
