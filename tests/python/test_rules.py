"""Trigger rules, from the decorator to the result of skipped tasks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cloaca
import pytest

Tree = cloaca.Condition | Mapping[str, Any]


def states(runner: cloaca.DefaultRunner, ends: Mapping[str, str], **rule: Any) -> cloaca.TaskResult:
    """Returns the result of a task whose dependencies end like this: `ok`, `fails` or `skips`."""
    with cloaca.WorkflowBuilder("rule"):
        for task_id, end in ends.items():
            condition = {"trigger_rules": cloaca.context_value("no such key", "exists")} if end == "skips" else {}

            @cloaca.task(id=task_id, retry_attempts=1, **condition)  # type: ignore[arg-type]
            def dependency(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
                context[handle.task_id] = True
                assert ends[handle.task_id] == "ok"

        @cloaca.task(id="ruled", dependencies=list(ends), **rule)
        def ruled(context: cloaca.Context) -> None: ...

    return runner.execute("rule", {"n": 5, "tags": ["a"]}).tasks["ruled"]


OK, FAILS, SKIPS = {"a": "ok", "b": "ok"}, {"a": "ok", "b": "fails"}, {"a": "ok", "b": "skips"}
ALL_FAIL = {"a": "fails", "b": "fails"}


@pytest.mark.parametrize(
    ("rule", "runs"),
    [
        ("none_failed", [OK, SKIPS]),
        ("all_success", [OK]),
        ("all_done", [OK, FAILS, SKIPS, ALL_FAIL]),
        ("all_failed", [ALL_FAIL]),
        ("one_success", [OK, FAILS, SKIPS]),
        ("one_failed", [FAILS, ALL_FAIL]),
        ("always", [OK, FAILS, SKIPS, ALL_FAIL]),
    ],
)
def test_named_rules(runner: cloaca.DefaultRunner, rule: str, runs: list[dict[str, str]]) -> None:
    for ends in (OK, FAILS, SKIPS, ALL_FAIL):
        task = states(runner, ends, trigger_rule=rule)
        if ends in runs:
            assert (task.state, task.error) == ("Completed", None), ends
        else:
            assert (task.state, task.attempts) == ("Skipped", 0), ends
            assert task.error, ends


def test_the_default_is_none_failed(runner: cloaca.DefaultRunner) -> None:
    for ends in (OK, FAILS, SKIPS, ALL_FAIL):
        assert states(runner, ends)[:3] == states(runner, ends, trigger_rule="none_failed")[:3]


@pytest.mark.parametrize(
    ("tree", "runs"),
    [
        (cloaca.always(), True),
        (cloaca.task_success("a"), True),
        (cloaca.task_failed("a"), False),
        (cloaca.task_failed("b"), True),
        (cloaca.task_skipped("b"), False),
        (cloaca.all_of(cloaca.task_success("a"), cloaca.task_failed("b")), True),
        (cloaca.all_of(cloaca.task_success("a"), cloaca.task_success("b")), False),
        (cloaca.any_of(cloaca.task_success("b"), cloaca.context_value("n", ">", 4)), True),
        (cloaca.any_of(cloaca.task_success("b"), cloaca.context_value("n", ">", 5)), False),
        (cloaca.none_of(cloaca.task_skipped("a"), cloaca.task_skipped("b")), True),
        (cloaca.none_of(cloaca.task_failed("b")), False),
        (cloaca.context_value("tags", "contains", "a"), True),
        (cloaca.context_value("tags", "not_contains", "a"), False),
        (cloaca.context_value("a", "exists"), True),
        (cloaca.context_value("b", "exists"), False),
        (cloaca.context_value("b", "NotExists"), True),
        (cloaca.all_of(cloaca.any_of(cloaca.none_of(cloaca.task_failed("a")))), True),
        ({"type": "Always"}, True),
        ({"type": "TaskSuccess", "task_name": "b"}, False),
        (
            {
                "type": "All",
                "conditions": [
                    {"type": "TaskFailed", "task_name": "b"},
                    {"type": "ContextValue", "key": "n", "operator": "LessThan", "value": 6},
                    {"type": "None", "conditions": [{"type": "TaskSkipped", "task_name": "a"}]},
                ],
            },
            True,
        ),
    ],
    ids=str,
)
def test_a_condition_tree(runner: cloaca.DefaultRunner, tree: Tree, runs: bool) -> None:
    task = states(runner, FAILS, trigger_rules=tree)
    assert task.state == ("Completed" if runs else "Skipped")
    assert (task.error is None) == runs


def test_a_skip_says_why(runner: cloaca.DefaultRunner) -> None:
    assert "b" in (states(runner, FAILS).error or "")
    assert "a" in (states(runner, FAILS, trigger_rules=cloaca.task_failed("a")).error or "")
    assert "n" in (states(runner, OK, trigger_rules=cloaca.context_value("n", ">", 9)).error or "")


def test_a_tree_that_names_no_task_is_refused() -> None:
    with (
        pytest.raises(cloaca.WorkflowValidationError, match="laod"),
        cloaca.WorkflowBuilder("names_no_task"),
    ):

        @cloaca.task
        def load() -> None: ...

        @cloaca.task(dependencies=[load], trigger_rules=cloaca.all_of(cloaca.task_success("laod")))
        def ruled() -> None: ...


def test_an_unhandled_failure_fails_the_execution_in_every_view(
    tmp_path: Path,
) -> None:
    """Regression: the handler runs only if all dependencies failed, and one of two was fine, but the execution was
    reported as completed."""
    with cloaca.WorkflowBuilder("bills"):

        @cloaca.task(retry_attempts=1)
        def billing() -> None:
            raise ConnectionError("billing is down")

        @cloaca.task
        def mailing() -> None: ...

        @cloaca.task(dependencies=[billing, mailing], trigger_rule="all_failed")
        def handler() -> None: ...

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        result = runner.execute("bills")
        skipped = result.history().tasks["handler"].skipped
    assert result.status == "Failed"
    assert result.error_message == "task 'billing' failed, attempt 1 of 1: ConnectionError: billing is down"
    assert result.tasks["handler"].error == (
        "skipped by failure: rule all_failed (mailing: Completed, billing: Failed)"
    )
    assert skipped is not None
    assert skipped["failure"]
    for view in ([], ["explain", "handler"], ["--full"]):
        command = [Path(sys.executable).with_name("replay"), "--log", tmp_path / "log", result.execution_id, *view]
        shown = " ".join(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
        assert "by failure" in shown, shown
        assert "billing failed, mailing completed; all_failed does not hold" in shown, shown
