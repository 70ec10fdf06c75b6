//! The load for stores of events: decisions of four events of 200 bytes in many streams at once. Each stream appends its
//! next decision once the previous one is durable.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

/// Events per decision.
pub const EVENTS: u64 = 4;

/// Bytes of the body of an event.
pub const BODY: usize = 200;

/// Decisions per stream; then a new stream takes its slot.
pub const DECISIONS: u64 = 100;

/// Events of one stream that are appended together.
pub struct Decision {
    /// The slot that waits for it.
    pub slot: usize,
    /// Its stream. Ids increase with the time of their creation, like those of executions.
    pub stream: [u8; 16],
    /// The seq of its first event.
    pub seq: u64,
    /// The events.
    pub bodies: Vec<Vec<u8>>,
}

impl Decision {
    /// Whether it begins its stream.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.seq == 0
    }

    /// Whether its stream ends with it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.seq == EVENTS * (DECISIONS - 1)
    }
}

/// The channel on which a store acknowledges the decision of a slot, or reports why it failed.
pub type Done = Sender<(usize, Result<(), String>)>;

/// Generates decisions. Half of each body is constant, half is random: to a compressor it looks like the JSON of one workflow.
pub struct Decisions {
    streams: u64,
    text: Vec<u8>,
    random: u64,
}

impl Default for Decisions {
    fn default() -> Self {
        let mut random = 0x9e37_79b9_7f4a_7c15;
        let letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
        let text = (0..1 << 20).map(|_| letters[(next(&mut random) >> 58) as usize]).collect();
        Self { streams: 0, text, random }
    }
}

/// xorshift: fast, and random enough for bodies.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

impl Decisions {
    /// The id of a new stream.
    fn stream(&mut self) -> [u8; 16] {
        self.streams += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.streams.to_be_bytes());
        id[8..].copy_from_slice(&next(&mut self.random).to_be_bytes());
        id
    }

    fn body(&mut self) -> Vec<u8> {
        const SAME: &[u8] =
            br#"{"kind":"ContextWritten","task":"load_customers","attempt":1,"key":"rows","number":7,"value":""#;
        let from = next(&mut self.random) as usize % (self.text.len() - BODY);
        let mut body = Vec::with_capacity(BODY);
        body.extend_from_slice(SAME);
        body.extend_from_slice(&self.text[from..from + BODY - SAME.len()]);
        body
    }

    fn decision(&mut self, slot: usize, stream: [u8; 16], seq: u64) -> Decision {
        Decision { slot, stream, seq, bodies: (0..EVENTS).map(|_| self.body()).collect() }
    }
}

/// The result of a run of the load.
pub struct Run {
    /// The duration of the run.
    pub taken: Duration,
    /// The time to each acknowledgement.
    pub latencies: Vec<Duration>,
}

/// Appends `count` decisions, `in_flight` at a time. Acknowledgements that arrive together are followed by one
/// call of `append`, as in the engine's scheduler. With one in flight, `between` is called after each
/// acknowledgement, while nothing is in flight.
///
/// # Errors
/// If the store fails.
pub fn run(
    decisions: &mut Decisions,
    count: u64,
    in_flight: usize,
    mut append: impl FnMut(Vec<Decision>),
    ends: &Receiver<(usize, Result<(), String>)>,
    mut between: impl FnMut() -> std::io::Result<()>,
) -> Result<Run, Box<dyn std::error::Error + Send + Sync>> {
    let mut slots: Vec<([u8; 16], u64, Instant)> = Vec::with_capacity(in_flight);
    let mut apart = Duration::ZERO;
    let began = Instant::now();
    let begin = |slot| {
        let stream = decisions.stream();
        slots.push((stream, 0, Instant::now()));
        decisions.decision(slot, stream, 0)
    };
    let first = (0..in_flight).map(begin).collect();
    let mut latencies = Vec::new();
    let mut sent = in_flight as u64;
    append(first);
    while (latencies.len() as u64) < count {
        let mut batch = Vec::new();
        let mut end = Some(ends.recv()?);
        while let Some((slot, result)) = end {
            result?;
            let (stream, seq, since) = &mut slots[slot];
            latencies.push(since.elapsed());
            if sent < count {
                sent += 1;
                *seq += EVENTS;
                if *seq == EVENTS * DECISIONS {
                    (*stream, *seq) = (decisions.stream(), 0);
                }
                batch.push(decisions.decision(slot, *stream, *seq));
            }
            end = ends.try_recv().ok();
        }
        if in_flight == 1 {
            let paused = Instant::now();
            between()?;
            apart += paused.elapsed();
        }
        if !batch.is_empty() {
            let now = Instant::now();
            batch.iter().for_each(|decision| slots[decision.slot].2 = now);
            append(batch);
        }
    }
    Ok(Run { taken: began.elapsed() - apart, latencies })
}
