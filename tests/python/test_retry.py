"""`retry` continues a failed or cancelled execution from what failed; completed tasks never run again."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import cloaca
import pytest
from cloaca.testing import Runner

from conftest import LIMIT, wait_until

EXECUTION = "0192aaaa-0000-7000-8000-000000000003"


class Server:
    """A server that a task needs, and the tasks that ran."""

    def __init__(self) -> None:
        self.is_up = False
        self.ran: list[str] = []

    def define(self, name: str = "report") -> None:
        with cloaca.WorkflowBuilder(name):

            @cloaca.task
            def expensive(context: cloaca.Context) -> None:
                self.ran.append("expensive")
                context["a"] = 1

            @cloaca.task(dependencies=[expensive], retry_attempts=1)
            def flaky(context: cloaca.Context) -> None:
                self.ran.append("flaky")
                if not self.is_up:
                    raise ConnectionError("server down")
                context["b"] = context["a"] + 1

            @cloaca.task(dependencies=[flaky])
            def last(context: cloaca.Context) -> None:
                self.ran.append("last")


@pytest.fixture
def server() -> Server:
    server = Server()
    server.define()
    return server


def kinds(execution: cloaca.Execution) -> list[str]:
    return [event.kind for event in execution.history().events]


def test_a_failed_execution_continues_from_what_failed(runner: cloaca.DefaultRunner, server: Server) -> None:
    failed = runner.execute("report", {"day": 1})
    assert failed.status == "Failed"
    server.is_up = True
    execution = runner.retry(failed.execution_id, by="ann", reason="the server is up again")
    result = execution.result(LIMIT)
    assert (result.status, result.error_message) == ("Completed", None)
    assert result.execution_id == failed.execution_id
    assert result.final_context.to_dict() == {"day": 1, "a": 1, "b": 2}
    assert server.ran == ["expensive", "flaky", "flaky", "last"]
    assert [task.attempts for task in result.tasks.values()] == [1, 2, 1]
    [event] = [event for event in execution.history().events if isinstance(event, cloaca.events.ExecutionRetried)]
    assert (event.by, event.reason) == ("ann", "the server is up again")
    assert event.options["timeout_ms"] == 3_600_000
    assert sorted(event.environment) == ["engine", "host", "pid", "python"]


def test_what_worked_before_is_still_what_the_messages_advise(runner: cloaca.DefaultRunner, server: Server) -> None:
    """The story of someone who tried everything else first: each error names `retry`."""
    failed = runner.execute("report")
    server.is_up = True
    for attempt in (lambda: runner.resume(failed.execution_id), runner.get_execution(failed.execution_id).resume):
        with pytest.raises(cloaca.Error, match=rf"runner\.retry\('{failed.execution_id}'\)"):
            attempt()
    assert runner.execute("report", execution_id=failed.execution_id).status == "Failed"
    assert runner.execute("report", execution_id=failed.execution_id, retry_failed=True).status == "Completed"
    assert server.ran == ["expensive", "flaky", "flaky", "last"]


def test_a_cancelled_execution_continues_and_can_be_awaited(runner: cloaca.DefaultRunner) -> None:
    is_ready = threading.Event()
    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task
        def wait(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.defer_until(is_ready.is_set, poll_interval_ms=5)

    execution = runner.submit("waits")
    wait_until(lambda: execution.status == "Deferred")
    execution.cancel("takes too long")
    assert execution.result(LIMIT).status == "Cancelled"
    execution.retry()
    assert not execution.done
    is_ready.set()

    async def awaited() -> cloaca.WorkflowResult:
        return await execution

    assert asyncio.run(awaited()).status == "Completed"
    [event] = [event for event in execution.history().events if isinstance(event, cloaca.events.ExecutionRetried)]
    assert (event.by, event.reason) == ("user", None)


def test_it_can_fail_again_and_be_retried_again(runner: cloaca.DefaultRunner, server: Server) -> None:
    failed = runner.execute("report")
    for attempt in (2, 3):
        again = runner.retry(failed.execution_id).result(LIMIT)
        assert (again.status, again.tasks["flaky"].attempts) == ("Failed", attempt)
        assert isinstance(again.tasks["flaky"].error, str)
        with pytest.raises(cloaca.WorkflowFailedError) as raised:
            again.raise_for_status()
        assert isinstance(raised.value.__cause__, ConnectionError)
    server.is_up = True
    assert runner.retry(failed.execution_id).result(LIMIT).status == "Completed"
    assert server.ran.count("expensive") == 1


def test_many_threads_retry_it_once(runner: cloaca.DefaultRunner) -> None:
    go, answers = threading.Event(), []
    is_fixed = False
    with cloaca.WorkflowBuilder("held"):

        @cloaca.task(retry_attempts=1)
        def hold(context: cloaca.Context) -> None:
            if not is_fixed:
                raise ValueError("no")
            go.wait(LIMIT)

    failed = runner.execute("held")
    is_fixed = True

    def retry() -> None:
        try:
            runner.retry(failed.execution_id)
            answers.append("retried")
        except cloaca.Error as error:
            answers.append(str(error).split("; ")[0].split(": ")[1])

    threads = [threading.Thread(target=retry) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert sorted(answers) == ["it is running"] * 15 + ["retried"]
    go.set()
    execution = runner.get_execution(failed.execution_id)
    assert execution.result(LIMIT).status == "Completed"
    assert kinds(execution).count("ExecutionRetried") == 1


def test_it_runs_by_the_workflow_registered_now(tmp_path: Path, server: Server) -> None:
    with Runner(str(tmp_path / "log")) as runner:
        failed = runner.execute("report")
        with cloaca.WorkflowBuilder("report"):

            @cloaca.task
            def expensive(context: cloaca.Context) -> None:
                raise AssertionError("it was completed")

            @cloaca.task
            def login(context: cloaca.Context) -> None:
                context["token"] = "t"

            @cloaca.task(dependencies=[expensive, login])
            def flaky(context: cloaca.Context) -> None:
                context["b"] = f"{context['a']} with {context['token']}"

        result = runner.retry(failed.execution_id).result(LIMIT)
        assert (result.status, result.final_context["b"]) == ("Completed", "1 with t")
        assert list(result.tasks) == ["expensive", "login", "flaky"]
        history = result.history()
        [event] = [event for event in history.events if isinstance(event, cloaca.events.ExecutionRetried)]
        started = history.events[0]
        assert isinstance(started, cloaca.events.ExecutionStarted)
        assert event.definition != started.definition
        assert history.verify()
        # Before the retry, and after it.
        assert history.state(at=event.seq - 1).status == "Failed"
        assert history.state(at=event.seq).status == "Running"
        assert cloaca.History.from_json(history.to_json()).events == history.events


@pytest.mark.parametrize("how", ["execute", "submit", "execute_async", "submit_many"])
def test_retry_failed_starts_retries_or_attaches(how: str, runner: cloaca.DefaultRunner, server: Server) -> None:
    def run() -> cloaca.WorkflowResult:
        if how == "execute":
            return runner.execute("report", execution_id=EXECUTION, retry_failed=True)
        if how == "submit":
            return runner.submit("report", execution_id=EXECUTION, retry_failed=True).result(LIMIT)
        if how == "execute_async":
            return asyncio.run(runner.execute_async("report", execution_id=EXECUTION, retry_failed=True))
        return runner.submit_many("report", [None], execution_ids=[EXECUTION], retry_failed=True)[0].result(LIMIT)

    assert run().status == "Failed"
    server.is_up = True
    assert (run().status, run().status) == ("Completed", "Completed")
    assert server.ran == ["expensive", "flaky", "flaky", "last"]
    assert kinds(runner.get_execution(EXECUTION)).count("ExecutionRetried") == 1


def test_retry_failed_leaves_a_cancelled_one_alone(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task
        def wait(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.defer_until(lambda: False)

    execution = runner.submit("waits", execution_id=EXECUTION, retry_failed=True)
    execution.cancel()
    assert runner.execute("waits", execution_id=EXECUTION, retry_failed=True).status == "Cancelled"


def test_retry_failed_needs_an_id(runner: cloaca.DefaultRunner, server: Server) -> None:
    for call in (
        lambda: runner.execute("report", retry_failed=True),
        lambda: runner.submit("report", retry_failed=True),
        lambda: asyncio.run(runner.execute_async("report", retry_failed=True)),
        lambda: runner.submit_many("report", [None], retry_failed=True),
    ):
        with pytest.raises(
            ValueError, match=r"retry_failed=True needs execution_ids?: it retries executions that exist"
        ):
            call()
    assert runner.list_executions() == []


def test_what_cannot_be_retried_is_an_error_with_the_next_step(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]], server: Server
) -> None:
    with cloaca.WorkflowBuilder("fine"):

        @cloaca.task
        def fine(context: cloaca.Context) -> None: ...

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        completed = runner.execute("fine").execution_id
        with pytest.raises(cloaca.Error, match="there is nothing to retry; start another one") as raised:
            runner.retry(completed)
        assert raised.value.execution_id == completed
        with pytest.raises(cloaca.ExecutionNotFoundError):
            runner.retry(str(uuid.uuid4()))
        with pytest.raises(ValueError, match="is not an execution id"):
            runner.retry("nightly")
        failed = runner.execute("report")
    with pytest.raises(cloaca.Error, match="shut down"):
        runner.retry(failed.execution_id)
    # A program that does not import the module of the workflow.
    shown = run_python(f"""
        import cloaca
        with cloaca.DefaultRunner("log") as runner:
            try:
                runner.retry("{failed.execution_id}")
            except cloaca.Error as error:
                print(error)
            print(runner.get_execution("{failed.execution_id}").status)
    """).stdout
    assert "workflow 'report' is not registered, so its tasks cannot run" in shown
    assert shown.endswith("Failed\n")


def test_the_retry_is_logged_with_who_and_why(
    runner: cloaca.DefaultRunner, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cloaca")
    failed = runner.execute("report")
    runner.retry(failed.execution_id, by="ann", reason="it is up").result(LIMIT)
    wanted = f"execution {failed.execution_id} of workflow 'report' is retried by ann: it is up"
    wait_until(lambda: wanted in caplog.messages)


def test_callbacks_run_again_for_the_new_attempt(runner: cloaca.DefaultRunner) -> None:
    calls: list[str] = []
    is_fixed = False
    with cloaca.WorkflowBuilder("called"):

        @cloaca.task(
            retry_attempts=1,
            on_failure=lambda task_id, error, context: calls.append(f"{task_id} failed"),
            on_success=lambda task_id, context: calls.append(f"{task_id} succeeded"),
        )
        def only(context: cloaca.Context) -> None:
            if not is_fixed:
                raise ValueError("no")

    failed = runner.execute("called")
    is_fixed = True
    runner.retry(failed.execution_id).result(LIMIT)
    assert calls == ["only failed", "only succeeded"]


PROGRAM = f"""
import os, sys, time
import cloaca

