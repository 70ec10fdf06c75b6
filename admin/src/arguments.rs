//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::select::{Age, Moment};

/// Keeps logs of events, and shows what is in them.
#[derive(Debug, Parser)]
#[command(name = "cloaca", version, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Program,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Change what is in a log: archive, import, erase, checkpoint, prune, compact, repair
    Log(LogArguments),
    /// The program `replay`: show what ran in an execution, and why
    #[command(disable_help_flag = true)]
    Replay {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<String>,
    },
}

#[derive(Debug, Args)]
#[command(
    disable_help_subcommand = true,
    subcommand_required = true,
    after_help = "Nothing is removed before it was shown and confirmed. A log that a process has is changed through that process.\n\n\
                  Exit codes: 0 it was done, 1 it was not done (refused, or not confirmed), 2 usage, 3 not found, 4 the log \
                  cannot be read or written, 5 the log or the archive is damaged"
)]
pub(crate) struct LogArguments {
    /// The log: the directory that the runner was opened with. Default: $CLOACA_LOG, else the one in the working
    /// directory, else the one opened last
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) log: Option<PathBuf>,

    /// Do not ask
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,

    /// Who asks for it, for the log to remember. Default: $USER
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) by: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put executions into one file that every `replay` command reads and `cloaca log import` takes back
    Archive(ArchiveArguments),
    /// Take the executions of an archive over, with their hashes as they are
    Import {
        /// The archive
        file: PathBuf,
    },
    /// Erase values of a finished execution for good. That they were there, and who wrote them, stays
    Erase(EraseArguments),
    /// Sign how far the log goes and what is in it, in a few lines to be kept somewhere else
    Checkpoint(CheckpointArguments),
    /// Drop finished executions. What stays are the hashes of their records, and a note
    Prune(PruneArguments),
    /// Write the log anew without what it no longer holds: erased values, pruned records, unused space. No process may have
    /// it
    Compact,
    /// Copy every execution that is whole into a new log, and list those that are not. The log stays as it is
    Repair {
        /// The new log: a directory that is not there yet
        #[arg(long, value_name = "NEW")]
        to: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ArchiveArguments {
    /// The executions: ids, or any unique ends or beginnings of them
    #[arg(value_name = "ID", required_unless_present = "finished_before")]
    pub(crate) ids: Vec<String>,
    /// All that had finished before: a date (2026-11-01), a time (RFC 3339), or an age (30d, 12h)
    #[arg(long, value_name = "DATE", conflicts_with = "ids")]
    pub(crate) finished_before: Option<Moment>,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Drop them from the log, once the archive was read again and held against it
    #[arg(long)]
    pub(crate) drop: bool,
    /// Why they are dropped, for the log to remember
    #[arg(long, value_name = "TEXT", requires = "drop", default_value = "archived")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArguments {
    /// The execution: its id, or any unique end or beginning of it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Every value that was written to this key; may be given several times
    #[arg(long = "key", value_name = "KEY", required_unless_present = "seqs")]
    pub(crate) keys: Vec<String>,
    /// What the event with this seq says: a value, an error, or a reason; may be given several times
    #[arg(long = "seq", value_name = "SEQ")]
    pub(crate) seqs: Vec<u64>,
    /// Why, for the log to remember. It stays readable: name a case, not a person
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// The file to write; else it goes to the standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The file with the secret key, made where there is none, for this user alone. Default: checkpoint.key in
    /// $XDG_CONFIG_HOME/cloaca
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// All but the newest so many of those that the other options name
    #[arg(long, value_name = "COUNT", required_unless_present_any = ["older_than", "status"])]
    pub(crate) keep: Option<usize>,
    /// Those that finished so long ago: 90d, 12h
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<Age>,
    /// Those that are Completed, Failed or Cancelled
    #[arg(long, ignore_case = true, value_parser = ["Completed", "Failed", "Cancelled"])]
    pub(crate) status: Option<String>,
    /// Those of this workflow
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    /// Only show which ones
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Why, for the log to remember
    #[arg(long, value_name = "TEXT", default_value = "no longer needed")]
    pub(crate) reason: String,
}
