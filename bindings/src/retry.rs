//! Retry policies as Python values.

use std::sync::Arc;

use cloacina_engine::core::event::TaskError;
use cloacina_engine::core::retry::{Backoff, RetryCondition, RetryPolicy};
use cloacina_engine::core::time::Millis;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::failure::task_error;

/// How the delay between attempts grows.
///
/// Example:
///     >>> slowly = cloaca.BackoffStrategy.linear(1.0)
///     >>> policy = cloaca.RetryPolicy.builder().initial_delay(10.0).backoff_strategy(slowly).build()
///     >>> [policy.calculate_delay(failures) for failures in (1, 2, 3)]
///     [10.0, 20.0, 30.0]
#[pyclass(frozen, eq, module = "cloaca", name = "BackoffStrategy")]
#[derive(PartialEq)]
pub struct PyBackoff(Backoff);

#[pymethods]
impl PyBackoff {
    /// Every delay is the initial delay.
    ///
    /// Example:
    ///     >>> fixed = cloaca.BackoffStrategy.fixed()
    ///     >>> policy = cloaca.RetryPolicy.builder().backoff_strategy(fixed).build()
    ///     >>> policy.calculate_delay(1), policy.calculate_delay(9)
    ///     (1.0, 1.0)
    #[staticmethod]
    fn fixed() -> Self {
        Self(Backoff::Fixed)
    }

    /// Every delay is longer than the one before by `multiplier` times the initial delay.
    ///
    /// Raises:
    ///     ValueError: The multiplier is negative, or not a finite number.
    ///
    /// Example:
    ///     >>> linear = cloaca.BackoffStrategy.linear(2.0)
    ///     >>> policy = cloaca.RetryPolicy.builder().backoff_strategy(linear).build()
    ///     >>> [policy.calculate_delay(failures) for failures in (1, 2, 3)]
    ///     [1.0, 3.0, 5.0]
    #[staticmethod]
    fn linear(multiplier: f64) -> PyResult<Self> {
        Ok(Self(Backoff::Linear { multiplier: positive("multiplier", multiplier)? }))
    }

    /// Every delay is `base` times the one before; all are multiplied by `multiplier` (1 by default).
    ///
    /// Raises:
    ///     ValueError: One of them is negative, or not a finite number.
    ///
    /// Example:
    ///     >>> threefold = cloaca.BackoffStrategy.exponential(3.0)
    ///     >>> policy = cloaca.RetryPolicy.builder().backoff_strategy(threefold).build()
    ///     >>> [policy.calculate_delay(failures) for failures in (1, 2, 3)]
    ///     [1.0, 3.0, 9.0]
    #[staticmethod]
    #[pyo3(signature = (base, multiplier=None))]
    fn exponential(base: f64, multiplier: Option<f64>) -> PyResult<Self> {
        let multiplier = positive("multiplier", multiplier.unwrap_or(1.0))?;
        Ok(Self(Backoff::Exponential { base: positive("base", base)?, multiplier }))
    }

    fn __repr__(&self) -> String {
        match self.0 {
            Backoff::Fixed => "BackoffStrategy.fixed()".to_owned(),
            Backoff::Linear { multiplier } => format!("BackoffStrategy.linear(multiplier={multiplier:?})"),
            Backoff::Exponential { base, multiplier } => {
                format!("BackoffStrategy.exponential(base={base:?}, multiplier={multiplier:?})")
            }
        }
    }
}

fn positive(name: &str, value: f64) -> PyResult<f64> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(PyValueError::new_err(format!("{name} must be a non-negative number, not {value}")))
}

/// Which errors are retried.
///
/// Example:
///     >>> builder = cloaca.RetryPolicy.builder()
///     >>> policy = builder.retry_condition(cloaca.RetryCondition.transient_only()).build()
///     >>> policy.should_retry(1, ConnectionError("refused")), policy.should_retry(1, ValueError("wrong"))
///     (True, False)
#[pyclass(frozen, eq, module = "cloaca", name = "RetryCondition")]
#[derive(PartialEq)]
pub struct PyRetryCondition(RetryCondition);

#[pymethods]
impl PyRetryCondition {
    /// Retry no error.
    ///
    /// Example:
    ///     >>> never = cloaca.RetryCondition.never()
    ///     >>> cloaca.RetryPolicy.builder().retry_condition(never).build().should_retry(1, TimeoutError())
    ///     False
    #[staticmethod]
    fn never() -> Self {
        Self(RetryCondition::Never)
    }

