//! `replay ID verify`: what was computed again, and whether it is what was written.

use std::io;

use super::screen::Screen;
use super::style::Tone;
use super::text;
use crate::verify::{Verdict, Verification};

/// Writes the verdicts.
///
/// # Errors
/// Whatever writing gives.
pub fn write(screen: &mut Screen<'_>, found: &Verification) -> io::Result<()> {
    let chain = if found.chain_holds() { "ok" } else { "broken" };
    screen.line(&format!(
        "chain   {} of {} fit their hashes, each one the hash before it: {}",
        found.chained,
        text::count(found.records, "record"),
        verdict_word(screen, chain)
    ))?;
    let folds = if found.folded == found.chained && found.is_ok() { "ok" } else { "not to the end" };
    screen.line(&format!(
        "refold  {} of {} folded again: {}",
        found.folded,
        text::count(found.records, "event"),
        verdict_word(screen, folds)
    ))?;
    screen.line("")?;
    if found.verdicts.is_empty() {
        let line = format!("{}: this execution is what was written", verdict_word(screen, "ok"));
        return screen.line(&line);
    }
    for verdict in &found.verdicts {
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

/// What a verdict means for whoever reads it.
fn meaning(verdict: &Verdict) -> Option<&'static str> {
    match verdict {
        Verdict::RecordDiffers { .. } => {
            Some("the disk, or somebody, changed the log after it was written; what comes before is sound")
        }
        Verdict::TailCut { .. } => Some("the last records are lost; what is there is sound"),
        Verdict::UnfinishedTail { .. } => {
            Some("a writer stopped in the middle; what the head does not know was never acknowledged")
        }
        Verdict::NewerFormat { .. } => Some("upgrade to verify the rest: pip install --upgrade cloaca"),
        Verdict::ImpossibleEvent { .. } => {
            Some("the record is what was written, but no engine may write it: please report this with the log")
        }
        Verdict::ContextDiffers { .. } => {
            Some("the engine that ended the execution saw another context than its events give: please report this")
        }
        Verdict::BodyMissing { .. } => Some(
            "somebody took it out of the files, and not with `cloaca log erase`; what follows from it cannot be told",
        ),
        Verdict::BodyErased { .. } | Verdict::PrunedMeanwhile { .. } | Verdict::Unreadable(_) => None,
    }
}
