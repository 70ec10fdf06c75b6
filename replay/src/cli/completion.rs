//! Completion for shells: the shell asks the program itself, so that ids of executions are completed too.
//!
//! `source <(COMPLETE=bash replay)` in `~/.bashrc` turns it on; `zsh`, `fish`, `elvish` and `powershell` are known too.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::CompleteEnv;

use super::arguments::Arguments;
use crate::ids::short;
use crate::logs::choose;
use crate::source::{Wanted, list};
use crate::time::rfc3339;

/// How many executions are offered.
const OFFERED: usize = 50;

/// Answers a shell, if it is one that asks.
///
/// # Errors
/// What the answer's writing gives, in words.
pub fn answered(arguments: &[OsString]) -> Result<bool, String> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(Arguments::command)
        .try_complete(arguments.iter().cloned(), directory.as_deref())
        .map_err(|error| error.to_string())
}

/// The newest executions of the log that is meant without `--log`, whose ids go on so.
pub fn executions(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let directory = std::env::current_dir().unwrap_or_default();
    // A shell has no use for an error: where there is no log, nothing is offered.
    let Ok(logs) = choose(None, &|name| std::env::var_os(name), &directory) else { return Vec::new() };
    let Some(path) = logs.paths.first() else { return Vec::new() };
    let Ok(reader) = cloacina_store::open_reader(&directory.join(path)) else { return Vec::new() };
    let Ok((heads, _)) = list(&*reader, &Wanted::default()) else { return Vec::new() };
    let fits = heads.iter().filter(|head| short(head.id).starts_with(&*typed));
    fits.take(OFFERED)
        .map(|head| {
            let started = rfc3339(crate::reading::started(&head.entry));
            let about = format!("{} {}, started {}", head.workflow(), head.status(), &started[..started.len().min(19)]);
            CompletionCandidate::new(short(head.id)).help(Some(about.into()))
        })
        .collect()
}