    /// Retry transient errors only: a TimeoutError, a subprocess.TimeoutExpired, a ConnectionError, a network OSError,
    /// a group of only these, or any error whose message contains timeout, timed out, network, temporary or
    /// unavailable, or says that a connection was refused, reset, closed, lost and the like.
    ///
    /// Example:
    ///     >>> transient = cloaca.RetryCondition.transient_only()
    ///     >>> policy = cloaca.RetryPolicy.builder().retry_condition(transient).build()
    ///     >>> policy.should_retry(1, TimeoutError()), policy.should_retry(1, RuntimeError("503 Service Unavailable"))
    ///     (True, True)
    ///     >>> policy.should_retry(1, RuntimeError("404 Not Found"))
    ///     False
    #[staticmethod]
    fn transient_only() -> Self {
        Self(RetryCondition::Transient)
    }

    /// Retry every error. This is the default.
    ///
    /// Example:
    ///     >>> cloaca.RetryCondition.all_errors()
    ///     RetryCondition.all_errors()
    ///     >>> cloaca.RetryPolicy.default().should_retry(1, ValueError("wrong"))
    ///     True
    #[staticmethod]
    fn all_errors() -> Self {
        Self(RetryCondition::All)
    }

    /// Retry errors whose message contains one of the patterns. Patterns are plain text, ignoring case.
    ///
    /// Example:
    ///     >>> busy = cloaca.RetryCondition.error_pattern(["deadlock", "too many connections"])
    ///     >>> policy = cloaca.RetryPolicy.builder().retry_condition(busy).build()
    ///     >>> policy.should_retry(1, RuntimeError("Deadlock found")), policy.should_retry(1, RuntimeError("syntax error"))
    ///     (True, False)
    #[staticmethod]
    fn error_pattern(patterns: Vec<String>) -> Self {
        Self(RetryCondition::Pattern(patterns.into_iter().map(Into::into).collect()))
    }

    /// Retry errors whose type, or a base of it, has one of these names. `@cloaca.task(retry_condition=OSError)` does
    /// the same with a class.
    ///
    /// Example:
    ///     >>> files = cloaca.RetryCondition.error_types(["OSError"])
    ///     >>> policy = cloaca.RetryPolicy.builder().retry_condition(files).build()
    ///     >>> policy.should_retry(1, FileNotFoundError("a.csv")), policy.should_retry(1, KeyError("a"))
    ///     (True, False)
    #[staticmethod]
    fn error_types(names: Vec<String>) -> Self {
        Self(RetryCondition::Type(names.into_iter().map(Into::into).collect()))
    }

    fn __repr__(&self) -> String {
        match &self.0 {
            RetryCondition::Never => "RetryCondition.never()".to_owned(),
            RetryCondition::Transient => "RetryCondition.transient_only()".to_owned(),
            RetryCondition::All => "RetryCondition.all_errors()".to_owned(),
            RetryCondition::Pattern(patterns) => format!("RetryCondition.error_pattern({patterns:?})"),
            RetryCondition::Type(names) => format!("RetryCondition.error_types({names:?})"),
        }
    }
}

/// Whether and when a failed attempt of a task is retried.
///
/// Example:
///     >>> policy = cloaca.RetryPolicy.builder().max_attempts(5).initial_delay(0.5).build()
///     >>> @cloaca.task(retry=policy)
///     ... def fetch(context): ...
///     >>> policy
///     RetryPolicy(max_attempts=5, initial_delay=0.5, max_delay=60.0, backoff=BackoffStrategy.exponential(base=2.0, multiplier=1.0), condition=RetryCondition.all_errors(), with_jitter=True)
#[pyclass(frozen, eq, module = "cloaca", name = "RetryPolicy")]
#[derive(PartialEq)]
pub struct PyRetryPolicy {
    /// The engine's policy.
    pub inner: RetryPolicy,
}

#[pymethods]
impl PyRetryPolicy {
    /// Three attempts, for every error. The delay is 1 s at first and doubles up to 60 s, with a jitter of up to a
    /// quarter.
    ///
    /// Example:
    ///     >>> policy = cloaca.RetryPolicy.default()
    ///     >>> policy.max_attempts, [policy.calculate_delay(failures) for failures in (1, 2, 7)]
    ///     (3, [1.0, 2.0, 60.0])
    #[staticmethod]
    #[pyo3(name = "default")]
    fn default_policy() -> Self {
        Self { inner: RetryPolicy::default() }
    }

    /// Returns a builder that starts from the default policy.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicy.builder().build() == cloaca.RetryPolicy.default()
    ///     True
    #[staticmethod]
    fn builder() -> RetryPolicyBuilder {
        RetryPolicyBuilder::new()
    }

