"""Failures, retries and timeouts of attempts: how they are reported, and their effect on others."""

from __future__ import annotations

import asyncio
import builtins
import errno
import functools
import pickle
import subprocess
import threading
import time
import warnings
from typing import Any

import cloaca
import pytest
from cloaca import Context

from conftest import LIMIT


class Broken(ValueError):
    """An exception class of the test."""


def test_a_failure_names_task_attempt_and_error(runner: cloaca.DefaultRunner) -> None:
    raised = Broken("the disk is on fire")
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def burn(context: cloaca.Context) -> None:
            context["never"] = 1
            raise raised

        @cloaca.task(dependencies=[burn])
        def after() -> None: ...

    result = runner.execute("fails")
    assert result.status == "Failed"
    for part in ("burn", "attempt 2", "Broken", "the disk is on fire"):
        assert part in (result.error_message or ""), part
    task = result.tasks["burn"]
    assert (task.state, task.attempts, task.error) == ("Failed", 2, "Broken: the disk is on fire")
    assert result.tasks["after"].state == "Skipped"
    assert "never" not in result.final_context
    with pytest.raises(cloaca.WorkflowFailedError, match="the disk is on fire") as caught:
        result.raise_for_status()
    assert caught.value.__cause__ is raised
    assert (caught.value.task_id, caught.value.attempt) == ("burn", 2)
    assert caught.value.execution_id == result.execution_id


def test_the_traceback_begins_with_the_task(runner: cloaca.DefaultRunner) -> None:
    def helper() -> None:
        raise KeyError("gone")

    with cloaca.WorkflowBuilder("traceback"):

        @cloaca.task(retry_attempts=1)
        def outer() -> None:
            helper()

    traceback = runner.execute("traceback").tasks["outer"].traceback
    assert traceback is not None
    assert [line.split()[-1] for line in traceback.splitlines() if line.startswith("  File")] == ["outer", "helper"]
    assert traceback.rstrip().endswith("KeyError: 'gone'")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_exception_of_a_task_ends_more_than_its_attempt(runner: cloaca.DefaultRunner, error: BaseException) -> None:
    with cloaca.WorkflowBuilder("exits"):

        @cloaca.task(retry_attempts=1)
        def exits() -> None:
            raise error

    result = runner.execute("exits")
    assert result.status == "Failed"
    assert type(error).__name__ in (result.error_message or "")
    assert runner.execute("exits").status == "Failed"


def test_an_exception_that_cannot_be_printed_fails_its_attempt_too(runner: cloaca.DefaultRunner) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with cloaca.WorkflowBuilder("unprintable"):

        @cloaca.task(retry_attempts=1)
        def unprintable() -> None:
            raise Unprintable

        @cloaca.task(retry_attempts=1)
        def surrogate() -> None:
            raise ValueError("\ud800")

    result = runner.execute("unprintable")
    assert result.tasks["unprintable"].error == "Unprintable: <str() of it raised RuntimeError>"
    assert result.tasks["surrogate"].error == "ValueError: \\ud800"


def runs_of(runner: cloaca.DefaultRunner, error: BaseException, **keywords) -> int:  # type: ignore[no-untyped-def]
    runs = 0
    with cloaca.WorkflowBuilder("runs_of"):

        @cloaca.task(retry_delay_ms=1, **keywords)
        def fails() -> None:
            nonlocal runs
            runs += 1
            raise error

    assert runner.execute("runs_of").status == "Failed"
    return runs


