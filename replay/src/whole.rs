//! Whether a whole log is what was written: the log record by record, then each execution for itself, with its events
//! folded again.

use std::collections::BTreeSet;
use std::path::Path;

use cloacina_store::archive::{is_archive, open_archive};
use cloacina_store::log::{LogReader, OpenError, ReadError};
use cloacina_store::record::{Hash, StreamId};

use crate::ahead::{Ahead, Watch};
use crate::logs::Opener;
use crate::source::{self, Head, executions};
use crate::verify::{Verdict, Verification, verify_ahead};

/// What checking the records of a whole log found, before its executions are looked at one by one.
pub struct Whole {
    /// How many records were checked.
    pub records: u64,
    /// How many streams they belong to; `None` of an archive, which has only those of its executions.
    pub streams: Option<u64>,
    /// The digest of an archive.
    pub digest: Option<Hash>,
    /// What is wrong with the log: nothing, if it is sound.
    pub findings: Vec<ReadError>,
    /// Reads its executions, or why that cannot be.
    reader: Result<Box<dyn LogReader>, OpenError>,
}

/// One execution of a log that was checked.
pub struct Checked {
    /// It.
    pub head: Head,
    /// What was found.
    pub verification: Verification,
}

impl Checked {
    /// The first thing that says that it is not what was written, or else the first thing that was found at all.
    #[must_use]
    pub fn first(&self) -> Option<&Verdict> {
        let verdicts = &self.verification.verdicts;
        verdicts.iter().find(|verdict| verdict.is_failure()).or_else(|| verdicts.first())
    }

    /// The verdict in a word or two: `ok`, or the name of the first thing that was found.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        self.first().map_or("ok", Verdict::name)
    }
}

impl Whole {
    /// Checks the records of the log, or the archive, at a path. `open` opens it for reading.
    ///
    /// # Errors
    /// [`OpenError`] if there is none, or nothing of it can be read. What is wrong inside is in the findings.
    pub fn check(path: &Path, open: Opener<'_>) -> Result<Self, OpenError> {
        if is_archive(path) {
            // Opening one checks all of it.
            let archive = open_archive(path)?;
            let (records, digest) = (archive.records(), Some(archive.digest()));
            let reader: Box<dyn LogReader> = Box::new(archive);
            return Ok(Self { records, streams: None, digest, findings: Vec::new(), reader: Ok(reader) });
        }
        let found = cloacina_store::verify(path)?;
        let streams = Some(found.streams);
        let reader = match open(path) {
            // A damaged log is refused to everybody else: here it is told what is still whole.
            Err(OpenError::Damaged { .. }) if !found.findings.is_empty() => cloacina_store::open_damaged(path),
            opened => opened,
        };
        Ok(Self { records: found.records, streams, digest: None, findings: found.findings, reader })
    }

    /// Why its executions cannot be looked at one by one, if they cannot.
    #[must_use]
    pub fn unreadable(&self) -> Option<&OpenError> {
        self.reader.as_ref().err()
    }

    /// How many executions there are, as far as that can be told.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.reader.as_deref().map_or(0, |reader| executions(reader).count() as u64)
    }

    /// Verifies each execution, newest first. `watch` is told how many were done.
    pub fn executions<'a>(&'a self, watch: &'a dyn Watch) -> impl Iterator<Item = Result<Checked, ReadError>> + 'a {
        let reader = self.reader.as_deref().ok();
        let all = reader.into_iter().flat_map(|reader| source::heads(reader).map(move |head| (reader, head)));
        all.zip(1..).map(|((reader, head), number)| {
            let mut head = head?;
            let mut verification = verify_ahead(&Ahead::new(reader, head.id)).unwrap_or_else(|error| {
                // That it is listed and cannot be read is a verdict like any other.
                Verification { verdicts: vec![Verdict::unreadable(error)], ..Verification::default() }
            });
            // What is still there of it may be whole by itself, where the log has found that more of it was lost.
            let stream = head.entry.stream;
            let lost = self.findings.iter().find(|finding| finding.is_damage() && finding.stream() == Some(stream));
            if let Some(finding) = lost.filter(|_| verification.is_ok() && verification.verdicts.is_empty()) {
                verification.verdicts.push(Verdict::unreadable(finding.clone()));
            }
            if let Some(verdict) = verification.verdicts.iter().find(|verdict| verdict.is_failure()) {
                head.note_damage(&verdict.to_string());
            }
            watch.reached(number);
            Ok(Checked { head, verification })
        })
    }

    /// The findings that no verdict of one of these executions tells.
    #[must_use]
    pub fn other_findings(&self, told: &BTreeSet<StreamId>) -> Vec<&ReadError> {
        self.findings.iter().filter(|finding| finding.stream().is_none_or(|stream| !told.contains(&stream))).collect()
    }
}

/// The record that a finding is about.
#[must_use]
pub fn seq(finding: &ReadError) -> Option<u64> {
    match finding {
        ReadError::Damaged { seq, .. } => Some(*seq),
        _ => None,
    }
}
