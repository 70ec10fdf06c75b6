//! Compares our log with other stores of events, on one disk with the same durability: every acknowledgement follows a
//! sync.
//!
//! `log [DIRECTORY]` measures on the disk of that directory; the default is the working directory. `log --only STORE
//! [DIRECTORY]` measures one store. Each store runs in two processes of its own, so that memory is measured per store: one
//! writes a million events, one opens and reads them.
#![allow(clippy::print_stdout, reason = "it is a program that prints")]

mod fjall;
mod ours;
mod redb;
mod segment;
mod sqlite;
mod store;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloacina_benches::disk::{Probe, bytes_of, peak_memory, per_second, percentile, processor_time, written};
use cloacina_benches::load::{self, BODY, Decisions, EVENTS};

use cloacina_store::merkle::Tree;
use cloacina_store::record::{Hash, StreamId, StreamKind, Timestamp};
use cloacina_store::seal::{Header, commitment, record_hash};

use crate::store::{Open, Outcome};

const STORES: [(&str, Open); 5] = [
    ("this log", ours::open),
    ("segment file", segment::open),
    ("SQLite", sqlite::open),
    ("redb", redb::open),
    ("fjall", fjall::open),
];

/// The loads, one after the other: decisions in flight, and number of decisions. Together they append a million events.
const LOADS: [(usize, u64); 4] = [(1, 2_000), (16, 16_000), (4096, 82_000), (256, 150_000)];

/// The goal for the size of our log on the disk, as a multiple of the bodies of its events.
const PAYLOADS: f64 = 1.45;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["child-write", name, directory] => write(find(name)?, Path::new(directory)),
        ["child-read", name, directory] => read(find(name)?, Path::new(directory)),
        ["--only", name] => compare(&[name], "."),
        ["--only", name, directory] => compare(&[name], directory),
        [] => compare(&STORES.map(|(name, _)| name), "."),
        [directory] => compare(&STORES.map(|(name, _)| name), directory),
        _ => Err("log [--only STORE] [DIRECTORY]".into()),
    }
}

fn find(name: &str) -> Outcome<Open> {
    let found = STORES.iter().find(|(known, _)| *known == name);
    Ok(found.ok_or_else(|| format!("there is no store {name}"))?.1)
}

/// The writing process: prints each measurement as a line of a name and a number.
fn write(open: Open, directory: &Path) -> Outcome {
    let (done, ends) = crossbeam_channel::unbounded();
    let store = open(directory, done)?;
    let mut decisions = Decisions::default();
    let mut probe = Probe::new(directory)?;
    let used = processor_time();
    for (in_flight, count) in LOADS {
        let mut since = 0;
        let between = || {
            since += 1;
            if since % 4 == 0 { probe.sync() } else { Ok(()) }
        };
        let mut run = load::run(&mut decisions, count, in_flight, |batch| store.append(batch), &ends, between)?;
        println!("rate {}", per_second(count * EVENTS, run.taken));
        println!("p50 {}", millis(percentile(&mut run.latencies, 50)));
        println!("p99 {}", millis(percentile(&mut run.latencies, 99)));
    }
    println!("processor {}", (processor_time() - used).as_secs_f64() * 1e6 / events() as f64);
    println!("sync {}", millis(probe.median()));
    println!("memory {}", peak_memory()?);
    drop(probe);
    store.close()?;
    println!("bytes {}", bytes_of(directory)?);
    println!("written {}", written()?);
    Ok(())
}

/// The reading process: opens what was written, and reads all of it.
fn read(open: Open, directory: &Path) -> Outcome {
    let began = Instant::now();
    let (done, _ends) = crossbeam_channel::unbounded();
    let store = open(directory, done)?;
    println!("open {}", millis(began.elapsed()));
    println!("scan {}", scanned(|| store.scan())?);
    if let Some(first) = store.scan_in_order() {
        first?;
        println!("ordered {}", scanned(|| store.scan_in_order().unwrap_or(Ok(0)))?);
    }
    println!("memory {}", peak_memory()?);
    store.close()
}

/// Events per second of the median of three scans.
fn scanned(scan: impl Fn() -> Outcome<u64>) -> Outcome<f64> {
    let mut times = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        let found = scan()?;
        times.push(began.elapsed());
        if found != events() {
            return Err(format!("{found} events were found, {} were appended", events()).into());
        }
    }
    Ok(per_second(events(), percentile(&mut times, 50)))
}

