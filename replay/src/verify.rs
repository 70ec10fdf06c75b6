//! Verification of an execution: recomputes the hash chain of its records and folds its events again.

use cloacina_engine::core::context::digest;
use cloacina_engine::core::event::{Event, ExecutionId, Seq};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::record::{Hash, Record};

use crate::fold::{Folder, let_go};
use crate::prefetch::Prefetch;
use crate::reading::{Entry, Erased, HistoryError, stream_of};

/// The result of verifying an execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// How many records the head of the stream says there are.
    pub records: u64,
    /// How many records have the hash of their content and name the record before them.
    pub chained: u64,
    /// How many events were folded again.
    pub folded: u64,
    /// Whatever differs from what was written; empty if the stream is intact.
    pub verdicts: Vec<Verdict>,
}

/// A finding of the verification.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Verdict {
    /// A record is not what was written.
    #[error("record differs at seq {seq}: {what}")]
    RecordDiffers {
        /// The record.
        seq: Seq,
        /// The difference: stored and computed values.
        what: String,
    },
    /// Records at the end are missing.
    #[error("tail cut: the head says {head} records, the stream ends after {found}")]
    TailCut {
        /// How many there should be.
        head: u64,
        /// How many there are.
        found: u64,
    },
    /// The stream has records after the end that its head names.
    #[error("unfinished tail: the head says {head} records, the stream goes on to {found}")]
    UnfinishedTail {
        /// How many there should be.
        head: u64,
        /// How many there are.
        found: u64,
    },
    /// An event has a format that this version does not know.
    #[error("newer format at seq {seq}: {what}")]
    NewerFormat {
        /// The event.
        seq: Seq,
        /// The format found, and the newest format that this version knows.
        what: String,
    },
    /// An event is illegal in the state before it.
    #[error("impossible event at seq {seq}: {what}")]
    ImpossibleEvent {
        /// The event.
        seq: Seq,
        /// The reason.
        what: String,
    },
    /// The body of an event was erased. The chain still holds.
    #[error("body erased at seq {seq} by {by}: {reason}; the chain still holds, and its value is shown as erased")]
    BodyErased {
        /// The event.
        seq: Seq,
        /// Who asked for it.
        by: String,
        /// Why.
        reason: String,
    },
    /// The body of an event is gone, and the log does not say that it was erased.
    #[error("body missing at seq {seq}: the chain holds without it, but no event says that it was erased")]
    BodyMissing {
        /// The event.
        seq: Seq,
    },
    /// The folded final context has another digest than the recorded one.
    #[error("final context differs at seq {seq}: recorded {recorded}, folded {folded}")]
    ContextDiffers {
        /// The event that ends the execution.
        seq: Seq,
        /// The digest recorded in that event.
        recorded: Hash,
        /// The digest of the folded context.
        folded: Hash,
    },
    /// The execution was pruned while it was verified.
    #[error("pruned meanwhile: the log keeps the hashes of its {records} records, and their chain holds")]
    PrunedMeanwhile {
        /// How many records it had.
        records: u64,
    },
    /// The log cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(String),
}

