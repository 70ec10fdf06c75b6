//! The writer thread: it writes whatever is pending and never delays a write to collect more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::core::change::Work;
use crate::core::writer::{Job, Outcome, Writer};
use crate::keeper::{ChangeError, Changed};
use crate::log::{AppendError, Durability};
use crate::record::Timestamp;

/// The maximum number of frames in a group. Larger groups add only latency.
const GROUP_FRAMES: usize = 4_096;

/// The maximum size of a group in bytes.
const GROUP_BYTES: usize = 1024 * 1024;

/// How long the thread spins for more messages before it sleeps. Waking a thread takes a good part of the time of an
/// fsync, and after an acknowledgement the next batch often follows at once. It yields to other threads meanwhile.
const SPIN_TIME: Duration = Duration::from_micros(50);

/// A message to the writer thread.
pub(crate) enum Message {
    /// Append batches that were handed over together.
    Append(Vec<Job>),
    /// Make a change other than an append, after all earlier messages.
    Change(Box<Work>, Sender<Result<Changed, ChangeError>>),
    /// Close the log cleanly, after all earlier messages.
    Close(Sender<Result<(), AppendError>>),
    /// Stop after all earlier messages, without recording a clean shutdown.
    Stop,
}

/// Runs the writer until it gets a message to stop, or all senders are gone.
///
/// After a clean close of the index, `checksum` computes the checksum of its files.
pub(crate) fn run(
    mut writer: Writer,
    messages: &Receiver<Message>,
    durability: Durability,
    now: impl Fn(Timestamp) -> Timestamp,
    checksum: impl FnOnce() -> u32,
) {
    let mut inbox = Inbox { messages, deferred: None };
    let mut schedule = SyncSchedule::new(durability);
    while let Some(first) = schedule.next(&mut inbox, &mut writer) {
        let (jobs, last) = inbox.take_group(first);
        if !jobs.is_empty() {
            writer.commit(jobs).into_iter().for_each(acknowledge);
            writer.notify_readers();
        }
        match last {
            None | Some(Message::Append(_)) => {}
            Some(Message::Change(work, reply)) => {
                let time = now(writer.last_time());
                // The caller may be gone.
                let _ = reply.send(writer.change(*work, time));
                writer.notify_readers();
            }
            Some(Message::Stop) => break,
            Some(Message::Close(reply)) => {
                let time = now(writer.last_time());
                // The caller waits for it.
                let _ = reply.send(writer.close(time, checksum));
                return;
            }
        }
    }
    writer.sync();
}

/// Calls an acknowledgement. One that panics must not end the writer thread.
fn acknowledge(outcome: Outcome) {
    if catch_unwind(AssertUnwindSafe(|| outcome.acknowledge())).is_err() {
        tracing::error!("an acknowledgement panicked");
    }
}

/// When to wake the thread: for a message, and for the next fsync if acknowledgements are ahead of the disk.
struct SyncSchedule {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl SyncSchedule {
    fn new(durability: Durability) -> Self {
        let interval = match durability {
            Durability::Interval(milliseconds) => Some(Duration::from_millis(milliseconds)),
            Durability::Sync | Durability::Os => None,
        };
        Self { interval, due: None }
    }

    /// The next message; `None` if all senders are gone.
    fn next(&mut self, inbox: &mut Inbox<'_>, writer: &mut Writer) -> Option<Message> {
        loop {
            let Some(interval) = self.interval.filter(|_| writer.is_unsynced()) else {
                self.due = None;
                return inbox.receive();
            };
            let now = Instant::now();
            // An interval that overflows the clock is never due.
            let Some(due) = self.due.or_else(|| now.checked_add(interval)) else {
                return inbox.receive();
            };
            self.due = Some(due);
            if now < due {
                match inbox.receive_before(due) {
                    Ok(message) => return Some(message),
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {}
                }
            }
            writer.sync();
            self.due = None;
            if writer.is_unsynced() {
                // The sync failed and the log has stopped: there is nothing left to sync.
                return inbox.receive();
            }
        }
    }
}

/// The pending messages of the thread.
struct Inbox<'a> {
    messages: &'a Receiver<Message>,
    /// Batches that did not fit the last group. They come before all other messages.
    deferred: Option<Message>,
}

impl Inbox<'_> {
    /// The next message; spins before it sleeps. `None` if all senders are gone.
    fn receive(&mut self) -> Option<Message> {
        let until = Instant::now() + SPIN_TIME;
        loop {
            match self.receive_waiting() {
                Ok(message) => return Some(message),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if Instant::now() < until => thread::yield_now(),
                Err(TryRecvError::Empty) => return self.messages.recv().ok(),
            }
        }
    }

    fn receive_before(&mut self, due: Instant) -> Result<Message, RecvTimeoutError> {
        self.deferred.take().map_or_else(|| self.messages.recv_deadline(due), Ok)
    }

    fn receive_waiting(&mut self) -> Result<Message, TryRecvError> {
        self.deferred.take().map_or_else(|| self.messages.try_recv(), Ok)
    }

    /// Takes pending batches up to the limits of a group, and the message that ended the group, if any. Batches that
    /// were handed over together may be split over several groups.
    fn take_group(&mut self, first: Message) -> (Vec<Job>, Option<Message>) {
        let (mut jobs, mut frames, mut bytes) = (Vec::new(), 0, 0);
        let mut next = Some(first);
        while let Some(message) = next {
            let Message::Append(together) = message else { return (jobs, Some(message)) };
            let mut together = together.into_iter();
            while frames < GROUP_FRAMES
                && bytes < GROUP_BYTES
                && let Some(job) = together.next()
            {
                frames += job.batch.frames.len();
                bytes += job.batch.bytes();
                jobs.push(job);
            }
            if together.len() > 0 {
                self.deferred = Some(Message::Append(together.collect()));
            }
            if frames >= GROUP_FRAMES || bytes >= GROUP_BYTES {
                break;
            }
            next = self.receive_waiting().ok();
        }
        (jobs, None)
    }
}
