//! Asks for confirmation before something is removed.

use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

/// Prints `question`, and succeeds if the answer is yes or `yes` is set (`--yes`).
///
/// # Errors
/// [`Failure`] if the answer is anything else, or standard input is not a terminal.
pub(crate) fn confirm(env: &mut Surroundings<'_>, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let not_done = |why: &str| {
        Failure::new(code::NOT_DONE, format!("nothing was removed: {why}"), "add --yes to skip the confirmation")
    };
    let Some(input) = &mut env.input else {
        return Err(not_done("confirmation needs a terminal"));
    };
    write!(env.err, "{question} Type yes to continue: ")?;
    env.err.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(not_done("not confirmed")) }
}
