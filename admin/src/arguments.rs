//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

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
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,

    /// Who asks for it, for the log to remember. Default: $USER
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) by: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The options that every command of `cloaca log` takes, and those of them that have a meaning for a command: the others are
/// not in its help, and are refused.
const MEANT: [(&str, &[&str]); 7] = [
    ("archive", &["log", "yes", "by"]),
    ("import", &["log"]),
    ("erase", &["log", "yes", "by"]),
    ("checkpoint", &["log"]),
    ("prune", &["log", "yes", "by"]),
    ("compact", &["log", "yes"]),
    ("repair", &["log"]),
];

impl Arguments {
    /// The command line with all its commands. Options that have no meaning for a command are not in its help.
    pub(crate) fn line() -> clap::Command {
        let options: Vec<Arg> = LogArguments::augment_args(clap::Command::new("log"))
            .get_arguments()
            .filter(|option| option.is_global_set())
            .cloned()
            .collect();
        Self::command().mut_subcommand("log", |mut log| {
            for (name, meant) in MEANT {
                let hidden = options.iter().filter(|option| !meant.contains(&option.get_id().as_str()));
                let hidden: Vec<Arg> = hidden.map(|option| option.clone().hide(true)).collect();
                log = log.mut_subcommand(name, |known| known.args(hidden));
            }
            log
        })
    }

    /// Reads a command line, the program's name first.
    pub(crate) fn of(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::line().try_get_matches_from(arguments)?)
    }
}

impl LogArguments {
    /// The first option that was typed and has no meaning for the command.
    pub(crate) fn option_without_meaning(&self) -> Option<&'static str> {
        let (_, meant) = MEANT.iter().find(|(known, _)| *known == self.command.name())?;
        // Only who removes something is asked, and remembered.
        let keeps = matches!(&self.command, Command::Archive(ArchiveArguments { drop: false, .. }));
        let typed = [("yes", self.yes), ("by", self.by.is_some())];
        let inert = |option: &&str| keeps || !meant.contains(option);
        typed.into_iter().filter(|(_, is_typed)| *is_typed).map(|(option, _)| option).find(inert)
    }
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

impl Command {
    /// What it is called on the command line.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// For each command, the options in its help, and a line that has what it needs.
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
        match Arguments::of(words).map(|arguments| arguments.command) {
            Ok(Program::Log(log)) => log,
            other => panic!("{line}: {other:?}"),
        }
    }

    /// `cloaca log import --help` offered `--yes` and `--by`, although it asks nobody and remembers nobody.
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
                let is_meant = options.contains(&option) && name != "archive";
                let refused = (!is_meant).then_some(option);
                assert_eq!(read(&format!("{line} {typed}")).option_without_meaning(), refused, "{line} {typed}");
                assert_eq!(read(&format!("{typed} {line}")).option_without_meaning(), refused, "{typed} {line}");
            }
            assert_eq!(read(&format!("{line} --log DIR")).option_without_meaning(), None);
        }
        assert_eq!(read("archive 1 -o FILE --drop -y --by ann").option_without_meaning(), None);
    }
}
