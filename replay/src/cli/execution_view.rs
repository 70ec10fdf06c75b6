//! The views of one execution.

use std::io::{self, Write};

use cloacina_engine::core::event::{Seq, TaskId};
use cloacina_engine::core::graph::{TaskIndex, nearest};
use cloacina_engine::core::state::{Execution, TaskState};

use super::arguments::{Arguments, Command, GraphFormat};
use super::failure::{Failure, code};
use super::header::{self, ChainStatus};
use super::progress::Progress;
use super::screen::Screen;
use super::target::{Target, quoted};
use super::{
    context_view, explain_view, export_view, full_view, graph_view, history_view, report_view, state_view, text,
    verify_view, why_view,
};
use crate::errors::number;
use crate::fold::let_go;
use crate::graph::{self, Picture};
use crate::history::fold_to;
use crate::json::document::{NotWritten, Object, write_history};
use crate::json::facts::{self, ExecutionJson, StateJson, StepJson, ValueJson, VerificationJson};
use crate::json::graph::GraphJson;
use crate::json::lines::Lines;
use crate::moment::{At, MomentError};
use crate::prefetch::Prefetch;
use crate::reading::{Entry, HistoryError, entries};
use crate::source::{self, Head};
use crate::story::{Story, What, tell};
use crate::verify::verify_ahead;
use crate::why::{Facts, NoValue};

/// Shows one execution as a command asks for it.
pub struct ExecutionView<'a, 'b> {
    /// The command line.
    pub arguments: &'a Arguments,
    /// The execution.
    pub target: &'a Target,
    /// Standard output.
    pub screen: &'a mut Screen<'b>,
    /// Standard error: hints.
    pub err: &'a mut dyn Write,
    /// Whether the header was already written.
    pub header_written: bool,
    /// Shows how much of the history has been read.
    pub progress: Progress,
}

/// With more events than this, the header is written before the events are read.
const LONG_HISTORY: u64 = 10_000;

