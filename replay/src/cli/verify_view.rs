//! `replay ID verify`: what was recomputed, and whether it matches what was written.

use std::io;

use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::verify::{Verdict, Verification};

/// Writes the verdicts.
///
/// # Errors
/// Errors from writing to the screen.
pub fn write(screen: &mut Screen<'_>, verification: &Verification) -> io::Result<()> {
    let chain = if verification.chain_holds() { "ok" } else { "broken" };
    screen.line(&format!(
        "chain   {} of {} match their hashes and the previous record: {}",
        verification.chained,
        text::count(verification.records, "record"),
        verdict_word(screen, chain)
    ))?;
    let folds =
        if verification.folded == verification.chained && verification.is_ok() { "ok" } else { "not to the end" };
    screen.line(&format!(
        "refold  {} of {} folded again: {}",
        verification.folded,
        text::count(verification.records, "event"),
        verdict_word(screen, folds)
    ))?;
    screen.line("")?;
    if verification.verdicts.is_empty() {
        let line = format!("{}: this execution is intact", verdict_word(screen, "ok"));
        return screen.line(&line);
    }
    for verdict in &verification.verdicts {
        let tone = if verdict.is_failure() { Tone::Bad } else { Tone::Warning };
        screen.paragraph(0, tone, &text::clean(&verdict.to_string()))?;
        if let Some(means) = meaning(verdict) {
            screen.paragraph(2, Tone::Plain, means)?;
        }
    }
    Ok(())
}

fn verdict_word(screen: &Screen<'_>, word: &str) -> String {
    screen.style.paint(if word == "ok" { Tone::Good } else { Tone::Bad }, word)
}

/// Explains a verdict to the user.
fn meaning(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::RecordDiffers { .. } => {
            Some("the disk or a user changed the log after it was written; the records before this one are intact")
        }
        Verdict::TailCut { .. } => Some("the last records are lost; the remaining ones are intact"),
        Verdict::UnfinishedTail { .. } => {
            Some("a writer stopped in the middle; records beyond the head were never acknowledged")
        }
        Verdict::NewerFormat { .. } => Some("upgrade to verify the rest: pip install --upgrade cloaca"),
        Verdict::ImpossibleEvent { .. } => {
            Some("the record is unchanged, but an engine must never write it: please report this with the log")
        }
        Verdict::ContextDiffers { .. } => Some(
            "the engine that ended the execution had a different context than its events produce: please report this",
        ),
        Verdict::BodyMissing { .. } => {
            Some("it was removed from the files, but not with `cloaca log erase`; the state after it is unknown")
        }
        Verdict::BodyErased { .. } | Verdict::PrunedMeanwhile { .. } | Verdict::Unreadable(_) => None,
    }
}
