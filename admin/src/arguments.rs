//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::select::{Age, Moment};

/// Manages event logs and shows what ran in them.
#[derive(Debug, Parser)]
#[command(name = "cloaca", version, disable_help_subcommand = true, subcommand_required = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Program,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Program {
    /// Maintain a log: archive, import, erase, checkpoint, prune, compact, repair
    Log(LogArguments),
    /// Run `replay`: show what ran in an execution, and why
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
    after_help = "Commands that remove data list it first and ask for confirmation. If another process has the log open, \
                  that process makes the change.\n\n\
                  Exit codes: 0 done, 1 not done (refused or not confirmed), 2 usage, 3 not found, 4 the log cannot \
                  be read or written, 5 the log or the archive is damaged"
)]
pub(crate) struct LogArguments {
    /// The log directory, as passed to the runner. Default: $CLOACA_LOG, else the log in the working directory, else
    /// the log opened last
    #[arg(long, value_name = "PATH", global = true)]
    pub(crate) log: Option<PathBuf>,

    /// Do not ask for confirmation
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,

    /// Record this name in the log as the requester. Default: $USER
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) by: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The global options that each command of `cloaca log` supports. The others are hidden from its help and rejected.
const SUPPORTED: [(&str, &[&str]); 7] = [
    ("archive", &["log", "yes", "by"]),
    ("import", &["log"]),
    ("erase", &["log", "yes", "by"]),
    ("checkpoint", &["log"]),
    ("prune", &["log", "yes", "by"]),
    ("compact", &["log", "yes"]),
    ("repair", &["log"]),
];

impl Arguments {
    /// Returns the command line parser. Each command hides the global options that it does not support.
    pub(crate) fn line() -> clap::Command {
        let options: Vec<Arg> = LogArguments::augment_args(clap::Command::new("log"))
            .get_arguments()
            .filter(|option| option.is_global_set())
            .cloned()
            .collect();
        Self::command().mut_subcommand("log", |mut log| {
            for (name, supported) in SUPPORTED {
                let hidden = options.iter().filter(|option| !supported.contains(&option.get_id().as_str()));
                let hidden: Vec<Arg> = hidden.map(|option| option.clone().hide(true)).collect();
                log = log.mut_subcommand(name, |known| known.args(hidden));
            }
            log
        })
    }

    /// Parses a command line that starts with the program name.
    pub(crate) fn from_command_line(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::line().try_get_matches_from(arguments)?)
    }
}

impl LogArguments {
    /// Returns the first option on the command line that the command does not support.
    pub(crate) fn unsupported_option(&self) -> Option<&'static str> {
        let (_, supported) = SUPPORTED.iter().find(|(known, _)| *known == self.command.name())?;
        // Only commands that remove something ask for confirmation and record the requester.
        let removes_nothing = matches!(&self.command, Command::Archive(ArchiveArguments { drop: false, .. }));
        let typed = [("yes", self.yes), ("by", self.by.is_some())];
        let is_unsupported = |option: &&str| removes_nothing || !supported.contains(option);
        typed.into_iter().filter(|(_, is_typed)| *is_typed).map(|(option, _)| option).find(is_unsupported)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write executions to one file, for `replay --log` and `cloaca log import`
    Archive(ArchiveArguments),
    /// Import the executions of an archive, keeping their hashes
    Import {
        /// The archive to import
        file: PathBuf,
    },
    /// Permanently erase values of a finished execution. Which keys were written, and by whom, stays on record
    Erase(EraseArguments),
    /// Sign the current state of the log, as a few lines of text to keep outside of it
    Checkpoint(CheckpointArguments),
    /// Permanently drop finished executions. The hashes of their records and a tombstone stay
    Prune(PruneArguments),
    /// Rewrite the log without erased values, pruned records and unused space. No process may have it open
    Compact,
    /// Copy every intact execution to a new log and list the damaged ones. The old log is not changed
    Repair {
        /// The directory of the new log. It must not exist yet
        #[arg(long, value_name = "NEW")]
        to: PathBuf,
    },
}