    /// Maximum number of attempts, including the first.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicy.default().max_attempts
    ///     3
    #[getter]
    fn max_attempts(&self) -> u32 {
        self.inner.max_attempts
    }

    /// The delay after the first failure, in seconds.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicy.default().initial_delay
    ///     1.0
    #[getter]
    fn initial_delay(&self) -> f64 {
        seconds(self.inner.initial_delay)
    }

    /// The longest delay, in seconds.
    ///
    /// Example:
    ///     >>> policy = cloaca.RetryPolicy.builder().initial_delay(10.0).max_delay(30.0).build()
    ///     >>> policy.max_delay, policy.calculate_delay(3)
    ///     (30.0, 30.0)
    #[getter]
    fn max_delay(&self) -> f64 {
        seconds(self.inner.max_delay)
    }

    /// Whether each delay varies randomly by up to a quarter, so that attempts that failed together are not retried
    /// together.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicy.default().with_jitter
    ///     True
    #[getter]
    fn with_jitter(&self) -> bool {
        self.inner.jitter
    }

    /// Returns the delay after `attempt` failures (from 1), in seconds, without jitter.
    ///
    /// Example:
    ///     >>> policy = cloaca.RetryPolicy.builder().initial_delay(0.5).build()
    ///     >>> [policy.calculate_delay(failures) for failures in (1, 2, 3)]
    ///     [0.5, 1.0, 2.0]
    fn calculate_delay(&self, attempt: u32) -> f64 {
        seconds(self.inner.delay(attempt))
    }

    /// Returns whether a task is retried after attempt number `attempt` (from 1) failed with `error`: an exception or
    /// its text.
    ///
    /// Example:
    ///     >>> policy = cloaca.RetryPolicy.builder().max_attempts(2).build()
    ///     >>> policy.should_retry(1, OSError("no space")), policy.should_retry(2, OSError("no space"))
    ///     (True, False)
    #[pyo3(signature = (attempt, error=None, *, _error_type=None))]
    fn should_retry(
        &self,
        attempt: u32,
        error: Option<&Bound<'_, PyAny>>,
        _error_type: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        // Cloacina calls the parameter `_error_type`.
        let Some(error) = error.or(_error_type) else {
            return Err(PyTypeError::new_err("should_retry() needs the error: an exception or its text"));
        };
        let error = if let Ok(text) = error.cast::<PyString>() {
            let text: Arc<str> = text.to_str()?.into();
            TaskError { kind: text.clone(), message: text.clone(), lineage: vec![text], ..TaskError::default() }
        } else {
            let described = error.py().import("cloaca._failure")?.getattr("describe")?.call1((error,))?;
            task_error(&described)?
        };
        Ok(self.inner.retries(attempt, &error))
    }

    fn __repr__(&self) -> String {
        format!(
            "RetryPolicy(max_attempts={}, initial_delay={:?}, max_delay={:?}, backoff={}, condition={}, with_jitter={})",
            self.inner.max_attempts,
            self.initial_delay(),
            self.max_delay(),
            PyBackoff(self.inner.backoff).__repr__(),
            conditions(&self.inner),
            if self.inner.jitter { "True" } else { "False" },
        )
    }
}

fn conditions(policy: &RetryPolicy) -> String {
    let shown = policy.conditions.iter().map(|condition| PyRetryCondition(condition.clone()).__repr__());
    shown.collect::<Vec<_>>().join(" | ")
}

#[allow(clippy::cast_precision_loss)]
fn seconds(millis: Millis) -> f64 {
    millis.0 as f64 / 1_000.0
}

fn millis(name: &str, seconds: f64) -> PyResult<Millis> {
    let seconds = positive(name, seconds)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let millis = (seconds * 1_000.0).round() as u64;
    Ok(Millis(millis))
}

/// Builds a retry policy. Immutable: every call returns a new builder.
///
/// Example:
///     >>> patient = cloaca.RetryPolicyBuilder().max_attempts(10).initial_delay(60.0).with_jitter(False)
///     >>> patient.backoff_strategy(cloaca.BackoffStrategy.fixed()).build().calculate_delay(9)
///     60.0
#[pyclass(frozen, module = "cloaca", name = "RetryPolicyBuilder")]
pub struct RetryPolicyBuilder {
    inner: RetryPolicy,
    /// Whether the longest delay was set explicitly.
    has_max_delay: bool,
}

impl RetryPolicyBuilder {
    fn with(&self, change: impl FnOnce(&mut RetryPolicy)) -> Self {
        let mut inner = self.inner.clone();
        change(&mut inner);
        Self { inner, has_max_delay: self.has_max_delay }
    }
}

