"""Regression tests for mistakes that were found by trying every sentence of the API's contract as a user."""

from __future__ import annotations

import logging
import pickle
import subprocess
import textwrap
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloaca
import pytest
from packaging import tags

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def waiting(name: str, *, other_graph: bool = False) -> tuple[threading.Event, threading.Event]:
    """Defines a workflow whose only task signals its start, and waits at a door."""
    started, door = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(id="other" if other_graph else "only")
        def only(context: cloaca.Context) -> None:
            started.set()
            assert door.wait(LIMIT)

    return started, door


@pytest.mark.parametrize("timeout", ["soon", float("nan"), True, (1,)])
def test_a_wrong_timeout_starts_nothing(runner: cloaca.DefaultRunner, timeout: Any) -> None:
    """Regression: the execution was started before the error was raised."""
    waiting("not_started")
    with pytest.raises((TypeError, ValueError), match="timeout must be a number of seconds or None"):
        runner.execute("not_started", timeout=timeout)
    assert runner.list_executions() == []


def test_a_timeout_message_is_in_seconds(runner: cloaca.DefaultRunner) -> None:
    _, door = waiting("seconds")
    execution = runner.submit("seconds")
    for timeout in (0, -1, 0.01):
        with pytest.raises(cloaca.WaitTimeoutError, match=rf"after {max(timeout, 0):g} s; it keeps running"):
            execution.result(timeout)
    door.set()


def test_an_id_of_another_workflow_is_not_attached_to(runner: cloaca.DefaultRunner) -> None:
    """Regression: the result of the other workflow was returned."""
    for name in ("mine", "yours"):
        waiting(name)[1].set()
    execution_id = str(uuid.uuid4())
    runner.execute("mine", execution_id=execution_id, timeout=LIMIT)
    with pytest.raises(cloaca.Error, match=r"belongs to workflow 'mine', not 'yours'") as caught:
        runner.execute("yours", execution_id=execution_id)
    assert (caught.value.execution_id, caught.value.workflow) == (execution_id, "mine")


def test_an_action_in_the_wrong_state_is_refused_in_plain_words(runner: cloaca.DefaultRunner) -> None:
    """Regression: the message was "ExecutionPaused comes while the execution is Paused"."""
    started, door = waiting("words")
    execution = runner.submit("words")
    assert started.wait(LIMIT)
    with pytest.raises(cloaca.Error, match="it is not paused"):
        execution.resume()
    execution.pause()
    with pytest.raises(cloaca.Error, match="it is already paused"):
        execution.pause()
    with pytest.raises(cloaca.Error, match="it is paused, not blocked"):
        runner.resume(execution.id)
    execution.resume()
    with pytest.raises(cloaca.Error, match="it is already running"):
        runner.resume(execution.id)
    door.set()


def test_a_blocked_execution_is_cancelled_without_being_resumed(tmp_path: Path) -> None:
    """Regression: it had to be resumed first, and then ran until the cancel."""
    started, door = waiting("unwanted")
    with cloaca.DefaultRunner(tmp_path / "log") as runner:  # type: ignore[arg-type]
        execution_id = runner.submit("unwanted").id
        assert started.wait(LIMIT)
        runner._shutdown(0.0)
    door.set()
    started, _ = waiting("unwanted", other_graph=True)
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        execution = runner.get_execution(execution_id)
        assert execution.status == "Blocked"
        execution.cancel("nobody needs it")
        result = execution.result(LIMIT)
        assert (result.status, result.error) == ("Cancelled", "cancelled by user: nobody needs it")
        assert runner.list_executions("Blocked") == []
        assert result.history().verify()
    assert not started.is_set()
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        assert runner.recovered == []


def test_an_ended_execution_is_not_reported_as_unfinished_after_the_shutdown(tmp_path: Path) -> None:
    """Regression: the error was that the engine was shut down before the execution ended."""
    waiting("ended")[1].set()
    with cloaca.DefaultRunner(":memory:") as runner:
        execution = runner.submit("ended")
        assert execution.result(LIMIT).status == "Completed"
    assert execution.result(0).status == "Completed"
    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        execution = runner.submit("ended")
        assert execution.result(LIMIT).status == "Completed"
    with pytest.raises(cloaca.Error, match=execution.id):
        execution.result(0)
    with pytest.raises(cloaca.LogError, match="the log was closed in the meantime"):
        _ = execution.status


@pytest.mark.parametrize("name", ["handle", "task_handle"])
def test_a_task_whose_only_parameter_is_called_handle_is_refused(name: str) -> None:
    """Regression: it got the context under that name."""
    with pytest.raises(TypeError, match=rf"called '{name}', but gets the context; .* \(context, {name}\)"):
        cloaca.task(id="confused")(eval(f"lambda {name}: None"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: cloaca.WorkflowBuilder("w").tag("key", 2),  # type: ignore[arg-type]
        lambda: cloaca.WorkflowBuilder("w").tag(1, "value"),  # type: ignore[arg-type]
        lambda: cloaca.WorkflowBuilder("w").description(4),  # type: ignore[arg-type]
        lambda: cloaca.TaskNamespace("a", "b", "c", 4),  # type: ignore[arg-type]
        lambda: cloaca.register_workflow_constructor(3, lambda: None),  # type: ignore
    ],
)
def test_names_that_are_not_strings_are_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"text|str"):
        wrong()


