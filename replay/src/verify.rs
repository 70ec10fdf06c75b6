//! Verifying an execution: the chain of its records computed again, its events folded again.

use cloacina_engine::core::context::digest;
use cloacina_engine::core::event::{Event, ExecutionId, Seq};
use cloacina_store::log::{LogReader, ReadError};
use cloacina_store::record::{Hash, Record};

use crate::ahead::Ahead;
use crate::folding::{Folder, let_go};
use crate::reading::{Entry, Erased, Trouble, stream_of};

/// What verifying found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verification {
    /// How many records the head of the stream says there are.
    pub records: u64,
    /// How many of them have the hash that their content gives, and name the one before them.
    pub chained: u64,
    /// How many events were folded again.
    pub folded: u64,
    /// What is wrong, or at least not as it was written; nothing, in a sound stream.
    pub verdicts: Vec<Verdict>,
}

/// One thing that verifying found.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Verdict {
    /// A record is not what was written.
    #[error("record differs at seq {seq}: {what}")]
    RecordDiffers {
        /// The record.
        seq: Seq,
        /// What differs: what is stored and what was computed.
        what: String,
    },
    /// Records are missing at the end.
    #[error("tail cut: the head says {head} records, the stream ends after {found}")]
    TailCut {
        /// How many there should be.
        head: u64,
        /// How many there are.
        found: u64,
    },
    /// There are records behind the end that the head knows.
    #[error("unfinished tail: the head says {head} records, the stream goes on to {found}")]
    UnfinishedTail {
        /// How many there should be.
        head: u64,
        /// How many there are.
        found: u64,
    },
    /// An event is of a format that this version does not know.
    #[error("newer format at seq {seq}: {what}")]
    NewerFormat {
        /// The event.
        seq: Seq,
        /// What is newer than what.
        what: String,
    },
    /// An event that the state before it cannot take.
    #[error("impossible event at seq {seq}: {what}")]
    ImpossibleEvent {
        /// The event.
        seq: Seq,
        /// Why it is impossible.
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
    /// The final context is not the one that was recorded.
    #[error("final context differs at seq {seq}: recorded {recorded}, folded {folded}")]
    ContextDiffers {
        /// The event that ends the execution.
        seq: Seq,
        /// Its digest of the context.
        recorded: Hash,
        /// The digest of the context that the events give.
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
    /// Its name, the same in every place that shows it.
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

    /// Where.
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

    /// Whether it says that the log is not what was written. What was erased or pruned is meant to be gone.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::BodyErased { .. } | Self::PrunedMeanwhile { .. })
    }

    /// Whether it says that the chain does not hold.
    #[must_use]
    pub fn breaks_chain(&self) -> bool {
        matches!(
            self,
            Self::RecordDiffers { .. } | Self::TailCut { .. } | Self::UnfinishedTail { .. } | Self::Unreadable(_)
        )
    }

    fn of(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Log(error) => Self::unreadable(error),
            Trouble::Newer { seq, why, .. } => Self::NewerFormat { seq, what: why.to_string() },
            Trouble::Undecodable { seq, why, .. } => Self::ImpossibleEvent { seq, what: why.to_string() },
            Trouble::Impossible { illegal, .. } => {
                Self::ImpossibleEvent { seq: illegal.seq, what: format!("{} {}", illegal.event, illegal.what) }
            }
            Trouble::Erased { seq, .. } => Self::BodyMissing { seq },
            Trouble::Definition { .. } | Trouble::Told(_) => Self::Unreadable(trouble.to_string()),
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
    /// Whether nothing says that the log is not what was written.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        !self.verdicts.iter().any(Verdict::is_failure)
    }

    /// Whether every record has the hash that its content gives, and names the one before it.
    #[must_use]
    pub fn chain_holds(&self) -> bool {
        !self.verdicts.iter().any(Verdict::breaks_chain)
    }
}

/// That records follow each other without a gap, from one read of the log to the next. That each has the hash that its
/// content gives is what [`LogReader::read`] computes before it gives a record away, in this process, also where the log
/// is read through a socket or from an archive: to compute it again would find nothing more.
struct Chain {
    next: Seq,
    head: Hash,
}

