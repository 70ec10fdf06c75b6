//! Every error by its number: what it means, and what to do. `replay explain-error CL0016` shows it.

/// An error that can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Its number: `16` is shown as `CL0016`.
    pub number: u16,
    /// What it is, in a few words.
    pub title: &'static str,
    /// What it means, and what to do.
    pub text: &'static str,
}

macro_rules! errors {
    ($($name:ident = $number:literal, $title:literal, $text:literal;)*) => {
        /// The numbers. They are documented interface, and never used twice.
        pub mod number {
            $(#[doc = $title] pub const $name: u16 = $number;)*
        }

        /// All of them, by number.
        pub const ALL: &[Explained] = &[$(Explained { number: $number, title: $title, text: $text }),*];
    };
}

errors! {
    USAGE = 1, "the command line is wrong",
        "An option or a command is not known, or has no meaning where it stands. `replay --help` lists all of them.";
    NO_LOG = 2, "there is no log",
        "No log was named with --log, $CLOACA_LOG is not set, the working directory has none, and none was opened before by \
         this user. A log is the directory that the runner was opened with: for `cloaca:///flow.db` it is `./flow.db`.";
    SEVERAL_LOGS = 3, "there are several logs",
        "The working directory has more than one log. Name the one that is meant with --log or in $CLOACA_LOG.";
    NO_EXECUTION = 4, "there is no such execution",
        "No execution in the logs that were searched has an id that begins or ends so. `replay list` shows all of them; \
         --log names another log.";
    AMBIGUOUS = 5, "the id fits several executions",
        "Several ids begin or end so. Type more of it: the end tells them apart, since the beginning of an id is its time.";
    NO_ID = 6, "this is no id",
        "An id is hex digits, whole or any unique end or beginning of it; `latest` and `@` are the newest execution, `@-` the \
         one before. Anything with a `/` in it, or that ends in .cloaca, is a file.";
    NO_KEY = 7, "there is no such key in the context",
        "No task whose writes are visible at that moment has written the key. Writes of an attempt that did not complete have \
         no effect; `replay ID why KEY` lists them. With --at the context of an earlier moment is asked.";
    NO_TASK = 8, "there is no such task",
        "The workflow, as the execution went by it, has no task of this name. `replay ID graph` shows all of them.";
    NO_MOMENT = 9, "there is no such moment",
        "The execution has no event with that seq, had not started at that time, or has no event of that task. \
         `replay ID --full` shows every event.";
    NOT_A_LOG = 10, "there is no log at this place",
        "A log is a directory with a file `format` in it. Nothing is created by reading.";
    IN_USE = 11, "a process has the log and does not answer",
        "While a process has a log, `replay` asks it through a socket in that directory. It must run on the same host and be \
         reachable as the same user. Stop the process, or ask there.";
    NEWER_LOG = 12, "the log was written by a newer version",
        "This version does not guess at what it does not know. Upgrade to read it; nothing was changed.";
    DAMAGED_LOG = 13, "the log is damaged",
        "The log as a whole does not hold together: its end, its index or its commit entries are not what was written. Keep a \
         copy of the directory before anything else is done to it.";
    CANNOT_READ = 14, "the log cannot be read",
        "The operating system refused. The message says what was done; nothing was changed.";
    NO_STREAM = 15, "the execution is not in the log",
        "It was there when its id was looked up, and is not any more.";
    RECORD_DIFFERS = 16, "a record is not what was written",
        "The hash of a record covers its header, the hash of the record before it, and a commitment to its body. Computed \
         again from what is stored, it is another one: somebody or something has changed the log. What comes before that \
         record can still be trusted and shown; `replay ID verify` says which it is.";
    TAIL_CUT = 17, "the end of an execution is missing",
        "The index says how many records the execution has, and the log has fewer: its end was cut off.";
    NEWER_EVENT = 18, "an event was written by a newer version",
        "Upgrade to read it. The events before it can still be shown: `replay ID --full`.";
    NO_EVENT = 19, "a record holds no event",
        "Its hash fits, so it was written so: by a program that is no engine.";
    IMPOSSIBLE = 20, "an event that cannot have happened",
        "The state that the events before it give cannot take this one. Its hash fits, so it was written so, by another \
         program or by a faulty version. The events can still be shown: `replay ID --full`.";
    ERASED = 21, "the body of an event was erased",
        "Somebody erased it on purpose. The chain still holds, but what follows from the event cannot be told any more.";
    NO_DEFINITION = 22, "the definition of the workflow cannot be had",
        "The log keeps each definition under its SHA-256, and the one that the execution names is not there or is another.";
    CANNOT_WRITE = 23, "the output cannot be written",
        "The file or the pipe that the output goes to does not take it.";
    NO_ERROR = 24, "there is no such error",
        "Errors have a code like CL0016, which stands in brackets behind the word `error`.";
    NO_TERMINAL = 25, "there is no terminal",
        "Stepping through an execution needs a terminal for input and output.";
}

impl Explained {
    /// The error with a code, written as `CL0016`, `cl16` or `16`.
    #[must_use]
    pub fn find(code: &str) -> Option<&'static Self> {
        let digits = code.trim().trim_start_matches(|letter: char| letter.is_ascii_alphabetic());
        let number: u16 = digits.parse().ok()?;
        ALL.iter().find(|explained| explained.number == number)
    }
}

/// A number as people read and type it.
#[must_use]
pub fn code(number: u16) -> String {
    format!("CL{number:04}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_is_used_twice_and_each_is_found_as_it_is_typed() {
        for (place, explained) in ALL.iter().enumerate() {
            assert_eq!(usize::from(explained.number), place + 1, "{}", explained.title);
            for typed in [code(explained.number), code(explained.number).to_lowercase(), explained.number.to_string()] {
                assert_eq!(Explained::find(&typed), Some(explained), "{typed}");
            }
        }
        assert_eq!(Explained::find("CL9999"), None);
        assert_eq!(Explained::find("CL"), None);
    }
}
