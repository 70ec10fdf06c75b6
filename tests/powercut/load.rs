//! The loads of the fault tests. Every byte is derived from its position, so that a reader of the log knows its expected
//! contents.

use cloacina_store::log::{Batch, Definition, Durability, Frame, Listing};
use cloacina_store::record::{Hash, StreamId, StreamKind, Timestamp};
use cloacina_store::seal;

use super::dice::Dice;

/// The parameters of a load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub name: &'static str,
    /// Number of batches.
    pub batches: u64,
    /// Frames per batch.
    pub frames: u64,
    /// Number of streams.
    pub streams: u64,
    /// Records per frame.
    pub records: u64,
    /// Shortest and longest body.
    pub sizes: (u64, u64),
    /// The most batches that may wait for their acknowledgement.
    pub in_flight: u64,
    /// Milliseconds between batches.
    pub pause: u64,
    /// Whether the log is closed at the end; otherwise the process exits without a close.
    pub close: bool,
    /// The durability of the log.
    pub durability: Durability,
    /// Whether bodies consist of text that names their stream, so that any piece can be recognized (`named_text`).
    pub text: bool,
}

const SMALL: Load = Load {
    name: "small",
    batches: 60,
    frames: 1,
    streams: 3,
    records: 1,
    sizes: (40, 300),
    in_flight: 1,
    pause: 0,
    close: false,
    durability: Durability::Sync,
    text: false,
};

const CLOSED: Load =
    Load { name: "closed", batches: 48, streams: 6, sizes: (300, 6_000), close: true, text: true, ..SMALL };

/// All loads, by name.
pub const LOADS: [Load; 16] = [
    SMALL,
    // Long bodies: groups for which space is allocated ahead, and groups for which it is not.
    Load { name: "large", batches: 16, streams: 2, sizes: (1_000, 120_000), ..SMALL },
    // Groups of many frames.
    Load { name: "many-streams", batches: 80, frames: 8, streams: 320, records: 2, in_flight: 40, ..SMALL },
    Load { name: "creation", batches: 2, streams: 1, close: true, ..SMALL },
    // For seconds, in groups of all lengths.
    Load {
        name: "long",
        batches: 250,
        frames: 4,
        streams: 40,
        sizes: (500, 6_000),
        in_flight: 16,
        pause: 6,
        close: true,
        ..SMALL
    },
    // Few calls, each of which fails in turn, but enough data to allocate space ahead more than once.
    Load { name: "failing", batches: 8, frames: 18, streams: 18, sizes: (100, 18_000), close: true, ..SMALL },
    // Small groups, for which space is allocated ahead several times.
    Load { name: "turning", batches: 900, streams: 30, records: 4, sizes: (400, 800), in_flight: 4, ..SMALL },
    // Long groups, for which no space is allocated ahead.
    Load { name: "huge", batches: 40, streams: 2, sizes: (60_000, 120_000), in_flight: 20, ..SMALL },
    // Small enough to damage each of its bytes in turn.
    Load { name: "tiny", batches: 4, streams: 2, sizes: (5, 30), close: true, ..SMALL },
    // The same without a close.
    Load { name: "barely", batches: 4, streams: 2, sizes: (5, 30), ..SMALL },
    // Acknowledged before the sync, in long groups and in short ones.
    Load {
        name: "os",
        batches: 40,
        streams: 2,
        sizes: (60_000, 120_000),
        in_flight: 20,
        durability: Durability::Os,
        ..SMALL
    },
    Load {
        name: "interval",
        batches: 500,
        streams: 30,
        records: 4,
        sizes: (400, 800),
        durability: Durability::Interval(2),
        ..SMALL
    },
    // A few closed streams with bodies to erase.
    Load { name: "secrets", batches: 16, streams: 2, sizes: (900, 900), close: true, ..SMALL },
    // Closed streams, each with bodies to erase, in a log that was closed, and in one that was not.
    CLOSED,
    Load { name: "left", close: false, ..CLOSED },
    // Appended to show that a log can be continued.
    Load { name: "more", batches: 3, streams: 2, sizes: (10, 9_000), close: true, ..SMALL },
];

/// The load with this name.
pub fn named(name: &str) -> Option<Load> {
    LOADS.into_iter().find(|load| load.name == name)
}

/// A record that a load writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub stream: StreamId,
    pub seq: u64,
    pub body: Hash,
}

/// The batches of a load in a phase. Each phase (first writes, recovery, continuation) has its own streams.
pub fn batches(load: &Load, phase: u64) -> Vec<Batch> {
    let mut next_seqs = vec![0; usize::try_from(load.streams).unwrap_or_default()];
    (0..load.batches).map(|number| batch(load, phase, number, &mut next_seqs)).collect()
}

fn batch(load: &Load, phase: u64, number: u64, next_seqs: &mut [u64]) -> Batch {
    let definitions =
        if number.is_multiple_of(5) { vec![definition(format!("definition {phase}.{number}"))] } else { Vec::new() };
    let frames = (0..load.frames).filter_map(|place| {
        let stream = (number * load.frames + place) % load.streams;
        let next_seq = next_seqs.get_mut(usize::try_from(stream).ok()?)?;
        let first_seq = *next_seq;
        *next_seq += load.records;
        Some(frame(load, phase, stream, first_seq))
    });
    Batch { definitions, frames: frames.collect() }
}

fn definition(text: String) -> Definition {
    Definition { fingerprint: seal::fingerprint(text.as_bytes()), bytes: text.into_bytes().into() }
}

fn frame(load: &Load, phase: u64, stream: u64, first_seq: u64) -> Frame {
    let bodies = (first_seq..first_seq + load.records).map(|seq| body(load, phase, stream, seq)).collect();
    let listing = match first_seq / load.records {
        0 => Listing::Open(format!("stream {stream}").into_bytes()),
        7 => Listing::Closed(format!("stream {stream}, done").into_bytes()),
        _ => Listing::Keep,
    };
    Frame {
        stream: stream_id(phase, stream),
        kind: StreamKind::Execution,
        expected_seq: first_seq,
        time: Timestamp(0),
        bodies,
        listing,
    }
}

fn body(load: &Load, phase: u64, stream: u64, seq: u64) -> Vec<u8> {
    let mut dice = Dice::new(&[phase, stream, seq]);
    let (shortest, longest) = load.sizes;
    let length = shortest + dice.below(longest - shortest + 1);
    if load.text {
        return named_text(phase, stream).into_bytes().into_iter().cycle().take(length as usize).collect();
    }
    (0..length).map(|_| dice.byte()).collect()
}

/// The text that the bodies of a stream repeat: every sector has it, and no other stream does.
pub fn named_text(phase: u64, stream: u64) -> String {
    format!("<text of {phase}.{stream}>")
}

/// The streams of a load in a phase.
pub fn streams(load: &Load, phase: u64) -> Vec<StreamId> {
    (0..load.streams).map(|stream| stream_id(phase, stream)).collect()
}

fn stream_id(phase: u64, stream: u64) -> StreamId {
    StreamId::from_bytes((u128::from(phase) << 64 | u128::from(stream + 1)).to_be_bytes())
}

/// The records of a batch, in the order of the log.
pub fn planned(batch: &Batch) -> Vec<Planned> {
    let records = |frame: &Frame| {
        let (stream, first_seq) = (frame.stream, frame.expected_seq);
        let bodies = frame.bodies.iter().map(|body| seal::fingerprint(body));
        (first_seq..).zip(bodies).map(move |(seq, body)| Planned { stream, seq, body }).collect::<Vec<_>>()
    };
    batch.frames.iter().flat_map(records).collect()
}