impl Verdict {
    /// Returns its name, the same in every view and in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RecordDiffers { .. } => "record differs",
            Self::TailCut { .. } => "tail cut",
            Self::UnfinishedTail { .. } => "unfinished tail",
            Self::NewerFormat { .. } => "newer format",
            Self::ImpossibleEvent { .. } => "impossible event",
            Self::BodyErased { .. } => "body erased",
            Self::BodyMissing { .. } => "body missing",
            Self::ContextDiffers { .. } => "final context differs",
            Self::PrunedMeanwhile { .. } => "pruned meanwhile",
            Self::Unreadable(_) => "cannot be read",
        }
    }

    /// Returns the record that it is about, if it is about a single one.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::RecordDiffers { seq, .. }
            | Self::NewerFormat { seq, .. }
            | Self::ImpossibleEvent { seq, .. }
            | Self::BodyErased { seq, .. }
            | Self::BodyMissing { seq }
            | Self::ContextDiffers { seq, .. } => Some(*seq),
            Self::TailCut { .. } | Self::UnfinishedTail { .. } | Self::PrunedMeanwhile { .. } | Self::Unreadable(_) => {
                None
            }
        }
    }

    /// Whether the log differs from what was written. Erased and pruned data is meant to be gone.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::BodyErased { .. } | Self::PrunedMeanwhile { .. })
    }

    /// Whether the hash chain is broken.
    #[must_use]
    pub fn breaks_chain(&self) -> bool {
        matches!(
            self,
            Self::RecordDiffers { .. } | Self::TailCut { .. } | Self::UnfinishedTail { .. } | Self::Unreadable(_)
        )
    }

    fn of(trouble: HistoryError) -> Self {
        match trouble {
            HistoryError::Log(error) => Self::unreadable(error),
            HistoryError::Newer { seq, why, .. } => Self::NewerFormat { seq, what: why.to_string() },
            HistoryError::Undecodable { seq, why, .. } => Self::ImpossibleEvent { seq, what: why.to_string() },
            HistoryError::Impossible { illegal, .. } => {
                Self::ImpossibleEvent { seq: illegal.seq, what: format!("{} {}", illegal.event, illegal.what) }
            }
            HistoryError::Erased { seq, .. } => Self::BodyMissing { seq },
            HistoryError::Definition { .. } | HistoryError::Told(_) => Self::Unreadable(trouble.to_string()),
        }
    }

    pub(crate) fn unreadable(error: ReadError) -> Self {
        match error {
            ReadError::Damaged { seq, what, .. } => Self::RecordDiffers { seq, what },
            ReadError::TailCut { head, found, .. } => Self::TailCut { head, found },
            ReadError::Pruned { records, .. } => Self::PrunedMeanwhile { records },
            other => Self::Unreadable(other.to_string()),
        }
    }
}

impl Verification {
    /// Whether no verdict is a failure.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.verdicts.iter().any(Verdict::is_failure)
    }

    /// Whether every record has the hash of its content and names the record before it.
    #[must_use]
    pub fn chain_holds(&self) -> bool {
        !self.verdicts.iter().any(Verdict::breaks_chain)
    }
}

/// Checks that records follow each other without a gap, across the pages of a read. It does not compute the hash of a
/// record's content: [`LogReader::read`] has checked that in this process, for sockets and archives too.
struct Chain {
    next: Seq,
    head: Hash,
}

impl Chain {
    const START: Self = Self { next: 0, head: Hash::ZERO };

    /// Checks the next record.
    fn check(&mut self, record: &Record) -> Result<(), Verdict> {
        let differs = |what: String| Err(Verdict::RecordDiffers { seq: self.next, what });
        if record.seq != self.next {
            return differs(format!("the record says it is seq {}", record.seq));
        }
        if record.previous != self.head {
            return differs(format!(
                "its previous hash is {}, but the record before it has the hash {}",
                record.previous, self.head
            ));
        }
        self.next += 1;
        self.head = record.hash;
        Ok(())
    }
}

/// Verifies an execution. Reads all of its records, page by page.
///
/// # Errors
/// [`ReadError`] if the execution does not exist or its head cannot be read; everything else is a verdict.
pub fn verify(reader: &dyn LogReader, id: ExecutionId) -> Result<Verification, ReadError> {
    verify_ahead(&Prefetch::new(reader, id))
}

/// How often an execution that changes meanwhile is verified.
const TRIES: usize = 10;

/// Verifies an execution whose records are prefetched: the reading thread checks the chain, this one folds the events.
/// After a failure, verifies again until two runs agree: values may have been erased or the execution pruned meanwhile.
///
/// # Errors
/// As [`verify`].
pub fn verify_ahead(records: &Prefetch<'_>) -> Result<Verification, ReadError> {
    let mut found = verify_once(records)?;
    for _ in 1..TRIES {
        if found.is_ok() {
            break;
        }
        let again = match verify_once(records) {
            Err(ReadError::Pruned { records, .. }) => {
                let verdicts = vec![Verdict::PrunedMeanwhile { records }];
                return Ok(Verification { verdicts, ..Verification::default() });
            }
            again => again?,
        };
        if again == found {
            break;
        }
        found = again;
    }
    Ok(found)
}

