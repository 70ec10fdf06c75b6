//! The descriptors that a fork of this process must close.
//!
//! A fork without `exec` (`os.fork`, `multiprocessing`, `ProcessPoolExecutor`) shares every open file with its parent,
//! including the lock of a log: if the parent dies, its child keeps a lock that it knows nothing of. Linux has no
//! close-on-fork flag. So the descriptors that identify a log (its lock file, the sockets of its readers) are
//! registered here, and a program that may be forked closes them in the child before anything else runs there.
//! [`marks`] is written for that moment: it takes no lock and allocates nothing. The Python package calls it from
//! `pthread_atfork`.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

const FREE: RawFd = -1;
const BLOCK: usize = 64;

/// A list of registered descriptors that grows by blocks and never shrinks.
struct Slots {
    descriptors: [AtomicI32; BLOCK],
    more: OnceLock<Box<Slots>>,
}

static SLOTS: Slots = Slots::new();

impl Slots {
    const fn new() -> Self {
        Self { descriptors: [const { AtomicI32::new(FREE) }; BLOCK], more: OnceLock::new() }
    }

    fn take(&self, descriptor: RawFd) -> &AtomicI32 {
        let free =
            |slot: &&AtomicI32| slot.compare_exchange(FREE, descriptor, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        match self.descriptors.iter().find(free) {
            Some(slot) => slot,
            None => self.more.get_or_init(|| Box::new(Self::new())).take(descriptor),
        }
    }
}

/// Registers a descriptor for closing in forks until this is dropped. Drop it before the descriptor is closed.
///
/// # Examples
/// ```
/// use std::os::fd::AsRawFd;
///
/// let file = tempfile::tempfile()?;
/// let kept_out = cloacina_store::forks::CloseInForks::new(&file);
/// assert!(cloacina_store::forks::marks().any(|descriptor| descriptor == file.as_raw_fd()));
/// drop(kept_out);
/// assert!(cloacina_store::forks::marks().all(|descriptor| descriptor != file.as_raw_fd()));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct CloseInForks(&'static AtomicI32);

impl CloseInForks {
    /// Registers an open descriptor.
    #[must_use]
    pub fn new(descriptor: &impl AsRawFd) -> Self {
        Self(SLOTS.take(descriptor.as_raw_fd()))
    }
}

impl Drop for CloseInForks {
    fn drop(&mut self) {
        self.0.store(FREE, Ordering::SeqCst);
    }
}

/// The registered descriptors. If one is the lock file of a log, every other open file in that directory belongs to the
/// log too; if one is a listening socket, so do the connections that it accepted.
pub fn marks() -> impl Iterator<Item = RawFd> {
    std::iter::successors(Some(&SLOTS), |slots| slots.more.get().map(|more| &**more))
        .flat_map(|slots| &slots.descriptors)
        .map(|slot| slot.load(Ordering::SeqCst))
        .filter(|descriptor| *descriptor != FREE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_descriptors_than_there_was_room_for_are_all_noted_and_forgotten() {
        struct Number(RawFd);
        impl AsRawFd for Number {
            fn as_raw_fd(&self) -> RawFd {
                self.0
            }
        }
        let numbers: Vec<RawFd> = (1_000_000..1_000_000 + 3 * BLOCK as RawFd).collect();
        let noted = || marks().filter(|number| numbers.contains(number)).count();
        let kept: Vec<CloseInForks> = numbers.iter().map(|number| CloseInForks::new(&Number(*number))).collect();
        assert_eq!(noted(), numbers.len());
        drop(kept);
        assert_eq!(noted(), 0);
        assert!(numbers.iter().all(|number| SLOTS.take(*number).swap(FREE, Ordering::SeqCst) == *number));
    }
}
