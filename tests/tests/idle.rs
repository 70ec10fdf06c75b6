//! An idle engine does nothing. This test has a process of its own, because it counts the wakeups of the whole process.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cloacina_engine::runtime::task::Task;
use cloacina_store::Options;
use cloacina_tests::sync::Door;
use cloacina_tests::workflows::{attempts, chain, failing_task, waiting, workflow};
use cloacina_tests::world::{World, call, run, start};

/// The voluntary context switches of each thread of this process except the calling one: how often it woke up and slept again.
fn wakeups() -> Vec<(String, u64)> {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|entry| entry.unwrap());
    let others = threads.filter(|entry| entry.file_name().to_string_lossy() != own);
    others
        .filter_map(|entry| {
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            Some((field("Name:")?.to_owned(), field("voluntary_ctxt_switches:")?.parse().ok()?))
        })
        .collect()
}

/// The threads that woke up in one second, and how often.
fn wakeups_in_a_second() -> Vec<(String, u64)> {
    thread::sleep(Duration::from_millis(300));
    let before: u64 = wakeups().iter().map(|(_, count)| count).sum();
    let named = wakeups();
    thread::sleep(Duration::from_secs(1));
    let after = wakeups();
    assert!(after.iter().map(|(_, count)| count).sum::<u64>() >= before);
    named
        .into_iter()
        .zip(after)
        .filter(|((name, before), (also, after))| name == also && after > before)
        .map(|((name, before), (_, after))| (name, after - before))
        .collect()
}

#[test]
fn an_idle_engine_does_not_wake_up() {
    let door = Door::closed();
    let (stumbles, _) = failing_task("stumbles", 1);
    let fetch = Task::new_async("fetch", |context| async move { (context, Ok(())) });
    let world = World::of([
        chain("quick"),
        workflow("async", [fetch]),
        workflow("waits for a task", [waiting("wait", &door)]),
        workflow("waits for an hour", [stumbles.retry(attempts(2, 3_600_000))]),
    ]);

    let engine = world.open();
    let paused = start(&engine, "waits for a task");
    engine.pause(paused, None).unwrap();
    start(&engine, "waits for an hour");
    run(&engine, "quick");
    run(&engine, "async");
    let woken = wakeups_in_a_second();
    assert!(woken.is_empty(), "in memory, with a pause, a retry in an hour and a task that waits: {woken:?}");

    let directory = tempfile::tempdir().unwrap();
    let log = cloacina_store::open(&directory.path().join("log"), &Options::default()).unwrap();
    let on_disk = world.open_on(Arc::new(log));
    on_disk.start(call("quick")).unwrap();
    run(&on_disk, "quick");
    // The writer thread stays awake for a moment after the last write.
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let woken = wakeups_in_a_second();
    assert!(woken.is_empty(), "on a disk: {woken:?}");
    door.open();
}
