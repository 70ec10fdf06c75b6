//! A work queue for threads of which only one runs at a time, like Python's threads under the GIL. For executors of
//! [`TaskBody::Detached`](super::task::TaskBody::Detached).
//!
//! Waking a thread for each item costs more than a short item itself, and the woken thread then waits for the GIL that
//! the running one holds. So a thread that runs a short item is expected back soon, and takes the next item itself.
//! Another thread is woken only if it does not come back in time, or if an item is known to be long. One idle thread,
//! the watcher, checks that periodically while items are taken. Otherwise all threads sleep.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lock::lock;

/// How long a thread may take for a short item before another thread is woken.
const PATIENCE: Duration = Duration::from_micros(500);

/// A work queue for threads of which only one runs at a time.
///
/// ```
/// use cloacina_engine::runtime::work_queue::WorkQueue;
///
/// let queue = WorkQueue::default();
/// queue.push("first");
/// queue.push("second");
/// assert_eq!(queue.take(|_| true), Some("first"));
/// assert_eq!(queue.take(|_| true), Some("second"));
/// assert_eq!(queue.take(|_| true), None);
/// ```
pub struct WorkQueue<T> {
    state: Mutex<State<T>>,
    wake: Condvar,
    /// Wakes the watcher.
    watcher: Condvar,
    patience: Duration,
}

struct State<T> {
    items: VecDeque<T>,
    /// Threads that sleep until they are woken.
    idle: usize,
    /// Wake-ups that no thread has reacted to yet.
    wakeups: usize,
    /// Woken threads that have not taken an item yet.
    arriving: usize,
    /// When the thread that runs a short item is expected back.
    expected_by: Option<Instant>,
    watch: Watch,
    /// Whether an item was taken since the watcher's last check.
    progressed: bool,
    closed: bool,
}

/// The state of the watcher.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    Off,
    /// An idle thread was woken to become the watcher.
    Wanted,
    On,
}

/// Why [`WorkQueue::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// An item may be available: call [`WorkQueue::take_woken`].
    ItemAvailable,
    /// The queue is closed.
    Closed,
}

impl<T> Default for WorkQueue<T> {
    fn default() -> Self {
        Self::with_patience(PATIENCE)
    }
}

impl<T> WorkQueue<T> {
    /// A queue that expects threads back from short items within `patience`.
    fn with_patience(patience: Duration) -> Self {
        let state = State {
            items: VecDeque::new(),
            idle: 0,
            wakeups: 0,
            arriving: 0,
            expected_by: None,
            watch: Watch::Off,
            progressed: false,
            closed: false,
        };
        Self { state: Mutex::new(state), wake: Condvar::new(), watcher: Condvar::new(), patience }
    }

    /// Adds an item, and wakes a thread for it if needed. Never blocks.
    pub fn push(&self, item: T) {
        let mut state = lock(&self.state);
        state.items.push_back(item);
        if state.expected_by.is_some_and(|expected_by| Instant::now() < expected_by) {
            self.ensure_watcher(&mut state);
        } else {
            self.wake_one(&mut state);
        }
    }

    /// Takes the next item, after the caller finished its previous one. `is_short` estimates whether an item is done
    /// soon, without a wait that releases the GIL.
    pub fn take(&self, is_short: impl FnOnce(&T) -> bool) -> Option<T> {
        self.take_from(lock(&self.state), is_short)
    }

    /// Takes the next item, on a thread that [`WorkQueue::wait`] woke.
    pub fn take_woken(&self, is_short: impl FnOnce(&T) -> bool) -> Option<T> {
        let mut state = lock(&self.state);
        state.arriving -= 1;
        self.take_from(state, is_short)
    }

    fn take_from(&self, mut state: MutexGuard<'_, State<T>>, is_short: impl FnOnce(&T) -> bool) -> Option<T> {
        state.expected_by = None;
        let item = state.items.pop_front()?;
        state.progressed = true;
        if is_short(&item) {
            state.expected_by = Some(Instant::now() + self.patience);
            if !state.items.is_empty() {
                self.ensure_watcher(&mut state);
            }
        } else if !state.items.is_empty() {
            self.wake_one(&mut state);
        }
        Some(item)
    }

