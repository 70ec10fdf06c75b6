"""Callbacks run when the end of a task is durable, in order, and before the caller gets the result."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

import cloaca
import pytest

from conftest import LIMIT


def test_on_success_gets_the_context_after_the_task(runner: cloaca.DefaultRunner) -> None:
    calls = []
    with cloaca.WorkflowBuilder("success"):

        @cloaca.task(on_success=lambda task_id, context: calls.append((task_id, context.to_dict())))
        def first(context: cloaca.Context) -> dict[str, int]:
            return {"n": context["n"] + 1}

        @cloaca.task(
            dependencies=[first],
            on_success=lambda task_id, context: calls.append((task_id, context.to_dict())),
            on_failure=lambda *arguments: calls.append(arguments),
        )
        async def second(context: cloaca.Context) -> dict[str, int]:
            return {"n": context["n"] + 1}

    runner.execute("success", {"n": 0})
    assert calls == [("first", {"n": 1}), ("second", {"n": 2})]


def test_on_failure_runs_once_after_all_retries(runner: cloaca.DefaultRunner) -> None:
    calls: list[Any] = []
    with cloaca.WorkflowBuilder("failure"):

        @cloaca.task(
            retry_attempts=3,
            retry_delay_ms=1,
            on_success=lambda *arguments: calls.append(("success", *arguments)),
            on_failure=lambda *arguments: calls.append(("failure", *arguments)),
            on_retry=lambda *arguments: calls.append(("retry", *arguments)),
        )
        def fails(context: cloaca.Context) -> None:
            context["written"] = True
            raise ValueError("intentional")

    result = runner.execute("failure", {"n": 1})
    assert result.status == "Failed"
    assert calls == [
        ("retry", "fails", "ValueError: intentional", {"n": 1}, 1),
        ("retry", "fails", "ValueError: intentional", {"n": 1}, 2),
        ("failure", "fails", "ValueError: intentional", {"n": 1}),
    ]


def test_the_caller_waits_for_slow_callbacks(runner: cloaca.DefaultRunner) -> None:
    reported = []

    def slow(task_id: str, context: cloaca.Context) -> None:
        time.sleep(0.1)
        reported.append(task_id)

    with cloaca.WorkflowBuilder("slow_callbacks"):
        for number in range(3):

            @cloaca.task(id=f"task_{number}", on_success=slow)
            def task() -> None: ...

    runner.execute("slow_callbacks")
    assert sorted(reported) == ["task_0", "task_1", "task_2"]


def test_a_later_caller_waits_for_slow_callbacks_too(runner: cloaca.DefaultRunner) -> None:
    began, reported = threading.Event(), []

    def slow(task_id: str, context: cloaca.Context) -> None:
        began.set()
        time.sleep(0.2)
        reported.append(task_id)

    with cloaca.WorkflowBuilder("asks_later"):

        @cloaca.task(on_success=slow)
        def task() -> None: ...

    execution = runner.submit("asks_later")
    assert began.wait(LIMIT)
    assert execution.result(LIMIT).status == "Completed"
    assert reported == ["task"]


def test_a_shutdown_during_a_callback_keeps_the_outcome() -> None:
    began, release = threading.Event(), threading.Event()
    results: list[cloaca.WorkflowResult] = []

    def slow(task_id: str, context: cloaca.Context) -> None:
        began.set()
        release.wait(LIMIT)

    with cloaca.WorkflowBuilder("shut_down_during"):

        @cloaca.task(on_success=slow)
        def task() -> None: ...

    runner = cloaca.DefaultRunner(":memory:")
    thread = threading.Thread(target=lambda: results.append(runner.execute("shut_down_during")))
    thread.start()
    assert began.wait(LIMIT)
    time.sleep(0.05)
    runner.shutdown()
    release.set()
    thread.join(LIMIT)
    assert [result.status for result in results] == ["Completed"]


def test_callbacks_of_one_execution_do_not_run_at_the_same_time(runner: cloaca.DefaultRunner) -> None:
    running = threading.Lock()
    clashes = []

    def alone(task_id: str, context: cloaca.Context) -> None:
        if not running.acquire(blocking=False):
            clashes.append(task_id)
            return
        time.sleep(0.02)
        running.release()

    with cloaca.WorkflowBuilder("alone"):
        for number in range(6):

            @cloaca.task(id=f"task_{number}", on_success=alone)
            def task() -> None: ...

    runner.execute("alone")
    assert not clashes


@pytest.mark.parametrize("error", [ValueError("of a callback"), SystemExit(2)])
def test_an_exception_in_a_callback_is_logged_and_changes_nothing(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def fail(task_id: str, context: cloaca.Context) -> None:
        raise error

    with cloaca.WorkflowBuilder("raises"):

        @cloaca.task(on_success=fail)
        def task() -> None: ...

    with caplog.at_level(logging.ERROR):
        assert runner.execute("raises").status == "Completed"
    record = caplog.records[0]
    assert record.name == "cloaca.runner"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_callback_may_use_the_runner(runner: cloaca.DefaultRunner) -> None:
    results = []
    with cloaca.WorkflowBuilder("inner"):

        @cloaca.task
        def inner_task() -> dict[str, bool]:
            return {"inner": True}

    with cloaca.WorkflowBuilder("outer"):

        @cloaca.task(on_success=lambda task_id, context: results.append(runner.execute("inner").final_context))
        def outer_task() -> None: ...

    runner.execute("outer")
    assert results == [{"inner": True}]


def test_a_timeout_calls_on_failure(runner: cloaca.DefaultRunner) -> None:
    reported: list[str] = []
    release = threading.Event()
    with cloaca.WorkflowBuilder("time_out"):

        @cloaca.task(
            timeout_seconds=0.05, retry_attempts=1, on_failure=lambda task_id, error, context: reported.append(error)
        )
        def task() -> None:
            release.wait(10)

    runner.execute("time_out")
    release.set()
    assert reported[0].startswith("TaskTimeoutError")


def test_callbacks_are_plain_functions() -> None:
    async def later(task_id: str, context: cloaca.Context) -> None: ...

    with pytest.raises(TypeError, match="on_success must be a function, not 5"):
        cloaca.task(on_success=5)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="on_success must be a plain function, but later is a coroutine function"):
        cloaca.task(on_success=later)
