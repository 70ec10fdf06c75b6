//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use cloacina_engine::core::standing::ExecutionStatus;

use super::completion::executions;
use super::screen::Times;
use crate::diff::Ignored;
use crate::moment::{At, Since};

/// Shows what ran in an execution, in what order, what it read and wrote, and why it stopped. Reads the log of events,
/// writes nothing to it, and runs no task code.
#[derive(Debug, Parser)]
#[command(
    name = "replay",
    version,
    override_usage = "replay ID [OPTIONS]\n       replay ID COMMAND [OPTIONS]\n       replay list [OPTIONS]\n       replay diff A B [OPTIONS]",
    after_help = "Exit codes: 0 it went well, 1 two executions differ, or the one that was followed did not complete, 2 usage, 3 not found, 4 cannot read, 5 verify failed, 6 the one that was followed still runs",
    disable_help_subcommand = true,
    subcommand_negates_reqs = false
)]
pub struct Arguments {
    /// The execution: its id, or any unique end or beginning of it; `latest` or `@` is the newest, `@-` the one before; or a file that was exported. Also the id of a schedule
    #[arg(value_name = "ID", add = ArgValueCompleter::new(executions))]
    pub id: Option<String>,

    /// Show every event, a row each
    #[arg(long)]
    pub full: bool,

    /// Show the values that were written
    #[arg(long)]
    pub values: bool,

    /// Show the state after a moment: a seq (19), a time since the start (+2.5s), a time, or a task's name (its last
    /// event)
    #[arg(long, value_name = "MOMENT", global = true, allow_hyphen_values = true)]
    pub at: Option<At>,

    /// The log: the directory that the runner was opened with. Default: $CLOACA_LOG, else the one in the working
    /// directory, else the one opened last
    #[arg(long, value_name = "PATH", global = true)]
    pub log: Option<PathBuf>,

    /// Write one JSON object instead
    #[arg(long, global = true)]
    pub json: bool,

    /// Write one JSON object for each line: the execution, then each event; for `list` each execution
    #[arg(long, global = true, conflicts_with = "json")]
    pub jsonl: bool,

    /// Show events as they are appended, until the execution ends; Ctrl-C stops showing, not the execution
    #[arg(long)]
    pub follow: bool,

    /// Step through the events in the terminal
    #[arg(short, long)]
    pub interactive: bool,

    /// How times are shown
    #[arg(long, value_name = "HOW", global = true)]
    pub time: Option<Times>,

    /// Whether to use colours; $NO_COLOR turns them off too
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub color: ColorChoice,

    /// What to show
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The options that were typed.
    #[arg(skip)]
    pub typed: Vec<String>,
}

/// The options that every command takes, by name, and those of them that have a meaning for a command: the others are not in its
/// help, and are refused.
const MEANT: [(&str, &[&str]); 13] = [
    ("list", &["log", "json", "jsonl", "time", "color"]),
    ("context", &["at", "log", "json", "time", "color"]),
    ("why", &["at", "log", "json", "time", "color"]),
    ("explain", &["at", "log", "json", "time", "color"]),
    ("graph", &["at", "log", "json", "time", "color"]),
    ("report", &["log", "json"]),
    ("serve", &["log", "json"]),
    ("diff", &["log", "json", "color"]),
    ("export", &["log", "json"]),
    ("explain-error", &["json"]),
    ("verify", &["log", "json", "time", "color"]),
    ("prove", &["log", "json"]),
    ("doctor", &["log", "json", "time", "color"]),
];

impl Arguments {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// Help, or what is wrong.
    pub fn of(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = Self::line().try_get_matches_from(arguments)?;
        let mut read = Self::from_arg_matches(&matches)?;
        let levels = [Some(&matches), matches.subcommand().map(|(_, inner)| inner)];
        let is_typed = |option: &str| {
            levels.iter().flatten().any(|level| level.value_source(option) == Some(ValueSource::CommandLine))
        };
        read.typed =
            Self::options().iter().map(|option| option.get_id().to_string()).filter(|id| is_typed(id)).collect();
        Ok(read)
    }