    /// Sleeps until an item may be available or the queue is closed. Calls `overdue` on this thread when it stops being
    /// the watcher: when the thread that runs a short item is overdue, or nothing is taken any more.
    pub fn wait(&self, overdue: impl Fn()) -> Woken {
        let mut state = lock(&self.state);
        loop {
            if let Some(woken) = woken(&mut state).or_else(|| leftover(&mut state)) {
                return woken;
            }
            if state.watch == Watch::Wanted {
                let woken = self.watch(state);
                overdue();
                if let Some(woken) = woken {
                    return woken;
                }
                state = lock(&self.state);
                continue;
            }
            state.idle += 1;
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    /// Acts as the watcher, as long as items are taken.
    fn watch(&self, mut state: MutexGuard<'_, State<T>>) -> Option<Woken> {
        state.watch = Watch::On;
        loop {
            state.progressed = false;
            let waited = self.watcher.wait_timeout(state, self.patience);
            let (after, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = after;
            let mut woken = woken(&mut state);
            let is_overdue =
                waited.timed_out() && state.expected_by.is_none_or(|expected_by| Instant::now() >= expected_by);
            if woken.is_none() && is_overdue && state.arriving == 0 && !state.items.is_empty() {
                state.arriving += 1;
                woken = Some(Woken::ItemAvailable);
            }
            if woken.is_some() || (is_overdue && !state.progressed) {
                state.watch = Watch::Off;
                return woken;
            }
        }
    }

    /// Whether the thread that runs a short item will find another one when it comes back, and is watched until then. A
    /// thread that was woken to be the watcher counts.
    pub fn has_next_item(&self) -> bool {
        let state = lock(&self.state);
        state.watch != Watch::Off && state.expected_by.is_some() && !state.items.is_empty()
    }

    /// Number of threads that wait or were just woken.
    pub fn waiting(&self) -> usize {
        let state = lock(&self.state);
        state.idle + usize::from(state.watch == Watch::On) + state.arriving
    }

    /// Whether it is closed. Remaining items can still be taken.
    pub fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Closes the queue: [`WorkQueue::wait`] returns, now and later.
    pub fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_all();
        self.watcher.notify_all();
    }

    /// Wakes a thread, unless a woken one has yet to take an item.
    fn wake_one(&self, state: &mut State<T>) {
        if state.wakeups + state.arriving > 0 {
            return;
        }
        if state.idle > 0 {
            state.wakeups = 1;
            self.wake.notify_one();
        } else if state.watch == Watch::On {
            state.wakeups = 1;
            self.watcher.notify_one();
        }
    }

    /// Wakes an idle thread to become the watcher, if there is none.
    fn ensure_watcher(&self, state: &mut State<T>) {
        if state.watch == Watch::Off && state.idle > state.wakeups {
            state.watch = Watch::Wanted;
            self.wake.notify_one();
        }
    }
}

/// Returns why a thread stops waiting, if it does.
fn woken<T>(state: &mut State<T>) -> Option<Woken> {
    if state.closed {
        return Some(Woken::Closed);
    }
    if state.wakeups == 0 {
        return None;
    }
    state.wakeups -= 1;
    state.arriving += 1;
    Some(Woken::ItemAvailable)
}

/// Handles an item that was pushed while no thread could be woken. If the thread that runs a short item is expected
/// back for it, this thread becomes the watcher; otherwise it takes the item.
fn leftover<T>(state: &mut State<T>) -> Option<Woken> {
    if state.items.is_empty() || state.arriving > 0 {
        return None;
    }
    if state.expected_by.is_none_or(|expected_by| Instant::now() >= expected_by) {
        state.arriving += 1;
        return Some(Woken::ItemAvailable);
    }
    if state.watch == Watch::Off {
        state.watch = Watch::Wanted;
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// A thread that waits once, and what woke it.
    fn waiting_thread<T: Send + 'static>(queue: &Arc<WorkQueue<T>>) -> Receiver<Woken> {
        let (queue, (sender, receiver)) = (queue.clone(), channel());
        let before = queue.waiting();
        let own = queue.clone();
        thread::spawn(move || sender.send(own.wait(|| ())));
        until(|| queue.waiting() > before);
        receiver
    }

    fn until(mut condition: impl FnMut() -> bool) {
        let late = Instant::now() + SOON;
        while !condition() {
            assert!(Instant::now() < late, "it does not come to that");
            thread::yield_now();
        }
    }

    #[test]
    fn a_thread_that_waits_is_called_for_an_item() {
        let queue = Arc::new(WorkQueue::default());
        let woken = waiting_thread(&queue);
        queue.push(1);
        assert_eq!(woken.recv_timeout(SOON), Ok(Woken::ItemAvailable));
        assert_eq!(queue.take_woken(|_| true), Some(1));
    }

    /// Sets up a queue whose first item has woken one thread, while another one is idle.
    fn with_one_called(queue: &Arc<WorkQueue<usize>>) -> Receiver<Woken> {
        let threads = [waiting_thread(queue), waiting_thread(queue)];
        queue.push(0);
        let mut idle = Vec::new();
        until(|| lock(&queue.state).arriving == 1);
        thread::sleep(Duration::from_millis(50));
        idle.extend(threads.into_iter().filter(|thread| thread.try_recv().is_err()));
        assert_eq!(idle.len(), 1, "one is called");
        idle.remove(0)
    }

    #[test]
    fn who_is_at_short_work_takes_what_comes_meanwhile_and_no_other_is_called() {
        let queue = Arc::new(WorkQueue::with_patience(SOON));
        let other = with_one_called(&queue);
        let mut taken = vec![queue.take_woken(|_| true).unwrap()];
        for item in 1..100 {
            queue.push(item);
            taken.extend(queue.take(|_| true));
        }
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn another_is_called_when_short_work_takes_long_after_all() {
        let queue = Arc::new(WorkQueue::default());
        let other = with_one_called(&queue);
        assert_eq!(queue.take_woken(|_| true), Some(0));
        queue.push(1);
        assert_eq!(other.recv_timeout(SOON), Ok(Woken::ItemAvailable));
        assert_eq!(queue.take_woken(|_| true), Some(1));
    }

    #[test]
    fn another_is_called_at_once_when_an_item_is_long() {
        let queue = Arc::new(WorkQueue::with_patience(Duration::from_secs(1_000)));
        let other = with_one_called(&queue);
        queue.push(1);
        assert_eq!(queue.take_woken(|_| false), Some(0));
        assert_eq!(other.recv_timeout(SOON), Ok(Woken::ItemAvailable));
        assert_eq!(queue.take_woken(|_| false), Some(1));
    }

    #[test]
    fn whoever_looks_after_short_work_goes_to_sleep_when_nothing_moves() {
        let queue = Arc::new(WorkQueue::with_patience(Duration::from_millis(300)));
        let other = with_one_called(&queue);
        queue.push(1);
        assert_eq!(queue.take_woken(|_| true), Some(0));
        assert!(queue.has_next_item());
        assert_eq!(queue.take(|_| true), Some(1));
        assert!(!queue.has_next_item());
        until(|| lock(&queue.state).watch == Watch::Off);
        assert!(other.try_recv().is_err());
    }

    #[test]
    fn what_came_when_nobody_waited_is_not_left_lying() {
        let queue = WorkQueue::default();
        queue.push(0);
        assert_eq!(queue.wait(|| ()), Woken::ItemAvailable);
        assert_eq!(queue.take_woken(|_| true), Some(0));
        // The one that took it does not come back.
        queue.push(1);
        assert_eq!(queue.wait(|| ()), Woken::ItemAvailable);
        assert_eq!(queue.take_woken(|_| true), Some(1));
    }

    #[test]
    fn a_closed_queue_lets_every_thread_go() {
        let queue = Arc::new(WorkQueue::<u8>::default());
        let waiting = [waiting_thread(&queue), waiting_thread(&queue)];
        queue.close();
        for woken in waiting {
            assert_eq!(woken.recv_timeout(SOON), Ok(Woken::Closed));
        }
        assert_eq!(queue.wait(|| ()), Woken::Closed);
    }

    /// Threads of which one runs at a time, and an item in seven that lets the others run for a while.
    #[test]
    fn each_item_is_done_once_whoever_comes_and_whatever_takes_long() {
        const ITEMS: usize = 20_000;
        let (queue, gil) = (Arc::new(WorkQueue::default()), Arc::new(Mutex::new(vec![0_u8; ITEMS])));
        let workers: Vec<_> = (0..6)
            .map(|_| {
                let (queue, gil) = (queue.clone(), gil.clone());
                thread::spawn(move || work(&queue, &gil))
            })
            .collect();
        let pushers = (0..4_usize).map(|first| {
            let queue = queue.clone();
            thread::spawn(move || (first..ITEMS).step_by(4).for_each(|item| queue.push(item)))
        });
        pushers.collect::<Vec<_>>().into_iter().for_each(|pusher| pusher.join().unwrap());
        until(|| gil.lock().unwrap().iter().all(|done| *done > 0));
        queue.close();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        assert!(gil.lock().unwrap().iter().all(|done| *done == 1));
    }

    fn work(queue: &WorkQueue<usize>, gil: &Mutex<Vec<u8>>) {
        // The estimate is sometimes wrong.
        let is_short = |item: &usize| !item.is_multiple_of(5);
        let mut running = gil.lock().unwrap();
        let mut next = queue.take(is_short);
        loop {
            let Some(item) = next else {
                drop(running);
                if queue.wait(|| ()) == Woken::Closed {
                    return;
                }
                running = gil.lock().unwrap();
                next = queue.take_woken(is_short);
                continue;
            };
            running[item] += 1;
            if item.is_multiple_of(700) {
                drop(running);
                thread::sleep(Duration::from_millis(1));
                running = gil.lock().unwrap();
            }
            next = queue.take(is_short);
        }
    }
}
