//! Measures how much readers slow the writer: rounds of a load with four readers in another process alternate with rounds without.
//!
//! `readers [DIRECTORY]` writes a log on the disk of that directory; the default is the working directory. Each reader polls every
//! 100 ms. Two do what `replay ID --follow` does: ask for the head and read the new records of one execution. One does what
//! `replay serve` does for a page with the list: ask for the head and for the executions that changed. One reads every new record
//! of the log, like a program that exports events.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use cloacina_benches::disk::{per_second, processor_time};
use cloacina_benches::load::{self, Decision, Decisions, EVENTS};
use cloacina_store::log::{Acknowledge, Batch, EventLog, Frame, Listing, LogReader, ReadError, StreamFilter};
use cloacina_store::record::{StreamId, StreamKind, Timestamp};
use cloacina_store::{Options, SledLog};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The polling interval, as in `replay`.
const EVERY: Duration = Duration::from_millis(100);

/// Records or entries per request, and for the reader of the whole log: as many as an engine returns at once.
const PAGE: usize = 512;
const LONG_PAGE: usize = 1024;

/// The number of pairs of rounds, one with readers and one without. The speed of a disk drifts for seconds: many short pairs
/// measure better than few long ones.
const PAIRS: usize = 61;

/// Decisions in flight, and decisions per round: about three tenths of a second.
const ROUNDS: [(usize, u64); 3] = [(1, 1_200), (16, 10_000), (256, 20_000)];

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["child", log] => read(Path::new(log)),
        [] => compare(Path::new(".")),
        [directory] => compare(Path::new(directory)),
        _ => Err("readers [DIRECTORY]".into()),
    }
}

