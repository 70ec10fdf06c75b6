//! The error codes with explanations: what each error means and what to do. `replay explain-error CL0016` prints one.

/// The explanation of an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    /// The number of the code: `16` is displayed as `CL0016`.
    pub number: u16,
    /// A short title.
    pub title: &'static str,
    /// What the error means, and what to do.
    pub text: &'static str,
}

macro_rules! errors {
    ($($name:ident = $number:literal, $title:literal, $text:literal;)*) => {
        /// The numbers. They are part of the documented interface, and are never reused.
        pub mod number {
            $(#[doc = $title] pub const $name: u16 = $number;)*
        }

        /// All explanations, ordered by number.
        pub const ALL: &[ErrorInfo] = &[$(ErrorInfo { number: $number, title: $title, text: $text }),*];
    };
}

errors! {
    USAGE = 1, "the command line is wrong",
        "A command or an option does not exist, or cannot be used here. `replay --help` lists all of them.";
    NO_LOG = 2, "no log found",
        "The command line has no --log, $CLOACA_LOG is not set, the working directory contains no log, and this user \
         has not opened one before. A log is the directory that was passed to the runner: for `cloaca:///flow.db` it \
         is `./flow.db`.";
    SEVERAL_LOGS = 3, "several logs found",
        "The working directory contains more than one log. Choose one with --log or $CLOACA_LOG.";
    NO_EXECUTION = 4, "execution not found",
        "No execution in the searched logs has an id with this prefix or suffix. `replay list` shows all executions; \
         --log selects another log.";
    AMBIGUOUS = 5, "the id matches several executions",
        "Several ids have this prefix or suffix. Type more digits, best from the end of the id: its beginning is a \
         timestamp.";
    NO_ID = 6, "not an id",
        "An id consists of hex digits; a unique prefix or suffix is enough. `latest` and `@` mean the newest \
         execution, `@-` the one before. An argument that contains a `/` or ends in .cloaca is a file.";
    NO_KEY = 7, "key not found in the context",
        "No task whose writes are visible at that moment has written the key. Writes of an attempt that did not \
         complete have no effect; `replay ID why KEY` lists them. --at selects the context at another moment.";
    NO_TASK = 8, "task not found",
        "The workflow definition that the execution used has no task with this name. `replay ID graph` shows all \
         tasks.";
    NO_MOMENT = 9, "moment not found",
        "The execution has no event with this seq, had not started at this time, or has no event of this task. \
         `replay ID --full` shows every event.";
    NOT_A_LOG = 10, "no log at this path",
        "A log is a directory that contains a file `format`. Readers never create one.";
    IN_USE = 11, "the process that has the log open does not answer",
        "While a process has a log open, `replay` reads through a socket in the log directory. That process must run \
         on the same host, as the same user. Stop it, or run `replay` where it runs.";
    NEWER_LOG = 12, "the log has a newer format",
        "A newer version of Cloacina wrote this log, and this version cannot read it. Upgrade; nothing was changed.";
    DAMAGED_LOG = 13, "the log is damaged",
        "The end, the index or the commit entries of the log are damaged. Copy the directory before you \
         do anything else with it.";
    CANNOT_READ = 14, "the log cannot be read",
        "The operating system returned an error. The message names the operation; nothing was changed.";
    NO_STREAM = 15, "the execution is no longer in the log",
        "It was there when its id was looked up, but has been removed since.";
    RECORD_DIFFERS = 16, "a record does not match its hash",
        "The hash of a record covers its header, the hash of the previous record, and a commitment to its body. The \
         hash of the stored bytes differs from the recorded one, so the log was changed after it was written. Earlier \
         records can still be trusted and shown; `replay ID verify` names the first damaged one.";
    TAIL_CUT = 17, "the end of an execution is missing",
        "The log has fewer records of the execution than its index says: the last ones were cut off.";
    NEWER_EVENT = 18, "an event has a newer format",
        "A newer version of Cloacina wrote it. Upgrade to read it. `replay ID --full` shows the events before it.";
    NO_EVENT = 19, "a record is not an event",
        "Its hash is correct, so it was written like this, by a program other than the engine.";
    IMPOSSIBLE = 20, "an event contradicts the events before it",
        "The event is not valid in the state that the earlier events lead to. Its hash is correct, so it was written \
         like this, by another program or a version with a bug. `replay ID --full` still shows the events.";
    ERASED = 21, "the body of an event was erased",
        "It was erased with `cloaca log erase`. The hash chain is still valid, but the state after the event is \
         unknown.";
    NO_DEFINITION = 22, "workflow definition not found in the log",
        "The log stores each definition under its SHA-256. The one that the execution uses is missing or has another \
         hash.";
    CANNOT_WRITE = 23, "the output cannot be written",
        "Writing to the output file or pipe failed.";
    NO_ERROR = 24, "error code not found",
        "Error codes look like CL0016. Messages show them in brackets: `error[CL0016]`.";
    NO_TERMINAL = 25, "not a terminal",
        "Stepping through an execution needs a terminal for both input and output.";
}

impl ErrorInfo {
    /// Finds the explanation of a code, written as `CL0016`, `cl16` or `16`.
    #[must_use]
    pub fn find(code: &str) -> Option<&'static Self> {
        let digits = code.trim().trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let number: u16 = digits.parse().ok()?;
        ALL.iter().find(|info| info.number == number)
    }
}

/// Formats a number as a code: `CL0016`.
#[must_use]
pub fn code(number: u16) -> String {
    format!("CL{number:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_used_twice_and_each_is_found_as_it_is_typed() {
        for (place, info) in ALL.iter().enumerate() {
            assert_eq!(usize::from(info.number), place + 1, "{}", info.title);
            for typed in [code(info.number), code(info.number).to_lowercase(), info.number.to_string()] {
                assert_eq!(ErrorInfo::find(&typed), Some(info), "{typed}");
            }
        }
        assert_eq!(ErrorInfo::find("CL9999"), None);
        assert_eq!(ErrorInfo::find("CL"), None);
    }
}