impl ExecutionView<'_, '_> {
    /// Shows what the command asks for, and returns the exit code.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn show(self, command: Option<&Command>) -> Result<i32, Failure> {
        match command {
            None if self.arguments.jsonl => self.lines(),
            None if self.arguments.at.is_some() && !self.arguments.full => self.state(),
            None if self.arguments.json => self.history_json(),
            None if self.arguments.full => self.full(),
            None => self.history(),
            Some(Command::Context { key }) => self.context(key.as_deref()),
            Some(Command::Why { key }) => self.why(key),
            Some(Command::Explain { task }) => self.explain(task),
            Some(Command::Report { output }) => report_view::write(self, output),
            Some(Command::Verify(_)) => self.verify(),
            Some(Command::Export { to, output }) => {
                let ahead = Prefetch::new(&*self.target.log.reader, self.target.id).watched(&self.progress);
                let what = (*to, output.as_deref());
                export_view::write(self.screen, self.err, (self.target, &ahead), what, self.arguments.json)
            }
            Some(Command::Graph { format, critical_path }) => self.graph(*format, *critical_path),
            // The other commands are about a log or several executions, and never get here.
            Some(_) => self.history(),
        }
    }

    /// Begins a JSON object, with the execution as its first member.
    fn object(&mut self, what: &str) -> Result<Object<'_>, Failure> {
        let head = self.head()?;
        let execution = self.execution_json(&head);
        let mut object = Object::begin(self.screen.out, what)?;
        object.member("execution", &execution)?;
        Ok(object)
    }

    fn execution_json(&self, head: &Head) -> ExecutionJson {
        ExecutionJson::new(head, &self.target.log.path.display().to_string())
    }

    /// Writes the whole history as one JSON object.
    fn history_json(self) -> Result<i32, Failure> {
        let mut head = self.head()?;
        let reader = &*self.target.log.reader;
        let until = self.arguments.at.as_ref().map(|at| self.seq(at)).transpose()?.unwrap_or(Seq::MAX);
        let selected = || entries(reader, self.target.id).take_while(move |entry| is_until(entry, until));
        let story = tell(self.target.id, reader, selected());
        head.note(story.trouble.as_ref());
        let story = if until == Seq::MAX { story.standing(&head.standing) } else { story };
        let execution = self.execution_json(&head);
        write_history(self.screen.out, &execution, &story, selected(), &reader).map_err(|error| match error {
            NotWritten::Output(error) => Failure::from(error),
            NotWritten::History(trouble) => trouble.into(),
        })?;
        story.trouble.map_or(Ok(code::OK), |trouble| Err(trouble.into()))
    }

    /// Writes JSON lines: the execution, then each event.
    fn lines(self) -> Result<i32, Failure> {
        let head = self.head()?;
        let until = self.arguments.at.as_ref().map(|at| self.seq(at)).transpose()?.unwrap_or(Seq::MAX);
        let reader = &*self.target.log.reader;
        let mut lines = Lines::default();
        let out = &mut *self.screen.out;
        lines.execution(out, &head, &self.target.log.path.display().to_string())?;
        let ahead = Prefetch::new(reader, self.target.id).watched(&self.progress);
        ahead.entries(|entries| {
            for entry in entries {
                let entry = entry?;
                if entry.seq > until {
                    break;
                }
                lines.entry(out, &entry, &reader)?;
            }
            Ok::<_, Failure>(())
        })?;
        Ok(code::OK)
    }

    fn head(&self) -> Result<Head, Failure> {
        Ok(source::head(&*self.target.log.reader, self.target.id)?)
    }

    /// Reads the index entry. For a long history, also writes the header, before the events are read.
    fn begin(&mut self) -> Result<Head, Failure> {
        let head = self.head()?;
        if head.entry.records > LONG_HISTORY && !self.arguments.json {
            self.header(&head, ChainStatus::Unread)?;
            self.screen.out.flush()?;
        }
        Ok(head)
    }

    fn header(&mut self, head: &Head, chain: ChainStatus) -> Result<(), Failure> {
        if !self.header_written {
            header::write(self.screen, self.target, head, chain)?;
            self.header_written = true;
        }
        Ok(())
    }

    fn hint(&mut self, commands: &[String]) -> Result<(), Failure> {
        self.screen.out.flush()?;
        let commands: Vec<String> = commands.iter().map(|rest| self.target.command(rest)).collect();
        writeln!(self.err, "\nhint: {}", commands.join(" · "))?;
        Ok(())
    }

    fn history(mut self) -> Result<i32, Failure> {
        let mut head = self.begin()?;
        let mut story = self.ahead().entries(|entries| tell(self.target.id, &*self.target.log.reader, entries));
        let (indexed, read) = (head.entry.records, story.events);
        story.trouble = story.trouble.or_else(|| head.cut(read));
        head.note(story.trouble.as_ref());
        let story = story.standing(&head.standing);
        let chain = match &story.trouble {
            Some(HistoryError::Log(_)) => ChainStatus::Broken,
            _ if read < indexed => ChainStatus::Unread,
            _ => ChainStatus::Ok,
        };
        let header_was_written = self.header_written;
        if !header_was_written {
            header::write_without_standing(self.screen, self.target, &head, chain)?;
            self.header_written = true;
        }
        history_view::write(self.screen, self.target, &head, &story, self.arguments.values)?;
        if header_was_written && chain == ChainStatus::Ok {
            self.screen.line(&format!("\nchain ok: all {} verified", text::count(read, "record")))?;
        }
        if let Some(trouble) = story.trouble {
            return Err(trouble.into());
        }
        self.hint(&next_steps(&story))?;
        Ok(code::OK)
    }

    fn full(mut self) -> Result<i32, Failure> {
        let head = self.begin()?;
        let until = self.arguments.at.as_ref().map(|at| self.seq(at)).transpose()?;
        self.header(&head, ChainStatus::Unread)?;
        full_view::write(self.screen, self.target, &head, until, self.arguments.values)?;
        self.hint(&["--at SEQ".to_owned(), "why KEY".to_owned()])?;
        Ok(code::OK)
    }

    /// Returns the seq of the last event at or before a moment.
    fn seq(&self, at: &At) -> Result<Seq, Failure> {
        self.ahead().entries(|entries| at.find(entries)).map_err(|error| self.not_there(error))
    }

    fn not_there(&self, error: MomentError) -> Failure {
        match error {
            MomentError::History(trouble) => trouble.into(),
            MomentError::Seq { last, .. } => {
                let hint = self.target.command(&format!("--at {last}"));
                Failure::not_found(error.to_string(), hint).numbered(number::NO_MOMENT)
            }
            other => Failure::not_found(other.to_string(), self.target.command("--full")).numbered(number::NO_MOMENT),
        }
    }

    /// Returns the state at the requested moment, and the event that led to it.
    fn state_at(&self) -> Result<(Execution, Entry), Failure> {
        self.fold_to_moment(|_| ())
    }

    /// Like [`Self::state_at`], and calls `each` with every event up to that moment.
    fn fold_to_moment(&self, each: impl FnMut(Entry)) -> Result<(Execution, Entry), Failure> {
        let at = match self.arguments.at.clone().unwrap_or_default() {
            task @ At::Task(_) => At::Seq(self.seq(&task)?),
            other => other,
        };
        self.ahead()
            .entries(|entries| fold_to(self.target.id, &*self.target.log.reader, entries, &at, each))
            .map_err(|error| self.not_there(error))
    }

    fn ahead(&self) -> Prefetch<'_> {
        Prefetch::new(&*self.target.log.reader, self.target.id).watched(&self.progress)
    }

    fn state(mut self) -> Result<i32, Failure> {
        let head = self.begin()?;
        let (state, entry) = self.state_at()?;
        if self.arguments.json {
            let mut object = self.object("state")?;
            object.member("state", &StateJson::new(&state)?)?;
            object.end()?;
            let_go(state);
            return Ok(code::OK);
        }
        self.header(&head, ChainStatus::Unread)?;
        state_view::write(self.screen, self.target, &state, &entry)?;
        let_go(state);
        let back = entry.seq.checked_sub(1);
        let forward = Some(entry.seq + 1).filter(|seq| *seq < head.entry.records);
        let mut steps: Vec<String> = [back, forward].into_iter().flatten().map(|seq| format!("--at {seq}")).collect();
        steps.push(format!("--full --at {}", entry.seq));
        self.hint(&steps)?;
        Ok(code::OK)
    }

    fn context(mut self, key: Option<&str>) -> Result<i32, Failure> {
        if key.is_none() {
            self.begin()?;
        }
        let (state, entry) = self.state_at()?;
        if self.arguments.json {
            return self.context_json(&state, entry.seq, key);
        }
        if let Some(key) = key {
            return context_view::one(self.screen, self.target, &state, entry.seq, key).map(|()| code::OK);
        }
        let head = self.head()?;
        self.header(&head, ChainStatus::Unread)?;
        let first = context_view::all(self.screen, &state, entry.seq)?;
        if let Some(key) = first {
            self.hint(&[format!("context {}", quoted(&key)), format!("why {}", quoted(&key))])?;
        }
        Ok(code::OK)
    }

    fn verify(mut self) -> Result<i32, Failure> {
        let head = self.begin()?;
        let verification = verify_ahead(&self.ahead())?;
        let exit = if verification.is_ok() { code::OK } else { code::VERIFY_FAILED };
        if self.arguments.json {
            let mut object = self.object("verify")?;
            object.member("verification", &VerificationJson::from(&verification))?;
            object.end()?;
            return Ok(exit);
        }
        let chain = if verification.chain_holds() { ChainStatus::Ok } else { ChainStatus::Broken };
        self.header(&head, chain)?;
        verify_view::write(self.screen, &verification)?;
        Ok(exit)
    }

    fn context_json(mut self, state: &Execution, seq: Seq, key: Option<&str>) -> Result<i32, Failure> {
        let context = state.context();
        let Some(key) = key else {
            let mut object = self.object("context")?;
            object.member("seq", &seq)?;
            object.member("context", &facts::context(&context)?)?;
            let erased = facts::erased_keys(&context);
            if !erased.is_empty() {
                object.member("erased", &erased)?;
            }
            object.end()?;
            return Ok(code::OK);
        };
        let value = context.get(key).map(|version| ValueJson::new(key, version)).transpose()?.flatten();
        let Some(value) = value else {
            return context_view::one(self.screen, self.target, state, seq, key).map(|()| code::OK);
        };
        let mut object = self.object("value")?;
        object.member("seq", &seq)?;
        object.member("value", &value)?;
        object.end()?;
        Ok(code::OK)
    }

    fn why(mut self, key: &str) -> Result<i32, Failure> {
        self.begin()?;
        let mut facts = Facts::default();
        let (state, entry) = self.fold_to_moment(|entry| facts.note(entry))?;
        let steps = facts.why(&state, key).map_err(|error| self.no_value(error, entry.seq))?;
        let started = state.started();
        let_go(state);
        if self.arguments.json {
            let steps = steps.iter().map(|step| StepJson::new(step).map_err(io::Error::from));
            let mut object = self.object("why")?;
            object.member("key", &key)?;
            object.member("seq", &entry.seq)?;
            object.list("steps", steps)?;
            object.end()?;
            return Ok(code::OK);
        }
        let head = self.head()?;
        self.header(&head, ChainStatus::Unread)?;
        why_view::write(self.screen, &steps, started)?;
        let writer = steps.first().and_then(|step| step.write.as_ref()?.writer.clone());
        if let Some((task, _)) = writer {
            self.hint(&[format!("explain {}", quoted(&task)), format!("context {}", quoted(key))])?;
        }
        Ok(code::OK)
    }

    fn no_value(&self, error: NoValue, seq: Seq) -> Failure {
        let (key, nearest, without_effect) = match error {
            NoValue::History(trouble) => return trouble.into(),
            NoValue::Unknown { key, nearest, without_effect } => (key, nearest, without_effect),
        };
        let hint = match (without_effect.first(), nearest) {
            (Some((_, task, _)), _) => format!("explain {}", quoted(task)),
            (None, Some(nearest)) => format!("why {}", quoted(&nearest)),
            (None, None) => "context".to_owned(),
        };
        let written = without_effect.iter().map(|(seq, task, attempt)| {
            let task = text::clean(task);
            format!("written at seq {seq} by {task}, attempt {attempt}, without effect: the attempt had not completed")
        });
        let error = format!("no key '{}' in the context after seq {seq}", text::clean(&key));
        let failure = Failure::not_found(error, self.target.command(&hint));
        failure.numbered(number::NO_KEY).with_details(written.collect())
    }

    fn explain(mut self, name: &str) -> Result<i32, Failure> {
        self.begin()?;
        let (state, entry) = self.state_at()?;
        let story = self.ahead().entries(|entries| {
            let some = entries.take_while(|other| is_until(other, entry.seq));
            tell(self.target.id, &*self.target.log.reader, some)
        });
        let head = self.head()?;
        let story = if entry.seq + 1 >= head.entry.records { story.standing(&head.standing) } else { story };
        let Some(task) = state.graph().find(name) else {
            if let Some((_, seq)) = story.removed.iter().find(|(task, _)| **task == *name) {
                return self.explain_removed(&head, &story, &state, (name, *seq));
            }
            return Err(self.no_task(&story, &state, name));
        };
        if self.arguments.json {
            let of_task = facts::tasks(&story).filter(|row| row.is_of(name));
            let mut object = self.object("explain")?;
            object.member("state", &StateJson::of_task(&story, &state, task)?)?;
            object.list("tasks", of_task.map(Ok::<_, io::Error>))?;
            object.end()?;
            return Ok(code::OK);
        }
        self.header(&head, ChainStatus::Unread)?;
        explain_view::write(self.screen, &story, &state, task)?;
        let steps = next_to_explain(&story, &state, task);
        if !steps.is_empty() {
            self.hint(&steps)?;
        }
        Ok(code::OK)
    }

    /// Explains a task that a recovery with another graph removed.
    fn explain_removed(
        mut self,
        head: &Head,
        story: &Story,
        state: &Execution,
        (name, seq): (&str, Seq),
    ) -> Result<i32, Failure> {
        if self.arguments.json {
            let of_task = facts::tasks(story).filter(|row| row.is_of(name));
            let mut object = self.object("explain")?;
            object.member("removed", &seq)?;
            object.list("tasks", of_task.map(Ok::<_, io::Error>))?;
            object.end()?;
            return Ok(code::OK);
        }
        self.header(head, ChainStatus::Unread)?;
        explain_view::write_removed(self.screen, story, state, (name, seq))?;
        let before = seq.saturating_sub(1);
        self.hint(&[format!("--at {before}"), format!("--at {seq}")])?;
        Ok(code::OK)
    }

    fn graph(mut self, format: Option<GraphFormat>, critical: bool) -> Result<i32, Failure> {
        let until = self.arguments.at.as_ref().map(|at| self.seq(at)).transpose()?.unwrap_or(Seq::MAX);
        let story = self.ahead().entries(|entries| {
            let some = entries.take_while(|entry| is_until(entry, until));
            tell(self.target.id, &*self.target.log.reader, some)
        });
        let head = self.head()?;
        let story = if until == Seq::MAX { story.standing(&head.standing) } else { story };
        let Some(picture) = Picture::of(&story) else {
            return Err(story.trouble.map_or_else(|| self.not_there(MomentError::Empty), Failure::from));
        };
        match format {
            Some(GraphFormat::Mermaid) => write!(self.screen.out, "{}", graph::formats::mermaid(&picture, critical))?,
            Some(GraphFormat::Dot) => write!(self.screen.out, "{}", graph::formats::dot(&picture, critical))?,
            Some(GraphFormat::Svg) => write!(self.screen.out, "{}", graph::formats::svg(&picture, critical))?,
            _ if self.arguments.json || format.is_some() => {
                let mut object = self.object("graph")?;
                object.member("graph", &GraphJson::from(&picture))?;
                object.end()?;
            }
            _ => {
                self.header(&head, ChainStatus::Unread)?;
                graph_view::write(self.screen, &picture, critical)?;
                graph_view::removed(self.screen, &story.removed)?;
                let path = if critical { "" } else { " --critical-path" };
                self.hint(&[format!("graph{path} --format svg"), "graph --format mermaid".to_owned()])?;
            }
        }
        Ok(code::OK)
    }

    fn no_task(&self, story: &Story, state: &Execution, name: &str) -> Failure {
        let graph = state.graph();
        let removed = story.removed.iter().map(|(task, _)| &**task);
        let names: Vec<&str> = graph.tasks().map(|task| &**graph.name(task)).chain(removed).collect();
        let hint = match nearest(name, names.iter().copied()) {
            Some(near) => format!("explain {}", quoted(near)),
            None => "--at 0".to_owned(),
        };
        let error = format!("there is no task '{}' in workflow {}", text::clean(name), text::clean(state.workflow()));
        Failure::not_found(error, self.target.command(&hint)).numbered(number::NO_TASK)
    }
}