    /// The command line with all its commands. Options that have no meaning for a command are not in its help.
    #[must_use]
    pub fn line() -> clap::Command {
        let mut line = Self::command();
        let names: Vec<String> = line.get_subcommands().map(|known| known.get_name().to_owned()).collect();
        for name in names {
            let hidden = Self::options().into_iter().filter(|option| !is_meant(&name, option.get_id().as_str()));
            let hidden: Vec<Arg> = hidden.map(|option| option.hide(true)).collect();
            line = line.mut_subcommand(name, |known| known.args(hidden));
        }
        line
    }

    /// The options that are taken with every command.
    fn options() -> Vec<Arg> {
        Self::command().get_arguments().filter(|option| option.is_global_set()).cloned().collect()
    }

    /// The first option that was typed and has no meaning for the command.
    #[must_use]
    pub fn option_without_meaning(&self) -> Option<&str> {
        let name = self.command.as_ref()?.name();
        self.typed.iter().map(String::as_str).find(|option| !is_meant(name, option))
    }
}

fn is_meant(command: &str, option: &str) -> bool {
    MEANT.iter().find(|(known, _)| *known == command).is_none_or(|(_, meant)| meant.contains(&option))
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The executions, newest first
    #[command(override_usage = "replay list [OPTIONS]")]
    List {
        /// Only those in this state
        #[arg(long, value_name = "STATUS", ignore_case = true, value_parser = ExecutionStatus::ALL.map(ExecutionStatus::name))]
        status: Option<String>,
        /// Only those of this workflow
        #[arg(long, value_name = "NAME")]
        workflow: Option<String>,
        /// Only those that started since: a span (30m, 2h, 7d), a date or a time
        #[arg(long, value_name = "WHEN")]
        since: Option<Since>,
        /// At most so many
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
    /// The context, or the value of one key as JSON
    #[command(override_usage = "replay ID context [KEY] [OPTIONS]")]
    Context {
        /// The key
        key: Option<String>,
    },
    /// Where a value came from: who wrote it, what that task had read, back to the input
    #[command(override_usage = "replay ID why KEY [OPTIONS]")]
    Why {
        /// The key
        key: String,
    },
    /// Why a task ran, was skipped, or still waits
    #[command(override_usage = "replay ID explain TASK [OPTIONS]")]
    Explain {
        /// The task
        task: String,
    },
    /// The graph with the state of each task, drawn here or for other programs
    #[command(override_usage = "replay ID graph [OPTIONS]")]
    Graph {
        /// What it is written for; without it, it is drawn with letters
        #[arg(long, value_name = "FORMAT")]
        format: Option<GraphFormat>,
        /// Mark the path that decided how long the execution took
        #[arg(long)]
        critical_path: bool,
    },
    /// Write all of it as one HTML file, to look at in a browser and to hand on: graph, timeline, events and context, with a
    /// slider over the events that moves all of them
    #[command(override_usage = "replay ID report -o FILE [OPTIONS]")]
    Report {
        /// The file to write; `-` is standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Show the whole log in a browser, live: a list of its executions, and the page of each, which moves while it runs
    #[cfg(feature = "serve")]
    #[command(override_usage = "replay serve [OPTIONS]")]
    Serve {
        /// The port on the loopback interface; 0 is any that is free
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        port: u16,
    },
    /// What differs between two executions: the first divergence, then task by task, then the context key by key
    #[command(override_usage = "replay diff A B [OPTIONS]")]
    Diff {
        /// One execution: an id, or any other way to name one
        #[arg(add = ArgValueCompleter::new(executions))]
        a: String,
        /// The other one
        #[arg(add = ArgValueCompleter::new(executions))]
        b: String,
        /// What not to compare, also several with commas between them: the order of the tasks, how often they were tried, how
        /// long they took
        #[arg(long, value_name = "WHAT", value_delimiter = ',')]
        ignore: Vec<IgnoredArgument>,
    },
    /// Write it for other programs: JSON lines, a trace for Perfetto, spans for OpenTelemetry, runs for OpenLineage, or an
    /// archive, a file that every command here takes in place of an id
    #[command(override_usage = "replay ID export --to FORMAT [-o FILE] [OPTIONS]")]
    Export {
        /// What it is written for
        #[arg(long, value_name = "FORMAT")]
        to: ExportFormat,
        /// The file to write; without it, or with `-`, standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// What an error means and what to do about it
    #[command(override_usage = "replay explain-error CODE")]
    ExplainError {
        /// The code, such as CL0016
        code: String,
    },
    /// Compute the chain of the records again, and fold the events again; or check a whole log, a checkpoint, a proof
    #[command(
        override_usage = "replay ID verify [OPTIONS]\n       replay verify --all\n       replay verify --checkpoint FILE [--key HEX]\n       replay verify --proof FILE [--checkpoint FILE] [--key HEX]"
    )]
    Verify(VerifyArguments),
    /// Look at the log's ground: file system, what a sync costs, free space, durability, who has it, how large it is
    #[command(override_usage = "replay doctor [OPTIONS]")]
    Doctor,
    /// Prove, for whoever has no log: that an event was recorded, or that a log only grew since a checkpoint
    #[command(override_usage = "replay ID prove SEQ [OPTIONS]\n       replay prove --since FILE [OPTIONS]")]
    Prove(ProveArguments),
}

impl Command {
    /// What it is called on the command line.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::List { .. } => "list",
            Self::Context { .. } => "context",
            Self::Why { .. } => "why",
            Self::Explain { .. } => "explain",
            Self::Graph { .. } => "graph",
            Self::Report { .. } => "report",
            #[cfg(feature = "serve")]
            Self::Serve { .. } => "serve",
            Self::Diff { .. } => "diff",
            Self::Export { .. } => "export",
            Self::ExplainError { .. } => "explain-error",
            Self::Verify(_) => "verify",
            Self::Doctor => "doctor",
            Self::Prove(_) => "prove",
        }
    }
}

