"""`submit_many` starts many executions with one write: all of them, or none. Each is then an ordinary execution."""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path
from typing import Any

import cloaca
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import LIMIT


def define(name: str = "doubles") -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(retry_attempts=1)
        def double(context: cloaca.Context) -> None:
            context["double"] = 2 * context["number"]

        @cloaca.task(dependencies=[double])
        def tell(context: cloaca.Context) -> None:
            context["summary"] = f"{context['number']} -> {context['double']}"


def test_each_input_has_an_execution_in_order(runner: cloaca.DefaultRunner) -> None:
    define()
    executions = runner.submit_many("doubles", [{"number": number} for number in range(500)])
    assert [execution.result(LIMIT).final_context["summary"] for execution in executions] == [
        f"{number} -> {2 * number}" for number in range(500)
    ]
    assert [execution.id for execution in executions] == sorted({execution.id for execution in executions})
    assert {info.id for info in runner.list_executions("Completed", limit=1000)} == {one.id for one in executions}


def test_all_of_them_are_in_the_log_when_it_returns(tmp_path: Path) -> None:
    gate = threading.Event()
    with cloaca.WorkflowBuilder("gated"):

        @cloaca.task
        def wait(context: cloaca.Context) -> None:
            gate.wait(LIMIT)

    with cloaca.testing.Runner(str(tmp_path / "log")) as runner:
        executions = runner.submit_many("gated", [{"number": number} for number in range(300)])
        listed = runner.list_executions(limit=1000)
        assert {info.id for info in listed} == {execution.id for execution in executions}
        runner.restart()
        gate.set()
        assert len(runner.recovered) == 300
        inputs = [execution.result(LIMIT).final_context["number"] for execution in executions]
        assert inputs == list(range(300))


def test_inputs_come_from_any_iterable(runner: cloaca.DefaultRunner) -> None:
    define()
    inputs: list[Any] = [{"number": 1}, cloaca.Context({"number": 2})]
    executions = runner.submit_many("doubles", iter(inputs))
    assert [execution.result(LIMIT).final_context["double"] for execution in executions] == [2, 4]
    assert runner.submit_many("doubles", []) == []


@pytest.mark.parametrize(
    ("inputs", "error", "message"),
    [
        ([{"number": 1}, {"number": {1, 2}}], TypeError, r"^inputs\[1\]: .*set is not a JSON value"),
        ([{"number": 1}, {"number": 2}, 3], TypeError, r"^inputs\[2\]: "),
        ([{"number": "x" * 2000}], cloaca.errors.ContextError, r"^inputs\[0\]: context key 'number'"),
        ({"number": 1}, TypeError, "a list with one input for each execution, not dict"),
        ("number", TypeError, "not str"),
        (7, TypeError, "not int"),
    ],
)
def test_with_one_bad_input_nothing_starts(inputs: Any, error: type[Exception], message: str) -> None:
    define()
    with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1000)) as runner:
        with pytest.raises(error, match=message):
            runner.submit_many("doubles", inputs)
        assert runner.list_executions() == []