/// Returns the commands to suggest after a history, depending on the status of the execution.
fn next_steps(story: &Story) -> Vec<String> {
    let rows = || {
        story.rows.iter().filter_map(|row| match &row.what {
            What::Task(task) => Some(task),
            _ => None,
        })
    };
    let failed = story.first_failure();
    if let Some((row, last)) = failed.and_then(|row| Some((row, row.attempts.last()?))) {
        let mut steps = vec![format!("explain {}", quoted(&row.task)), format!("--at {}", last.started)];
        let context = story.state.as_ref().map(Execution::context).unwrap_or_default();
        let read = last.reads.keys.iter().find(|read| context.get(&read.key).is_some());
        steps.extend(read.map(|read| format!("why {}", quoted(&read.key))));
        return steps;
    }
    if let Some(blocking) = blocking_task(story) {
        return vec![format!("explain {}", quoted(blocking)), "context".to_owned(), "--full".to_owned()];
    }
    let written = rows().filter_map(|row| row.effective_writes().last()).next_back();
    let mut steps: Vec<String> = written.map(|change| format!("why {}", quoted(&change.key))).into_iter().collect();
    // A task that its own rule skipped is worth an explanation first.
    let skipped = rows().find(|row| row.skipped.as_ref().is_some_and(|why| !why.failure));
    steps.extend(skipped.map(|row| format!("explain {}", quoted(&row.task))));
    steps.push("context".to_owned());
    if skipped.is_none() {
        steps.push("--full".to_owned());
    }
    steps
}