@pytest.mark.parametrize(
    ("error", "keywords", "runs"),
    [
        (ValueError(), {}, 3),
        (ValueError(), {"retry_attempts": 5}, 5),
        (ValueError(), {"retry_attempts": 1}, 1),
        (ValueError(), {"retry_attempts": 0}, 1),
        (ValueError(), {"retry_condition": "never"}, 1),
        (ValueError(), {"retry_condition": "transient"}, 1),
        (TimeoutError(), {"retry_condition": "transient"}, 3),
        (ConnectionResetError(), {"retry_condition": "transient"}, 3),
        (OSError(errno.EHOSTUNREACH, "no route"), {"retry_condition": "transient"}, 3),
        (OSError(errno.ENOENT, "no file"), {"retry_condition": "transient"}, 1),
        (RuntimeError("service temporarily Unavailable"), {"retry_condition": "transient"}, 3),
        (subprocess.TimeoutExpired("pg_dump", 5), {"retry_condition": "transient"}, 3),
        (asyncio.TimeoutError(), {"retry_condition": "transient"}, 3),
        (RuntimeError("the request timed out"), {"retry_condition": "transient"}, 3),
        (RuntimeError("Lost connection to MySQL server"), {"retry_condition": "transient"}, 3),
        (RuntimeError("connection reset by peer"), {"retry_condition": "transient"}, 3),
        (ValueError("failed to parse the connection string"), {"retry_condition": "transient"}, 1),
        (KeyError("no such connection: 'orders'"), {"retry_condition": "transient"}, 1),
        (ValueError(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": (KeyError, Broken)}, 3),
        (ValueError(), {"retry_condition": (KeyError, Broken)}, 1),
        (ValueError(), {"retry": cloaca.RetryPolicy.builder().max_attempts(2).initial_delay(0.001).build()}, 2),
    ],
)
def test_a_task_is_retried_according_to_its_policy(runner, error, keywords, runs) -> None:  # type: ignore[no-untyped-def]
    if "retry" in keywords:
        with cloaca.WorkflowBuilder("policy"):
            count = []

            @cloaca.task(**keywords)
            def fails() -> None:
                count.append(1)
                raise error

        runner.execute("policy")
        assert len(count) == runs
    else:
        assert runs_of(runner, error, **keywords) == runs


def test_an_exception_group_is_transient_if_all_of_its_errors_are() -> None:
    # New in Python 3.11.
    group: Any = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        return
    transient = cloaca.RetryPolicy.builder().retry_condition(cloaca.RetryCondition.transient_only()).build()
    assert transient.should_retry(1, group("both", [TimeoutError(), group("inner", [ConnectionResetError()])]))
    assert not transient.should_retry(1, group("one", [TimeoutError(), ValueError()]))


def not_json(context: Context) -> None:
    context["when"] = {"at": object()}


def not_a_number(context: Context) -> None:
    context["mean"] = float("nan")


def no_return(context: Context) -> Any:
    return 3


def own(context: Context) -> None:
    raise Unpayable("the customer has no address")


class Unpayable(cloaca.PermanentError): ...


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (not_json, "NotJsonError"),
        (not_a_number, "NotJsonError"),
        (no_return, "ReturnedTypeError"),
        (own, "Unpayable"),
    ],
)
@pytest.mark.parametrize("condition", ["all", Exception])
def test_a_permanent_error_is_not_retried(runner: cloaca.DefaultRunner, body: Any, kind: str, condition: Any) -> None:
    """Regression: a value that is not JSON was retried three times, with backoff."""
    with cloaca.WorkflowBuilder("permanent"):
        cloaca.task(id="fails", retry_delay_ms=1, retry_condition=condition)(body)
    task = runner.execute("permanent").tasks["fails"]
    assert (task.state, task.attempts, (task.error or "").partition(":")[0]) == ("Failed", 1, kind)


def test_an_undeclared_read_in_a_strict_context_is_not_retried() -> None:
    with cloaca.WorkflowBuilder("strict"):

        @cloaca.task
        def write(context: Context) -> None:
            context["rows"] = 3

        @cloaca.task(retry_delay_ms=1)
        def read(context: Context) -> None:
            assert context["rows"]

    config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        task = runner.execute("strict").tasks["read"]
    assert (task.state, task.attempts) == ("Failed", 1)


def test_no_delay_is_cut_silently() -> None:
    """Regression: `retry_delay_ms=300_000` waited only for a minute, the default maximum."""
    raised = cloaca.RetryPolicy.builder().initial_delay(300).build()
    assert [raised.calculate_delay(failures) for failures in (1, 2)] == [300, 300]
    with pytest.raises(ValueError, match=r"initial_delay \(5 s\) is longer than max_delay \(0.1 s\)"):
        cloaca.task(retry_delay_ms=5_000, retry_max_delay_ms=100)
    with pytest.raises(ValueError, match="is longer than max_delay"):
        cloaca.RetryPolicy.builder().max_delay(60).initial_delay(61).build()


