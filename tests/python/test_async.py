"""Coroutines: tasks on the runner's event loop, and callers that await."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import AsyncIterator

import cloaca
import pytest
from cloaca import _run

from conftest import LIMIT, wait_until
from test_loop import end_program


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


def test_awaiting_can_time_out(runner: cloaca.DefaultRunner) -> None:
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


def test_a_shutdown_ends_an_await_with_an_error() -> None:
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


def test_coroutines_of_an_attempt_end_before_the_next_attempt_begins(runner: cloaca.DefaultRunner) -> None:
    """Regression: `gather` leaves siblings of a failed coroutine running (cpython #75633); they wrote to the retry."""
    seen: list[str] = []
    left_alone: list[object] = []
    with cloaca.WorkflowBuilder("siblings"):

        @cloaca.task(retry_attempts=3, retry_delay_ms=1)
        async def siblings(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            name = f"attempt {handle.attempt}"

            async def numbers() -> AsyncIterator[int]:
                try:
                    for number in range(1_000):
                        yield number
                finally:
                    await asyncio.sleep(0.001)
                    seen.append(f"{name}: generator closed")

            async def writes() -> None:
                left_alone.append(asyncio.create_task(grandchild()))
                try:
                    await asyncio.sleep(LIMIT)
                finally:
                    await asyncio.sleep(0.001)
                    seen.append(f"{name}: sibling ended")

            async def grandchild() -> None:
                try:
                    await asyncio.sleep(LIMIT)
                finally:
                    seen.append(f"{name}: grandchild ended")

            async def fails() -> None:
                await asyncio.sleep(0.001)
                if handle.attempt == 1:
                    raise ConnectionError

            seen.append(f"{name}: begins")
            asyncio.get_running_loop().call_later(0.05, seen.append, f"{name}: timer")
            async for _ in numbers():
                break
            sibling = asyncio.create_task(writes())
            await fails()
            if handle.attempt == 2:
                await asyncio.gather(sibling, end_program())
            assert not sibling.done()

    assert runner.execute("siblings", timeout=LIMIT).status == "Completed"
    time.sleep(0.1)
    by_attempt = [[line.split(": ")[1] for line in seen if line.startswith(f"attempt {n}")] for n in (1, 2, 3)]
    assert [line.split(": ")[0] for line in seen] == sorted(line.split(": ")[0] for line in seen)
    for lines in by_attempt:
        assert lines[0] == "begins"
        assert sorted(lines[1:]) == ["generator closed", "grandchild ended", "sibling ended"]


def test_a_timeout_cancels_the_coroutines_of_the_attempt(runner: cloaca.DefaultRunner) -> None:
    """Regression: an asyncio task of an attempt kept running after the attempt was cancelled."""
    cancelled = threading.Event()
    with cloaca.WorkflowBuilder("timed_out"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=1)
        async def timed_out() -> None:
            async def background() -> None:
                try:
                    await asyncio.sleep(LIMIT)
                finally:
                    cancelled.set()

            left_alone = asyncio.create_task(background())
            await asyncio.sleep(LIMIT if left_alone else 0)

    assert runner.execute("timed_out").status == "Failed"
    assert cancelled.wait(LIMIT)


@pytest.mark.parametrize("how", ["itself", "a child", "a shielded child", "a generator"])
def test_after_a_timeout_the_next_attempt_waits_for_the_cleanup_of_this_one(
    runner: cloaca.DefaultRunner, how: str
) -> None:
    """Regression: after a timeout the next attempt began while the coroutines of this one were still cleaning up. Its
    own timeout begins when it does."""
    events: list[str] = []

    async def clean_up() -> None:
        try:
            await asyncio.sleep(LIMIT)
        finally:
            await asyncio.sleep(0.2)
            events.append("cleaned up")

    async def generate() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.2)
            events.append("cleaned up")

    generators = []
    with cloaca.WorkflowBuilder("slow_cleanup"):

        @cloaca.task(timeout_seconds=0.1, retry_attempts=2, retry_delay_ms=1)
        async def again(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            events.append(f"attempt {handle.attempt}")
            if handle.attempt == 2:
                return
            if how == "itself":
                await clean_up()
            elif how == "a child":
                child = asyncio.create_task(clean_up())
                await asyncio.sleep(0 if child.done() else LIMIT)
            elif how == "a shielded child":
                await asyncio.shield(clean_up())
            else:
                generators.append(generate())
                await anext(generators[0])
                await asyncio.sleep(LIMIT)

    result = runner.execute("slow_cleanup", timeout=LIMIT)
    assert (result.status, events) == ("Completed", ["attempt 1", "cleaned up", "attempt 2"])


def test_a_cancelled_execution_does_not_begin_the_attempt_that_waits_for_a_cleanup(
    runner: cloaca.DefaultRunner,
) -> None:
    cleaning, go_on = threading.Event(), threading.Event()
    attempts: list[int] = []
    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=2, retry_delay_ms=1)
        async def again(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            attempts.append(handle.attempt)
            try:
                await asyncio.sleep(LIMIT)
            finally:
                cleaning.set()
                while not go_on.is_set():
                    await asyncio.sleep(0.001)

    execution = runner.submit("waits")
    assert cleaning.wait(LIMIT)
    wait_until(lambda: sum(event.kind == "TaskStarted" for event in execution.history().events) == 2)
    execution.cancel()
    assert execution.result(LIMIT).status == "Cancelled"
    go_on.set()
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task
        async def later() -> None: ...

    assert runner.execute("later", timeout=LIMIT).status == "Completed"
    assert attempts == [1]


def test_a_coroutine_that_ignores_its_cancellation_delays_nobody(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coroutine can ignore its cancellation forever. Its attempt ends anyway, with a warning."""
    monkeypatch.setattr(_run, "CANCEL_TIMEOUT", 0.02)
    monkeypatch.setattr(_run, "SECOND_CANCEL_TIMEOUT", 0.02)
    go_on = True
    with cloaca.WorkflowBuilder("stubborn"):

        @cloaca.task(retry_attempts=1)
        async def stubborn(context: cloaca.Context) -> None:
            async def ignores() -> None:
                while go_on:
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.sleep(0.005)

            left_alone = asyncio.create_task(ignores())
            await asyncio.sleep(0)
            context["done"] = not left_alone.done()

    result = runner.execute("stubborn", timeout=LIMIT)
    assert (result.status, result.final_context) == ("Completed", {"done": True})
    assert "1 of its coroutines ignored their cancellation" in caplog.text
    assert "ignores" in caplog.text
    go_on = False


def test_awaiting_a_coroutine_of_an_ended_attempt_names_that_attempt(runner: cloaca.DefaultRunner) -> None:
    """Regression: two attempts can await one asyncio task. When the attempt that had started it ended, the other one
    got an unexplained CancelledError."""
    shared: list[asyncio.Task[None]] = []
    with cloaca.WorkflowBuilder("shares"):

        @cloaca.task(retry_attempts=1)
        async def starts() -> None:
            shared.append(asyncio.create_task(asyncio.sleep(LIMIT)))
            while len(shared) < 2:
                await asyncio.sleep(0.001)

        @cloaca.task(retry_attempts=1)
        async def awaits() -> None:
            while not shared:
                await asyncio.sleep(0.001)
            shared.append(shared[0])
            await shared[0]

    result = runner.execute("shares", timeout=LIMIT)
    owner = f"attempt 1 of task 'starts' in execution {result.execution_id}"
    # Before Python 3.11, the message is in the chained error.
    assert f"CancelledError: it belongs to {owner}, which has ended" in (result.tasks["awaits"].traceback or "")


def test_a_coroutine_with_its_own_context_outlives_its_attempt(runner: cloaca.DefaultRunner) -> None:
    """A pool that a program keeps for all attempts belongs to none of them."""
    kept: list[asyncio.Task[None]] = []
    ended = threading.Event()
    with cloaca.WorkflowBuilder("pool"):

        @cloaca.task
        async def opens() -> None:
            async def serve() -> None:
                await asyncio.sleep(0.02)
                ended.set()

            kept.append(contextvars.Context().run(asyncio.ensure_future, serve()))

    assert runner.execute("pool").status == "Completed"
    assert ended.wait(LIMIT)


def test_coroutines_need_no_thread_each() -> None:
    """Regression: 3,000 concurrent coroutines created 2,900 threads, which stayed."""
    count, most = 600, 0
    with cloaca.WorkflowBuilder("many"):
        for number in range(count):

            @cloaca.task(id=f"task_{number}")
            async def sleeps() -> None:
                nonlocal most
                await asyncio.sleep(0.01)
                most = max(most, threading.active_count())

    before = threading.active_count()
    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=count)) as runner:
        assert runner.execute("many").status == "Completed"
    assert most - before < 10


def test_unneeded_threads_end() -> None:
    """Regression: a runner kept as many threads as it had ever needed at once."""
    together = threading.Barrier(60)
    with cloaca.WorkflowBuilder("crowd"):
        for number in range(60):

            @cloaca.task(id=f"task_{number}")
            def meets() -> None:
                together.wait(LIMIT)

    before = threading.active_count()
    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=60)) as runner:
        assert runner.execute("crowd").status == "Completed"
        wait_until(lambda: threading.active_count() - before < 25)
