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

/// Shows what ran in an execution, in what order, what it read and wrote, and why it stopped. Only reads the log:
/// never writes to it, and never runs task code.
#[derive(Debug, Parser)]
#[command(
    name = "replay",
    version,
    override_usage = "replay ID [OPTIONS]\n       replay ID COMMAND [OPTIONS]\n       replay list [OPTIONS]\n       replay diff A B [OPTIONS]",
    after_help = "Exit codes: 0 success, 1 the executions differ, or the followed execution did not complete, 2 usage, 3 not found, 4 cannot read, 5 verification failed, 6 the followed execution has not ended",
    disable_help_subcommand = true,
    subcommand_negates_reqs = false
)]
pub struct Arguments {
    /// The execution: an id, or a unique prefix or suffix of one; `latest` or `@` for the newest, `@-` for the one
    /// before; or an exported file. Also the id of a schedule
    #[arg(value_name = "ID", add = ArgValueCompleter::new(executions))]
    pub id: Option<String>,

    /// Show every event, one per row
    #[arg(long)]
    pub full: bool,

    /// Show the values that were written
    #[arg(long)]
    pub values: bool,

    /// Show the state at a moment: a seq (19), a time since the start (+2.5s), a time, or a task name (its last event)
    #[arg(long, value_name = "MOMENT", global = true, allow_hyphen_values = true)]
    pub at: Option<At>,

    /// The log directory, as passed to the runner. Default: $CLOACA_LOG, else the log in the working directory, else
    /// the log opened last
    #[arg(long, value_name = "PATH", global = true)]
    pub log: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long, global = true)]
    pub json: bool,

    /// Print JSON lines: the execution, then each event; with `list`, each execution
    #[arg(long, global = true, conflicts_with = "json")]
    pub jsonl: bool,

    /// Show events as they are appended, until the execution ends; Ctrl-C stops following, not the execution
    #[arg(long)]
    pub follow: bool,

    /// Step through the events in the terminal
    #[arg(short, long)]
    pub interactive: bool,

    /// How to show times
    #[arg(long, value_name = "HOW", global = true)]
    pub time: Option<Times>,

    /// When to use colours; $NO_COLOR also turns them off
    #[arg(long, value_name = "WHEN", global = true, default_value = "auto")]
    pub color: ColorChoice,

    /// What to show
    #[command(subcommand)]
    pub command: Option<Command>,

    /// The global options given on the command line.
    #[arg(skip)]
    pub typed: Vec<String>,
}

/// The global options that each command supports. The others are hidden from its help and rejected.
const SUPPORTED: [(&str, &[&str]); 13] = [
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
    /// Parses a command line that starts with the program name.
    ///
    /// # Errors
    /// A request for help, or what is wrong with the command line.
    pub fn from_command_line(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = Self::line().try_get_matches_from(arguments)?;
        let mut parsed = Self::from_arg_matches(&matches)?;
        let levels = [Some(&matches), matches.subcommand().map(|(_, inner)| inner)];
        let is_typed = |option: &str| {
            levels.iter().flatten().any(|level| level.value_source(option) == Some(ValueSource::CommandLine))
        };
        parsed.typed =
            Self::global_options().iter().map(|option| option.get_id().to_string()).filter(|id| is_typed(id)).collect();
        Ok(parsed)
    }

    /// Returns the command line parser. Each command hides the global options that it does not support.
    #[must_use]
    pub fn line() -> clap::Command {
        let mut line = Self::command();
        let names: Vec<String> = line.get_subcommands().map(|known| known.get_name().to_owned()).collect();
        for name in names {
            let hidden =
                Self::global_options().into_iter().filter(|option| !is_supported(&name, option.get_id().as_str()));
            let hidden: Vec<Arg> = hidden.map(|option| option.hide(true)).collect();
            line = line.mut_subcommand(name, |known| known.args(hidden));
        }
        line
    }

    /// Returns the global options.
    fn global_options() -> Vec<Arg> {
        Self::command().get_arguments().filter(|option| option.is_global_set()).cloned().collect()
    }

    /// Returns the first global option on the command line that the command does not support.
    #[must_use]
    pub fn unsupported_option(&self) -> Option<&str> {
        let name = self.command.as_ref()?.name();
        self.typed.iter().map(String::as_str).find(|option| !is_supported(name, option))
    }
}

fn is_supported(command: &str, option: &str) -> bool {
    SUPPORTED.iter().find(|(known, _)| *known == command).is_none_or(|(_, options)| options.contains(&option))
}

