//! A past attempt: the context that it saw and the values that it wrote. Lets users run the task's code again.

use cloacina_engine::core::event::{Attempt, Seq, TaskId};
use cloacina_engine::core::graph::nearest;
use cloacina_engine::core::task_context::{TaskContext, Write};

use crate::history::History;
use crate::moment::{At, MomentError};
use crate::story::{AttemptRow, Outcome, Story, What};

/// A past attempt at a task.
#[derive(Clone, Debug)]
pub struct PastAttempt {
    /// Its number, from 1.
    pub number: Attempt,
    /// The event that started it.
    pub started: Seq,
    /// How it ended.
    pub outcome: Outcome,
    /// The context that it started with.
    pub context: TaskContext,
    /// Its writes, one for each key, in order.
    pub writes: Vec<Write>,
}

/// The attempt does not exist.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NoAttempt {
    /// No attempt at the task was started.
    #[error(
        "no attempt of task '{task}' was started{}",
        .nearest.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default()
    )]
    Task {
        /// The task.
        task: TaskId,
        /// The started task with the most similar name.
        nearest: Option<TaskId>,
    },
    /// The task had fewer attempts.
    #[error("there is no attempt {number} of task '{task}'; there were {attempts}")]
    Number {
        /// The task.
        task: TaskId,
        /// The requested attempt.
        number: Attempt,
        /// The number of attempts.
        attempts: usize,
    },
    /// The state at its start is not available.
    #[error(transparent)]
    Moment(#[from] MomentError),
}

impl History {
    /// Returns an attempt at a task: the one with `number`, or by default the one that completed, or else the last.
    ///
    /// # Errors
    /// [`NoAttempt`].
    pub fn attempt(&self, task: &str, number: Option<Attempt>) -> Result<PastAttempt, NoAttempt> {
        let story = self.story();
        let attempts = attempts_at(&story, task).ok_or_else(|| {
            let tried = started(&story).map(|task| &**task);
            NoAttempt::Task { task: task.into(), nearest: nearest(task, tried).map(Into::into) }
        })?;
        let wanted = match number {
            Some(number) => attempts.iter().find(|attempt| attempt.number == number),
            None => attempts.iter().find(|attempt| attempt.outcome == Outcome::Completed).or(attempts.last()),
        };
        let row = wanted.ok_or_else(|| NoAttempt::Number {
            task: task.into(),
            number: number.unwrap_or_default(),
            attempts: attempts.len(),
        })?;
        let state = self.state(At::Seq(row.started))?;
        let index = state.graph().find(task).ok_or_else(|| MomentError::Task(task.into()))?;
        Ok(PastAttempt {
            number: row.number,
            started: row.started,
            outcome: row.outcome.clone(),
            context: TaskContext::new(state.view(index), state.options().strict_context),
            writes: row
                .writes
                .iter()
                .map(|change| Write { key: change.key.clone(), value: change.value.clone() })
                .collect(),
        })
    }
}

/// Returns the attempts at a task; `None` if none was started.
fn attempts_at<'a>(story: &'a Story, task: &str) -> Option<&'a [AttemptRow]> {
    story.rows.iter().find_map(|row| match &row.what {
        What::Task(row) if &*row.task == task && !row.attempts.is_empty() => Some(&row.attempts[..]),
        _ => None,
    })
}

fn started(story: &Story) -> impl Iterator<Item = &TaskId> {
    story.rows.iter().filter_map(|row| match &row.what {
        What::Task(row) if !row.attempts.is_empty() => Some(&row.task),
        _ => None,
    })
}
