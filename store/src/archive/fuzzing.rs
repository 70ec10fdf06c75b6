//! See [`crate::fuzzing`].

use std::io::Write;

use ::bytes::Bytes;
use sha2::{Digest, Sha256};

use super::format::{self, Counts, Start};
use super::{index, open_archive};
use crate::bytes::{Cursor, Malformed};
use crate::encoding::take_body;
use crate::keeper::{Change, Import, Keeper};
use crate::log::{LogReader, StreamFilter};
use crate::record::{Hash, Record};
use crate::{MemoryDisk, MemoryLog, seal};

/// Reads an archive. If it is accepted, imports it into a log.
pub(crate) fn read(bytes: &[u8]) {
    let Ok(index) = index::read_through(bytes, bytes.len() as u64) else { return };
    let Ok(mut file) = tempfile::NamedTempFile::new() else { return };
    assert!(file.write_all(bytes).is_ok());
    #[expect(clippy::expect_used, reason = "a panic reports the failure to the fuzzer")]
    let archive = open_archive(file.path()).expect("an archive that was indexed opens");
    assert_eq!(archive.digest(), index.digest);
    let all = StreamFilter { limit: usize::MAX, ..StreamFilter::default() };
    let streams = archive.streams(&all).unwrap_or_default();
    assert_eq!(streams.len(), index.streams.len());
    let records: Vec<Record> = archive.tail(0, usize::MAX).unwrap_or_default();
    assert_eq!(records.len() as u64, index.records, "every record is found by its position");
    let log = MemoryLog::open(&MemoryDisk::new());
    #[expect(clippy::expect_used, reason = "a panic reports the failure to the fuzzer")]
    let log = log.expect("a new log opens");
    let import = Import { archive: file.path().to_owned(), digest: archive.digest() };
    let imported = log.change(Change::Import(import));
    assert_eq!(log.verify().findings, [], "an import leaves an intact log: {imported:?}");
    if imported.is_ok() {
        for entry in &streams {
            assert_eq!(log.read(entry.stream, 0, usize::MAX), archive.read(entry.stream, 0, usize::MAX));
        }
    }
}

/// The archive with all hashes corrected, as far as its sections can be parsed.
pub(crate) fn resealed(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes[..bytes.len().min(format::LINE.len())].to_vec();
    let mut cursor = Cursor::new(&bytes[out.len()..]);
    let mut stream: Option<(usize, Start, u64)> = None;
    let mut counts = Counts::default();
    while let (Ok(tag), Ok(section)) = (cursor.u8(), cursor.counted()) {
        let mut section = section.to_vec();
        match tag {
            format::DEFINITION if section.len() >= 32 => {
                let fingerprint = seal::fingerprint(&section[32..]);
                section[..32].copy_from_slice(&fingerprint.0);
            }
            format::STREAM => {
                finish(&mut out, &stream);
                counts.streams += 1;
                stream = format::decode_stream(&section).ok().map(|entry| {
                    let start = Start { stream: entry.stream, kind: entry.kind, seq: 0, previous: Hash::ZERO };
                    (out.len() + 5, start, 0)
                });
            }
            format::RECORDS => {
                if let Some((_, start, sum)) = &mut stream
                    && let Ok(sealed) = resealed_records(&section, start, sum, &mut counts)
                {
                    section = sealed;
                }
            }
            format::END => {
                finish(&mut out, &stream);
                section = counts.encode();
                out.push(tag);
                out.extend(44_u32.to_be_bytes());
                out.extend(section);
                let digest: [u8; 32] = Sha256::digest(&out).into();
                out.extend(digest);
                break;
            }
            _ => {}
        }
        out.push(tag);
        out.extend(u32::try_from(section.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend(section);
    }
    out.extend(cursor.all());
    out
}

/// Corrects the entry of a stream to match its records.
fn finish(out: &mut [u8], stream: &Option<(usize, Start, u64)>) {
    let Some((at, start, sum)) = stream else { return };
    // After the stream, its kind, whether it is open, and two times.
    let at = at + 16 + 1 + 1 + 8 + 8;
    out[at..at + 8].copy_from_slice(&start.seq.to_be_bytes());
    out[at + 8..at + 16].copy_from_slice(&sum.to_be_bytes());
    out[at + 16..at + 48].copy_from_slice(&start.previous.0);
}

fn resealed_records(
    section: &[u8],
    start: &mut Start,
    sum: &mut u64,
    counts: &mut Counts,
) -> Result<Vec<u8>, Malformed> {
    let mut cursor = Cursor::new(section);
    cursor.u64()?;
    let count = cursor.u32()?;
    let mut records = Vec::new();
    let Start { stream, kind, mut seq, mut previous } = *start;
    for _ in 0..count {
        let (position, time, _) = (cursor.u64()?, cursor.time()?, cursor.hash()?);
        let body = take_body(&mut cursor, Bytes::copy_from_slice)?;
        let header = seal::Header { stream, kind, seq, position, time };
        let hash = seal::record_hash(&header, &previous, &body.commitment());
        records.push(Record { stream, kind, seq, position, time, previous, hash, body });
        previous = hash;
        seq += 1;
    }
    cursor.end()?;
    *sum = records.iter().fold(*sum, |sum, record| sum.saturating_add(u64::from(record.body.length())));
    counts.records += records.len() as u64;
    *start = Start { stream, kind, seq, previous };
    Ok(format::encode_records(&records))
}
