"""Callbacks of a task hear how its attempts ended: after that is durable, and before anybody else hears of the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT


class Ledger:
    """Callbacks that write down what they are called with."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.errors: list[BaseException] = []

    def on_success(self, task_id: str, context: cloaca.Context) -> None:
        self.told.append(("success", task_id, context.to_dict()))

    def on_failure(self, task_id: str, error: BaseException, context: cloaca.Context) -> None:
        self.told.append(("failure", task_id, str(error), context.to_dict()))
        self.errors.append(error)

    def on_retry(self, task_id: str, error: BaseException, context: cloaca.Context, attempt: int) -> None:
        self.told.append(("retry", task_id, str(error), context.to_dict(), attempt))
        self.errors.append(error)


def test_on_success_sees_what_the_dependents_see(runner: cloaca.DefaultRunner) -> None:
    ledger = Ledger()
    with cloaca.WorkflowBuilder("succeeds"):

        @cloaca.task(on_success=ledger.on_success, on_failure=ledger.on_failure, on_retry=ledger.on_retry)
        def first(context: cloaca.Context) -> None:
            context["n"] += 1

        @cloaca.task(dependencies=[first], on_success=ledger.on_success)
        def second(context: cloaca.Context) -> None:
            context["n"] *= 10

    assert runner.execute("succeeds", {"n": 1}).status == "Completed"
    told = sorted(ledger.told, key=lambda told: str(told[1]))
    assert told == [("success", "first", {"n": 2}), ("success", "second", {"n": 20})]


