//! The baseline: a plain file to which records are appended, sealed as in our log (salt, commitment, chain). It cannot find
//! a stream without reading the whole file, and has no listing and no erasure.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};

use cloacina_benches::load::{Decision, Done};
use cloacina_store::record::{Hash, StreamId, StreamKind, Timestamp};
use cloacina_store::seal::{Header, commitment, record_hash};

use crate::store::{CommitBatch, Grouped, Outcome, Store};

/// Stream, seq, position, length of the body, salt, hash.
const ENVELOPE: usize = 16 + 8 + 8 + 4 + 16 + 32;

struct Segment {
    path: PathBuf,
    grouped: Grouped,
}

struct Writer {
    file: File,
    buffer: Vec<u8>,
    position: u64,
    heads: HashMap<[u8; 16], Hash>,
    random: u64,
}

pub fn open(directory: &Path, done: Done) -> Outcome<Box<dyn Store>> {
    let path = directory.join("segment");
    let (position, heads) = if path.exists() { read(&path)? } else { Default::default() };
    let file = OpenOptions::new().create(true).append(true).open(&path)?;
    let writer = Writer { file, buffer: Vec::new(), position, heads, random: 1 };
    Ok(Box::new(Segment { path, grouped: Grouped::new(writer, done)? }))
}

impl CommitBatch for Writer {
    fn commit(&mut self, decisions: &[Decision]) -> Outcome {
        self.buffer.clear();
        for decision in decisions {
            let mut previous = self.heads.get(&decision.stream).copied().unwrap_or(Hash::ZERO);
            for (seq, body) in (decision.seq..).zip(&decision.bodies) {
                // Not random, so that it costs nothing here.
                self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                let mut salt = [0; 16];
                salt[..8].copy_from_slice(&self.random.to_be_bytes());
                let header = header(decision.stream, seq, self.position);
                previous = record_hash(&header, &previous, &commitment(&salt, body));
                self.buffer.extend_from_slice(&decision.stream);
                self.buffer.extend_from_slice(&seq.to_be_bytes());
                self.buffer.extend_from_slice(&self.position.to_be_bytes());
                self.buffer.extend_from_slice(&u32::try_from(body.len())?.to_be_bytes());
                self.buffer.extend_from_slice(&salt);
                self.buffer.extend_from_slice(&previous.0);
                self.buffer.extend_from_slice(body);
                self.position += 1;
            }
            self.heads.insert(decision.stream, previous);
        }
        self.file.write_all(&self.buffer)?;
        Ok(self.file.sync_data()?)
    }
}

fn header(stream: [u8; 16], seq: u64, position: u64) -> Header {
    let stream = StreamId::from_bytes(stream);
    Header { stream, kind: StreamKind::Execution, seq, position, time: Timestamp(0) }
}

/// Reads the file and checks every record; returns their number, and the last hash of each stream.
fn read(path: &Path) -> Outcome<(u64, HashMap<[u8; 16], Hash>)> {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut heads: HashMap<[u8; 16], Hash> = HashMap::new();
    let mut position = 0;
    let mut envelope = [0; ENVELOPE];
    while file.read_exact(&mut envelope).is_ok() {
        let stream: [u8; 16] = envelope[..16].try_into()?;
        let seq = u64::from_be_bytes(envelope[16..24].try_into()?);
        let mut body = vec![0; usize::try_from(u32::from_be_bytes(envelope[32..36].try_into()?))?];
        file.read_exact(&mut body)?;
        let head = heads.entry(stream).or_insert(Hash::ZERO);
        let hash = record_hash(&header(stream, seq, position), head, &commitment(envelope[36..52].try_into()?, &body));
        if hash.0 != envelope[52..] {
            return Err(format!("the record at {position} is damaged").into());
        }
        *head = hash;
        position += 1;
    }
    Ok((position, heads))
}

impl Store for Segment {
    fn append(&self, decisions: Vec<Decision>) {
        self.grouped.append(decisions);
    }

    fn scan(&self) -> Outcome<u64> {
        Ok(read(&self.path)?.0)
    }

    fn close(self: Box<Self>) -> Outcome {
        self.grouped.close()
    }
}
