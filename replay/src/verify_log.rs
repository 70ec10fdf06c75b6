//! Verification of a whole log: first the log record by record, then each execution by itself, with its events folded
//! again.

use std::collections::BTreeSet;
use std::path::Path;

use cloacina_store::archive::{is_archive, open_archive};
use cloacina_store::log::{LogReader, OpenError, ReadError};
use cloacina_store::record::{Hash, StreamId};

use crate::logs::Opener;
use crate::prefetch::{Prefetch, Watch};
use crate::source::{self, Head, executions};
use crate::verify::{Verdict, Verification, verify_ahead};

/// A log whose records were checked; its executions are verified by [`LogVerification::executions`].
pub struct LogVerification {
    /// How many records were checked.
    pub records: u64,
    /// How many streams they belong to; `None` for an archive, which has only those of its executions.
    pub streams: Option<u64>,
    /// The digest of an archive.
    pub digest: Option<Hash>,
    /// The damage of the log; empty if it is intact.
    pub findings: Vec<ReadError>,
    /// Reads the executions, or the reason why they cannot be read.
    reader: Result<Box<dyn LogReader>, OpenError>,
}

/// An execution that was verified.
pub struct VerifiedExecution {
    /// The execution.
    pub head: Head,
    /// The findings.
    pub verification: Verification,
}

impl VerifiedExecution {
    /// Returns the first verdict that is a failure, or else the first verdict.
    #[must_use]
    pub fn first(&self) -> Option<&Verdict> {
        let verdicts = &self.verification.verdicts;
        verdicts.iter().find(|verdict| verdict.is_failure()).or_else(|| verdicts.first())
    }

    /// Returns `ok`, or the name of the verdict that [`VerifiedExecution::first`] returns.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        self.first().map_or("ok", Verdict::name)
    }
}

impl LogVerification {
    /// Checks the records of the log, or the archive, at a path. `open` opens it for reading.
    ///
    /// # Errors
    /// [`OpenError`] if there is no log, or none of it can be read. Damage inside the log is no error but a finding.
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
            // Every other reader refuses a damaged log. Verifying one shows which executions are still intact.
            Err(OpenError::Damaged { .. }) if !found.findings.is_empty() => cloacina_store::open_damaged(path),
            opened => opened,
        };
        Ok(Self { records: found.records, streams, digest: None, findings: found.findings, reader })
    }

    /// Returns why the executions cannot be verified one by one, if they cannot.
    #[must_use]
    pub fn unreadable(&self) -> Option<&OpenError> {
        self.reader.as_ref().err()
    }

    /// Returns the number of executions; 0 if they cannot be read.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.reader.as_deref().map_or(0, |reader| executions(reader).count() as u64)
    }

    /// Verifies each execution, newest first. `watch` receives the number of executions done.
    pub fn executions<'a>(
        &'a self,
        watch: &'a dyn Watch,
    ) -> impl Iterator<Item = Result<VerifiedExecution, ReadError>> + 'a {
        let reader = self.reader.as_deref().ok();
        let all = reader.into_iter().flat_map(|reader| source::heads(reader).map(move |head| (reader, head)));
        all.zip(1..).map(|((reader, head), number)| {
            let mut head = head?;
            let mut verification = verify_ahead(&Prefetch::new(reader, head.id)).unwrap_or_else(|error| {
                // Listed but unreadable: a verdict like any other.
                Verification { verdicts: vec![Verdict::unreadable(error)], ..Verification::default() }
            });
            // The records that are left may be intact while the check of the log found that others are lost.
            let stream = head.entry.stream;
            let lost = self.findings.iter().find(|finding| finding.is_damage() && finding.stream() == Some(stream));
            if let Some(finding) = lost.filter(|_| verification.is_ok() && verification.verdicts.is_empty()) {
                verification.verdicts.push(Verdict::unreadable(finding.clone()));
            }
            if let Some(verdict) = verification.verdicts.iter().find(|verdict| verdict.is_failure()) {
                head.note_damage(&verdict.to_string());
            }
            watch.reached(number);
            Ok(VerifiedExecution { head, verification })
        })
    }

    /// Returns the findings that do not belong to one of the executions in `reported`.
    #[must_use]
    pub fn other_findings(&self, reported: &BTreeSet<StreamId>) -> Vec<&ReadError> {
        let is_other = |finding: &&ReadError| finding.stream().is_none_or(|stream| !reported.contains(&stream));
        self.findings.iter().filter(is_other).collect()
    }
}

/// Returns the record that a finding is about.
#[must_use]
pub fn seq(finding: &ReadError) -> Option<u64> {
    match finding {
        ReadError::Damaged { seq, .. } => Some(*seq),
        _ => None,
    }
}
