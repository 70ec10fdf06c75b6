"""Which thread runs an attempt: short ones share one, and neither a long one nor a waiting one delays the others."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT


def learn(runner: cloaca.DefaultRunner, workflow: str) -> None:
    """Lets the runner learn that the tasks of a workflow are short."""
    for execution in runner.submit_many(workflow, [{"seconds": 0} for _ in range(50)]):
        assert execution.result(LIMIT).status == "Completed"


def define_sleeper() -> None:
    with cloaca.WorkflowBuilder("sleeper"):

        @cloaca.task
        def sleep(context: cloaca.Context) -> None:
            if context["seconds"]:
                time.sleep(context["seconds"])


def test_sleeping_tasks_run_concurrently_though_they_used_to_be_short(runner: cloaca.DefaultRunner) -> None:
    define_sleeper()
    learn(runner, "sleeper")
    began = time.monotonic()
    executions = runner.submit_many("sleeper", [{"seconds": 0.5} for _ in range(4)])
    assert {execution.result(LIMIT).status for execution in executions} == {"Completed"}
    assert time.monotonic() - began < 1.5


def test_a_long_task_delays_nobody_though_it_used_to_be_short(runner: cloaca.DefaultRunner) -> None:
    gate = threading.Event()
    with cloaca.WorkflowBuilder("sometimes_long"):

        @cloaca.task
        def wait(context: cloaca.Context) -> None:
            if context["seconds"]:
                gate.wait(LIMIT)

    define_sleeper()
    learn(runner, "sometimes_long")
    learn(runner, "sleeper")
    first, *others = runner.submit_many("sometimes_long", [{"seconds": 1}] + [{"seconds": 0} for _ in range(200)])
    assert {execution.result(LIMIT).status for execution in others} == {"Completed"}
    assert runner.execute("sleeper", {"seconds": 0}, timeout=LIMIT).status == "Completed"
    assert first.status == "Running"
    gate.set()
    assert first.result(LIMIT).status == "Completed"


def test_a_result_is_returned_though_the_next_attempt_takes_long(runner: cloaca.DefaultRunner) -> None:
    gate = threading.Event()
    with cloaca.WorkflowBuilder("waits_after_itself"):

        @cloaca.task
        def wait(context: cloaca.Context) -> None:
            if context["seconds"]:
                gate.wait(LIMIT)

    for _ in range(20):
        gate.clear()
        learn(runner, "waits_after_itself")
        inputs = [{"seconds": int(place == 3)} for place in range(4)]
        *short, long = runner.submit_many("waits_after_itself", inputs)
        assert {execution.result(LIMIT).status for execution in short} == {"Completed"}
        gate.set()
        assert long.result(LIMIT).status == "Completed"


def test_tasks_that_compute_share_the_processor_with_short_ones(runner: cloaca.DefaultRunner) -> None:
    stop = threading.Event()
    with cloaca.WorkflowBuilder("computes"):

        @cloaca.task
        def compute(context: cloaca.Context) -> None:
            while not stop.is_set():
                sum(range(100))

    define_sleeper()
    learn(runner, "sleeper")
    computing = runner.submit("computes")
    assert runner.execute("sleeper", {"seconds": 0}, timeout=LIMIT).status == "Completed"
    stop.set()
    assert computing.result(LIMIT).status == "Completed"


def switches() -> int:
    """Returns how often the threads of this process have gone to sleep."""
    total = 0
    for status in Path("/proc/self/task").glob("*/status"):
        fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        total += int(fields["voluntary_ctxt_switches"])
    return total


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="counts what Linux counts")
def test_idle_threads_do_not_wake_up(runner: cloaca.DefaultRunner) -> None:
    define_sleeper()
    learn(runner, "sleeper")
    time.sleep(0.2)
    before = switches()
    time.sleep(1.0)
    # sled's threads poll for work now and then, and so does this one.
    assert switches() - before < 100