def test_on_failure_is_called_once_after_every_retry(runner: cloaca.DefaultRunner) -> None:
    ledger = Ledger()
    raised = [ValueError("one"), KeyError("two"), OSError("three")]
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(
            retry_delay_ms=1,
            on_success=ledger.on_success,
            on_failure=ledger.on_failure,
            on_retry=ledger.on_retry,
        )
        def fails(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            context["never"] = True
            raise raised[handle.attempt - 1]

    result = runner.execute("fails", {"n": 1})
    assert result.status == "Failed"
    assert ledger.told == [
        ("retry", "fails", "one", {"n": 1}, 1),
        ("retry", "fails", "'two'", {"n": 1}, 2),
        ("failure", "fails", "three", {"n": 1}),
    ]
    assert all(told is error for told, error in zip(ledger.errors, raised, strict=True))
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert caught.value.__cause__ is raised[2]


def test_a_task_that_succeeds_in_the_end_has_no_failure(runner: cloaca.DefaultRunner) -> None:
    ledger = Ledger()
    with cloaca.WorkflowBuilder("recovers"):

        @cloaca.task(
            retry_delay_ms=1, on_success=ledger.on_success, on_failure=ledger.on_failure, on_retry=ledger.on_retry
        )
        def recovers(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if handle.attempt == 1:
                raise ValueError("not yet")

    assert runner.execute("recovers").status == "Completed"
    assert [told[0] for told in ledger.told] == ["retry", "success"]


@pytest.mark.parametrize("wait", ["execute", "late", "await", "execute_async"])
def test_nobody_hears_of_the_end_before_the_callback_has_returned(runner: cloaca.DefaultRunner, wait: str) -> None:
    begun, release, returned = threading.Event(), threading.Event(), threading.Event()

    def slow(task_id: str, context: cloaca.Context) -> None:
        begun.set()
        assert release.wait(LIMIT)
        returned.set()

    with cloaca.WorkflowBuilder("slow_callback"):

        @cloaca.task(on_success=slow)
        def only() -> None: ...

    def run() -> cloaca.WorkflowResult:
        if wait == "execute":
            return runner.execute("slow_callback")
        if wait == "execute_async":
            return asyncio.run(runner.execute_async("slow_callback"))
        execution = runner.submit("slow_callback")
        assert begun.wait(LIMIT)
        # The execution is over, as the log has it; who asks only now waits for the callback too.
        while execution.status != "Completed":
            pass
        if wait == "late":
            return execution.result()

        async def main() -> cloaca.WorkflowResult:
            return await execution

        return asyncio.run(main())

    heard: list[tuple[str, bool]] = []
    waiter = threading.Thread(target=lambda: heard.append((run().status, returned.is_set())))
    waiter.start()
    assert begun.wait(LIMIT)
    waiter.join(0.2)
    assert heard == []
    release.set()
    waiter.join(LIMIT)
    assert heard == [("Completed", True)]


def test_a_wait_for_a_callback_can_be_limited(runner: cloaca.DefaultRunner) -> None:
    release = threading.Event()

    def slow(task_id: str, context: cloaca.Context) -> None:
        release.wait(LIMIT)

    with cloaca.WorkflowBuilder("limited_callback"):

        @cloaca.task(on_success=slow)
        def only() -> None: ...

    with pytest.raises(cloaca.WaitTimeoutError) as caught:
        runner.execute("limited_callback", timeout=0.2)
    release.set()
    assert runner.get_execution(caught.value.execution_id or "").result(LIMIT).status == "Completed"


def test_the_outcome_is_durable_when_the_callback_runs(tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:

        def look(task_id: str, context: cloaca.Context) -> None:
            [listed] = runner.list_executions()
            seen.append((runner.get_execution(listed.id).status, listed.events))

        with cloaca.WorkflowBuilder("durable"):

            @cloaca.task(on_success=look)
            def only() -> None: ...

        execution = runner.execute("durable").execution_id
        [listed] = runner.list_executions()
        assert listed.id == execution
        assert seen == [("Completed", listed.events)]


@pytest.mark.parametrize("error", [RuntimeError("no"), SystemExit(3), KeyboardInterrupt()])
def test_what_a_callback_raises_is_logged_and_changes_nothing(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    def breaks(task_id: str, context: cloaca.Context) -> None:
        context["of_the_callback"] = True
        raise error

    with cloaca.WorkflowBuilder("raising_callback"):

        @cloaca.task(on_success=breaks)
        def first(context: cloaca.Context) -> None:
            context["first"] = True

        @cloaca.task(dependencies=[first])
        def second() -> None: ...

    result = runner.execute("raising_callback")
    assert (result.status, result.final_context) == ("Completed", {"first": True})
    [record] = [record for record in caplog.records if record.name == "cloaca.runner"]
    assert record.getMessage() == "on_success of task 'first' (attempt 1) raised; that changes nothing"
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_async_tasks_have_callbacks_and_callbacks_may_be_async(runner: cloaca.DefaultRunner) -> None:
    loops: list[object] = []
    ledger = Ledger()

    async def on_success(task_id: str, context: cloaca.Context) -> None:
        await asyncio.sleep(0.01)
        loops.append(asyncio.get_running_loop())

    with cloaca.WorkflowBuilder("async_callbacks"):

        @cloaca.task(on_success=on_success)
        async def succeeds() -> None:
            loops.append(asyncio.get_running_loop())

        @cloaca.task(retry_attempts=1, on_failure=ledger.on_failure)
        async def fails() -> None:
            await asyncio.sleep(0)
            raise ValueError("async")

    assert runner.execute("async_callbacks").status == "Failed"
    assert len(loops) == 2
    assert loops[0] is loops[1]
    assert ledger.told == [("failure", "fails", "async", {})]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_timeout_is_an_error_like_any_other(runner: cloaca.DefaultRunner, is_async: bool) -> None:
    release = threading.Event()
    ledger = Ledger()
    with cloaca.WorkflowBuilder("timeout_callbacks"):
        settings = {
            "id": "slow",
            "timeout_seconds": 0.05,
            "retry_attempts": 2,
            "retry_delay_ms": 1,
            "on_failure": ledger.on_failure,
            "on_retry": ledger.on_retry,
        }
        if is_async:

            @cloaca.task(**settings)  # type: ignore[call-overload]
            async def slow_async() -> None:
                await asyncio.sleep(LIMIT)

        else:

            @cloaca.task(**settings)  # type: ignore[call-overload]
            def slow() -> None:
                release.wait(LIMIT)
                raise ValueError("too late to matter")

    result = runner.execute("timeout_callbacks")
    release.set()
    assert [told[0] for told in ledger.told] == ["retry", "failure"]
    for attempt, error in enumerate(ledger.errors, 1):
        assert isinstance(error, cloaca.TaskTimeoutError)
        assert (error.execution_id, error.task_id, error.attempt) == (result.execution_id, "slow", attempt)
        assert "longer than 0.05 s" in str(error)


def test_an_error_of_the_engine_is_told_as_the_error_that_it_is() -> None:
    ledger = Ledger()
    with cloaca.WorkflowBuilder("too_long"):

        @cloaca.task(retry_attempts=1, on_failure=ledger.on_failure)
        def long(context: cloaca.Context) -> None:
            context["big"] = "x" * 2000

    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1000)) as runner:
        assert runner.execute("too_long").status == "Failed"
    [error] = ledger.errors
    assert isinstance(error, cloaca.ContextError)
    assert "context key 'big'" in str(error)


def test_skipped_and_cancelled_tasks_have_no_callback(runner: cloaca.DefaultRunner) -> None:
    ledger, started, release = Ledger(), threading.Event(), threading.Event()
    hears: dict[str, Callable[..., None]] = {"on_success": ledger.on_success, "on_failure": ledger.on_failure}
    with cloaca.WorkflowBuilder("no_callback"):

        @cloaca.task(**hears)  # type: ignore[call-overload]
        def running() -> None:
            started.set()
            release.wait(LIMIT)

        @cloaca.task(dependencies=["running"], **hears)  # type: ignore[call-overload]
        def after() -> None: ...

    execution = runner.submit("no_callback")
    assert started.wait(LIMIT)
    execution.cancel()
    assert execution.result(LIMIT).status == "Cancelled"
    release.set()
    assert ledger.told == []


def test_a_slow_callback_holds_up_its_own_execution_only(runner: cloaca.DefaultRunner) -> None:
    begun, release = threading.Event(), threading.Event()

    def slow(task_id: str, context: cloaca.Context) -> None:
        if context.get("slow"):
            begun.set()
            release.wait(LIMIT)

    with cloaca.WorkflowBuilder("held_up"):

        @cloaca.task(on_success=slow)
        def first() -> None: ...

        @cloaca.task(dependencies=[first])
        def second(context: cloaca.Context) -> None:
            context["second"] = True

    held = runner.submit("held_up", {"slow": True})
    assert begun.wait(LIMIT)
    assert runner.execute("held_up", timeout=LIMIT).status == "Completed"
    while held.status != "Completed":
        pass
    release.set()
    assert held.result(LIMIT).final_context["second"] is True


def test_callbacks_of_one_task_run_one_after_the_other(runner: cloaca.DefaultRunner) -> None:
    release, order = threading.Event(), []

    def on_retry(task_id: str, error: BaseException, context: cloaca.Context, attempt: int) -> None:
        if attempt == 1:
            assert release.wait(LIMIT)
        order.append(attempt)

    def on_failure(task_id: str, error: BaseException, context: cloaca.Context) -> None:
        order.append(0)

    with cloaca.WorkflowBuilder("ordered"):

        @cloaca.task(retry_attempts=4, retry_delay_ms=1, on_retry=on_retry, on_failure=on_failure)
        def fails() -> None:
            raise ValueError

    execution = runner.submit("ordered")
    while execution.status != "Failed":
        pass
    assert order == []
    release.set()
    execution.result(LIMIT)
    assert order == [1, 2, 3, 0]


def test_a_callback_may_start_another_execution_and_wait_for_it(runner: cloaca.DefaultRunner) -> None:
    followed: list[str] = []

    def follow(task_id: str, context: cloaca.Context) -> None:
        followed.append(runner.execute("second_workflow").status)

    with cloaca.WorkflowBuilder("first_workflow"):

        @cloaca.task(on_success=follow)
        def first() -> None: ...

    with cloaca.WorkflowBuilder("second_workflow"):

        @cloaca.task
        def second() -> None: ...

    assert runner.execute("first_workflow").status == "Completed"
    assert followed == ["Completed"]


def test_a_callback_that_waits_for_its_own_execution_is_told_so(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(task_id: str, context: cloaca.Context) -> None:
        runner.get_execution(runner.list_executions()[0].id).result()

    with cloaca.WorkflowBuilder("own_wait"):

        @cloaca.task(on_success=wait)
        def only() -> None: ...

    assert runner.execute("own_wait", timeout=LIMIT).status == "Completed"
    assert "a callback cannot wait for its own execution" in caplog.text


def test_shutdown_waits_for_callbacks() -> None:
    begun, finished = threading.Event(), threading.Event()

    def slow(task_id: str, context: cloaca.Context) -> None:
        begun.set()
        finished.wait(0.2)
        finished.set()

    with cloaca.WorkflowBuilder("shutdown_callbacks"):

        @cloaca.task(on_success=slow)
        def only() -> None: ...

    runner = cloaca.DefaultRunner(":memory:")
    runner.submit("shutdown_callbacks")
    assert begun.wait(LIMIT)
    runner.shutdown()
    assert finished.is_set()


def test_a_callback_that_hangs_does_not_hold_up_the_shutdown_for_ever() -> None:
    begun, release = threading.Event(), threading.Event()

    def hangs(task_id: str, context: cloaca.Context) -> None:
        begun.set()
        release.wait(LIMIT)

    with cloaca.WorkflowBuilder("hanging_callback"):

        @cloaca.task(on_success=hangs)
        def only() -> None: ...

    runner = cloaca.DefaultRunner(":memory:")
    waiter = threading.Thread(target=runner.execute, args=("hanging_callback",))
    waiter.start()
    assert begun.wait(LIMIT)
    runner._shutdown(0.05)
    waiter.join(LIMIT)
    assert not waiter.is_alive()
    release.set()


def test_callbacks_do_not_change_the_version_of_a_workflow() -> None:
    def version(**callbacks: Callable[..., None]) -> str:
        with cloaca.WorkflowBuilder("version_of_callbacks") as builder:

            @cloaca.task(**callbacks)  # type: ignore[call-overload]
            def only() -> None: ...

        return builder.build().version

    assert version() == version(on_success=Ledger().on_success)


@pytest.mark.parametrize(
    ("name", "callback", "says"),
    [
        ("on_success", 5, "on_success must be a function of (task_id, context), not 5"),
        ("on_success", lambda context: None, "on_success is called with (task_id, context); <lambda>(context)"),
        ("on_failure", lambda task_id, context: None, "on_failure is called with (task_id, error, context)"),
        ("on_retry", lambda a, b, c: None, "on_retry is called with (task_id, error, context, attempt)"),
    ],
)
def test_a_callback_that_cannot_be_called_is_refused_at_once(name: str, callback: object, says: str) -> None:
    with pytest.raises(TypeError) as caught:
        cloaca.task(**{name: callback})  # type: ignore[call-overload]
    assert says in str(caught.value)