fn compare(directory: &Path) -> Outcome {
    let place = tempfile::tempdir_in(directory)?;
    let path = place.path().join("log");
    let log = cloacina_store::open(&path, &Options::default())?;
    let mut decisions = Decisions::default();
    // Give the readers something to read.
    rate(&log, &mut decisions, 16, 4_000)?;
    let mut readers = Readers::start(&path)?;
    println!(
        "the log with four readers (two follow an execution, one lists all, one reads all) and without, alternating"
    );
    for (in_flight, count) in ROUNDS {
        let mut ratios = Vec::new();
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        let mut read = 0;
        let mut used = 0;
        for round in 0..PAIRS {
            // Alternate which of the two is first, so that drift favours neither.
            for with_readers in [round % 2 == 0, round % 2 == 1] {
                if with_readers {
                    readers.order("go")?;
                    let before = Instant::now();
                    beside.push(measure_round(&log, &mut decisions, in_flight, count)?);
                    let (records, busy) = readers.order("rest")?;
                    read += per_second(records, before.elapsed()) as u64;
                    used += busy;
                } else {
                    alone.push(measure_round(&log, &mut decisions, in_flight, count)?);
                }
            }
            ratios.push(beside[round].rate / alone[round].rate);
        }
        ratios.sort_by(f64::total_cmp);
        let slower = |ratio: f64| (1.0 - ratio) * 100.0;
        println!(
            "  {in_flight:>4} in flight: {:>7.0} events a second alone; slower with readers by {:.1} % (half of the pairs: \
             from {:.1} to {:.1} %); an event takes {:.2} us of the processor alone and {:.2} us with readers, {:.2} us more in \
             their process; they read {} records a second",
            median(alone.iter().map(|round| round.rate)),
            slower(ratios[PAIRS / 2]),
            slower(ratios[PAIRS * 3 / 4]),
            slower(ratios[PAIRS / 4]),
            median(alone.iter().map(|round| round.processor)),
            median(beside.iter().map(|round| round.processor)),
            used as f64 / (PAIRS as u64 * count * EVENTS) as f64,
            read / PAIRS as u64,
        );
    }
    readers.end()?;
    Ok(log.close()?)
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The result of one round.
struct Round {
    /// Acknowledged events a second.
    rate: f64,
    /// Microseconds of processor time per event, in all threads of this process.
    processor: f64,
}

fn measure_round(log: &SledLog, decisions: &mut Decisions, in_flight: usize, count: u64) -> Outcome<Round> {
    let before = processor_time();
    let rate = rate(log, decisions, in_flight, count)?;
    let processor = (processor_time() - before).as_secs_f64() * 1e6 / (count * EVENTS) as f64;
    Ok(Round { rate, processor })
}

/// Acknowledged events a second.
fn rate(log: &SledLog, decisions: &mut Decisions, in_flight: usize, count: u64) -> Outcome<f64> {
    let (done, ends) = crossbeam_channel::unbounded();
    let append = |batch: Vec<Decision>| {
        let job = |decision: Decision| {
            let (slot, done) = (decision.slot, done.clone());
            let acknowledge: Acknowledge = Box::new(move |result| {
                // The load may have ended with an error.
                let _ = done.send((slot, result.map(drop).map_err(|error| error.to_string())));
            });
            (Batch { definitions: Vec::new(), frames: vec![frame(decision)] }, acknowledge)
        };
        log.append_all_then(batch.into_iter().map(job).collect());
    };
    let run = load::run(decisions, count, in_flight, append, &ends, || Ok(()))?;
    Ok(per_second(count * EVENTS, run.taken))
}

fn frame(decision: Decision) -> Frame {
    Frame {
        stream: StreamId::from_bytes(decision.stream),
        kind: StreamKind::Execution,
        expected_seq: decision.seq,
        time: Timestamp(0),
        listing: match (decision.is_first(), decision.is_last()) {
            (_, true) => Listing::Closed(b"customers, done".to_vec()),
            (true, _) => Listing::Open(b"customers, running".to_vec()),
            _ => Listing::Keep,
        },
        bodies: decision.bodies,
    }
}

/// The process of the readers.
struct Readers {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Readers {
    fn start(log: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("child")
            .arg(log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no output")?);
        Ok(Self { child, orders, answers })
    }

    /// Starts or pauses the readers; returns the records that they have read since the last order, and their
    /// processor time in microseconds.
    fn order(&mut self, order: &str) -> Outcome<(u64, u64)> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let (records, busy) = line.trim().split_once(' ').ok_or("the readers have ended")?;
        Ok((records.parse()?, busy.parse()?))
    }

    fn end(self) -> Outcome {
        let Self { mut child, orders, answers: _ } = self;
        drop(orders);
        child.wait()?;
        Ok(())
    }
}

/// The state that the four readers share.
#[derive(Default)]
struct Shared {
    reading: AtomicBool,
    ended: AtomicBool,
    records: AtomicU64,
    /// Each reader holds it for reading during a poll.
    polling: RwLock<()>,
}

/// One poll of a reader; it adds to the number of records read.
type Poll = fn(&dyn LogReader, &mut Place, &AtomicU64) -> Result<(), ReadError>;

/// The readers' process: reads while it is ordered to.
fn read(log: &Path) -> Outcome {
    let shared = Arc::new(Shared::default());
    let looks: [Poll; 4] = [follow, follow, list, read_all];
    let mut threads = Vec::new();
    for poll in looks {
        let (reader, shared) = (cloacina_store::open_reader(log)?, Arc::clone(&shared));
        threads.push(thread::spawn(move || -> Result<(), ReadError> {
            let mut place = Place::default();
            let mut is_reading = false;
            while !shared.ended.load(Ordering::Acquire) {
                let polling = shared.polling.read().map_err(|_| ReadError::Gone)?;
                let was_reading = std::mem::replace(&mut is_reading, shared.reading.load(Ordering::Acquire));
                if is_reading && !was_reading {
                    // Skip what was written during the pause: a permanent reader would have read it by then.
                    place = Place { position: reader.head()?.position, ..Place::default() };
                }
                if is_reading {
                    poll(&*reader, &mut place, &shared.records)?;
                }
                drop(polling);
                thread::sleep(EVERY);
            }
            Ok(())
        }));
    }
    let mut used = processor_time();
    for order in std::io::stdin().lines() {
        shared.reading.store(order? == "go", Ordering::Release);
        let records = shared.records.swap(0, Ordering::Relaxed);
        // Report the pause only once no reader is polling: a late poll would slow the round without readers.
        drop(shared.polling.write().map_err(|_| "a reader panicked")?);
        let now = processor_time();
        println!("{records} {}", (now - used).as_micros());
        used = now;
    }
    shared.ended.store(true, Ordering::Release);
    for thread in threads {
        thread.join().map_err(|_| "a reader panicked")??;
    }
    Ok(())
}

/// The position of a reader.
#[derive(Default)]
struct Place {
    stream: Option<(StreamId, u64)>,
    position: u64,
}

/// Reads the new records of an execution; moves on to the newest one when it has ended.
fn follow(reader: &dyn LogReader, place: &mut Place, records: &AtomicU64) -> Result<(), ReadError> {
    reader.head()?;
    let (stream, from) = match place.stream {
        Some(found) => found,
        None => {
            let filter = StreamFilter { kind: Some(StreamKind::Execution), limit: 1, ..StreamFilter::default() };
            match reader.streams(&filter)?.pop() {
                Some(entry) => (entry.stream, 0),
                None => return Ok(()),
            }
        }
    };
    let mut next = from;
    loop {
        let page = reader.read(stream, next, PAGE)?;
        next += page.len() as u64;
        records.fetch_add(page.len() as u64, Ordering::Relaxed);
        if page.len() < PAGE {
            break;
        }
    }
    let entry = reader.stream(stream)?;
    place.stream = (entry.open || entry.records > next).then_some((stream, next));
    Ok(())
}

/// Asks for the entries of the executions that changed.
fn list(reader: &dyn LogReader, place: &mut Place, _: &AtomicU64) -> Result<(), ReadError> {
    if reader.head()?.position == place.position {
        return Ok(());
    }
    loop {
        let since = reader.streams_since(place.position, PAGE)?;
        if since.next == place.position {
            return Ok(());
        }
        place.position = since.next;
    }
}

/// Reads the new records of the log.
fn read_all(reader: &dyn LogReader, place: &mut Place, records: &AtomicU64) -> Result<(), ReadError> {
    loop {
        let page = reader.tail(place.position, LONG_PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        place.position = last.position + 1;
        records.fetch_add(page.len() as u64, Ordering::Relaxed);
    }
}