fn verify_once(records: &Prefetch<'_>) -> Result<Verification, ReadError> {
    let (reader, id) = (records.reader(), records.id());
    let mut found = Verification { records: reader.stream(stream_of(id))?.records, ..Verification::default() };
    let mut refold = Refold { folder: Some(Folder::new(id, reader)) };
    let mut chain = Chain::START;
    let check = |record: &Record| chain.check(record).map_err(RecordError::Verdict);
    let complete = records.checked(check, |entries| {
        for entry in entries {
            match entry {
                Ok(entry) => {
                    found.chained += 1;
                    refold.step(entry, &mut found);
                }
                Err(error) => {
                    found.verdicts.push(error.verdict());
                    return false;
                }
            }
        }
        true
    });
    refold.folder.and_then(|folder| folder.finish().0).into_iter().for_each(let_go);
    if complete {
        found.verdicts.extend(check_end(reader, id, &mut found.records, found.chained)?);
    }
    Ok(found)
}

/// Why a record was not folded.
enum RecordError {
    Unreadable(ReadError),
    Verdict(Verdict),
}

impl From<ReadError> for RecordError {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

impl RecordError {
    fn verdict(self) -> Verdict {
        match self {
            Self::Unreadable(error) => Verdict::unreadable(error),
            Self::Verdict(verdict) => verdict,
        }
    }
}

/// Folds events again, up to the first one that cannot be folded.
struct Refold<'a> {
    folder: Option<Folder<&'a dyn LogReader>>,
}

impl Refold<'_> {
    fn step(&mut self, entry: Result<Entry, HistoryError>, found: &mut Verification) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(trouble) => {
                // Only the first failure counts: later ones may follow from it.
                if self.folder.take().is_some() {
                    found.verdicts.push(Verdict::of(trouble));
                }
                return;
            }
        };
        if entry.is_erased() {
            found.verdicts.push(match &entry.erased {
                Some(Erased { by, reason, .. }) => {
                    Verdict::BodyErased { seq: entry.seq, by: by.clone(), reason: reason.clone() }
                }
                None => Verdict::BodyMissing { seq: entry.seq },
            });
        }
        let Some(folder) = &mut self.folder else { return };
        let folded = folder.step(&entry).map(|state| {
            let recorded = recorded_digest(&entry)?;
            Some((recorded, Hash(digest(&state.context()))))
        });
        match folded {
            Ok(digests) => {
                found.folded += 1;
                let differing = digests.filter(|(recorded, folded)| recorded != folded);
                found.verdicts.extend(differing.map(|(recorded, folded)| Verdict::ContextDiffers {
                    seq: entry.seq,
                    recorded,
                    folded,
                }));
            }
            Err(trouble) => {
                // The missing body has its verdict already.
                if !matches!(trouble, HistoryError::Erased { .. }) {
                    found.verdicts.push(Verdict::of(trouble));
                }
                self.folder = None;
            }
        }
    }
}

fn recorded_digest(entry: &Entry) -> Option<Hash> {
    match &entry.event {
        Some(Event::ExecutionCompleted(ended) | Event::ExecutionFailed(ended) | Event::ExecutionCancelled(ended)) => {
            // The digest is erased together with any value: a guess of the value could be checked against it.
            entry.erased.is_none().then_some(Hash(ended.context))
        }
        _ => None,
    }
}

/// Checks that the stream ends where its head says. Reads the head again, since a running engine may have appended.
fn check_end(
    reader: &dyn LogReader,
    id: ExecutionId,
    head: &mut u64,
    found: u64,
) -> Result<Option<Verdict>, ReadError> {
    if found > *head {
        *head = reader.stream(stream_of(id))?.records;
    }
    Ok(match found.cmp(head) {
        std::cmp::Ordering::Less => Some(Verdict::TailCut { head: *head, found }),
        std::cmp::Ordering::Greater => Some(Verdict::UnfinishedTail { head: *head, found }),
        std::cmp::Ordering::Equal => None,
    })
}
