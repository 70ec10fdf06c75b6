"""Tasks that can run concurrently do, and slow ones delay no others."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from datetime import datetime

import cloaca
import pytest

from conftest import LIMIT


def spans_of(result: cloaca.WorkflowResult) -> list[tuple[datetime, datetime]]:
    """Returns the start and the end of each task, from the log."""
    return [
        (datetime.fromisoformat(task.started or ""), datetime.fromisoformat(task.ended or ""))
        for task in result.tasks.values()
    ]


@pytest.mark.parametrize("is_async", [True, False])
def test_four_tasks_that_sleep_overlap(runner: cloaca.DefaultRunner, is_async: bool) -> None:
    with cloaca.WorkflowBuilder("overlap"):
        for number in range(4):
            if is_async:

                @cloaca.task(id=f"sleep_{number}")
                async def sleep_async() -> None:
                    await asyncio.sleep(0.5)

            else:

                @cloaca.task(id=f"sleep_{number}")
                def sleep() -> None:
                    time.sleep(0.5)

    result = runner.execute("overlap")
    assert result.status == "Completed"
    spans = spans_of(result)
    assert max(start for start, _ in spans) < min(end for _, end in spans)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_slow_task_delays_nobody_else(runner: cloaca.DefaultRunner, is_async: bool) -> None:
    others = threading.Event()
    with cloaca.WorkflowBuilder("slow_one"):
        if is_async:

            @cloaca.task(id="slow")
            async def slow_async() -> None:
                await asyncio.get_running_loop().run_in_executor(None, others.wait, LIMIT)

        else:

            @cloaca.task(id="slow")
            def slow() -> None:
                others.wait(LIMIT)

        previous: list[Callable[..., object]] = []
        for number in range(10):

            @cloaca.task(id=f"step_{number}", dependencies=list(previous))
            def step(context: cloaca.Context) -> None:
                context["steps"] = context.get("steps", 0) + 1

            previous = [step]

        @cloaca.task(dependencies=previous)
        def release(context: cloaca.Context) -> None:
            others.set()

    with cloaca.WorkflowBuilder("beside"):

        @cloaca.task
        def quick() -> None: ...

    execution = runner.submit("slow_one")
    # Another execution does not wait for it either.
    assert runner.execute("beside", timeout=LIMIT).status == "Completed"
    result = execution.result(LIMIT)
    assert others.is_set()
    assert (result.status, result.final_context) == ("Completed", {"steps": 10})
    slow_span, *rest = spans_of(result)
    assert all(end < slow_span[1] for _, end in rest[:-1])


def test_an_async_task_that_blocks_the_loop_delays_no_thread(runner: cloaca.DefaultRunner) -> None:
    others = threading.Event()
    with cloaca.WorkflowBuilder("blocked_loop"):

        @cloaca.task
        async def blocks() -> None:
            others.wait(LIMIT)

        @cloaca.task
        def on_a_thread() -> None:
            others.set()

    assert runner.execute("blocked_loop", timeout=LIMIT).status == "Completed"
    assert others.is_set()
