"""Coroutines: tasks on the runner's event loop, and callers that await."""

from __future__ import annotations

import asyncio
import threading
import time

import cloaca
import pytest

from conftest import LIMIT


def test_async_tasks_run_on_one_loop_together(runner: cloaca.DefaultRunner) -> None:
    loops = set()
    started = 0
    with cloaca.WorkflowBuilder("async"):
        for number in range(4):

            @cloaca.task(id=f"task_{number}")
            async def task(context: cloaca.Context) -> dict[str, bool]:
                nonlocal started
                loops.add(asyncio.get_running_loop())
                started += 1
                while started < 4:
                    await asyncio.sleep(0.01)
                return {f"{len(loops)}": True}

        @cloaca.task(dependencies=["task_0"])
        def sync_after(context: cloaca.Context) -> None:
            context["sync"] = True

    result = runner.execute("async", timeout=LIMIT)
    assert result.status == "Completed"
    assert result.final_context["sync"] is True
    assert len(loops) == 1


def test_an_async_task_fails_like_any_other(runner: cloaca.DefaultRunner) -> None:
    raised = ValueError("no")
    with cloaca.WorkflowBuilder("async_fails"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        async def task(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            await asyncio.sleep(0)
            raise raised

    result = runner.execute("async_fails")
    assert result.tasks["task"].attempts == 2
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert caught.value.__cause__ is raised


def test_the_traceback_begins_with_the_async_task(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("async_traceback"):

        @cloaca.task(retry_attempts=1)
        async def task() -> None:
            await asyncio.sleep(0)
            raise ValueError

    traceback = runner.execute("async_traceback").tasks["task"].traceback or ""
    assert [line.split()[-1] for line in traceback.splitlines() if line.startswith("  File")] == ["task"]


def test_an_async_task_that_takes_too_long_is_cancelled(runner: cloaca.DefaultRunner) -> None:
    cancelled = threading.Event()
    with cloaca.WorkflowBuilder("async_slow"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=1)
        async def task() -> None:
            try:
                await asyncio.sleep(LIMIT)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    assert runner.execute("async_slow").status == "Failed"
    assert cancelled.wait(LIMIT)


def test_a_cancelled_execution_cancels_its_async_tasks(runner: cloaca.DefaultRunner) -> None:
    started, cancelled = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("async_cancel"):

        @cloaca.task
        async def task() -> None:
            started.set()
            try:
                await asyncio.sleep(LIMIT)
            finally:
                cancelled.set()

    execution = runner.submit("async_cancel")
    assert started.wait(LIMIT)
    execution.cancel()
    assert execution.result(LIMIT).status == "Cancelled"
    assert cancelled.wait(LIMIT)


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()])
def test_no_exception_of_an_async_task_ends_the_loop(runner: cloaca.DefaultRunner, error: BaseException) -> None:
    with cloaca.WorkflowBuilder("async_exit"):

        @cloaca.task(retry_attempts=1)
        async def task() -> None:
            raise error

    assert runner.execute("async_exit").status == "Failed"
    assert runner.execute("async_exit").status == "Failed"


def test_a_workflow_can_be_awaited(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("awaited"):

        @cloaca.task
        def task(context: cloaca.Context) -> None:
            time.sleep(0.1)
            context["n"] += 1

    async def main() -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        results = await asyncio.gather(*(runner.execute_async("awaited", {"n": n}) for n in range(3)))
        ticking.cancel()
        assert [result.final_context["n"] for result in results] == [1, 2, 3]
        assert ticks > 3
        execution = runner.submit("awaited", {"n": 5})
        assert (await execution).final_context["n"] == 6
        assert (await execution).final_context["n"] == 6

    asyncio.run(main())


def test_awaiting_can_be_limited(runner: cloaca.DefaultRunner) -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("limited"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    async def main() -> None:
        with pytest.raises(cloaca.WaitTimeoutError) as caught:
            await runner.execute_async("limited", timeout=0.05)
        release.set()
        assert (await runner.get_execution(caught.value.execution_id or "")).status == "Completed"

    asyncio.run(main())


def test_who_awaits_hears_of_a_shutdown() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("await_shutdown"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    async def main() -> None:
        runner = cloaca.DefaultRunner(":memory:")
        waiting = asyncio.create_task(runner.execute_async("await_shutdown"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(runner._shutdown, 0.0)
        with pytest.raises(cloaca.Error, match="shut down"):
            await asyncio.wait_for(waiting, LIMIT)

    asyncio.run(main())
    release.set()
