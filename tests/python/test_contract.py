"""Guarantees of the API that no other test covers."""

from __future__ import annotations

import copy
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloaca
import pytest

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def simple(name: str) -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(retry_attempts=1)
        def first(context: cloaca.Context) -> None:
            context["first"] = True

        @cloaca.task(dependencies=[first], retry_attempts=1)
        def second(context: cloaca.Context) -> None:
            if context.get("fail"):
                raise ValueError("as asked")
            context["second"] = True


# Tasks


@pytest.mark.parametrize(("attempts", "runs"), [(0, 1), (1, 1), (2, 2), (4, 4)])
def test_retry_attempts_is_the_number_of_runs(runner: cloaca.DefaultRunner, attempts: int, runs: int) -> None:
    ran = []
    with cloaca.WorkflowBuilder("runs"):

        @cloaca.task(retry_attempts=attempts, retry_delay_ms=1)
        def task() -> None:
            ran.append(1)
            raise ValueError

    runner.execute("runs", timeout=LIMIT)
    assert len(ran) == runs


def test_an_exception_class_of_the_program_is_retried_with_its_subclasses(runner: cloaca.DefaultRunner) -> None:
    class Busy(Exception): ...

    class VeryBusy(Busy): ...

    raises: list[type[Exception]] = [VeryBusy, Busy, KeyError]
    with cloaca.WorkflowBuilder("classes"):

        @cloaca.task(retry_attempts=9, retry_delay_ms=1, retry_condition=(Busy, ZeroDivisionError))
        def task(handle_less: cloaca.Context) -> None:
            raise raises.pop(0)

    result = runner.execute("classes", timeout=LIMIT)
    assert result.tasks["task"].attempts == 3
    assert (result.tasks["task"].error or "").startswith("KeyError")


