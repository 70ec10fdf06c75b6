//! Retries: whether a failed attempt is retried, and when.

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::event::TaskError;
use super::time::Millis;

/// The retry policy of a task.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct RetryPolicy {
    /// The task fails after this many failed attempts; at least 1.
    pub max_attempts: u32,
    /// How the delay grows.
    pub backoff: Backoff,
    /// The delay after the first failure.
    pub initial_delay: Millis,
    /// The longest delay, unless `initial_delay` is longer.
    pub max_delay: Millis,
    /// Whether each delay varies randomly by up to a quarter, so that many failed attempts do not retry at the same
    /// time.
    pub jitter: bool,
    /// Which errors are retried: those that match any of these conditions.
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

/// How the delay grows with the number of failures.
#[derive(Clone, Copy, Debug, PartialEq, Encode, Decode)]
pub enum Backoff {
    /// It stays the same.
    Fixed,
    /// It grows by `multiplier` initial delays with every failure.
    Linear {
        /// How many initial delays each failure adds.
        multiplier: f64,
    },
    /// `initial × multiplier × base^(failures - 1)`.
    Exponential {
        /// The factor for every further failure.
        base: f64,
        /// A constant factor.
        multiplier: f64,
    },
}

/// Selects the errors that are retried.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub enum RetryCondition {
    /// No error.
    Never,
    /// Transient errors: timeouts, and errors of connections and the network.
    Transient,
    /// Every error.
    All,
    /// Errors whose message contains one of these texts, ignoring case.
    Pattern(Vec<Arc<str>>),
    /// Errors whose type, or one of its base types, has one of these names.
    Type(Vec<Arc<str>>),
}

/// The random part of a delay: a number from 0 to 1,000, drawn by the caller because the core has no randomness. 500
/// leaves the delay unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(pub u32);

impl Jitter {
    /// Leaves the delay unchanged.
    pub const NONE: Self = Self(500);
}

const TRANSIENT_TYPES: [&str; 3] = ["TimeoutError", "ConnectionError", "subprocess.TimeoutExpired"];
/// Types of errors that are never retried, whatever the policy: the engine's own errors about what a task wrote, read
/// or returned, which another attempt would only repeat.
const PERMANENT_TYPES: [&str; 2] = ["cloaca.errors.PermanentError", "ValueTooLarge"];
const TRANSIENT_WORDS: [&str; 7] =
    ["timeout", "timed out", "time-out", "network", "temporary", "temporarily", "unavailable"];
/// Words for a failed connection. Other messages about one, such as an invalid connection string, are not transient.
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
/// Words that follow "connection" in the name of a setting.
const CONNECTION_SETTINGS: [&str; 9] =
    ["string", "id", "name", "url", "uri", "parameter", "parameters", "settings", "options"];

impl RetryPolicy {
    /// Creates a policy that allows a single attempt.
    #[must_use]
    pub fn never() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Returns the delay after this many failures (from 1), before jitter.
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

    /// Returns the longest delay. An `initial_delay` above `max_delay` raises it, so that the first delay is not cut
    /// silently.
    #[must_use]
    pub fn longest_delay(&self) -> Millis {
        self.max_delay.max(self.initial_delay)
    }

    /// Returns the delay after this many failures, varied by at most a quarter, and never above
    /// [`Self::longest_delay`].
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

    /// Returns whether a task is retried after this many failures (from 1), the last one with this error.
    #[must_use]
    pub fn retries(&self, failures: u32, error: &TaskError) -> bool {
        let is_permanent = error.lineage.iter().any(|name| PERMANENT_TYPES.contains(&&**name));
        failures < self.max_attempts && !is_permanent && self.conditions.iter().any(|condition| condition.holds(error))
    }
}

impl RetryCondition {
    /// Returns whether the condition matches an error.
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

/// Returns whether a message reports a failed connection: "Connection reset by peer", "lost the connection".
fn mentions_connection_failure(message: &str) -> bool {
    /// The largest distance, in words, between "connection" and the word for its failure.
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
