//! Checks whether this process can start the threads that an open log needs.
//!
//! sled does not check whether some of its threads could be started, and waits forever for those that could not. So
//! this crate starts as many threads first.

use std::io;
use std::thread;

use rustix::process::{Resource, getrlimit};

/// Starts `count` threads at the same time and ends them; fails with the limits that may be the cause.
pub(crate) fn check(count: usize) -> io::Result<()> {
    let (release, waiting) = crossbeam_channel::bounded::<()>(0);
    let mut started = Vec::with_capacity(count);
    let refused = (0..count).find_map(|_| {
        let waiting = waiting.clone();
        let spawned = thread::Builder::new().name("cloacina-threads".to_owned()).spawn(move || {
            // Returns once the sender is dropped.
            let _ = waiting.recv();
        });
        spawned.map(|thread| started.push(thread)).err()
    });
    drop(release);
    let started_count = started.len();
    for thread in started {
        // The thread does nothing that could panic, and must end before others need its place.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |error| Err(too_few(started_count, count, &error)))
}

fn too_few(started_count: usize, needed: usize, error: &io::Error) -> io::Error {
    let limits = limits();
    let limits = if limits.is_empty() { "this process has no known limit".to_owned() } else { limits.join(", ") };
    io::Error::new(
        error.kind(),
        format!(
            "only {started_count} of {needed} threads could be started ({error}); raise the limit of threads: {limits}"
        ),
    )
}

/// Describes the limits of threads that apply to this process.
fn limits() -> Vec<String> {
    let mut limits = Vec::new();
    if let Some(limit) = getrlimit(Resource::Nproc).current {
        limits.push(format!("`ulimit -u` is {limit} for all processes of this user"));
    }
    if let Some(limit) = pids_limit() {
        limits.push(format!("the container (cgroup) is limited to {limit}"));
    }
    if let Some(limit) = getrlimit(Resource::As).current {
        limits.push(format!("`ulimit -v` leaves {} KiB of address space, and each thread takes 2048", limit / 1024));
    }
    limits
}

/// The smallest `pids.max` of the control groups of this process.
fn pids_limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut smallest = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, group) = (parts.next()?, parts.next()?);
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            controllers if controllers.split(',').any(|one| one == "pids") => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let ancestors = std::path::Path::new(group.trim_start_matches('/')).ancestors().map(|part| {
            let limit = std::fs::read_to_string(std::path::Path::new(root).join(part).join("pids.max"));
            limit.ok().and_then(|limit| limit.trim().parse::<u64>().ok())
        });
        smallest = ancestors.chain([smallest]).flatten().min();
    }
    smallest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_threads_as_a_log_needs_can_be_had_and_are_given_back() {
        check(8).unwrap();
    }

    #[test]
    fn too_few_are_told_with_their_number_and_a_limit() {
        let error = too_few(3, 14, &io::Error::from(io::ErrorKind::WouldBlock)).to_string();
        assert!(error.starts_with("only 3 of 14 threads could be started ("), "{error}");
        assert!(error.contains("raise the limit of threads: "), "{error}");
    }
}
