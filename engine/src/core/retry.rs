//! Whether a failed attempt is tried again, and when.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::event::TaskError;
use super::time::Millis;

/// What happens when an attempt fails.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct RetryPolicy {
    /// How many attempts may fail before the task has failed; at least 1.
    pub max_attempts: u32,
    /// How the wait grows.
    pub backoff: Backoff,
    /// The wait after the first failure.
    pub initial_delay: Millis,
    /// No wait is longer than this, or than the first, whichever is longer.
    pub max_delay: Millis,
    /// Whether each wait is varied by up to a quarter, so that many failures do not come back at once.
    pub jitter: bool,
    /// Which errors are tried again; any one that holds suffices.
    pub conditions: Vec<RetryCondition>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Backoff::Exponential { base: 2.0, multiplier: 1.0 },
            initial_delay: Millis(1_000),
            max_delay: Millis(60_000),
            jitter: true,
            conditions: vec![RetryCondition::All],
        }
    }
}

/// How the wait grows with the number of failures.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub enum Backoff {
    /// Not at all.
    Fixed,
    /// By `multiplier` initial delays with every failure.
    Linear {
        /// How many initial delays are added.
        multiplier: f64,
    },
    /// `initial × multiplier × base^(failures - 1)`.
    Exponential {
        /// What it is multiplied by with every failure.
        base: f64,
        /// What all of it is multiplied by.
        multiplier: f64,
    },
}

/// Which errors are tried again.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum RetryCondition {
    /// None.
    Never,
    /// Those that pass: timeouts, and errors of connections and the network.
    Transient,
    /// Every one.
    All,
    /// Those whose message contains one of these, in any case.
    Pattern(Vec<Arc<str>>),
    /// Those whose type, or a base of it, has one of these names.
    Type(Vec<Arc<str>>),
}

/// What varies a wait: a number from 0 to 1,000, drawn by the caller (the core has no randomness). 500 leaves the wait
/// as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(pub u32);

impl Jitter {
    /// Leaves the wait as it is.
    pub const NONE: Self = Self(500);
}

const TRANSIENT_TYPES: [&str; 3] = ["TimeoutError", "ConnectionError", "subprocess.TimeoutExpired"];
/// What another attempt would only repeat, whatever a policy says: the engine's own errors about what a task wrote, read
/// or returned.
const PERMANENT_TYPES: [&str; 2] = ["cloaca.errors.PermanentError", "ValueTooLarge"];
const TRANSIENT_WORDS: [&str; 7] =
    ["timeout", "timed out", "time-out", "network", "temporary", "temporarily", "unavailable"];
/// What befalls a connection. Other messages about one, such as a connection string that cannot be parsed, do not pass.
const CONNECTION_FAILURES: [&str; 17] = [
    "refused",
    "reset",
    "aborted",
    "closed",
    "lost",
    "broken",
    "dropped",
    "failed",
    "failure",
    "terminated",
    "interrupted",
    "establish",
    "established",
    "unexpectedly",
    "gone",
    "error",
    "errors",
];
/// What may stand after "connection" in the name of a setting.
const CONNECTION_SETTINGS: [&str; 9] =
    ["string", "id", "name", "url", "uri", "parameter", "parameters", "settings", "options"];

impl RetryPolicy {
    /// A policy without a second attempt.
    #[must_use]
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// The wait after so many failures (from 1), before jitter.
    ///
    /// ```
    /// use cloacina_engine::core::{retry::RetryPolicy, time::Millis};
    /// let policy = RetryPolicy::default();
    /// assert_eq!(policy.delay(1), Millis(1_000));
    /// assert_eq!(policy.delay(3), Millis(4_000));
    /// assert_eq!(policy.delay(30), Millis(60_000));
    /// ```
    #[must_use]
    pub fn delay(&self, failures: u32) -> Millis {
        let steps = f64::from(failures.max(1) - 1);
        let factor = match self.backoff {
            Backoff::Fixed => 1.0,
            Backoff::Linear { multiplier } => 1.0 + steps * multiplier,
            Backoff::Exponential { base, multiplier } => multiplier * base.powf(steps),
        };
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let delay = (self.initial_delay.0 as f64 * factor).max(0.0) as u64;
        Millis(delay.min(self.longest_delay().0))
    }

    /// The longest wait. A first delay above the maximum raises it: no wait is cut silently.
    #[must_use]
    pub fn longest_delay(&self) -> Millis {
        self.max_delay.max(self.initial_delay)
    }

    /// The wait after so many failures, varied by at most a quarter either way, and never longer than the longest.
    #[must_use]
    pub fn delay_with(&self, failures: u32, jitter: Jitter) -> Millis {
        let delay = self.delay(failures).0;
        if !self.jitter {
            return Millis(delay);
        }
        let per_mille = 750 + u128::from(jitter.0.min(1_000)) / 2;
        let varied = u64::try_from(u128::from(delay) * per_mille / 1_000).unwrap_or(u64::MAX);
        Millis(varied.min(self.longest_delay().0))
    }

    /// Whether a task that has failed so often (from 1), lastly with this error, is tried again.
    #[must_use]
    pub fn retries(&self, failures: u32, error: &TaskError) -> bool {
        let is_permanent = error.lineage.iter().any(|name| PERMANENT_TYPES.contains(&&**name));
        failures < self.max_attempts && !is_permanent && self.conditions.iter().any(|condition| condition.holds(error))
    }
}

impl RetryCondition {
    /// Whether it takes this error.
    #[must_use]
    pub fn holds(&self, error: &TaskError) -> bool {
        let message_contains = |word: &str| error.message.to_lowercase().contains(&word.to_lowercase());
        let is = |name: &str| error.lineage.iter().any(|base| &**base == name);
        match self {
            Self::Never => false,
            Self::All => true,
            Self::Transient => {
                error.transient
                    || TRANSIENT_TYPES.into_iter().any(is)
                    || TRANSIENT_WORDS.into_iter().any(message_contains)
                    || mentions_connection_failure(&error.message)
            }
            Self::Pattern(words) => words.iter().any(|word| message_contains(word)),
            Self::Type(names) => names.iter().any(|name| is(name)),
        }
    }
}

/// Whether a message reports a failure of a connection: "Connection reset by peer", "lost the connection".
fn mentions_connection_failure(message: &str) -> bool {
    /// How many words away from "connection" the trouble may stand.
    const MAX_DISTANCE: usize = 4;
    let message = message.to_lowercase();
    let words: Vec<&str> =
        message.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    words.iter().enumerate().filter(|(_, word)| matches!(**word, "connection" | "connections")).any(|(at, _)| {
        let is_setting = words.get(at + 1).is_some_and(|next| CONNECTION_SETTINGS.contains(next));
        let near = &words[at.saturating_sub(MAX_DISTANCE)..words.len().min(at + MAX_DISTANCE + 1)];
        !is_setting && near.iter().any(|word| CONNECTION_FAILURES.contains(word))
    })
}
