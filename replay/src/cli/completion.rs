//! Shell completion. The shell runs `replay` to complete, so that it can also complete ids of executions.
//!
//! `source <(COMPLETE=bash replay)` in `~/.bashrc` enables it; `zsh`, `fish`, `elvish` and `powershell` are supported,
//! too.

use std::ffi::{OsStr, OsString};

use clap::CommandFactory;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::CompleteEnv;

use super::arguments::Arguments;
use crate::ids::short;
use crate::logs::choose;
use crate::source::{Wanted, list};
use crate::time::rfc3339;

/// The maximum number of executions to offer.
const MAX_OFFERED: usize = 50;

/// Answers a completion request of a shell. Returns whether there was one.
///
/// # Errors
/// The message of an error while writing the answer.
pub fn complete(arguments: &[OsString]) -> Result<bool, String> {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(Arguments::command)
        .try_complete(arguments.iter().cloned(), directory.as_deref())
        .map_err(|error| error.to_string())
}

/// Returns the newest executions of the default log whose ids begin with `typed`.
pub fn executions(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let directory = std::env::current_dir().unwrap_or_default();
    // Shells do not show errors, so without a log there are just no candidates.
    let Ok(logs) = choose(None, &|name| std::env::var_os(name), &directory) else { return Vec::new() };
    let Some(path) = logs.paths.first() else { return Vec::new() };
    let Ok(reader) = cloacina_store::open_reader(&directory.join(path)) else { return Vec::new() };
    let Ok((heads, _)) = list(&*reader, &Wanted::default()) else { return Vec::new() };
    let matching = heads.iter().filter(|head| short(head.id).starts_with(&*typed));
    matching
        .take(MAX_OFFERED)
        .map(|head| {
            let started = rfc3339(crate::reading::started(&head.entry));
            let about = format!("{} {}, started {}", head.workflow(), head.status(), &started[..started.len().min(19)]);
            CompletionCandidate::new(short(head.id)).help(Some(about.into()))
        })
        .collect()
}
