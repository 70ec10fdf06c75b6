"""The runner's event loop: nothing that a coroutine does ends it, or stops the coroutines of other attempts."""

from __future__ import annotations

import asyncio
import errno
import threading

import cloaca
import pytest
from cloaca import _run
from cloaca._trigger import triggers

from conftest import LIMIT, wait_until


async def end_program() -> None:
    await asyncio.sleep(0)
    raise SystemExit("from a child")


async def interrupt() -> None:
    await asyncio.sleep(0)
    raise KeyboardInterrupt("from a child")


async def raise_odd() -> None:
    class Odd(BaseException): ...

    await asyncio.sleep(0)
    raise Odd("from a child")


async def stop_the_loop() -> None:
    asyncio.get_running_loop().stop()


async def close_the_loop() -> None:
    asyncio.get_running_loop().close()


async def shut_the_executor_down() -> None:
    await asyncio.get_running_loop().shutdown_default_executor()


def exit_in_callback() -> None:
    raise SystemExit("from a callback")


async def start_callback() -> None:
    asyncio.get_running_loop().call_soon(exit_in_callback)


async def start_timer() -> None:
    asyncio.get_running_loop().call_later(0.001, exit_in_callback)


async def exit_when_done() -> None:
    asyncio.ensure_future(asyncio.sleep(0)).add_done_callback(lambda _: exit_in_callback())


@pytest.mark.parametrize("awaited", [True, False], ids=["awaited", "left alone"])
@pytest.mark.parametrize(
    ("child", "kind", "says"),
    [
        (end_program, "SystemExit", "from a child"),
        (interrupt, "KeyboardInterrupt", "from a child"),
        (raise_odd, "Odd", "from a child"),
        (stop_the_loop, "RuntimeError", "called stop() on the event loop"),
        (close_the_loop, "RuntimeError", "called close() on the event loop"),
        (shut_the_executor_down, "RuntimeError", "called shutdown_default_executor()"),
        (start_callback, "SystemExit", "from a callback"),
        (start_timer, "SystemExit", "from a callback"),
        (exit_when_done, "SystemExit", "from a callback"),
    ],
)
def test_an_exception_that_would_end_the_loop_fails_only_its_attempt(  # type: ignore[no-untyped-def]
    runner: cloaca.DefaultRunner, child, kind: str, says: str, awaited: bool
) -> None:
    """Regression: a SystemExit in a coroutine that a task had started ended the loop's thread. That task, and every
    later async task, hung until its timeout (Luigi #439 and tasktiger #335 report the same for threads)."""
    started, ended = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("bystander"):

        @cloaca.task(retry_attempts=1)
        async def bystander() -> None:
            started.set()
            while not ended.is_set():
                await asyncio.sleep(0.001)

    with cloaca.WorkflowBuilder("culprit"):

        @cloaca.task(retry_attempts=1)
        async def culprit() -> None:
            await asyncio.gather(child(), asyncio.sleep(LIMIT)) if awaited else asyncio.create_task(child())
            await asyncio.sleep(LIMIT)

    other = runner.submit("bystander")
    assert started.wait(LIMIT)
    result = runner.execute("culprit", timeout=LIMIT)
    error = result.tasks["culprit"].error or ""
    assert error.startswith(kind)
    assert says in error
    frames = [line.split()[-1] for line in (result.tasks["culprit"].traceback or "").splitlines() if "  File" in line]
    assert {"_call", "_drive", "run_forever", "_run_once"}.isdisjoint(frames)
    ended.set()
    assert other.result(LIMIT).status == "Completed"
    assert runner.execute("bystander", timeout=LIMIT).status == "Completed"


def test_a_loop_that_breaks_is_replaced(runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture) -> None:
    """A program that closes all descriptors also closes the loop's selector, so nothing can run on the loop."""
    loops = set()

    def bad_descriptor(_: object) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    with cloaca.WorkflowBuilder("healthy"):

        @cloaca.task(retry_attempts=1)
        async def healthy() -> None:
            loops.add(asyncio.get_running_loop())
            await asyncio.sleep(0.001)

    with cloaca.WorkflowBuilder("breaks"):

        @cloaca.task(retry_attempts=1)
        async def breaks() -> None:
            asyncio.get_running_loop()._selector.select = bad_descriptor  # type: ignore[attr-defined]
            await asyncio.sleep(LIMIT)

    assert runner.execute("healthy", timeout=LIMIT).status == "Completed"
    result = runner.execute("breaks", timeout=LIMIT)
    assert "the runner's event loop broke" in (result.error_message or "")
    assert runner.execute("healthy", timeout=LIMIT).status == "Completed"
    assert len(loops) == 2
    assert "the runner's event loop broke" in caplog.text