def test_a_timeout_of_none_is_no_timeout() -> None:
    with cloaca.WorkflowBuilder("unlimited"):

        @cloaca.task(timeout_seconds=None)
        def slow() -> None:
            time.sleep(1.2)

        @cloaca.task(retry_attempts=1)
        def limited(context: Context, handle: cloaca.TaskHandle) -> None:
            while not handle.is_over:
                time.sleep(0.01)
            over.set()

    # A plain task checks this, so as not to run beside its next attempt.
    over = threading.Event()
    config = cloaca.DefaultRunnerConfig(task_timeout_seconds=1)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        tasks = runner.execute("unlimited").tasks
        assert over.wait(LIMIT)
    assert (tasks["slow"].state, tasks["limited"].state) == ("Completed", "Failed")


def test_a_coroutine_behind_a_plain_decorator_gets_a_hint_to_await_it(runner: cloaca.DefaultRunner) -> None:
    def timed(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*arguments: Any) -> Any:
            return function(*arguments)

        return wrapper

    async def load(context: Context) -> None: ...

    with cloaca.WorkflowBuilder("wrapped"):
        cloaca.task(timed(load))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        task = runner.execute("wrapped").tasks["load"]
    assert task.attempts == 1
    assert "returned a coroutine that was never awaited" in (task.error or "")


def test_an_attempt_that_times_out_fails_and_its_later_writes_are_ignored(
    runner: cloaca.DefaultRunner,
) -> None:
    release, late = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task(timeout_seconds=0.1, retry_attempts=1)
        def slow(context: cloaca.Context) -> None:
            release.wait(LIMIT)
            context["late"] = True
            late.set()

    result = runner.execute("slow")
    assert result.status == "Failed"
    assert not late.is_set()
    release.set()
    assert late.wait(LIMIT)
    assert "late" not in runner.get_execution(result.execution_id).result().final_context
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    assert isinstance(caught.value.__cause__, cloaca.TaskTimeoutError)
    assert isinstance(caught.value.__cause__, TimeoutError)


def test_a_timed_out_thread_does_not_occupy_a_slot() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("stuck"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=1)
        def stuck() -> None:
            release.wait(LIMIT)

        @cloaca.task(dependencies=[stuck], trigger_rule="all_failed")
        def clean_up(context: cloaca.Context) -> None:
            context["clean"] = True

    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)) as runner:
        result = runner.execute("stuck")
        release.set()
    assert result.status == "Completed"
    assert result.final_context == {"clean": True}


def test_errors_can_be_pickled() -> None:
    error = cloaca.WorkflowFailedError("it failed", execution_id="e", task_id="t", attempt=2)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is cloaca.WorkflowFailedError
    assert str(back) == "it failed"
    assert (back.execution_id, back.task_id, back.attempt, back.seq) == ("e", "t", 2, None)
    assert str(pickle.loads(pickle.dumps(cloaca.UndeclaredReadError("a read", key="k")))) == "a read"


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (cloaca.WorkflowValidationError, (cloaca.Error, ValueError)),
        (cloaca.WorkflowNotFoundError, (cloaca.Error, ValueError)),
        (cloaca.ConfigurationError, (cloaca.Error, ValueError)),
        (cloaca.ContextError, (cloaca.Error,)),
        (cloaca.LogLockedError, (cloaca.LogError, cloaca.Error)),
        (cloaca.LogCorruptedError, (cloaca.LogError, cloaca.Error)),
        (cloaca.LogVersionError, (cloaca.LogError, cloaca.Error)),
        (cloaca.WorkflowFailedError, (cloaca.Error,)),
        (cloaca.TaskTimeoutError, (cloaca.Error, TimeoutError)),
        (cloaca.UndeclaredReadError, (cloaca.Error, KeyError)),
    ],
)
def test_errors_have_the_matching_builtin_base_classes(error: type, bases: tuple[type, ...]) -> None:
    for base in bases:
        assert issubclass(error, base)