/// What to show.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the executions, newest first
    #[command(override_usage = "replay list [OPTIONS]")]
    List {
        /// Only executions with this status
        #[arg(long, value_name = "STATUS", ignore_case = true, value_parser = ExecutionStatus::ALL.map(ExecutionStatus::name))]
        status: Option<String>,
        /// Only executions of this workflow
        #[arg(long, value_name = "NAME")]
        workflow: Option<String>,
        /// Only executions that started since: an age (30m, 2h, 7d), a date or a time
        #[arg(long, value_name = "WHEN")]
        since: Option<Since>,
        /// The maximum number of executions to list
        #[arg(long, value_name = "COUNT", default_value_t = 100)]
        limit: usize,
    },
    /// Show the context, or the value of one key as JSON
    #[command(override_usage = "replay ID context [KEY] [OPTIONS]")]
    Context {
        /// The key
        key: Option<String>,
    },
    /// Show where a value came from: the task that wrote it, what that task read, and so on back to the input
    #[command(override_usage = "replay ID why KEY [OPTIONS]")]
    Why {
        /// The key
        key: String,
    },
    /// Explain why a task ran, was skipped, or is waiting
    #[command(override_usage = "replay ID explain TASK [OPTIONS]")]
    Explain {
        /// The task
        task: String,
    },
    /// Show the task graph with the state of each task, or write it in another format
    #[command(override_usage = "replay ID graph [OPTIONS]")]
    Graph {
        /// The format to write. Default: a drawing in text
        #[arg(long, value_name = "FORMAT")]
        format: Option<GraphFormat>,
        /// Mark the critical path: the tasks that determined the duration of the execution
        #[arg(long)]
        critical_path: bool,
    },
    /// Write a self-contained HTML file: graph, timeline, events and context, with a slider that moves all of them
    /// through the events
    #[command(override_usage = "replay ID report -o FILE [OPTIONS]")]
    Report {
        /// The file to write; `-` is standard output
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Serve the whole log to a browser: a list of its executions, and a page for each that updates while it runs
    #[cfg(feature = "serve")]
    #[command(override_usage = "replay serve [OPTIONS]")]
    Serve {
        /// The port on the loopback interface; 0 picks a free one
        #[arg(long, value_name = "PORT", default_value_t = 0)]
        port: u16,
    },
    /// Compare two executions: the first divergence, then each task, then each key of the context
    #[command(override_usage = "replay diff A B [OPTIONS]")]
    Diff {
        /// The first execution, as in `replay ID`
        #[arg(add = ArgValueCompleter::new(executions))]
        a: String,
        /// The second execution
        #[arg(add = ArgValueCompleter::new(executions))]
        b: String,
        /// Differences to ignore, separated by commas: the order of the tasks, their number of attempts, their
        /// durations
        #[arg(long, value_name = "WHAT", value_delimiter = ',')]
        ignore: Vec<IgnoredArgument>,
    },
    /// Export the execution as JSON lines, a Perfetto trace, OpenTelemetry spans, OpenLineage run events, or an
    /// archive, which every command accepts in place of an id
    #[command(override_usage = "replay ID export --to FORMAT [-o FILE] [OPTIONS]")]
    Export {
        /// The format to write
        #[arg(long, value_name = "FORMAT")]
        to: ExportFormat,
        /// The file to write; `-` is standard output. Default: standard output
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Explain an error code and what to do about it
    #[command(override_usage = "replay explain-error CODE")]
    ExplainError {
        /// The error code, such as CL0016
        code: String,
    },
    /// Verify an execution: recompute its hash chain and fold its events again; or verify a whole log, a checkpoint, a
    /// proof
    #[command(
        override_usage = "replay ID verify [OPTIONS]\n       replay verify --all\n       replay verify --checkpoint FILE [--key HEX]\n       replay verify --proof FILE [--checkpoint FILE] [--key HEX]"
    )]
    Verify(VerifyArguments),
    /// Check the log's storage and environment: file system, sync latency, free space, durability, the process that has
    /// it open, its size
    #[command(override_usage = "replay doctor [OPTIONS]")]
    Doctor,
    /// Write a proof that an event was recorded, or that the log only grew since a checkpoint; it can be verified
    /// without the log
    #[command(override_usage = "replay ID prove SEQ [OPTIONS]\n       replay prove --since FILE [OPTIONS]")]
    Prove(ProveArguments),
}

impl Command {
    /// Returns the name of the command on the command line.
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

/// What `replay verify` verifies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct VerifyArguments {
    /// Verify the whole log, record by record
    #[arg(long, conflicts_with_all = ["checkpoint", "proof"])]
    pub all: bool,
    /// Verify the log, or a proof, against a checkpoint that was kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Verify a proof; no log is needed
    #[arg(long, value_name = "FILE")]
    pub proof: Option<PathBuf>,
    /// Require that this public key (in hex) signed the checkpoint
    #[arg(long, value_name = "HEX")]
    pub key: Option<String>,
}

impl VerifyArguments {
    /// Returns whether to verify one execution, and nothing else.
    #[must_use]
    pub fn is_of_execution(&self) -> bool {
        *self == Self::default()
    }
}

/// What `replay prove` proves.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ProveArguments {
    /// The event to prove
    #[arg(value_name = "SEQ", required_unless_present = "since")]
    pub seq: Option<u64>,
    /// Prove that the log only grew since this checkpoint
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seq", "checkpoint", "without_body"])]
    pub since: Option<PathBuf>,
    /// Base the proof on this checkpoint. Default: the last one in the log that covers the event
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Omit the contents of the event; prove only that it exists, its time and its position
    #[arg(long)]
    pub without_body: bool,
}

/// The formats of `replay ID graph --format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A Mermaid flowchart, which many sites and editors render
    Mermaid,
    /// The DOT language of Graphviz
    Dot,
    /// An SVG image
    Svg,
    /// The same as `--json`
    Json,
}

/// The differences that `replay diff` can ignore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum IgnoredArgument {
    /// Tasks ran in another order
    Order,
    /// A task needed a different number of attempts
    Attempts,
    /// A task took longer or shorter
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

/// The formats of `replay ID export --to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// JSON lines, the same as `--jsonl`
    Jsonl,
    /// A trace for Perfetto and chrome://tracing
    Chrome,
    /// OpenTelemetry spans (OTLP in JSON)
    Otlp,
    /// OpenLineage run events, one per line
    Openlineage,
    /// A portable file with the original records and their hashes
    Archive,
}