impl Command {
    /// Returns the name of the command on the command line.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Archive(_) => "archive",
            Self::Import { .. } => "import",
            Self::Erase(_) => "erase",
            Self::Checkpoint(_) => "checkpoint",
            Self::Prune(_) => "prune",
            Self::Compact => "compact",
            Self::Repair { .. } => "repair",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ArchiveArguments {
    /// The executions to archive: ids, or a unique prefix or suffix of each
    #[arg(value_name = "ID", required_unless_present = "finished_before")]
    pub(crate) ids: Vec<String>,
    /// Archive all executions that finished before a date (2026-11-01), a time (RFC 3339), or an age (30d, 12h)
    #[arg(long, value_name = "DATE", conflicts_with = "ids")]
    pub(crate) finished_before: Option<Moment>,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Drop the executions from the log after verifying the archive against it
    #[arg(long)]
    pub(crate) drop: bool,
    /// Record this reason for the drop in the log
    #[arg(long, value_name = "TEXT", requires = "drop", default_value = "archived")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct EraseArguments {
    /// The execution: its id, or a unique prefix or suffix of it
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// Erase every value written to this key; can be repeated
    #[arg(long = "key", value_name = "KEY", required_unless_present = "seqs")]
    pub(crate) keys: Vec<String>,
    /// Erase the contents of the event with this seq: a value, an error, or a reason; can be repeated
    #[arg(long = "seq", value_name = "SEQ")]
    pub(crate) seqs: Vec<u64>,
    /// Record this reason in the log. It stays readable: name a case, not a person
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

#[derive(Debug, Args)]
pub(crate) struct CheckpointArguments {
    /// The file to write. Default: standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The file with the secret key. If it does not exist, it is created, readable by this user only. Default:
    /// checkpoint.key in $XDG_CONFIG_HOME/cloaca
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// Keep the newest COUNT of the selected executions, and drop the rest
    #[arg(long, value_name = "COUNT", required_unless_present_any = ["older_than", "status"])]
    pub(crate) keep: Option<usize>,
    /// Select executions that finished longer ago than this: 90d, 12h
    #[arg(long, value_name = "AGE")]
    pub(crate) older_than: Option<Age>,
    /// Select executions with this final status
    #[arg(long, ignore_case = true, value_parser = ["Completed", "Failed", "Cancelled"])]
    pub(crate) status: Option<String>,
    /// Select executions of this workflow
    #[arg(long, value_name = "NAME")]
    pub(crate) workflow: Option<String>,
    /// List the executions without dropping them
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Record this reason in the log
    #[arg(long, value_name = "TEXT", default_value = "no longer needed")]
    pub(crate) reason: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Each command with the options in its help, and a minimal command line.
    const KNOWN: [(&str, &[&str], &str); 7] = [
        ("archive", &["finished_before", "output", "drop", "reason", "log", "yes", "by"], "archive 1 -o FILE"),
        ("import", &["log"], "import FILE"),
        ("erase", &["keys", "seqs", "reason", "log", "yes", "by"], "erase 1 --seq 1 --reason no"),
        ("checkpoint", &["output", "key", "log"], "checkpoint"),
        (
            "prune",
            &["keep", "older_than", "status", "workflow", "dry_run", "reason", "log", "yes", "by"],
            "prune --keep 1",
        ),
        ("compact", &["log", "yes"], "compact"),
        ("repair", &["to", "log"], "repair --to NEW"),
    ];

    fn read(line: &str) -> LogArguments {
        let words = format!("cloaca log {line}").split(' ').map(OsString::from).collect();
        match Arguments::from_command_line(words).map(|arguments| arguments.command) {
            Ok(Program::Log(log)) => log,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// Regression test: `cloaca log import --help` offered `--yes` and `--by`, which it does not use.
    #[test]
    fn the_help_of_a_command_offers_only_what_has_a_meaning_for_it() {
        let mut line = Arguments::line();
        line.build();
        let log = line.find_subcommand("log").expect("it is one of the programs");
        let offered: BTreeSet<(&str, BTreeSet<&str>)> = log
            .get_subcommands()
            .map(|command| {
                let options = command.get_arguments().filter(|one| !one.is_positional() && !one.is_hide_set());
                (command.get_name(), options.map(|one| one.get_id().as_str()).filter(|name| *name != "help").collect())
            })
            .collect();
        let known = KNOWN.iter().map(|(name, options, _)| (*name, options.iter().copied().collect())).collect();
        assert_eq!(offered, known);
    }

    #[test]
    fn every_other_option_is_refused() {
        for (name, options, line) in KNOWN {
            for (option, typed) in [("yes", "-y"), ("by", "--by ann")] {
                let is_supported = options.contains(&option) && name != "archive";
                let refused = (!is_supported).then_some(option);
                assert_eq!(read(&format!("{line} {typed}")).unsupported_option(), refused, "{line} {typed}");
                assert_eq!(read(&format!("{typed} {line}")).unsupported_option(), refused, "{typed} {line}");
            }
            assert_eq!(read(&format!("{line} --log DIR")).unsupported_option(), None);
        }
        assert_eq!(read("archive 1 -o FILE --drop -y --by ann").unsupported_option(), None);
    }
}