def test_an_input_that_violates_the_declaration_starts_nothing(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("declared"):
        cloaca.workflow_params(day=str, limit=(int, 100))

        @cloaca.task
        def load(context: cloaca.Context) -> None: ...

    with pytest.raises(cloaca.WorkflowInputError, match=r"^inputs\[1\]: the input of workflow 'declared'.*'dya'"):
        runner.submit_many("declared", [{"day": "monday"}, {"dya": "tuesday"}])
    assert runner.list_executions() == []
    [execution] = runner.submit_many("declared", [{"day": "monday"}])
    assert execution.result(LIMIT).final_context.to_dict() == {"day": "monday", "limit": 100}


def test_an_unknown_workflow_starts_nothing(runner: cloaca.DefaultRunner) -> None:
    define()
    with pytest.raises(cloaca.WorkflowNotFoundError, match="did you mean 'doubles'"):
        runner.submit_many("double", [{}, {}])


def test_a_script_that_runs_again_starts_only_missing_executions(runner: cloaca.DefaultRunner) -> None:
    define()
    ids = [str(uuid.uuid5(uuid.NAMESPACE_URL, f"number {number}")) for number in range(4)]
    before = runner.submit("doubles", {"number": 0}, execution_id=ids[0])
    before.result(LIMIT)
    executions = runner.submit_many("doubles", [{"number": 10 + at} for at in range(4)], execution_ids=ids)
    assert [execution.id for execution in executions] == ids
    assert [execution.result(LIMIT).final_context["number"] for execution in executions] == [0, 11, 12, 13]
    again = runner.submit_many("doubles", [{"number": 20 + at} for at in range(4)], execution_ids=ids)
    assert [execution.result(LIMIT).final_context["number"] for execution in again] == [0, 11, 12, 13]
    assert len(runner.list_executions()) == 4


def test_a_repeated_id_is_one_execution(runner: cloaca.DefaultRunner) -> None:
    define()
    one = str(uuid.uuid4())
    executions = runner.submit_many(
        "doubles", [{"number": 1}, {"number": 2}, {"number": 3}], execution_ids=[one, None, one]
    )
    assert executions[0] == executions[2] != executions[1]
    assert [execution.result(LIMIT).final_context["number"] for execution in executions] == [1, 2, 1]


def test_ids_must_match_the_inputs(runner: cloaca.DefaultRunner) -> None:
    define()
    define("others")
    taken = runner.submit("others", {"number": 1})
    with pytest.raises(ValueError, match="2 inputs but 1 execution_ids"):
        runner.submit_many("doubles", [{}, {}], execution_ids=[None])
    with pytest.raises(ValueError, match="'here' is not an execution id"):
        runner.submit_many("doubles", [{}, {}], execution_ids=[None, "here"])
    with pytest.raises(cloaca.Error, match=f"execution {taken.id} belongs to workflow 'others'"):
        runner.submit_many("doubles", [{"number": 1}, {"number": 2}], execution_ids=[None, taken.id])
    assert [info.id for info in runner.list_executions()] == [taken.id]


def test_each_is_paused_cancelled_and_awaited_like_any_other(runner: cloaca.DefaultRunner) -> None:
    gate = threading.Event()
    with cloaca.WorkflowBuilder("gated"):

        @cloaca.task
        def wait(context: cloaca.Context) -> None:
            gate.wait(LIMIT)

        @cloaca.task(dependencies=[wait])
        def go_on(context: cloaca.Context) -> None:
            context["gone"] = True

    executions = runner.submit_many("gated", [{} for _ in range(20)])
    executions[3].cancel("not needed")
    executions[4].pause()
    gate.set()
    assert executions[3].result(LIMIT).status == "Cancelled"
    others = [execution for at, execution in enumerate(executions) if at not in (3, 4)]
    assert {execution.result(LIMIT).status for execution in others} == {"Completed"}
    assert executions[4].status == "Paused"
    executions[4].resume()

    async def wait_for(execution: cloaca.Execution) -> bool:
        return bool((await execution).final_context["gone"])

    assert asyncio.run(wait_for(executions[4]))


def test_after_shutdown_nothing_starts() -> None:
    define()
    runner = cloaca.DefaultRunner(":memory:")
    runner.shutdown()
    with pytest.raises(cloaca.errors.OperationError, match="shut down"):
        runner.submit_many("doubles", [{"number": 1}])


def test_a_task_can_submit_many(runner: cloaca.DefaultRunner) -> None:
    define()
    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        def start(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            executions = runner.submit_many("doubles", [{"number": number} for number in range(10)])
            handle.defer_until(lambda: all(execution.done for execution in executions), poll_interval_ms=5)
            context["sum"] = sum(execution.result().final_context["double"] for execution in executions)

    assert runner.execute("parent", timeout=LIMIT).final_context["sum"] == 90


NUMBERS = st.lists(st.one_of(st.integers(), st.text(max_size=5), st.none()), max_size=20)


@given(NUMBERS)
def test_it_is_equivalent_to_single_submits(numbers: list[Any]) -> None:
    define()
    with cloaca.DefaultRunner(":memory:") as runner:
        inputs = [{"number": number} for number in numbers]
        together = [one.result(LIMIT) for one in runner.submit_many("doubles", inputs)]
        alone = [runner.submit("doubles", one).result(LIMIT) for one in inputs]
    assert [seen(result) for result in together] == [seen(result) for result in alone]


def seen(result: cloaca.WorkflowResult) -> tuple[object, ...]:
    tasks = {name: (task.state, task.attempts, task.error) for name, task in result.tasks.items()}
    return result.status, result.error_message, result.final_context.to_dict(), tasks