/// Returns the task that an unfinished execution is waiting for: one that runs, or else one that could run.
fn blocking_task(story: &Story) -> Option<&TaskId> {
    let state = story.state.as_ref().filter(|state| !state.status().is_final())?;
    let find = |wanted: fn(TaskState) -> bool| state.graph().tasks().find(|task| wanted(state.task(*task).state()));
    let blocking = find(|state| matches!(state, TaskState::Running { .. }))
        .or_else(|| find(|state| matches!(state, TaskState::Deferred { .. })))
        .or_else(|| find(|state| matches!(state, TaskState::WaitingRetry { .. })))
        .or_else(|| state.ready().next())?;
    Some(state.graph().name(blocking))
}

/// Returns the commands to suggest after an explanation: the state that the last attempt saw, and the origin of a value
/// that it read.
fn next_to_explain(story: &Story, state: &Execution, task: TaskIndex) -> Vec<String> {
    let name = state.graph().name(task);
    let row = story.rows.iter().find_map(|row| match &row.what {
        What::Task(row) if row.task == *name => Some(row),
        _ => None,
    });
    let Some(last) = row.and_then(|row| row.attempts.last()) else {
        let asked = row.and_then(|row| row.asked.iter().find(|(_, value)| value.is_some()));
        if let Some((key, _)) = asked {
            return vec![format!("why {}", quoted(key))];
        }
        let upstream = state.graph().upstream(task).first();
        return upstream.map(|up| format!("explain {}", quoted(state.graph().name(*up)))).into_iter().collect();
    };
    let mut steps = vec![format!("--at {}", last.started)];
    let context = state.context();
    let read = last.reads.keys.iter().find(|read| context.get(&read.key).is_some());
    steps.extend(read.map(|read| format!("why {}", quoted(&read.key))));
    steps
}

/// Returns whether an entry is at or before `until`. An entry that cannot be read passes, so that the error is
/// reported.
fn is_until(entry: &Result<Entry, HistoryError>, until: Seq) -> bool {
    entry.as_ref().map_or(true, |entry| entry.seq <= until)
}
