//! From arguments to a view.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};

use clap::{ColorChoice, Parser};
use cloacina_engine::core::event::Seq;
use cloacina_engine::core::state::Execution;

use super::arguments::{Arguments, Command};
use super::failure::{Failure, code};
use super::found::{self, Found, quoted};
use super::header::{self, ChainWord};
use super::screen::Screen;
use super::style::Style;
use super::surroundings::{PLAIN_WIDTH, Surroundings};
use super::{context_view, full_view, history_view, list_view, state_view, verify_view};
use crate::at::{At, NotThere};
use crate::history::fold_until;
use crate::reading::{Entry, Trouble, entries};
use crate::source::{self, Head, Wanted};
use crate::story::{Outcome, Story, What, tell};
use crate::verify::verify;

/// Runs a command line (the program's name first) and gives its exit code.
pub fn run(arguments: Vec<OsString>, around: &mut Surroundings<'_>) -> i32 {
    let ended = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => perform(&arguments, around),
        Err(error) => return usage(&error, around),
    };
    let flushed = around.out.flush();
    match ended.and_then(|code| flushed.map(|()| code).map_err(Failure::from)) {
        Ok(code) => code,
        Err(failure) => tell_failure(failure, around),
    }
}

/// Help goes where data goes, everything else that clap says to the other side.
fn usage(error: &clap::Error, around: &mut Surroundings<'_>) -> i32 {
    let text = error.render();
    // Nobody is left to tell if this cannot be written.
    let _ = if error.use_stderr() { write!(around.err, "{text}") } else { write!(around.out, "{text}") };
    let _ = around.out.flush();
    error.exit_code()
}

fn tell_failure(failure: Failure, around: &mut Surroundings<'_>) -> i32 {
    // Nobody is left to tell if this cannot be written.
    match failure {
        Failure::Output(error) if error.kind() == ErrorKind::BrokenPipe => code::OK,
        Failure::Output(error) => {
            let _ = writeln!(around.err, "error: cannot write: {error}");
            code::CANNOT_READ
        }
        Failure::Told { code, error, details, hint } => {
            let _ = writeln!(around.err, "error: {error}");
            for line in details {
                let _ = writeln!(around.err, "{line}");
            }
            let _ = writeln!(around.err, "\nhint: {hint}");
            code
        }
    }
}

fn perform(arguments: &Arguments, around: &mut Surroundings<'_>) -> Result<i32, Failure> {
    let Surroundings { now, terminal, .. } = *around;
    let no_color = (around.variable)("NO_COLOR").is_some_and(|value| !value.is_empty());
    let on = match arguments.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => terminal.is_some() && !no_color,
    };
    let mut nowhere = io::sink();
    let width = terminal.unwrap_or(PLAIN_WIDTH).max(40);
    let mut screen = Screen { out: &mut nowhere, width, style: Style { on }, times: arguments.time, now };
    match (&arguments.id, &arguments.command) {
        (None, Some(Command::List { status, workflow, limit })) => {
            let wanted = Wanted { status: status.clone(), workflow: workflow.clone(), limit: Some(*limit) };
            let log = found::first_log(arguments.log.as_deref(), around)?;
            screen.out = around.out;
            list(arguments, &wanted, &log, &mut screen, around.err)
        }
        (Some(_), Some(Command::List { .. })) => Err(Failure::usage("`list` takes no id", "replay list")),
        (None, _) => Err(Failure::usage("which execution? Give an id, or `latest`", "replay list")),
        (Some(id), command) => {
            let found = found::execution(arguments.log.as_deref(), id, around, &screen)?;
            screen.out = around.out;
            let view = View { arguments, found: &found, screen: &mut screen, err: around.err };
            match command {
                None if arguments.full => view.full(),
                None if arguments.at.is_some() => view.state(),
                None => view.history(),
                Some(Command::Context { key }) => view.context(key.as_deref()),
                Some(Command::Verify) => view.verify(),
                Some(Command::Why { .. } | Command::Explain { .. } | Command::List { .. }) => Ok(code::OK),
            }
        }
    }
}

fn list(
    arguments: &Arguments,
    wanted: &Wanted,
    log: &found::FoundLog,
    screen: &mut Screen<'_>,
    err: &mut dyn Write,
) -> Result<i32, Failure> {
    let (heads, more) = source::list(&*log.reader, wanted)?;
    let _ = arguments;
    header::read_from(screen, &log.path.display().to_string())?;
    screen.line("")?;
    if heads.is_empty() {
        screen.line("no executions")?;
        return Ok(code::OK);
    }
    list_view::write(screen, &heads)?;
    screen.out.flush()?;
    if more {
        writeln!(err, "\nthere are more; hint: replay list --limit {}{}", heads.len().max(50) * 2, log.option)?;
    } else if let Some(newest) = heads.first() {
        let command = found::next_command(&crate::ids::short(newest.id), "", &log.option);
        writeln!(err, "\nhint: {command}")?;
    }
    Ok(code::OK)
}

/// A view of one execution.
struct View<'a, 'b> {
    arguments: &'a Arguments,
    found: &'a Found,
    screen: &'a mut Screen<'b>,
    err: &'a mut dyn Write,
}

impl View<'_, '_> {
    fn head(&self) -> Result<Head, Failure> {
        Ok(source::head(&*self.found.log.reader, self.found.id)?)
    }

