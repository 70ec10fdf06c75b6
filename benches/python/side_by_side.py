"""Measures workflows from Python relative to the sync time of the disk.

Every latency is printed with its ratio to one fdatasync of 256 bytes appended to a file in the same directory, measured
just before and just after. Pass a directory on the disk to measure; the default is a temporary directory here.

    .venv/bin/python benches/python/side_by_side.py [DIRECTORY]
"""

from __future__ import annotations

import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cloaca

SYNCS = 400


def sync_times(directory: Path) -> list[float]:
    """Returns the seconds of single fdatasyncs, each after 256 bytes were appended to a growing file."""
    times = []
    path = directory / "sync-probe"
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(SYNCS):
            os.write(descriptor, b"x" * 256)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            times.append(time.perf_counter() - began)
    finally:
        os.close(descriptor)
        path.unlink()
    return times


def workflow(name: str, edges: dict[str, list[str]]) -> None:
    """Registers a workflow of tasks that do nothing."""
    with cloaca.WorkflowBuilder(name):
        for task, dependencies in edges.items():

            def body(context: cloaca.Context) -> None:
                pass

            cloaca.task(id=task, dependencies=dependencies)(body)


def chain(length: int) -> dict[str, list[str]]:
    """Each task depends on the previous one."""
    return {f"t{at}": [f"t{at - 1}"] if at else [] for at in range(length)}


def fan(width: int) -> dict[str, list[str]]:
    """One task, then many parallel ones, then one that depends on all of them."""
    inner = {f"m{at}": ["first"] for at in range(width)}
    return {"first": [], **inner, "last": list(inner)}


def fifteen() -> dict[str, list[str]]:
    """The tutorial's shape: a diamond, a fan-out, a fan-in and a chain."""
    edges = {"prepare": [], "left": ["prepare"], "right": ["prepare"], "report": ["left", "right"], "split": ["prepare"]}
    edges |= {f"batch{at}": ["split"] for at in range(4)}
    edges["merge"] = [f"batch{at}" for at in range(4)]
    before = "merge"
    for at in range(5):
        edges[f"level{at}"] = [before]
        before = f"level{at}"
    return edges


def time_calls(call: Callable[[], object], times: int) -> list[float]:
    """Returns the seconds of each call, after a few calls to warm up."""
    for _ in range(max(3, times // 10)):
        call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


@contextmanager
def runner(directory: Path, slots: int = 4) -> Iterator[cloaca.DefaultRunner]:
    """Opens a runner on a new log."""
    path = tempfile.mkdtemp(dir=directory)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=slots)
    with cloaca.DefaultRunner(f"cloaca:///{path}/log", config) as opened:
        yield opened


def latency(directory: Path, label: str, name: str, times: int, goal: str) -> None:
    """Prints the latency of one workflow at a time, and its ratio to the disk's."""
    with runner(directory) as opened:
        before = sync_times(directory)
        taken = time_calls(lambda: opened.execute(name), times)
        disk = statistics.median(before + sync_times(directory))
    median, slow = statistics.median(taken), sorted(taken)[int(len(taken) * 0.99)]
    print(f"{label:34} p50 {median * 1e3:8.2f} ms  p99 {slow * 1e3:8.2f} ms  {median / disk:7.1f} x fdatasync   goal {goal}")


def switches() -> int:
    """Returns the context switches of all threads of this process."""
    fields = re.compile(r"ctxt_switches:\s+(\d+)")
    statuses = (path.read_text() for path in Path("/proc/self/task").glob("*/status"))
    return sum(int(number) for status in statuses for number in fields.findall(status))


def throughput(directory: Path, slots: int, goal: str, count: int = 6000, in_flight: int = 64) -> None:
    """Prints the throughput of durable three-task workflows with many in flight, and the cost of a task."""
    with runner(directory, slots) as opened, ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(lambda _: opened.execute("chain3"), range(500)))
        switched, worked, began = switches(), time.process_time(), time.perf_counter()
        list(pool.map(lambda _: opened.execute("chain3"), range(count)))
        taken, worked, switched = time.perf_counter() - began, time.process_time() - worked, switches() - switched
    label, tasks = f"3-task workflows, {in_flight} in flight, {slots} slots", 3 * count
    print(f"{label:44} {count / taken:8.0f} a second            goal {goal}")
    print(f"{'':44} {switched / tasks:8.1f} switches, {worked / tasks * 1e6:.0f} us of processor a task   goal 3 switches")


def starting(directory: Path, count: int = 8000) -> None:
    """Prints how many executions per second `submit_many` starts, durably."""
    inputs = [{"number": number} for number in range(count)]
    with runner(directory) as opened:
        opened.execute("one")
        began = time.perf_counter()
        opened.submit_many("one", inputs)
        taken = time.perf_counter() - began
    print(f"{f'submit_many of {count}':44} {count / taken:8.0f} a second            goal 20000")


def idle(directory: Path, seconds: float = 3.0) -> None:
    """Prints the CPU time of an idle runner."""
    with runner(directory) as opened:
        opened.execute("one")
        time.sleep(1.0)
        before = time.process_time()
        threading.Event().wait(seconds)
        used = time.process_time() - before
    print(f"{'idle CPU':34} {used / seconds * 100:8.3f} %                             goal 0")


def main() -> None:
    """Measures everything once."""
    workflow("one", {"only": []})
    workflow("chain3", chain(3))
    workflow("chain100", chain(100))
    workflow("fan100", fan(100))
    workflow("fifteen", fifteen())
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else ".") as name:
        directory = Path(name).resolve()
        disk = sorted(sync_times(directory))
        print(f"{os.cpu_count()} cores; fdatasync of 256 bytes: p50 {disk[SYNCS // 2] * 1e3:.3f} ms, p99 {disk[int(SYNCS * 0.99)] * 1e3:.3f} ms")
        latency(directory, "1 task", "one", 300, "6 x fdatasync")
        latency(directory, "15 tasks (the tutorial's shape)", "fifteen", 100, "30 ms")
        latency(directory, "chain of 100", "chain100", 20, "200 ms")
        latency(directory, "fan-out and fan-in of 100", "fan100", 20, "200 ms")
        for slots, goal in ((4, "3000"), (16, "5000"), (64, "5000")):
            throughput(directory, slots, goal)
        starting(directory)
        idle(directory)


if __name__ == "__main__":
    main()
