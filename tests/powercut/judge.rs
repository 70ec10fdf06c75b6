//! Whether a log that was harmed is still what it should be.

use cloacina_store::record::StreamId;

use crate::checker::{Answer, Seen};
use crate::load::{self, Load, Planned};

/// What was written in a phase, and how far that was acknowledged.
#[derive(Clone, Debug)]
pub struct Written {
    /// The load's name.
    pub load: &'static str,
    /// The records of each batch, in order.
    pub batches: Vec<Vec<Planned>>,
    /// So many batches were acknowledged: they must be there.
    pub acknowledged: usize,
}

impl Written {
    pub fn new(load: &Load, phase: u64, acknowledged: usize) -> Self {
        Self { load: load.name, batches: load::batches(load, phase).iter().map(load::planned).collect(), acknowledged }
    }
}

/// How many batches some marks acknowledge.
pub fn acknowledged<'a>(marks: impl Iterator<Item = &'a str>) -> usize {
    marks
        .filter_map(|mark| mark.strip_prefix("acknowledged ")?.parse::<usize>().ok())
        .map(|last| last + 1)
        .max()
        .unwrap_or(0)
}

/// That the log is whole, and holds of every phase a beginning, in order, at least as long as was acknowledged.
pub fn holds(answer: &Answer, written: &[Written]) -> Result<(), String> {
    let seen = match answer {
        Answer::Seen(seen) => seen,
        other => return Err(format!("{other:?}")),
    };
    is_whole(seen)?;
    let mut rest = &records(seen)?[..];
    for (phase, written) in written.iter().enumerate() {
        let mut there = 0;
        for batch in &written.batches {
            let Some(after) = rest.strip_prefix(&batch[..]) else { break };
            rest = after;
            there += 1;
        }
        if there < written.acknowledged {
            return Err(format!(
                "phase {phase}: {} batches were acknowledged, {there} are there",
                written.acknowledged
            ));
        }
    }
    match rest.first() {
        None => Ok(()),
        Some(record) => Err(format!("{} records more than were written, or of half a batch: {record:?}", rest.len())),
    }
}

/// That nothing in it is damaged, and every stream is as it is listed.
pub fn is_whole(seen: &Seen) -> Result<(), String> {
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
