//! Work for two processors.

use std::cell::Cell;
use std::sync::LazyLock;
use std::thread;

/// How many processors this process may use.
static PROCESSORS: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// From so many records on, a second thread checks half of them: fewer are checked here before it has begun.
pub(crate) const FOR_TWO: usize = 1_024;

thread_local! {
    /// Whether what this thread does is one of two things that are done at once: then it is not parted once more.
    static ONE_OF_TWO: Cell<bool> = const { Cell::new(false) };
}

/// Does two things, on two threads if there is a processor for the second one.
pub(crate) fn both<T: Send>(one: impl Fn() -> T, other: impl Fn() -> T + Sync) -> (T, T) {
    if *PROCESSORS < 2 || ONE_OF_TWO.get() {
        return (one(), other());
    }
    let other = || {
        let _parted = Parted::begin();
        other()
    };
    let on_its_thread = &other;
    thread::scope(|scope| {
        let started = thread::Builder::new().name("cloacina-read".to_owned()).spawn_scoped(scope, on_its_thread);
        let one = {
            let _parted = Parted::begin();
            one()
        };
        // There is no such thread, or it panicked: then it is for this one to do, or to do the same.
        let other = started.ok().and_then(|thread| thread.join().ok()).unwrap_or_else(on_its_thread);
        (one, other)
    })
}

/// While this is there, this thread does one of two things.
struct Parted;

impl Parted {
    fn begin() -> Self {
        ONE_OF_TWO.set(true);
        Self
    }
}

impl Drop for Parted {
    fn drop(&mut self) {
        ONE_OF_TWO.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_done_and_each_result_is_in_its_place() {
        let numbers = [1, 2, 3];
        assert_eq!(both(|| numbers[0], || numbers[1] + numbers[2]), (1, 5));
    }

    #[test]
    fn what_is_one_of_two_things_is_done_on_one_thread() {
        let threads = || both(|| thread::current().id(), || thread::current().id());
        let ((a, b), (c, d)) = both(threads, threads);
        assert_eq!((a, c), (b, d));
        // And after that on two again, if there are two.
        let (one, other) = threads();
        assert_eq!(one == other, *PROCESSORS < 2);
    }

    #[test]
    #[should_panic(expected = "not to be done")]
    fn what_panics_on_the_other_thread_panics_here() {
        both(|| 1, || panic!("not to be done"));
    }
}