impl Chain {
    const START: Self = Self { next: 0, head: Hash::ZERO };

    /// Takes the next record.
    fn check(&mut self, record: &Record) -> Result<(), Verdict> {
        let differs = |what: String| Err(Verdict::RecordDiffers { seq: self.next, what });
        if record.seq != self.next {
            return differs(format!("the record says that it is seq {}", record.seq));
        }
        if record.previous != self.head {
            return differs(format!(
                "it names {} as the hash before it, the record before it has {}",
                record.previous, self.head
            ));
        }
        self.next += 1;
        self.head = record.hash;
        Ok(())
    }
}

/// Verifies an execution. Reads all of it, page by page.
///
/// # Errors
/// [`ReadError`] if there is no such execution or its head cannot be read; everything else is a verdict.
pub fn verify(reader: &dyn LogReader, id: ExecutionId) -> Result<Verification, ReadError> {
    verify_ahead(&Ahead::new(reader, id))
}

/// How often an execution is verified again that changes meanwhile.
const TRIES: usize = 10;

/// Verifies an execution whose records are read ahead: the thread that reads them has the chain computed again, this one
/// folds the events again. What looks wrong is verified again, until the same is found twice: values may have been erased
/// meanwhile, or the execution pruned.
///
/// # Errors
/// As [`verify`].
pub fn verify_ahead(records: &Ahead<'_>) -> Result<Verification, ReadError> {
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

fn verify_once(records: &Ahead<'_>) -> Result<Verification, ReadError> {
    let (reader, id) = (records.reader(), records.id());
    let mut found = Verification { records: reader.stream(stream_of(id))?.records, ..Verification::default() };
    let mut refold = Refold { folder: Some(Folder::new(id, reader)) };
    let mut chain = Chain::START;
    let check = |record: &Record| chain.check(record).map_err(Wrong::Verdict);
    let whole = records.checked(check, |entries| {
        for entry in entries {
            match entry {
                Ok(entry) => {
                    found.chained += 1;
                    refold.step(entry, &mut found);
                }
                Err(wrong) => {
                    found.verdicts.push(wrong.verdict());
                    return false;
                }
            }
        }
        true
    });
    refold.folder.and_then(|folder| folder.finish().0).into_iter().for_each(let_go);
    if whole {
        found.verdicts.extend(end(reader, id, &mut found.records, found.chained)?);
    }
    Ok(found)
}

/// Why a record is not one to be folded.
enum Wrong {
    Unreadable(ReadError),
    Verdict(Verdict),
}

impl From<ReadError> for Wrong {
    fn from(error: ReadError) -> Self {
        Self::Unreadable(error)
    }
}

impl Wrong {
    fn verdict(self) -> Verdict {
        match self {
            Self::Unreadable(error) => Verdict::unreadable(error),
            Self::Verdict(verdict) => verdict,
        }
    }
}

/// Folds events again, up to one that cannot be folded.
struct Refold<'a> {
    folder: Option<Folder<&'a dyn LogReader>>,
}

impl Refold<'_> {
    fn step(&mut self, entry: Result<Entry, Trouble>, found: &mut Verification) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(trouble) => {
                // After the first one that cannot be folded, nothing is asked of the others.
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
                // That a body is missing was said above.
                if !matches!(trouble, Trouble::Erased { .. }) {
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
            // The digest goes with any value that is erased: a guess at the value could be tried by it.
            entry.erased.is_none().then_some(Hash(ended.context))
        }
        _ => None,
    }
}

/// Whether the stream ends where its head says. A running engine may have appended meanwhile, so the head is asked again.
fn end(reader: &dyn LogReader, id: ExecutionId, head: &mut u64, found: u64) -> Result<Option<Verdict>, ReadError> {
    if found > *head {
        *head = reader.stream(stream_of(id))?.records;
    }
    Ok(match found.cmp(head) {
        std::cmp::Ordering::Less => Some(Verdict::TailCut { head: *head, found }),
        std::cmp::Ordering::Greater => Some(Verdict::UnfinishedTail { head: *head, found }),
        std::cmp::Ordering::Equal => None,
    })
}
