//! Asking before something is removed.

use crate::failure::{Failure, code};
use crate::surroundings::Surroundings;

/// Asks whether to go on.
///
/// # Errors
/// [`Failure`] unless the answer is yes: also if nobody is there to be asked.
pub(crate) fn confirm(around: &mut Surroundings<'_>, yes: bool, question: &str) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    let not_done = |why: &str| {
        Failure::told(code::NOT_DONE, format!("nothing was removed: {why}"), "add --yes to go on without being asked")
    };
    let Some(input) = &mut around.input else {
        return Err(not_done("nobody is there to be asked"));
    };
    write!(around.err, "{question} Type yes to go on: ")?;
    around.err.flush()?;
    let mut answer = String::new();
    input.read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") { Ok(()) } else { Err(not_done("it was not confirmed")) }
}
