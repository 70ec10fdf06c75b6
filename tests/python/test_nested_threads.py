"""Tasks that wait for executions on their own threads, which are not associated with an attempt."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import multiprocessing.pool
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cloaca
import pytest
from cloaca import Context, DefaultRunner, TaskHandle

from conftest import LIMIT, wait_until
from test_nested import child, define, open_runner

HINT = "handle.defer_until(lambda: execution.done)"
# The seconds within which a wait that cannot end must be detected. The waits here have no timeout of their own.
SOON = 10.0


@pytest.fixture
def runner() -> Iterator[DefaultRunner]:
    """A runner with two slots."""
    define("child", child)
    with open_runner(2) as runner:
        yield runner


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """A pool whose threads exist before any attempt."""
    pool = ThreadPoolExecutor(2)
    together = threading.Barrier(2)
    concurrent.futures.wait([pool.submit(together.wait, LIMIT) for _ in range(2)])
    yield pool
    pool.shutdown(wait=False)


Parent = Callable[[DefaultRunner], Any]


def new_pool(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(1) as own:
        return own.submit(runner.execute, "child").result().status


def new_pool_left_to_its_block(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(1) as own:
        future = own.submit(runner.execute, "child")
    return future.result().status


def map_over_a_pool(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(1) as own:
        return [result.status for result in own.map(runner.execute, ["child"] * 3)]


def wait_of_futures(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(2) as own:
        done, _ = concurrent.futures.wait([own.submit(runner.execute, "child") for _ in range(2)])
        return [future.result().status for future in done]


def as_completed(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(2) as own:
        futures = [own.submit(lambda: runner.submit("child").result()) for _ in range(3)]
        return [future.result().status for future in concurrent.futures.as_completed(futures)]


def nested_pools(runner: DefaultRunner) -> Any:
    with ThreadPoolExecutor(1) as outer, ThreadPoolExecutor(1) as inner:
        return outer.submit(lambda: inner.submit(runner.execute, "child").result()).result().status


def pool_of_multiprocessing(runner: DefaultRunner) -> Any:
    with multiprocessing.pool.ThreadPool(1) as own:
        return [result.status for result in own.map(runner.execute, ["child"])]


def loop_on_the_thread_of_the_attempt(runner: DefaultRunner) -> Any:
    async def main() -> Any:
        with ThreadPoolExecutor(1) as own:
            return await asyncio.get_running_loop().run_in_executor(own, runner.execute, "child")

    return asyncio.run(main()).status


def loop_on_a_thread_of_a_pool(runner: DefaultRunner) -> Any:
    async def main() -> Any:
        return await asyncio.gather(runner.execute_async("child"), runner.execute_async("child"))

    with ThreadPoolExecutor(1) as own:
        return [result.status for result in own.submit(asyncio.run, main()).result()]


WAYS = [
    new_pool,
    new_pool_left_to_its_block,
    map_over_a_pool,
    wait_of_futures,
    as_completed,
    nested_pools,
    pool_of_multiprocessing,
    loop_on_the_thread_of_the_attempt,
    loop_on_a_thread_of_a_pool,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: str(way.__name__))
def test_a_wait_on_a_pool_is_refused_when_every_slot_waits_so(runner: DefaultRunner, way: Parent) -> None:
    """Regression: tasks passed `runner.execute` to their own pool: with as many of them as slots, nothing ran until the
    timeouts, without any message."""
    together = threading.Barrier(2)

    def parent(context: Context) -> None:
        together.wait(LIMIT)
        context["got"] = way(runner)

    define("parent", parent)
    results = [one.result(SOON) for one in [runner.submit("parent") for _ in range(2)]]
    statuses = sorted(result.status for result in results)
    assert statuses in (["Completed", "Failed"], ["Failed", "Failed"])
    for result in results:
        if result.status == "Failed":
            assert "NoSlotLeftError" in str(result.error_message)
            assert HINT in str(result.error_message)


def test_the_same_if_a_thread_is_joined(runner: DefaultRunner) -> None:
    refused: list[BaseException] = []

    def parent(context: Context) -> None:
        def ask() -> None:
            try:
                context["got"] = runner.execute("child").status
            except cloaca.NoSlotLeftError as error:
                refused.append(error)
                raise

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()

    define("parent", parent, parent)
    hook, threading.excepthook = threading.excepthook, lambda _: None
    try:
        result = runner.submit("parent").result(SOON)
    finally:
        threading.excepthook = hook
    # The exception ends only the thread; the task continues without the result.
    assert result.status == "Completed"
    assert [HINT in str(error) for error in refused] == [True]


def test_an_existing_pool_that_attempts_share(runner: DefaultRunner, pool: ThreadPoolExecutor) -> None:
    def parent(context: Context) -> None:
        context["got"] = pool.submit(runner.execute, "child").result().status

    define("parent", parent)
    # The threads serve one attempt after another.
    assert [runner.execute("parent", timeout=SOON).status for _ in range(2)] == ["Completed"] * 2
    for _ in range(2):
        define("parent", parent, parent)
        result = runner.submit("parent").result(SOON)
        assert result.status == "Failed"
        assert "NoSlotLeftError" in str(result.error_message)


def test_a_shared_pool_that_is_smaller_than_the_slots(runner: DefaultRunner) -> None:
    """One attempt's call is in the pool's only thread, the other's in its queue."""

    def parent(context: Context) -> None:
        context["got"] = small.submit(runner.execute, "child").result().status

    define("parent", parent, parent)
    with ThreadPoolExecutor(1) as small:
        result = runner.submit("parent").result(SOON)
    assert result.status == "Failed"
    assert "NoSlotLeftError" in str(result.error_message)