/// What is to be verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct VerifyArguments {
    /// The whole log, record by record
    #[arg(long, conflicts_with_all = ["checkpoint", "proof"])]
    pub all: bool,
    /// The log, or a proof, against a checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// A proof; no log is needed
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// The public key that must have signed, in hex
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
}

impl VerifyArguments {
    /// Whether one execution is meant, and nothing else.
    #[must_use]
    pub fn is_of_execution(&self) -> bool {
        *self == Self::default()
    }
}

/// What is to be proven.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ProveArguments {
    /// The event
    #[arg(value_name = "SEQ", required_unless_present = "since")]
    pub seq: Option<u64>,
    /// That the log only grew since this checkpoint
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seq", "checkpoint", "without_body"])]
    pub since: Option<PathBuf>,
    /// By this checkpoint. Default: the last one in the log that covers the event
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Do not show what the event says: only that there was one, when, and where
    #[arg(long)]
    pub without_body: bool,
}

/// What a graph is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A flowchart of Mermaid, as many pages and editors show it
    Mermaid,
    /// The language of Graphviz
    Dot,
    /// A picture
    Svg,
    /// The same as `--json`
    Json,
}

/// What is not compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IgnoredArgument {
    /// That tasks ran in another order
    Order,
    /// That a task needed more attempts
    Attempts,
    /// That a task took longer
    Time,
}

impl From<IgnoredArgument> for Ignored {
    fn from(argument: IgnoredArgument) -> Self {
        match argument {
            IgnoredArgument::Order => Self::Order,
            IgnoredArgument::Attempts => Self::Attempts,
            IgnoredArgument::Time => Self::Time,
        }
    }
}

/// What an execution is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// JSON lines, the same as `--jsonl`
    Jsonl,
    /// A trace for Perfetto and chrome://tracing
    Chrome,
    /// Spans for OpenTelemetry (OTLP, in JSON)
    Otlp,
    /// Run events of OpenLineage, a line each
    Openlineage,
    /// One portable file with the records as they were sealed
    Archive,
}