@pytest.mark.parametrize("attempts", [-1, 2**32])
def test_an_impossible_number_of_attempts_is_a_value_error(attempts: int) -> None:
    """Regression: it was an OverflowError."""
    with pytest.raises(ValueError, match=rf"max_attempts must be from 0 to 4294967295, not {attempts}"):
        cloaca.RetryPolicy.builder().max_attempts(attempts)


def test_a_log_in_memory_logs_no_directory(caplog: pytest.LogCaptureFixture) -> None:
    """Regression: it logged "the embedded event log is opened in the directory None"."""
    with caplog.at_level(logging.INFO, "cloaca"), cloaca.DefaultRunner("sqlite://:memory:"):
        pass
    assert "None" not in caplog.text


def test_an_execution_says_why_it_cannot_be_pickled(runner: cloaca.DefaultRunner) -> None:
    waiting("pickled")[1].set()
    with pytest.raises(TypeError, match="pickle its id"):
        pickle.dumps(runner.submit("pickled"))


def test_a_python_without_the_gil_is_refused_with_the_reason(run_python: Run) -> None:
    """Regression: no message. Such a Python cannot install our wheels; this is about a source tree on its path."""
    shown = run_python(
        """
        import sys
        sys.abiflags = "t"
        try:
            import cloaca
        except ImportError as error:
            print(error)
        assert "cloaca._cloaca" not in sys.modules
        """
    ).stdout
    assert "cloaca does not support free-threaded Python" in shown
    assert "use the standard build of Python" in shown


def test_the_wheel_does_not_install_in_a_python_without_the_gil() -> None:
    """By its tags, pip does not install a wheel of the stable ABI in a free-threaded Python."""
    wheel = tags.Tag("cp310", "abi3", "linux_x86_64")
    for abi, fits in (("cp313", True), ("cp313t", False)):
        assert (wheel in set(tags.cpython_tags((3, 13), [abi], ["linux_x86_64"]))) is fits


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_greenlets_in_place_of_threads_are_refused_at_once(run_python: Run, library: str) -> None:
    """Regression: under `gunicorn -k gevent` a runner hung: its threads were greenlets, which nothing ran while it
    waited for them. Eventlet does the same; it is simulated here, because it is no longer maintained."""
    patches = {
        "gevent": "from gevent import monkey; monkey.patch_all()",
        "eventlet": """
            import threading, types
            start = lambda *args: None
            start.__module__ = "eventlet.green.thread"
            threading._start_new_thread = threading._start_joinable_thread = start
        """,
    }
    done = run_python(
        f"{textwrap.dedent(patches[library])}\nimport cloaca\ncloaca.DefaultRunner(':memory:')", check=False
    )
    last = done.stderr.splitlines()[-1]
    assert f"Python's threads monkey-patched by {library}" in last
    assert "in a process that is not patched" in last


def test_greenlets_after_the_runner_was_opened_are_refused_at_once(run_python: Run) -> None:
    """Regression: a program that imported gevent's patches after it had opened a runner waited for its timeout."""
    done = run_python("""
        import cloaca

        with cloaca.WorkflowBuilder("plain"):
            @cloaca.task
            def plain(): ...

        runner = cloaca.DefaultRunner(":memory:")
        from gevent import monkey

        monkey.patch_all()
        for use in (lambda: runner.execute("plain"), lambda: runner.submit("plain"), runner.list_executions):
            try:
                use()
            except cloaca.Error as error:
                print(error)
        runner.shutdown()
    """)
    assert done.stdout.count("Python's threads monkey-patched by gevent") == 3


def test_tasks_that_work_under_gevent_run_and_others_say_why_not(run_python: Run) -> None:
    """Regression: even without patched threads, gevent replaces selectors, sockets and subprocess: coroutines and
    worker processes waited forever."""
    done = run_python("""
        from gevent import monkey

        monkey.patch_all(thread=False)
        import cloaca

        with cloaca.WorkflowBuilder("partly"):
            @cloaca.task
            def thread(context):
                context["ran"] = True
            @cloaca.task(retry_attempts=1)
            async def coroutine(): ...

        with cloaca.DefaultRunner(":memory:") as runner:
            result = runner.execute("partly", timeout=20)
            print(result.final_context["ran"], result.tasks["coroutine"].error)
    """)
    assert done.stdout.startswith("True OperationError: a runner does not work with Python's selectors monkey-patched")
