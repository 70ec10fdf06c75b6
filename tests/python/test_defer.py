"""Waiting without a slot: ``handle.defer_until``."""

from __future__ import annotations

import asyncio
import threading

import cloaca
import pytest

from conftest import LIMIT


@pytest.fixture
def narrow() -> cloaca.DefaultRunner:
    """A runner with one slot."""
    return cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=1))


def define_other() -> None:
    with cloaca.WorkflowBuilder("other"):

        @cloaca.task
        def other() -> None: ...


def test_others_run_while_a_task_waits(narrow: cloaca.DefaultRunner) -> None:
    come = threading.Event()
    held: list[bool] = []
    define_other()
    with cloaca.WorkflowBuilder("patient"):

        @cloaca.task
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            held.append(handle.is_slot_held())

            def condition() -> bool:
                held.append(handle.is_slot_held())
                return come.is_set()

            handle.defer_until(condition, poll_interval_ms=5)
            context["held"] = handle.is_slot_held()
            context["who"] = [handle.task_id, handle.attempt, handle.execution_id]

    with narrow as runner:
        execution = runner.submit("patient")
        assert runner.execute("other", timeout=LIMIT).status == "Completed"
        come.set()
        result = execution.result(LIMIT)
    assert result.final_context["held"] is True
    assert result.final_context["who"] == ["patient", 1, execution.id]
    assert held[0] is True
    assert held[1:]
    assert not any(held[1:])


def test_an_async_task_waits_for_a_plain_or_an_async_condition(narrow: cloaca.DefaultRunner) -> None:
    come = threading.Event()
    define_other()
    with cloaca.WorkflowBuilder("async_patient"):

        @cloaca.task
        async def patient(context: cloaca.Context, task_handle: cloaca.TaskHandle) -> None:
            await task_handle.defer_until(come.is_set, poll_interval_ms=5)
            assert task_handle.is_slot_held()

            async def condition() -> bool:
                await asyncio.sleep(0)
                return come.is_set()

            await task_handle.defer_until(condition, poll_interval_ms=5)
            context["held"] = task_handle.is_slot_held()

    with narrow as runner:
        execution = runner.submit("async_patient")
        assert runner.execute("other", timeout=LIMIT).status == "Completed"
        come.set()
        assert execution.result(LIMIT).final_context["held"] is True


