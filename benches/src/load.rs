//! The load that stores of events are measured with: decisions of four events of 200 bytes, many streams at once, each of
//! which appends its next decision when the one before is durable.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

/// How many events a decision has.
pub const EVENTS: u64 = 4;

/// How many bytes the body of an event has.
pub const BODY: usize = 200;

/// How many decisions a stream has before its place is taken by a new one.
pub const DECISIONS: u64 = 100;

/// Some events of one stream that belong together.
pub struct Decision {
    /// Who waits for it.
    pub slot: usize,
    /// Its stream. Ids grow with the time at which they were made, as those of executions do.
    pub stream: [u8; 16],
    /// The place of its first event in the stream.
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

/// Where a store says that the decision of a slot is durable, or why it never will be.
pub type Done = Sender<(usize, Result<(), String>)>;

/// Makes decisions. Half of a body is the same in each, half is not: what JSON of one workflow looks like to a compressor.
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

/// xorshift: fast, and good enough to look like nothing in particular.
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

/// What a run of the load came to.
pub struct Run {
    /// How long it took.
    pub taken: Duration,
    /// How long each acknowledgement took.
    pub latencies: Vec<Duration>,
}

/// Appends so many decisions, of which so many are in flight. All that is acknowledged at one moment is answered by one
/// call of `append`, as the engine's scheduler does. `between` is called while nothing is in flight, after each
/// acknowledgement of a run with one in flight.
///
/// # Errors
/// Where the store fails.
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