    fn entries(&self) -> impl Iterator<Item = Result<Entry, Trouble>> + '_ {
        entries(&*self.found.log.reader, self.found.id)
    }

    fn hint(&mut self, commands: &[String]) -> Result<(), Failure> {
        self.screen.out.flush()?;
        let commands: Vec<String> = commands.iter().map(|rest| self.found.command(rest)).collect();
        writeln!(self.err, "\nhint: {}", commands.join(" · "))?;
        Ok(())
    }

    fn history(mut self) -> Result<i32, Failure> {
        let head = self.head()?;
        let story = tell(self.found.id, &*self.found.log.reader, self.entries());
        let chain = match &story.trouble {
            Some(Trouble::Log(_)) => ChainWord::Broken,
            _ if story.events < head.entry.records => ChainWord::Unread,
            _ => ChainWord::Ok,
        };
        header::write(self.screen, self.found, &head, chain)?;
        history_view::write(self.screen, self.found, &head, &story, self.arguments.values)?;
        if let Some(trouble) = story.trouble {
            return Err(trouble.into());
        }
        self.hint(&next_steps(&story))?;
        Ok(code::OK)
    }

    fn full(mut self) -> Result<i32, Failure> {
        let head = self.head()?;
        let until = self.arguments.at.as_ref().map(|at| self.seq(at)).transpose()?;
        header::write(self.screen, self.found, &head, ChainWord::Unread)?;
        full_view::write(self.screen, self.found, &head, until, self.arguments.values)?;
        self.hint(&["--at SEQ".to_owned(), "why KEY".to_owned()])?;
        Ok(code::OK)
    }

    /// The last event at or before a moment.
    fn seq(&self, at: &At) -> Result<Seq, Failure> {
        at.find(self.entries()).map_err(|error| self.not_there(error))
    }

    fn not_there(&self, error: NotThere) -> Failure {
        match error {
            NotThere::Trouble(trouble) => trouble.into(),
            NotThere::Seq { last, .. } => {
                Failure::not_found(error.to_string(), self.found.command(&format!("--at {last}")))
            }
            other => Failure::not_found(other.to_string(), self.found.command("--full")),
        }
    }

    /// The state at the moment that was asked for, and the event before it.
    fn state_at(&self) -> Result<(Execution, Entry), Failure> {
        let until = self.seq(self.arguments.at.as_ref().unwrap_or(&At::End))?;
        let state = fold_until(self.found.id, &*self.found.log.reader, self.entries(), until)
            .map_err(|error| self.not_there(error))?;
        let mut entry = crate::reading::Records::new(&*self.found.log.reader, self.found.id, until);
        let entry = entry.next().transpose()?.ok_or_else(|| self.not_there(NotThere::Empty))?;
        Ok((state, Entry::decode(&entry)?))
    }

    fn state(mut self) -> Result<i32, Failure> {
        let head = self.head()?;
        let (state, entry) = self.state_at()?;
        header::write(self.screen, self.found, &head, ChainWord::Unread)?;
        state_view::write(self.screen, self.found, &state, &entry)?;
        let back = entry.seq.saturating_sub(1);
        let forth = (entry.seq + 1).min(head.entry.records.saturating_sub(1));
        self.hint(&[format!("--at {back}"), format!("--at {forth}")])?;
        Ok(code::OK)
    }

    fn context(mut self, key: Option<&str>) -> Result<i32, Failure> {
        let (state, entry) = self.state_at()?;
        if let Some(key) = key {
            return context_view::one(self.screen, self.found, &state, entry.seq, key).map(|()| code::OK);
        }
        let head = self.head()?;
        header::write(self.screen, self.found, &head, ChainWord::Unread)?;
        let first = context_view::all(self.screen, &state, entry.seq)?;
        if let Some(key) = first {
            self.hint(&[format!("context {}", quoted(&key)), format!("why {}", quoted(&key))])?;
        }
        Ok(code::OK)
    }

    fn verify(self) -> Result<i32, Failure> {
        let head = self.head()?;
        let verification = verify(&*self.found.log.reader, self.found.id)?;
        let chain = if verification.chain_holds() { ChainWord::Ok } else { ChainWord::Broken };
        header::write(self.screen, self.found, &head, chain)?;
        verify_view::write(self.screen, &verification)?;
        Ok(if verification.is_ok() { code::OK } else { code::VERIFY_FAILED })
    }
}

/// What to type next, by how the execution stands.
fn next_steps(story: &Story) -> Vec<String> {
    let rows = || {
        story.rows.iter().filter_map(|row| match &row.what {
            What::Task(task) => Some(task),
            _ => None,
        })
    };
    let failed = rows().find_map(|row| {
        let last = row.attempts.last()?;
        matches!(last.outcome, Outcome::Failed { retry_at: None, .. }).then_some((row, last))
    });
    if let Some((row, last)) = failed {
        let mut steps = vec![format!("explain {}", quoted(&row.task)), format!("--at {}", last.started)];
        steps.extend(last.reads.keys.first().map(|read| format!("why {}", quoted(&read.key))));
        return steps;
    }
    let written = rows().filter_map(|row| row.effective_writes().last()).last();
    let mut steps: Vec<String> = written.map(|change| format!("why {}", quoted(&change.key))).into_iter().collect();
    steps.extend(["context".to_owned(), "--full".to_owned()]);
    steps
}