fn events() -> u64 {
    LOADS.iter().map(|(_, count)| count * EVENTS).sum()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The processor time of the hashes of one event, in seconds: the commitment to its body, its chain, the tree of the log.
fn hashing() -> f64 {
    const TIMES: u64 = 1_000_000;
    let body = [7; BODY];
    let (mut head, mut tree) = (Hash::ZERO, Tree::default());
    let used = processor_time();
    for position in 0..TIMES {
        let header =
            Header { stream: StreamId::LOG, kind: StreamKind::Execution, seq: position, position, time: Timestamp(0) };
        head = record_hash(&header, &head, &commitment(&[1; 16], &body));
        tree.push(&head);
    }
    std::hint::black_box(tree.root());
    1.0 / per_second(TIMES, processor_time() - used)
}

/// The named numbers that a child process printed.
struct Printed(Vec<(String, f64)>);

impl Printed {
    fn by(role: &str, store: &str, directory: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?);
        let out = child.arg(role).arg(store).arg(directory).stderr(Stdio::inherit()).output()?;
        if !out.status.success() {
            return Err(format!("{store} ended with {}", out.status).into());
        }
        let text = String::from_utf8(out.stdout)?;
        let pairs = text.lines().map(|line| -> Outcome<_> {
            let (name, number) = line.split_once(' ').ok_or("a line without a number")?;
            Ok((name.to_owned(), number.parse()?))
        });
        Ok(Self(pairs.collect::<Outcome<_>>()?))
    }

    /// The n-th number that was printed under a name.
    fn nth(&self, name: &str, n: usize) -> f64 {
        self.0.iter().filter(|(found, _)| found == name).nth(n).map_or(f64::NAN, |(_, number)| *number)
    }

    fn get(&self, name: &str) -> f64 {
        self.nth(name, 0)
    }
}

fn compare(names: &[&str], directory: &str) -> Outcome {
    let mut measured = Vec::new();
    for name in names {
        let place = tempfile::tempdir_in(directory)?;
        let written = Printed::by("child-write", name, place.path())?;
        let read = Printed::by("child-read", name, place.path())?;
        measured.push((*name, written, read));
    }
    println!("a million events of {BODY} bytes in decisions of {EVENTS}, each acknowledged when it is on the disk");
    println!();
    println!("{:<14}{:>9}{:>25}{:>25}{:>25}{:>25}", "", "fdatasync", "1 in flight", "16", "256", "4,096");
    let columns = "events/s    p50     p99";
    println!("{:<14}{:>9}{columns:>25}{columns:>25}{columns:>25}{columns:>25}", "", "ms");
    for (name, written, _) in &measured {
        print!("{name:<14}{:>9.3}", written.get("sync"));
        for n in [0, 1, 3, 2] {
            let (rate, p50, p99) = (written.nth("rate", n), written.nth("p50", n), written.nth("p99", n));
            print!("{rate:>10.0} {p50:>6.2} {p99:>7.2}");
        }
        println!("  1 in flight: {:.2} x fdatasync", written.get("p50") / written.get("sync"));
    }
    println!();
    let hashing = hashing();
    for (name, written, _) in measured.iter().filter(|(name, ..)| *name == "this log") {
        println!(
            "commitment, chain and tree take {:.2} us of processor time per event, {:.1} % of the time in which {name} writes one",
            hashing * 1e6,
            hashing * 1e8 / written.get("processor"),
        );
        println!();
    }
    println!(
        "{:<14}{:>16}{:>14}{:>12}{:>16}{:>18}{:>16}{:>16}{:>16}",
        "",
        "processor us",
        "scan events/s",
        "open ms",
        "writing, MiB",
        "reading, MiB",
        "bytes an event",
        "written",
        "x the payload"
    );
    let mut ours: Option<f64> = None;
    #[allow(clippy::cast_precision_loss, reason = "a million and two hundred")]
    for (name, written, read) in &measured {
        let bytes = written.get("bytes") / events() as f64;
        println!(
            "{name:<14}{:>16.2}{:>14.0}{:>12.1}{:>16.0}{:>18.0}{bytes:>16.0}{:>16.0}{:>16.2}",
            written.get("processor"),
            read.get("scan"),
            read.get("open"),
            written.get("memory") / 1_048_576.0,
            read.get("memory") / 1_048_576.0,
            written.get("written") / events() as f64,
            bytes / BODY as f64,
        );
        if *name == "this log" {
            ours = Some(bytes / BODY as f64);
        }
    }
    for (name, _, read) in measured.iter().filter(|(_, _, read)| read.get("ordered").is_finite()) {
        println!("\n{name}, in the order of the log: {:.0} events a second", read.get("ordered"));
    }
    if let Some(times) = ours {
        let outcome = if times < PAYLOADS { "met" } else { "MISSED" };
        println!("\ngoal: less than {PAYLOADS} x the payload on the disk; {outcome}, it is {times:.2} x");
    }
    Ok(())
}
