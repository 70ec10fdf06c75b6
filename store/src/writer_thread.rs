//! The thread that writes: it takes whatever is waiting, and no timer ever makes it wait for more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};

use crate::core::change::Work;
use crate::core::writer::{Job, Outcome, Writer};
use crate::keeper::{ChangeError, Changed};
use crate::log::{AppendError, Durability};
use crate::record::Timestamp;

/// A group with this many frames takes nothing more. More of them add latency and nothing else.
const GROUP_FRAMES: usize = 4_096;

/// A group with this many bytes takes nothing more.
const GROUP_BYTES: usize = 1024 * 1024;

/// How long the thread looks for more after a message before it goes to sleep. Waking a thread takes a good part of what a
/// sync takes, and who waits for an acknowledgement often has the next decision at once. Meanwhile it gives way to all others.
const AWAKE: Duration = Duration::from_micros(50);

/// What the thread is told.
pub(crate) enum Message {
    /// To append what was handed over together.
    Append(Vec<Job>),
    /// To change something other than by appending, after all that was told before.
    Change(Box<Work>, Sender<Result<Changed, ChangeError>>),
    /// To close the log in order, after all that was told before.
    Close(Sender<Result<(), AppendError>>),
    /// To end, after all that was told before, without a note in the log.
    Leave,
}

/// Writes until it is told to end.
///
/// Once the index is let go of in order, `checksum` says what it was left as.
pub(crate) fn run(
    mut writer: Writer,
    messages: &Receiver<Message>,
    durability: Durability,
    now: impl Fn(Timestamp) -> Timestamp,
    checksum: impl FnOnce() -> u32,
) {
    let mut inbox = Inbox { messages, left: None };
    let mut pace = Pace::new(durability);
    while let Some(first) = pace.next(&mut inbox, &mut writer) {
        let (jobs, last) = inbox.take_group(first);
        if !jobs.is_empty() {
            writer.commit(jobs).into_iter().for_each(tell);
            writer.tell_readers();
        }
        match last {
            None | Some(Message::Append(_)) => {}
            Some(Message::Change(work, reply)) => {
                let time = now(writer.last_time());
                // Whoever asked may be gone.
                let _ = reply.send(writer.change(*work, time));
                writer.tell_readers();
            }
            Some(Message::Leave) => break,
            Some(Message::Close(reply)) => {
                let time = now(writer.last_time());
                // The one who closes waits for it.
                let _ = reply.send(writer.close(time, checksum));
                return;
            }
        }
    }
    writer.sync();
}

/// An acknowledgement that panics must not take the log with it.
fn tell(outcome: Outcome) {
    if catch_unwind(AssertUnwindSafe(|| outcome.tell())).is_err() {
        tracing::error!("an acknowledgement panicked");
    }
}

/// When the thread wakes: for a message, and where acknowledgements run ahead of the disk, for the sync that is due.
struct Pace {
    interval: Option<Duration>,
    due: Option<Instant>,
}

impl Pace {
    fn new(durability: Durability) -> Self {
        let interval = match durability {
            Durability::Interval(milliseconds) => Some(Duration::from_millis(milliseconds)),
            Durability::Sync | Durability::Os => None,
        };
        Self { interval, due: None }
    }

    /// The next message; `None` when nobody can send one any more.
    fn next(&mut self, inbox: &mut Inbox<'_>, writer: &mut Writer) -> Option<Message> {
        loop {
            let Some(interval) = self.interval.filter(|_| writer.is_unsynced()) else {
                self.due = None;
                return inbox.receive();
            };
            let now = Instant::now();
            // An interval beyond all clocks is never due.
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
                // The sync failed: the log has stopped, and there is nothing to be made durable any more.
                return inbox.receive();
            }
        }
    }
}

/// What the thread was told, and has not done yet.
struct Inbox<'a> {
    messages: &'a Receiver<Message>,
    /// What did not fit the last group. It comes before all other messages.
    left: Option<Message>,
}

impl Inbox<'_> {
    /// The next message, which is looked for before it is waited for; `None` when nobody can send one any more.
    fn receive(&mut self) -> Option<Message> {
        let until = Instant::now() + AWAKE;
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
        self.left.take().map_or_else(|| self.messages.recv_deadline(due), Ok)
    }

    fn receive_waiting(&mut self) -> Result<Message, TryRecvError> {
        self.left.take().map_or_else(|| self.messages.try_recv(), Ok)
    }

    /// All that is waiting, up to a group's bounds, and the message that ends it, if there was one. Batches that were handed
    /// over together can come to be in several groups.
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
                self.left = Some(Message::Append(together.collect()));
            }
            if frames >= GROUP_FRAMES || bytes >= GROUP_BYTES {
                break;
            }
            next = self.receive_waiting().ok();
        }
        (jobs, None)
    }
}