#[pymethods]
impl RetryPolicyBuilder {
    #[new]
    fn new() -> Self {
        Self { inner: RetryPolicy::default(), has_max_delay: false }
    }

    /// Sets the maximum number of attempts, including the first. 0 means 1.
    ///
    /// Raises:
    ///     ValueError: The number is negative.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicyBuilder().max_attempts(5).build().max_attempts
    ///     5
    ///     >>> cloaca.RetryPolicyBuilder().max_attempts(-1)
    ///     Traceback (most recent call last):
    ///     ValueError: max_attempts must be from 0 to 4294967295, not -1
    fn max_attempts(&self, attempts: i64) -> PyResult<Self> {
        let wrong = |_| PyValueError::new_err(format!("max_attempts must be from 0 to {}, not {attempts}", u32::MAX));
        let attempts = u32::try_from(attempts).map_err(wrong)?;
        Ok(self.with(|policy| policy.max_attempts = attempts.max(1)))
    }

    /// Sets the delay after the first failure, in seconds, to the millisecond. A delay above the default maximum of 60
    /// s raises the maximum.
    ///
    /// Raises:
    ///     ValueError: The delay is negative, or not a finite number.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicyBuilder().initial_delay(0.25).build().calculate_delay(1)
    ///     0.25
    fn initial_delay(&self, delay_seconds: f64) -> PyResult<Self> {
        let delay = millis("initial_delay", delay_seconds)?;
        Ok(self.with(|policy| policy.initial_delay = delay))
    }

    /// Sets the longest delay, in seconds, to the millisecond.
    ///
    /// Raises:
    ///     ValueError: The delay is negative, or not a finite number.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicyBuilder().max_delay(5.0).build().calculate_delay(9)
    ///     5.0
    fn max_delay(&self, delay_seconds: f64) -> PyResult<Self> {
        let delay = millis("max_delay", delay_seconds)?;
        let mut with = self.with(|policy| policy.max_delay = delay);
        with.has_max_delay = true;
        Ok(with)
    }

    /// Sets how the delay grows.
    ///
    /// Example:
    ///     >>> policy = cloaca.RetryPolicyBuilder().backoff_strategy(cloaca.BackoffStrategy.fixed()).build()
    ///     >>> policy.calculate_delay(1), policy.calculate_delay(9)
    ///     (1.0, 1.0)
    fn backoff_strategy(&self, strategy: &PyBackoff) -> Self {
        self.with(|policy| policy.backoff = strategy.0)
    }

    /// Sets which errors are retried. The last call counts.
    ///
    /// Example:
    ///     >>> never = cloaca.RetryPolicyBuilder().retry_condition(cloaca.RetryCondition.never()).build()
    ///     >>> never.should_retry(1, TimeoutError())
    ///     False
    fn retry_condition(&self, condition: &PyRetryCondition) -> Self {
        self.with(|policy| policy.conditions = vec![condition.0.clone()])
    }

    /// Sets whether each delay varies randomly by up to a quarter.
    ///
    /// Example:
    ///     >>> cloaca.RetryPolicyBuilder().with_jitter(False).build().with_jitter
    ///     False
    fn with_jitter(&self, jitter: bool) -> Self {
        self.with(|policy| policy.jitter = jitter)
    }

    /// Returns the policy, for `@cloaca.task(retry=...)`. The builder can be reused.
    ///
    /// Raises:
    ///     ValueError: `initial_delay` is longer than an explicit `max_delay`.
    ///
    /// Example:
    ///     >>> builder = cloaca.RetryPolicyBuilder().initial_delay(0.5)
    ///     >>> fetch, load = builder.max_attempts(5).build(), builder.max_attempts(2).build()
    ///     >>> fetch.max_attempts, load.max_attempts, load.initial_delay
    ///     (5, 2, 0.5)
    fn build(&self) -> PyResult<PyRetryPolicy> {
        let mut inner = self.inner.clone();
        let (first, longest) = (inner.initial_delay, inner.max_delay);
        if first > longest && self.has_max_delay {
            return Err(PyValueError::new_err(format!(
                "initial_delay ({} s) is longer than max_delay ({} s); raise max_delay, or leave it out",
                seconds(first),
                seconds(longest)
            )));
        }
        inner.max_delay = inner.longest_delay();
        Ok(PyRetryPolicy { inner })
    }

    fn __repr__(&self) -> String {
        format!("RetryPolicyBuilder({})", PyRetryPolicy { inner: self.inner.clone() }.__repr__())
    }
}