@pytest.mark.parametrize("shared", [False, True])
def test_coroutines_that_call_in_a_pool(runner: DefaultRunner, pool: ThreadPoolExecutor, shared: bool) -> None:
    async def call() -> Any:
        loop = asyncio.get_running_loop()
        if shared:
            return (await loop.run_in_executor(pool, runner.execute, "child")).status
        with ThreadPoolExecutor(1) as own:
            return (await loop.run_in_executor(own, runner.execute, "child")).status

    async def one(context: Context) -> None:
        context["got"] = await call()

    async def several(context: Context) -> None:
        tasks = [asyncio.ensure_future(call()) for _ in range(2)]
        await asyncio.wait(tasks)
        context["got"] = [task.result() for task in tasks]

    async def blocks_the_loop(context: Context) -> None:
        context["got"] = pool.submit(runner.execute, "child").result().status

    for body in (one, several, blocks_the_loop):
        define("parent", body, body)
        result = runner.submit("parent").result(SOON)
        assert result.status == "Failed"
        assert "NoSlotLeftError" in str(result.error_message)


def test_a_mixture_of_ways_to_wait(runner: DefaultRunner, pool: ThreadPoolExecutor) -> None:
    def by_itself(context: Context) -> None:
        context["got"] = runner.execute("child").status

    def by_pool(context: Context) -> None:
        context["got"] = pool.submit(runner.execute, "child").result().status

    define("parent", by_itself, by_pool)
    result = runner.submit("parent").result(SOON)
    assert result.status == "Failed"
    assert "NoSlotLeftError" in str(result.error_message)


def _both_slots_are_taken(execution: cloaca.Execution) -> bool:
    return [event.kind for event in execution.history().events].count("TaskStarted") == 2


