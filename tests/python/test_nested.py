"""Tasks that wait for executions, while there are slots and when none are left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import cloaca
import pytest
from cloaca import Context, DefaultRunner, DefaultRunnerConfig, TaskHandle

from conftest import LIMIT


def open_runner(slots: int) -> DefaultRunner:
    return DefaultRunner(":memory:", DefaultRunnerConfig(max_concurrent_tasks=slots))


def define(name: str, *bodies: Callable[..., Any], **options: Any) -> None:
    """Defines a workflow of independent tasks with one attempt each."""
    with cloaca.WorkflowBuilder(name):
        for number, body in enumerate(bodies):
            cloaca.task(id=f"{name}_{number}", retry_attempts=1, **options)(body)


def child(context: Context) -> None:
    context["child"] = True


Ask = Callable[[DefaultRunner, str], Any]


def by_execute(runner: DefaultRunner, name: str) -> Any:
    return runner.execute(name)


def by_result(runner: DefaultRunner, name: str) -> Any:
    return runner.submit(name).result()


@pytest.mark.parametrize("ask", [by_execute, by_result])
def test_if_every_slot_waits_for_an_execution_one_wait_is_refused_at_once(ask: Ask) -> None:
    """Regression: four parents ran on four slots, and each executed a child: nothing ever ran again."""
    together = threading.Barrier(4)

    def parent(context: Context) -> None:
        together.wait(LIMIT)
        context["got"] = ask(runner, "child").final_context["child"]

    define("child", child)
    define("parent", parent)
    with open_runner(4) as runner:
        results = [execution.result(LIMIT) for execution in [runner.submit("parent") for _ in range(4)]]
    # The slot of the failed one let the others continue.
    assert sorted(result.status for result in results) == ["Completed"] * 3 + ["Failed"]
    [message] = [result.error_message for result in results if result.status == "Failed"]
    assert message is not None
    assert "NoSlotLeftError: " in message
    assert "each of the 4 slots (max_concurrent_tasks) is held by a task that waits for an execution" in message
    assert "runner.submit" in message
    assert "handle.defer_until(lambda: execution.done)" in message


def test_the_same_in_coroutines_also_with_gather() -> None:
    def make(count: int) -> Callable[[Context], Any]:
        async def parent(context: Context) -> None:
            asked = (runner.execute_async("child") for _ in range(count))
            context["got"] = [result.status for result in await asyncio.gather(*asked)]

        return parent

    define("child", child)
    for count in (1, 3):
        define("parent", make(count), make(count))
        with open_runner(2) as runner:
            result = runner.submit("parent").result(LIMIT)
        assert result.status == "Failed"
        assert "NoSlotLeftError" in str(result.error_message)


def test_a_chain_of_executions_that_is_longer_than_the_slots_is_refused_at_its_end() -> None:
    define("leaf", child)
    define("middle", lambda context: context.update_from_dict({"got": runner.execute("leaf").status}))
    define("top", lambda context: context.update_from_dict({"got": runner.execute("middle").status}))
    with open_runner(2) as runner:
        result = runner.execute("top", timeout=LIMIT)
        assert (result.status, result.final_context["got"]) == ("Completed", "Failed")
    with open_runner(3) as runner:
        result = runner.execute("top", timeout=LIMIT)
        assert (result.status, result.final_context["got"]) == ("Completed", "Completed")


def test_the_advice_of_the_message_works_with_one_slot() -> None:
    def parent(context: Context, handle: TaskHandle) -> None:
        execution = runner.submit("child")
        handle.defer_until(lambda: execution.done, poll_interval_ms=1)
        context["plain"] = execution.result().status

    async def async_parent(context: Context, handle: TaskHandle) -> None:
        execution = runner.submit("child")
        await handle.defer_until(lambda: execution.done, poll_interval_ms=1)
        context["async"] = (await execution).status

    define("child", child)
    define("parent", parent, async_parent)
    with open_runner(1) as runner:
        result = runner.execute("parent", timeout=LIMIT)
    assert result.final_context.to_dict() == {"plain": "Completed", "async": "Completed"}


def test_a_wait_that_can_end_is_not_refused() -> None:
    """One of the two slots is held by a running child, and by waits with a limit or for ended executions."""
    running, go_on = threading.Event(), threading.Event()

    def slow(context: Context) -> None:
        running.set()
        assert go_on.wait(LIMIT)

    def waits_for_what_runs(context: Context) -> None:
        execution = runner.submit("slow")
        assert running.wait(LIMIT)
        threading.Timer(0.05, go_on.set).start()
        context["slow"] = execution.result().status

    def waits_with_a_limit(context: Context) -> None:
        with pytest.raises(cloaca.WaitTimeoutError):
            runner.submit("child").result(timeout=0.05)
        context["limit"] = True

    define("child", child)
    define("slow", slow)
    define("runs", waits_for_what_runs)
    define("limited", waits_with_a_limit)
    with open_runner(2) as runner:
        assert runner.execute("runs", timeout=LIMIT).final_context["slow"] == "Completed"
    with open_runner(1) as runner:
        assert runner.execute("limited", timeout=LIMIT).final_context["limit"] is True


def test_a_retry_of_a_refused_task_may_find_a_slot() -> None:
    def parent(context: Context, handle: TaskHandle) -> None:
        if handle.attempt > 1:
            return
        context["got"] = runner.execute("child").status

    define("child", child)
    with cloaca.WorkflowBuilder("retried"):
        cloaca.task(id="parent", retry_delay_ms=1)(parent)
    with open_runner(1) as runner:
        result = runner.execute("retried", timeout=LIMIT)
    assert (result.status, result.tasks["parent"].attempts) == ("Completed", 2)


def test_a_wait_on_another_runner_is_not_refused() -> None:
    def parent(context: Context) -> None:
        with open_runner(1) as own:
            context["got"] = own.execute("child").status

    define("child", child)
    define("parent", parent)
    with open_runner(1) as runner:
        assert runner.execute("parent", timeout=LIMIT).final_context["got"] == "Completed"
