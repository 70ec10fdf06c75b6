//! Triggers for the runtime: a definition and a poll function.

use std::sync::Arc;

use super::cron::{CronError, CronExpression};
use crate::core::event::{Key, TaskError};
use crate::core::json::Json;
use crate::core::schedule::Calendar;
use crate::core::time::{Millis, Timestamp};
use crate::core::trigger::{Pace, TriggerDefined};

/// A trigger that can be polled.
#[derive(Clone)]
pub struct Trigger {
    pub(crate) definition: TriggerDefined,
    pub(crate) body: TriggerBody,
    /// When it is polled, if by a cron expression.
    pub(crate) calendar: Option<CronExpression>,
}

/// The result of a successful poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// There is nothing to do.
    Skip,
    /// Start the workflow with this context.
    Fire(Vec<(Key, Json)>),
}

/// How a poll ended.
pub type PollResult = Result<Poll, TaskError>;

/// The poll function of a trigger.
#[derive(Clone)]
pub enum TriggerBody {
    /// A function on a worker thread.
    Blocking(Arc<dyn Fn() -> PollResult + Send + Sync>),
    /// An external executor: the function hands the poll over and returns immediately; the executor calls
    /// [`RunningPoll::finish`].
    Detached(Arc<dyn Fn(RunningPoll) + Send + Sync>),
}

/// Called once with the result of a poll, on the thread where it ended.
pub(crate) type PollReport = Box<dyn FnOnce(PollResult) + Send>;

/// A poll run by a [`TriggerBody::Detached`] executor. It fails if dropped unfinished.
pub struct RunningPoll {
    pub(crate) report: Option<PollReport>,
}

impl RunningPoll {
    /// Ends the poll.
    pub fn finish(mut self, result: PollResult) {
        if let Some(report) = self.report.take() {
            report(result);
        }
    }
}

impl Drop for RunningPoll {
    fn drop(&mut self) {
        if let Some(report) = self.report.take() {
            let error = TaskError {
                kind: "ExecutorLost".into(),
                message: "the executor dropped the poll without a result".into(),
                ..TaskError::default()
            };
            report(Err(error));
        }
    }
}

/// Why a trigger is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTrigger {
    /// Its cron expression or time zone is invalid.
    #[error("trigger '{name}': {error}")]
    Cron {
        /// The trigger.
        name: Arc<str>,
        /// Why.
        error: CronError,
    },
    /// A name is empty or too long.
    #[error("trigger '{name}': {what} must have 1 to {LONGEST_NAME} bytes")]
    Name {
        /// The trigger.
        name: Arc<str>,
        /// Which name.
        what: &'static str,
    },
}

/// Maximum length of a name in bytes. Names are stored in the listing.
pub const LONGEST_NAME: usize = 500;

impl Trigger {
    /// Creates a trigger. It starts no execution while another one with the same context runs, unless
    /// [`Trigger::allow_concurrent`] is called.
    ///
    /// # Errors
    /// See [`InvalidTrigger`].
    pub fn new(
        name: impl Into<Arc<str>>,
        workflow: impl Into<Arc<str>>,
        pace: Pace,
        body: TriggerBody,
    ) -> Result<Self, InvalidTrigger> {
        let (name, workflow) = (name.into(), workflow.into());
        for (what, text) in [("its name", &name), ("its workflow's name", &workflow)] {
            if text.is_empty() || text.len() > LONGEST_NAME {
                return Err(InvalidTrigger::Name { name: name.chars().take(100).collect::<String>().into(), what });
            }
        }
        let calendar = match &pace {
            Pace::Interval(_) => None,
            Pace::Cron { expression, timezone } => Some(
                CronExpression::parse(expression, timezone)
                    .map_err(|error| InvalidTrigger::Cron { name: name.clone(), error })?,
            ),
        };
        let definition = TriggerDefined { name, workflow, pace, allow_concurrent: false };
        Ok(Self { definition, body, calendar })
    }

    /// Lets every fire start an execution, even while one with the same context runs.
    #[must_use]
    pub fn allow_concurrent(mut self) -> Self {
        self.definition.allow_concurrent = true;
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.definition.name
    }

    /// When it is polled first.
    pub(crate) fn first_poll(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.calendar {
            None => Some(now),
            Some(calendar) => calendar.next_after(now),
        }
    }

    /// When it is polled again, after a poll that began at `last` and ended by `now`. Two polls never have the same
    /// time.
    pub(crate) fn next_poll(&self, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
        match (&self.calendar, &self.definition.pace) {
            (Some(calendar), _) => calendar.next_after(now),
            (None, Pace::Interval(interval)) => Some(last.after(Millis(interval.0.max(1))).max(now)),
            (None, Pace::Cron { .. }) => None,
        }
    }
}