def test_working_tasks_cause_no_refusal(runner: DefaultRunner, pool: ThreadPoolExecutor) -> None:
    """The program waits on its main thread, on others and in coroutines for executions that get a slot later: the slots
    are held by tasks that compute, sleep, wait with a limit or for a future that no execution completes, and by a task
    whose pool has other work as well."""

    def computes(context: Context) -> None:
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            sum(range(1000))

    def sleeps(context: Context) -> None:
        time.sleep(0.7)

    def waits_with_a_limit(context: Context) -> None:
        with ThreadPoolExecutor(1) as own:
            asked = own.submit(lambda: runner.submit("child").result(timeout=0.7))
            with pytest.raises(concurrent.futures.TimeoutError):
                asked.result(timeout=0.4)
            # In time or not, it was not refused.
            assert not isinstance(asked.exception(), cloaca.NoSlotLeftError)

    def waits_for_a_future_of_somebody(context: Context) -> None:
        somebody: concurrent.futures.Future[None] = concurrent.futures.Future()
        threading.Timer(0.7, somebody.set_result, [None]).start()
        somebody.result()

    def leaves_the_wait_to_others(context: Context) -> None:
        pool.submit(runner.execute, "child")
        time.sleep(0.7)

    def waits_for_the_first(context: Context) -> None:
        # The attempt ends while a thread of its pool is still waiting.
        own = ThreadPoolExecutor(2)
        futures = [own.submit(runner.execute, "child"), own.submit(time.sleep, 0.7)]
        concurrent.futures.wait(futures, return_when=concurrent.futures.FIRST_COMPLETED)
        own.shutdown(wait=False)

    async def races(context: Context) -> None:
        async def beside() -> None:
            await asyncio.get_running_loop().run_in_executor(pool, runner.execute, "child")

        asked = asyncio.ensure_future(beside())
        await asyncio.sleep(0.7)
        asked.cancel()

    async def waits_at_most(context: Context) -> None:
        called = asyncio.get_running_loop().run_in_executor(pool, runner.execute, "child")
        # In time or not, it was not refused.
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(called), 0.7)

    holders = [computes, sleeps, waits_with_a_limit, waits_for_a_future_of_somebody]
    holders += [leaves_the_wait_to_others, waits_for_the_first]

    async def ask() -> Any:
        return await runner.execute_async("child")

    for first in (*holders, races, waits_at_most):
        define("holder", first, sleeps)
        holder = runner.submit("holder")
        wait_until(partial(_both_slots_are_taken, holder), "both slots to be taken")
        with ThreadPoolExecutor(2) as program:
            others = [program.submit(runner.execute, "child"), program.submit(asyncio.run, ask())]
            assert runner.execute("child").status == "Completed", first.__name__
            assert [other.result().status for other in others] == ["Completed"] * 2, first.__name__
        assert holder.result(SOON).error_message is None, first.__name__


def test_a_wait_that_may_never_end_is_warned_about(runner: DefaultRunner, caplog: pytest.LogCaptureFixture) -> None:
    """A task that waits for a queue may be waiting for anything: it is not refused, but there is a warning."""
    answers: queue.Queue[str] = queue.Queue()

    def parent(context: Context) -> None:
        threading.Thread(target=lambda: answers.put(runner.execute("child").status), daemon=True).start()
        context["got"] = answers.get()

    define("parent", parent, parent)
    with caplog.at_level(logging.WARNING, logger="cloaca"):
        execution = runner.submit("parent")
        wait_until(lambda: "for a slot" in caplog.text, "the warning", within=20.0)
    [message] = [record.message for record in caplog.records if "for a slot" in record.message]
    assert "each of the 2 slots (max_concurrent_tasks) is held by a task that makes no progress" in message
    assert "'parent_0', 'parent_1'" in message
    assert HINT in message
    waiting = runner.list_executions("Waiting", "child")
    assert len(waiting) == 2
    assert "each of the 2 slots" in str(waiting[0].reason)
    assert HINT in str(waiting[0].next_step)
    # The warning was right: nothing continues by itself. It disappears as soon as something does.
    execution.cancel()
    wait_until(lambda: len(runner.list_executions("Completed", "child")) == 2, "slots for the children")


def test_the_advice_of_the_message_works_for_calls_in_a_pool(pool: ThreadPoolExecutor) -> None:
    def parent(context: Context, handle: TaskHandle) -> None:
        execution = pool.submit(runner.submit, "child").result()
        handle.defer_until(lambda: execution.done, poll_interval_ms=1)
        context["got"] = pool.submit(execution.result).result().status

    define("child", child)
    define("parent", parent)
    with open_runner(1) as runner:
        assert runner.execute("parent", timeout=SOON).final_context["got"] == "Completed"