def test_a_task_factory_or_handler_that_raises_fails_only_its_users(runner: cloaca.DefaultRunner) -> None:
    """Settings of a program on the loop persist for later attempts."""

    def no_tasks(*_: object, **__: object) -> asyncio.Task[None]:
        raise SystemExit("no tasks today")

    def no_handler(*_: object) -> None:
        raise SystemExit("no handler")

    def fail() -> None:
        raise ValueError("in a callback")

    with cloaca.WorkflowBuilder("sets"):

        @cloaca.task(retry_attempts=1)
        async def sets() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(no_handler)
            loop.call_soon(fail)
            await asyncio.sleep(0.01)

        @cloaca.task(retry_attempts=1, dependencies=[sets], trigger_rule="all_failed")
        async def replaces() -> None:
            asyncio.get_running_loop().set_task_factory(no_tasks)

    with cloaca.WorkflowBuilder("after"):

        @cloaca.task(retry_attempts=1)
        async def plain() -> None:
            await asyncio.sleep(0.001)

        @cloaca.task(retry_attempts=1)
        async def starts() -> None:
            coroutine = asyncio.sleep(0)
            try:
                await asyncio.create_task(coroutine)
            finally:
                coroutine.close()

    result = runner.execute("sets", timeout=LIMIT)
    assert result.tasks["sets"].error == "SystemExit: no handler"
    assert result.tasks["replaces"].state == "Completed"
    result = runner.execute("after", timeout=LIMIT)
    assert result.tasks["plain"].state == "Completed"
    assert result.tasks["starts"].error == "SystemExit: no tasks today"


def test_a_loop_that_is_blocked_is_replaced(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A coroutine that blocks instead of awaiting stops all others, including those that start later."""
    monkeypatch.setattr(_run, "CANCEL_TIMEOUT", 0.05)
    release, started = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("bystander"):

        @cloaca.task(retry_attempts=1)
        async def bystander() -> None:
            started.set()
            while not release.is_set():
                await asyncio.sleep(0.001)

    with cloaca.WorkflowBuilder("blocks"):

        @cloaca.task(retry_attempts=1, timeout_seconds=0.05)
        async def blocks() -> None:
            release.wait(LIMIT)

    with cloaca.WorkflowBuilder("later"):

        @cloaca.task(retry_attempts=1, timeout_seconds=0.05)
        async def later() -> None:
            await asyncio.sleep(0)

    other = runner.submit("bystander")
    assert started.wait(LIMIT)
    result = runner.execute("blocks", timeout=LIMIT)
    assert "TaskTimeoutError" in (result.error_message or "")
    wait_until(lambda: runner.execute("later", timeout=LIMIT).status == "Completed")
    assert f"attempt 1 of task 'blocks' in execution {result.execution_id} blocks the event loop" in caplog.text
    release.set()
    assert other.result(LIMIT).status == "Completed"
    wait_until(lambda: len([it for it in threading.enumerate() if it.name.startswith("cloaca-loop-")]) <= 1)


def test_a_trigger_that_would_end_the_loop_ends_its_poll(runner: cloaca.DefaultRunner) -> None:
    """Regression: the loop also runs triggers; one that raised SystemExit stopped the polling of all async triggers."""
    polls = 0
    left_alone: list[object] = []
    with cloaca.WorkflowBuilder("polled"):

        @cloaca.task
        async def polled() -> None: ...

        @cloaca.trigger(poll_interval="1ms")
        async def exits() -> bool:
            nonlocal polls
            polls += 1
            if polls == 1:
                await asyncio.gather(end_program())
            if polls == 2:
                left_alone.append(asyncio.create_task(end_program()))
                await asyncio.sleep(LIMIT)
            return True

    try:
        wait_until(lambda: any(info.status == "Completed" for info in runner.list_executions(workflow="polled")))
    finally:
        triggers.unregister("exits")
    assert polls > 2