def note(task):
    with open("runs", "a") as file:
        file.write(task + chr(10))

with cloaca.WorkflowBuilder("order"):
    @cloaca.task
    def reserve(context):
        note("reserve")
        context["reserved"] = 6

    @cloaca.task(dependencies=[reserve], retry_attempts=1)
    def charge(context):
        note("charge")
        if sys.argv[1] == "fail":
            raise ConnectionError("no answer")
        if sys.argv[1] == "hang":
            print("charging", flush=True)
            time.sleep(100)
        context["charged"] = context["reserved"]

with cloaca.DefaultRunner("log") as runner:
    result = runner.execute("order", execution_id="{EXECUTION}", retry_failed=True)
    print(result.status, result.tasks["reserve"].attempts, result.tasks["charge"].attempts)
"""


def test_a_killed_retry_is_resumed_by_the_next_program(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    def run(how: str) -> str:
        program = subprocess.run(
            [sys.executable, "-c", PROGRAM, how],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        return program.stdout

    assert run("fail") == "Failed 1 1\n"
    killed = subprocess.Popen([sys.executable, "-c", PROGRAM, "hang"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    try:
        assert killed.stdout is not None
        assert killed.stdout.readline() == "charging\n"
    finally:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
    assert run("finish") == "Completed 1 3\n"
    assert (tmp_path / "runs").read_text().split() == ["reserve", "charge", "charge", "charge"]


def test_a_task_that_waits_to_run_again_is_shown_as_retried() -> None:
    go = threading.Event()
    with cloaca.WorkflowBuilder("shaky"):

        @cloaca.task(retry_attempts=1)
        def shake(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if handle.attempt == 1:
                raise ValueError("no")

    with cloaca.WorkflowBuilder("hog"):

        @cloaca.task
        def hold(context: cloaca.Context) -> None:
            go.wait(LIMIT)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        failed = runner.execute("shaky")
        assert failed.history().tasks["shake"].outcome == "failed"
        runner.submit("hog")
        execution = runner.retry(failed.execution_id)
        [shaken] = execution.history().tasks.values()
        assert (shaken.retried, shaken.outcome, shaken.attempts[-1].outcome) == (True, "retried", "failed")
        go.set()
        assert execution.result(LIMIT).status == "Completed"
        [shaken] = execution.history().tasks.values()
        assert (shaken.retried, shaken.outcome, len(shaken.attempts)) == (False, "completed", 2)
