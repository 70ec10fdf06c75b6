"""An attempt that fails, is tried again, or takes too long: what is said of it, and what it does to others."""

from __future__ import annotations

import errno
import pickle
import threading

import cloaca
import pytest

from conftest import LIMIT


class Broken(ValueError):
    """An error of the test's own."""


def test_a_failure_says_which_task_which_attempt_and_which_error(runner: cloaca.DefaultRunner) -> None:
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
        (ValueError(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": ValueError}, 3),
        (Broken(), {"retry_condition": (KeyError, Broken)}, 3),
        (ValueError(), {"retry_condition": (KeyError, Broken)}, 1),
        (ValueError(), {"retry": cloaca.RetryPolicy.builder().max_attempts(2).initial_delay(0.001).build()}, 2),
    ],
)
def test_a_task_is_tried_again_as_its_policy_says(runner, error, keywords, runs) -> None:  # type: ignore[no-untyped-def]
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


def test_an_attempt_that_takes_too_long_is_failed_and_what_it_does_later_is_ignored(
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


def test_a_timed_out_thread_does_not_take_the_place_of_another() -> None:
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
def test_errors_are_what_python_would_call_them(error: type, bases: tuple[type, ...]) -> None:
    for base in bases:
        assert issubclass(error, base)