def test_a_returned_new_context_is_compared_with_the_input(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("another"):

        @cloaca.task
        def task(context: cloaca.Context) -> cloaca.Context:
            other = cloaca.Context(context.to_dict())
            del other["gone"]
            other["new"] = context["kept"]
            return other

    result = runner.execute("another", {"kept": [1], "gone": 2}, timeout=LIMIT)
    assert result.final_context.to_dict() == {"kept": [1], "new": [1]}


def test_tasks_of_the_block_come_before_those_of_the_registry(runner: cloaca.DefaultRunner) -> None:
    @cloaca.task(id="twice")
    def outside() -> dict[str, str]:
        return {"from": "registry"}

    with cloaca.WorkflowBuilder("block") as builder:

        @cloaca.task(id="twice")
        def inside() -> dict[str, str]:
            return {"from": "block"}

        builder.add_task("twice")
    assert runner.execute("block", timeout=LIMIT).final_context["from"] == "block"
    with cloaca.WorkflowBuilder("registry") as builder:
        builder.add_task("twice")
    assert runner.execute("registry", timeout=LIMIT).final_context["from"] == "registry"


def test_a_task_without_parentheses_and_one_of_a_callable_object(runner: cloaca.DefaultRunner) -> None:
    class Adder:
        def __call__(self, context: cloaca.Context) -> None:
            context["sum"] = context.get("sum", 0) + 1

    with cloaca.WorkflowBuilder("objects"):

        @cloaca.task
        def plain(context: cloaca.Context) -> None:
            context["sum"] = 1

        cloaca.task(id="adder", dependencies=[plain])(Adder())

    assert runner.execute("objects", timeout=LIMIT).final_context["sum"] == 2


# Workflows


def test_the_order_of_tasks_is_the_same_in_every_process(run_python: Run) -> None:
    program = """
        import cloaca
        with cloaca.WorkflowBuilder("order") as builder:
            for name in ("delta", "alpha", "echo", "charlie", "bravo"):
                cloaca.task(id=name, dependencies=["alpha"] if name in "echo bravo" else [])(lambda context: None)
        workflow = builder.build()
        print(workflow.tasks, workflow.topological_sort(), workflow.get_execution_levels(), workflow.get_roots(),
              workflow.get_leaves(), workflow.to_mermaid(), workflow.version)
    """
    shown = {run_python(program, env={"PYTHONHASHSEED": seed}).stdout for seed in ("0", "1", "2", "3")}
    assert len(shown) == 1
    (text,) = shown
    assert "['delta', 'alpha', 'charlie'], ['echo', 'bravo']" in text


def test_a_workflow_has_a_notebook_representation() -> None:
    with cloaca.WorkflowBuilder("picture") as builder:

        @cloaca.task(id='a "b" <c> & d')
        def task() -> None: ...

    bundle = builder.build()._repr_mimebundle_(include=None, exclude=None)
    assert bundle["text/vnd.mermaid"].startswith("flowchart TD")
    assert "&quot;b&quot; &lt;c&gt; &amp; d" in bundle["text/vnd.mermaid"]
    assert bundle["text/markdown"] == f"```mermaid\n{bundle['text/vnd.mermaid']}\n```"
    assert bundle["text/plain"].startswith("Workflow(name='picture'")


# Runner


def test_shutdown_is_idempotent_and_releases_the_log(tmp_path: Path) -> None:
    runner = cloaca.DefaultRunner.with_config(f"{tmp_path}/log", cloaca.DefaultRunnerConfig(durability="os"))
    assert not runner.is_shut_down
    assert repr(runner) == f"DefaultRunner('{tmp_path}/log', durability='os')"
    runner.shutdown()
    runner.shutdown()
    assert runner.is_shut_down
    assert repr(runner).endswith("durability='os', shut down)")
    cloaca.DefaultRunner(f"{tmp_path}/log").shutdown()


def test_executions_are_listed_page_by_page_by_status_and_workflow(runner: cloaca.DefaultRunner) -> None:
    simple("one")
    simple("two")
    ids = [runner.execute(name, timeout=LIMIT).execution_id for name in ("one", "two", "one", "one")]
    failed = runner.execute("two", {"fail": True}, timeout=LIMIT).execution_id
    assert [info.id for info in runner.list_executions()] == [failed, *reversed(ids)]
    assert [info.id for info in runner.list_executions("failed")] == [failed]
    assert [info.id for info in runner.list_executions(workflow="two")] == [failed, ids[1]]
    assert [info.id for info in runner.list_executions("Completed", "one", limit=2)] == [ids[3], ids[2]]
    page = runner.list_executions(limit=2)
    assert [info.id for info in runner.list_executions(limit=2, before=page[-1].id)] == [ids[2], ids[1]]
    assert [info.id for info in runner.list_executions(limit=2, before=runner.get_execution(ids[1]))] == [ids[0]]
    assert runner.list_executions(limit=0) == []
    info = runner.list_executions(limit=1)[0]
    assert (info.workflow_name, info.status, info.blocked) == ("two", "Failed", None)
    assert info.events > 3
    assert info.end_time is not None
    assert info.start_time < info.end_time
    with pytest.raises(ValueError, match="Completed"):
        runner.list_executions("Complete")
    with pytest.raises(ValueError, match="limit"):
        runner.list_executions(limit=-1)


def crashed(tmp_path: Path, run_python: Run) -> str:
    """A log with an unfinished execution of ``changing``, whose first task has completed."""
    execution = "0192aaaa-0000-7000-8000-00000000000b"
    run_python(
        f"""
        import os
        import cloaca
        with cloaca.WorkflowBuilder("changing"):
            @cloaca.task
            def first(context):
                return {{"first": 1}}
            @cloaca.task(dependencies=[first])
            def second(context):
                os._exit(9)
        cloaca.DefaultRunner("log").execute("changing", execution_id="{execution}")
        """,
        check=False,
    )
    return execution


def test_an_execution_with_a_changed_graph_is_held_until_it_is_resumed_explicitly(
    tmp_path: Path, run_python: Run
) -> None:
    execution_id = crashed(tmp_path, run_python)
    with cloaca.WorkflowBuilder("changing"):

        @cloaca.task
        def first() -> dict[str, int]:
            raise AssertionError("it has completed, and does not run again")

        @cloaca.task(dependencies=[first])
        def second(context: cloaca.Context) -> dict[str, int]:
            return {"second": context["first"] + 1}

        @cloaca.task(dependencies=[second])
        def third(context: cloaca.Context) -> dict[str, int]:
            return {"third": context["second"] + 1}

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        (execution,) = runner.recovered
        assert execution.id == execution_id
        (info,) = runner.list_executions("Blocked")
        assert "third" in (info.blocked or "")
        assert execution.status == "Blocked"
        for call in (lambda: execution.result(LIMIT), lambda: runner.execute("changing", execution_id=execution_id)):
            with pytest.raises(cloaca.Error, match=r"is blocked.*third") as caught:
                call()
            assert caught.value.execution_id == execution_id
        resumed = runner.resume(execution_id)
        assert resumed == execution
        result = resumed.result(LIMIT)
        assert result.status == "Completed"
        assert result.final_context.to_dict() == {"first": 1, "second": 2, "third": 3}
        with pytest.raises(cloaca.Error, match=r"the execution has ended \(Completed\)"):
            runner.resume(execution_id)
        assert runner.list_executions("Blocked") == []


def test_changed_code_in_the_same_graph_resumes_by_itself(tmp_path: Path, run_python: Run) -> None:
    execution_id = crashed(tmp_path, run_python)
    with cloaca.WorkflowBuilder("changing"):

        @cloaca.task
        def first() -> dict[str, int]:
            raise AssertionError("it has completed, and does not run again")

        @cloaca.task(dependencies=[first])
        def second(context: cloaca.Context) -> dict[str, int]:
            return {"second": 22}

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        result = runner.execute("changing", execution_id=execution_id, timeout=LIMIT)
        assert result.final_context.to_dict() == {"first": 1, "second": 22}
        recovered = [event for event in result.history().events if event.kind == "ExecutionRecovered"]
        assert len(recovered) == 1


def test_without_recovery_nothing_is_resumed(tmp_path: Path, run_python: Run) -> None:
    execution_id = crashed(tmp_path, run_python)
    simple("changing")
    config = cloaca.DefaultRunnerConfig(enable_recovery=False)
    with cloaca.DefaultRunner(str(tmp_path / "log"), config) as runner:
        assert "enable_recovery" in (runner.list_executions("Blocked")[0].blocked or "")
        assert runner.resume(execution_id).result(LIMIT).status == "Completed"


# Results


def test_a_failed_result_has_typed_attributes_and_the_cause(runner: cloaca.DefaultRunner) -> None:
    simple("attributes")
    result = runner.execute("attributes", {"fail": True}, timeout=LIMIT)
    assert result.error == result.error_message
    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        result.raise_for_status()
    error = caught.value
    assert (error.execution_id, error.workflow, error.task_id, error.attempt) == (
        result.execution_id,
        "attributes",
        "second",
        1,
    )
    assert isinstance(error.__cause__, ValueError)
    assert str(error.__cause__) == "as asked"
    again = pickle.loads(pickle.dumps(error))
    assert (again.task_id, again.attempt, str(again)) == (error.task_id, error.attempt, str(error))
    assert copy.copy(error).execution_id == error.execution_id


def test_a_timeout_is_a_cause(runner: cloaca.DefaultRunner) -> None:
    over = threading.Event()
    with cloaca.WorkflowBuilder("late"):

        @cloaca.task(timeout_seconds=0.05, retry_attempts=1)
        def late() -> None:
            over.wait(LIMIT)

    with pytest.raises(cloaca.WorkflowFailedError) as caught:
        runner.execute("late", timeout=LIMIT).raise_for_status()
    over.set()
    cause = caught.value.__cause__
    assert isinstance(cause, cloaca.TaskTimeoutError)
    assert isinstance(cause, TimeoutError)
    assert (cause.task_id, cause.attempt, cause.execution_id) == ("late", 1, caught.value.execution_id)


def test_a_result_has_a_repr(runner: cloaca.DefaultRunner) -> None:
    simple("shown<")
    result = runner.execute("shown<", {"fail": True}, timeout=LIMIT)
    assert repr(result).startswith("WorkflowResult(status='Failed', workflow_name='shown<', execution_id=")
    took = re.search(r"duration=(\d\.\d{2,3} s),", repr(result))
    assert took is not None
    shown = result._repr_html_()
    assert f"<b>shown&lt;</b> Failed, {took[1]}<br>" in shown
    assert "<td>second</td><td>Failed</td><td>1</td><td>ValueError: as asked</td>" in shown
    back = pickle.loads(pickle.dumps(result))
    assert (back.execution_id, back.final_context, back.tasks) == (
        result.execution_id,
        result.final_context,
        result.tasks,
    )
    assert cloaca.PipelineResult is cloaca.WorkflowResult


# Errors


def test_an_undeclared_read_names_its_key() -> None:
    raised: list[cloaca.UndeclaredReadError] = []
    with cloaca.WorkflowBuilder("strict"):

        @cloaca.task
        def writer() -> dict[str, int]:
            return {"hidden": 1}

        @cloaca.task(retry_attempts=1)
        def reader(context: cloaca.Context) -> None:
            try:
                context["hidden"]
            except cloaca.UndeclaredReadError as error:
                raised.append(error)
                raise

    config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
    with cloaca.DefaultRunner(":memory:", config) as runner:
        runner.execute("strict", timeout=LIMIT)
    assert raised[0].key == "hidden"


def test_errors_about_a_log_have_its_path(tmp_path: Path) -> None:
    simple("log")
    log = tmp_path / "log"
    with cloaca.DefaultRunner(str(log)) as runner:
        runner.execute("log", timeout=LIMIT)
        with pytest.raises(cloaca.LogLockedError) as locked:
            cloaca.DefaultRunner(str(log))
    assert locked.value.path == str(log)
    newer = tmp_path / "newer"
    shutil.copytree(log, newer)
    text = (newer / "format").read_text()
    (newer / "format").write_text(text.replace(" 1", " 99", 1))
    assert (newer / "format").read_text() != text
    with pytest.raises(cloaca.LogVersionError) as version:
        cloaca.DefaultRunner(str(newer))
    assert version.value.path == str(newer)
    for error in (locked.value, version.value):
        assert pickle.loads(pickle.dumps(error)).path == error.path


def test_damage_is_reported_with_its_location(tmp_path: Path) -> None:
    """Regression: for a first event that was altered in the file, the error was "the execution has no events"."""
    simple("log")
    log = tmp_path / "log"
    with cloaca.DefaultRunner(str(log)) as runner:
        result = runner.execute("log", {"text": "find me in the file"}, timeout=LIMIT)
    for file in log.rglob("*"):
        if file.is_file() and b"find me in the file" in file.read_bytes():
            file.write_bytes(file.read_bytes().replace(b"find me in the file", b"find it in the file"))
    with pytest.raises(cloaca.LogCorruptedError, match=r"segment 1 at byte [0-9]+: its checksum") as caught:
        cloaca.History.open(log, result.execution_id)
    assert (caught.value.execution_id, caught.value.path) == (result.execution_id, str(log))


@pytest.mark.parametrize("name", [name for name in cloaca.__all__ if name.endswith("Error")])
def test_every_error_can_be_pickled_with_all_its_attributes(name: str) -> None:
    cls: type[cloaca.Error] = getattr(cloaca, name)
    attributes: dict[str, Any] = {
        "execution_id": "e",
        "task_id": "t",
        "attempt": 2,
        "seq": 7,
        "path": "/log",
        "key": "k",
        "workflow": "w",
    }
    error = pickle.loads(pickle.dumps(cls("says", **attributes)))
    assert type(error) is cls
    assert str(error) == "says"
    assert {attribute: getattr(error, attribute) for attribute in attributes} == attributes
    assert issubclass(cls, cloaca.Error)


# The package


def test_importing_starts_nothing_and_opens_nothing(run_python: Run) -> None:
    """Counts the open files, threads and modules after an import. Its time is measured elsewhere."""
    run_python("""
        import os, sys, threading
        files = len(os.listdir("/proc/self/fd"))
        before = set(sys.modules)
        import cloaca
        assert len(os.listdir("/proc/self/fd")) == files
        assert threading.active_count() == 1
        assert os.listdir(".") == []
        new = sorted(set(sys.modules) - before)
        own = [name for name in new if name.split(".")[0] == "cloaca"]
        lazy = {"runner", "history", "events", "testing", "_worker", "_processes", "_pytest", "_progress", "rerun"}
        assert not lazy & {name.partition(".")[2] for name in own}, own
        heavy = {"asyncio", "logging", "inspect", "hashlib", "multiprocessing", "pickle", "dataclasses", "socket",
                 "subprocess", "pytest", "rich"}
        assert not heavy & set(new), heavy & set(new)
        assert len(new) < 70, new
    """)


def test_every_public_class_has_a_repr_of_its_own() -> None:
    shown = [
        cloaca.Context({"a": 1}),
        cloaca.DefaultRunnerConfig(),
        cloaca.RetryPolicy.default(),
        cloaca.RetryPolicy.builder(),
        cloaca.BackoffStrategy.fixed(),
        cloaca.RetryCondition.never(),
        cloaca.TaskNamespace("a", "b", "c", "d"),
        cloaca.WorkflowContext("a", "b", "c"),
        cloaca.WorkflowBuilder("w"),
        cloaca.TaskHandle("t"),
        cloaca.HelloClass(),
    ]
    for one in shown:
        assert type(one).__name__ in repr(one)
        assert " object at 0x" not in repr(one)


def test_lazy_names_are_found_by_dir_and_star() -> None:
    names: dict[str, Any] = {}
    exec(textwrap.dedent("from cloaca import *"), names)
    assert set(cloaca.__all__) <= set(names)
    assert set(cloaca.__all__) <= set(dir(cloaca))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cloaca.nothing  # noqa: B018
    assert sys.modules["cloaca.testing"] is cloaca.testing
