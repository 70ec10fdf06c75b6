//! Judges whether a log has everything that it must have after a cut or a fault.

use std::collections::BTreeSet;

use cloacina_store::record::StreamId;

use super::checker::{Answer, Seen};
use super::load::{self, Load, Planned};

/// The batches of a phase, and which of them were acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    /// The name of the load.
    pub load: &'static str,
    /// The records of each batch, in order.
    pub batches: Vec<Vec<Planned>>,
    /// The acknowledged batches, which must be there.
    pub acknowledged: BTreeSet<usize>,
    /// Whether a batch may have been refused while later ones were written.
    pub gaps: bool,
}

impl Written {
    /// A phase that a power cut ended: the log has a prefix of it.
    pub fn new(load: &Load, phase: u64, acknowledged: BTreeSet<usize>) -> Self {
        let batches = load::batches(load, phase).iter().map(load::planned).collect();
        Self { load: load.name, batches, acknowledged, gaps: false }
    }

    /// A phase that was acknowledged completely.
    pub fn all(load: &Load, phase: u64) -> Self {
        let written = Self::new(load, phase, BTreeSet::new());
        Self { acknowledged: (0..written.batches.len()).collect(), ..written }
    }
}

/// Returns the batches that some marks acknowledge.
pub fn acknowledged<'a>(marks: impl Iterator<Item = &'a str>) -> BTreeSet<usize> {
    marks.filter_map(|mark| mark.strip_prefix("acknowledged ")?.parse().ok()).collect()
}

/// Checks that the log verifies, has every acknowledged batch of each phase in order, and nothing that was not written.
pub fn has_all_acknowledged(answer: &Answer, written: &[Written]) -> Result<(), String> {
    let seen = match answer {
        Answer::Seen(seen) => seen,
        other => return Err(format!("{other:?}")),
    };
    is_intact(seen)?;
    is_history(seen, written)
}

/// Checks that the records are those of the acknowledged batches, possibly with other written ones, in order.
pub fn is_history(seen: &Seen, written: &[Written]) -> Result<(), String> {
    let mut rest = &records(seen)?[..];
    for (phase, written) in written.iter().enumerate() {
        let mut missing = None;
        for (number, batch) in written.batches.iter().enumerate() {
            match rest.strip_prefix(&batch[..]) {
                Some(_) if missing.is_some() && !written.gaps => {
                    return Err(format!("phase {phase}: batch {number} is there, {missing:?} is not"));
                }
                Some(after) => rest = after,
                None if written.acknowledged.contains(&number) => {
                    return Err(format!("phase {phase}: batch {number} was acknowledged and is missing"));
                }
                None => missing = Some(number),
            }
        }
    }
    match rest.first() {
        None => Ok(()),
        Some(record) => Err(format!("{} records that were never written, or parts of a batch: {record:?}", rest.len())),
    }
}

/// Checks that nothing is damaged, and each stream matches its entry in the listing.
pub fn is_intact(seen: &Seen) -> Result<(), String> {
    let apart = seen.streams.iter().filter(|stream| stream.ends_with("not as listed"));
    let wrong: Vec<&String> = seen.findings.iter().chain(&seen.unread).chain(apart).collect();
    if wrong.is_empty() { Ok(()) } else { Err(format!("not whole: {wrong:?}")) }
}

/// The records of executions.
fn records(seen: &Seen) -> Result<Vec<Planned>, String> {
    let mut records = Vec::new();
    for line in &seen.records {
        let words: Vec<&str> = line.split(' ').collect();
        let stream: StreamId = words[0].parse().map_err(|error| format!("{error}"))?;
        if stream != StreamId::LOG {
            let seq = words[1].parse().map_err(|error| format!("{error}"))?;
            records.push(Planned { stream, seq, body: hash(words[2])? });
        }
    }
    Ok(records)
}

fn hash(text: &str) -> Result<cloacina_store::record::Hash, String> {
    let mut bytes = [0; 32];
    for (place, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(place * 2..place * 2 + 2).ok_or("a hash is too short")?;
        *byte = u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
    }
    Ok(cloacina_store::record::Hash(bytes))
}