def test_a_wait_that_ends_with_an_exception_has_a_slot_again(narrow: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("given_up"):

        @cloaca.task
        async def async_patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(handle.defer_until(lambda: False, poll_interval_ms=1), 0.02)
            context["async"] = handle.is_slot_held()

        @cloaca.task(dependencies=[async_patient])
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            with pytest.raises(ZeroDivisionError):
                handle.defer_until(lambda: 1 / 0)
            context["plain"] = handle.is_slot_held()

    with narrow as runner:
        result = runner.execute("given_up", timeout=LIMIT).raise_for_status()
    assert result.final_context.to_dict() == {"async": True, "plain": True}


def test_a_condition_that_raises_fails_the_attempt(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("raising"):

        @cloaca.task(retry_attempts=1)
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.defer_until(lambda: {}["no"])

    result = runner.execute("raising", timeout=LIMIT)
    assert result.status == "Failed"
    assert "KeyError: 'no'" in (result.tasks["patient"].error or "")


def define_endless(ended: threading.Event, deferred: threading.Event, **options: object) -> list[BaseException]:
    raised: list[BaseException] = []
    with cloaca.WorkflowBuilder("endless"):

        @cloaca.task(retry_attempts=1, **options)  # type: ignore[arg-type]
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            def condition() -> bool:
                deferred.set()
                return False

            try:
                # The wait ends long before the hour is over.
                handle.defer_until(condition, poll_interval_ms=3_600_000)
            except BaseException as error:
                raised.append(error)
                ended.set()
                raise

    return raised


def test_the_wait_counts_towards_no_timeout_and_shows_as_deferred(narrow: cloaca.DefaultRunner) -> None:
    """Regression: a task that waited for an approval failed after the five minutes of the default timeout."""
    seen: list[str] = []
    with cloaca.WorkflowBuilder("approval"):

        @cloaca.task(retry_attempts=1, timeout_seconds=0.05)
        def ask(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            def condition() -> bool:
                seen.append(runner.get_execution(handle.execution_id).history().state().tasks["ask"].state)
                return len(seen) > 10

            handle.defer_until(condition, poll_interval_ms=10)

    with narrow as runner:
        result = runner.execute("approval", timeout=LIMIT)
    assert (result.status, result.tasks["ask"].attempts) == ("Completed", 1)
    assert seen[-1] == "Deferred"
    assert [event.kind for event in result.history().events][1:4] == ["TaskStarted", "TaskDeferred", "TaskResumed"]


def test_cancelling_ends_the_wait(runner: cloaca.DefaultRunner) -> None:
    ended, deferred = threading.Event(), threading.Event()
    raised = define_endless(ended, deferred)
    execution = runner.submit("endless")
    assert deferred.wait(LIMIT)
    execution.cancel("enough")
    assert execution.result(LIMIT).status == "Cancelled"
    assert ended.wait(LIMIT)
    assert isinstance(raised[0], cloaca.AttemptOverError)


def test_cancelling_ends_the_wait_of_an_async_task(runner: cloaca.DefaultRunner) -> None:
    ended, deferred = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("endless_async"):

        @cloaca.task(retry_attempts=1)
        async def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            def condition() -> bool:
                deferred.set()
                return False

            try:
                await handle.defer_until(condition, poll_interval_ms=3_600_000)
            finally:
                ended.set()

    execution = runner.submit("endless_async")
    assert deferred.wait(LIMIT)
    execution.cancel()
    assert execution.result(LIMIT).status == "Cancelled"
    assert ended.wait(LIMIT)


def test_a_shutdown_leaves_a_deferred_attempt_to_the_recovery(tmp_path: object) -> None:
    ended, deferred = threading.Event(), threading.Event()
    define_endless(ended, deferred)
    with cloaca.DefaultRunner(f"{tmp_path}/log") as runner:
        execution = runner.submit("endless")
        assert deferred.wait(LIMIT)
    assert ended.wait(LIMIT)
    with cloaca.WorkflowBuilder("endless"):

        @cloaca.task(retry_attempts=1)
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.defer_until(lambda: True)
            context["attempt"] = handle.attempt

    with cloaca.DefaultRunner(f"{tmp_path}/log") as runner:
        assert [recovered.id for recovered in runner.recovered] == [execution.id]
        assert runner.get_execution(execution.id).result(LIMIT).final_context["attempt"] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ((True,), TypeError, "condition must be a function without parameters, not True"),
        ((bool, "1"), TypeError, "poll_interval_ms must be a number of milliseconds, not '1'"),
        ((bool, 0), ValueError, "poll_interval_ms must be greater than 0, not 0"),
        ((bool, float("nan")), ValueError, "poll_interval_ms must be greater than 0, not nan"),
    ],
)
def test_arguments_are_checked(arguments: tuple[object, ...], error: type[Exception], says: str) -> None:
    handle = cloaca.TaskHandle("task")
    with pytest.raises(error) as caught:
        handle.defer_until(*arguments)  # type: ignore[arg-type]
    assert str(caught.value) == says
    assert handle.is_slot_held()


def test_a_plain_task_cannot_wait_for_a_coroutine() -> None:
    async def condition() -> bool:
        return True

    with pytest.raises(TypeError, match="only an async def task can await it"):
        cloaca.TaskHandle("task").defer_until(condition)


def test_a_unit_test_can_create_a_handle() -> None:
    handle = cloaca.TaskHandle("task")
    answers = iter([False, True])
    held: list[bool] = []

    def condition() -> bool:
        held.append(handle.is_slot_held())
        return next(answers)

    handle.defer_until(condition, poll_interval_ms=1)
    assert held == [False, False]
    assert handle.is_slot_held()
    assert repr(handle) == "TaskHandle(task_id='task', attempt=1, execution_id='')"
