"""Declared inputs of a workflow, which are checked before anything is written.

Other engines read a declaration of parameters at compile time and ignore it at run time: a misspelt key goes through
all tasks, and the report covers everything.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from typing import Annotated, Any, Literal

import cloaca
import pydantic
import pytest
from cloaca.testing import Runner, VirtualClock


def declare(*model: Any, name: str = "import_day", **params: Any) -> cloaca.Workflow:
    """Builds a workflow with that input; its task copies what it sees into ``seen``."""
    with cloaca.WorkflowBuilder(name) as builder:
        cloaca.workflow_params(*model, **params)

        @cloaca.task(retry_attempts=1)
        def load(context: cloaca.Context) -> None:
            context["seen"] = {key: context[key] for key in context if not key.startswith("schedule")}

    return builder.build()


def seen(runner: cloaca.DefaultRunner, given: dict[str, Any]) -> Any:
    result = runner.execute("import_day", given)
    assert result.status == "Completed", result.error
    return result.final_context["seen"]


def refusal(runner: cloaca.DefaultRunner, given: dict[str, Any]) -> str:
    """Returns why an input is refused; checks that nothing is in the log then."""
    with pytest.raises(cloaca.WorkflowInputError) as caught:
        runner.execute("import_day", given)
    assert runner.list_executions() == []
    return str(caught.value).removeprefix("the input of workflow 'import_day' is not valid: ")


def test_defaults_are_part_of_the_input(runner: cloaca.DefaultRunner) -> None:
    declare(day=str, limit=(int, 100), tags=(list, []))
    assert seen(runner, {"day": "2026-01-31"}) == {"day": "2026-01-31", "limit": 100, "tags": []}
    assert seen(runner, {"day": "2026-01-31", "limit": 5}) == {"day": "2026-01-31", "limit": 5, "tags": []}
    history = runner.execute("import_day", {"day": "d"}).history()
    [step] = history.why("limit")
    assert (step.value, step.task) == (100, None)


def test_every_problem_is_named_at_once(runner: cloaca.DefaultRunner) -> None:
    declare(day=str, limit=(int, 100), mode=(Literal["full", "part"], "full"))
    assert refusal(runner, {"dya": "2026-01-31", "limit": "5", "mode": "ful"}) == (
        "'dya' is unknown, did you mean 'day'?; 'day' (str) is missing; 'limit' must be int, not str ('5'); "
        "'mode' must be Literal['full', 'part'], not str ('ful')"
    )
    with pytest.raises(ValueError, match="import_day") as caught:
        runner.submit("import_day")
    assert isinstance(caught.value, cloaca.WorkflowInputError)
    assert caught.value.workflow == "import_day"


@dataclasses.dataclass
class Place:
    city: str
    zip: int | None = None


RIGHT: list[tuple[Any, list[Any]]] = [
    (str, ["", "a"]),
    (int, [0, -1, 10**30]),
    (float, [0.5, 3]),
    (bool, [True]),
    (list, [[], [1, "a"]]),
    (dict, [{}, {"a": 1}]),
    (Any, [None, 1, []]),
    (None, [None]),
    (int | None, [None, 1]),
    (list[int], [[], [1, 2]]),
    (tuple[int, str], [[1, "a"]]),
    (tuple[int, ...], [[], [1, 2]]),
    (dict[str, list[float]], [{}, {"a": [1, 2.5]}]),
    (Literal["a", 1], ["a", 1]),
    (Annotated[int, "of something"], [1]),
    (Place, [{"city": "Bonn"}, {"city": "Bonn", "zip": 53111}]),
    (list[Place], [[{"city": "Bonn"}]]),
]
WRONG: list[tuple[Any, Any, str]] = [
    (str, 1, "'x' must be str, not int (1)"),
    (int, True, "'x' must be int, not bool (True)"),
    (int, 1.0, "'x' must be int, not float (1.0)"),
    (float, False, "'x' must be float, not bool (False)"),
    (bool, 1, "'x' must be bool, not int (1)"),
    (int, None, "'x' must be int, not NoneType (None)"),
    (int | None, "1", "'x' must be int | None, not str ('1')"),
    (list[int], [1, "2"], "'x[1]' must be int, not str ('2')"),
    (tuple[int, str], [1], "'x' must be tuple[int, str], not list ([1])"),
    (dict[str, list[float]], {"a": ["b"]}, "'x['a'][0]' must be float, not str ('b')"),
    (Literal["a", 1], True, "'x' must be Literal['a', 1], not bool (True)"),
    (Place, {"city": "Bonn", "zip": "53111"}, "'x.zip' must be int | None, not str ('53111')"),
    (Place, {"zip": 1}, "'x' misses the entry 'city' (str)"),
    (Place, {"city": "Bonn", "street": 1}, "'x' has the unknown entry 'street'"),
    (Place, "Bonn", "'x' must be Place, not str ('Bonn')"),
]


@pytest.mark.parametrize(("annotation", "values"), RIGHT, ids=str)
def test_a_value_of_the_declared_type_is_accepted(
    runner: cloaca.DefaultRunner, annotation: Any, values: list[Any]
) -> None:
    declare(x=annotation)
    for value in values:
        assert seen(runner, {"x": value}) == {"x": value}


@pytest.mark.parametrize(("annotation", "value", "says"), WRONG, ids=str)
def test_a_value_of_another_type_is_refused(
    runner: cloaca.DefaultRunner, annotation: Any, value: Any, says: str
) -> None:
    declare(x=annotation)
    assert refusal(runner, {"x": value}) == says


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"x": (int, "1")}, "the default of parameter 'x' must be int, not str"),
        ({"x": (list, {1})}, "set is not a JSON value"),
        ({"x": bytes}, "parameter 'x': bytes is not a type of JSON values"),
        ({"x": list[bytes]}, "bytes is not a type of JSON values"),
        ({"x": dict[int, str]}, "is not a type of JSON values"),
        ({"x": 5}, "5 is not a type of JSON values"),
        ({"x": (int, 1, 2)}, r"a type and a default: x=\(int, 100\)"),
    ],
)
def test_an_invalid_declaration_is_refused(params: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=says), cloaca.WorkflowBuilder("nothing"):
        cloaca.workflow_params(**params)


def test_a_dataclass_declares_its_fields(runner: cloaca.DefaultRunner) -> None:
    @dataclasses.dataclass
    class Day:
        day: str
        place: Place = dataclasses.field(default_factory=lambda: Place("Bonn"))
        limit: int = 100

        def __post_init__(self) -> None:
            if self.limit < 1:
                raise ValueError("limit must be positive")

    workflow = declare(Day)
    assert list(workflow.params) == ["day", "place", "limit"]
    assert seen(runner, {"day": "d"}) == {"day": "d", "place": {"city": "Bonn", "zip": None}, "limit": 100}
    with pytest.raises(cloaca.WorkflowInputError, match="Day rejects it: limit must be positive"):
        runner.execute("import_day", {"day": "d", "limit": 0})
    with pytest.raises(cloaca.WorkflowInputError, match="'lmit' is unknown, did you mean 'limit'"):
        runner.execute("import_day", {"day": "d", "lmit": 1})


def test_a_pydantic_model_declares_its_fields(runner: cloaca.DefaultRunner) -> None:
    class Day(pydantic.BaseModel):
        day: str
        limit: int = pydantic.Field(100, ge=1)
        source: str = pydantic.Field("s3", alias="from")

    workflow = declare(Day)
    assert workflow.params["from"] == ("str", False, "s3")
    assert seen(runner, {"day": "d", "from": "ftp"}) == {"day": "d", "limit": 100, "from": "ftp"}
    assert seen(runner, {"day": "d", "limit": "5"})["limit"] == 5
    with pytest.raises(cloaca.WorkflowInputError) as caught:
        runner.execute("import_day", {"dya": "d", "limit": 0})
    for part in ("'dya' is unknown, did you mean 'day'?", "'day' (str) is missing", "'limit': Input should be greater"):
        assert part in str(caught.value)


def test_the_decorator_of_one_task_declares_for_its_workflow(runner: cloaca.DefaultRunner) -> None:
    """Cloacina's form: the decorator is on any task of the module."""

    @cloaca.workflow_params(day=str, limit=(int, 100))
    @cloaca.task(id="load_decorated")
    def load(context: cloaca.Context) -> None: ...

    def build() -> cloaca.Workflow:
        return cloaca.WorkflowBuilder("other name").add_task("load_decorated").build()

    cloaca.register_workflow_constructor("import_day", build)
    assert refusal(runner, {}) == "'day' (str) is missing"
    assert runner.execute("import_day", {"day": "d"}).final_context.to_dict() == {"day": "d", "limit": 100}


def test_several_declarations_add_up_and_duplicates_are_refused() -> None:
    with cloaca.WorkflowBuilder("several") as builder:
        cloaca.workflow_params(day=str)
        cloaca.workflow_params(limit=(int, 100))
        cloaca.workflow_params(day=str)

        @cloaca.task
        def load() -> None: ...

    assert list(builder.build().params) == ["day", "limit"]
    with pytest.raises(cloaca.WorkflowValidationError, match="declares 'day' a second time"), builder:
        cloaca.workflow_params(day=int)


def test_a_declaration_without_effect_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    cloaca.workflow_params(day=str)
    assert "workflow_params(day) has no effect" in caplog.text


def test_a_workflow_without_a_declaration_takes_every_input(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("import_day") as builder:

        @cloaca.task
        def load() -> None: ...

    assert builder.build().params == {}
    assert runner.execute("import_day", {"anything": 1}).final_context.to_dict() == {"anything": 1}


def test_attaching_to_an_execution_needs_no_input(runner: cloaca.DefaultRunner) -> None:
    declare(day=str)
    execution_id = runner.execute("import_day", {"day": "d"}).execution_id
    assert runner.execute("import_day", execution_id=execution_id).status == "Completed"
    with pytest.raises(cloaca.WorkflowInputError):
        runner.execute("import_day", execution_id="00000000-0000-7000-8000-000000000000")


# Schedules and triggers


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(1_769_850_000.0)


def only_result(runner: Runner) -> cloaca.WorkflowResult:
    [info] = runner.list_executions()
    return runner.get_execution(info.id).result()


def test_a_schedule_has_the_input_of_its_workflow(clock: VirtualClock) -> None:
    declare(day=str, limit=(int, 100), scheduled_time=str)
    with Runner(":memory:", clock=clock) as runner:
        wrong = "Failed to register cron workflow: the input of workflow 'import_day' is not valid: 'day' .*missing"
        with pytest.raises(ValueError, match=wrong):
            runner.register_cron_workflow("import_day", "@daily", "UTC")
        assert runner.list_cron_schedules() == []
        runner.register_cron_workflow("import_day", "@daily", "UTC", context={"day": "d"})
        clock.advance(24 * 3600)
        result = only_result(runner)
        assert result.status == "Completed"
        assert (result.final_context["seen"]["day"], result.final_context["seen"]["limit"]) == ("d", 100)


@pytest.mark.parametrize(
    ("context", "says"),
    [({}, "'day' (str) is missing"), ({"day": "d"}, "older than the declaration of 'limit'")],
)
def test_a_schedule_that_is_older_than_the_declaration_runs_no_task(
    clock: VirtualClock, context: dict[str, str], says: str
) -> None:
    with Runner(":memory:", clock=clock) as runner:
        runner.register_cron_workflow("import_day", "@daily", "UTC", context=context)
        declare(day=str, limit=(int, 100))
        clock.advance(24 * 3600)
        result = only_result(runner)
        assert (result.status, result.tasks["load"].attempts) == ("Failed", 1)
        assert says in str(result.error)


def test_a_trigger_fires_with_the_input_of_its_workflow(clock: VirtualClock, caplog: pytest.LogCaptureFixture) -> None:
    declare(day=str, limit=(int, 100))
    answers: list[dict[str, Any]] = [{"day": 1}, {"day": "d"}]

    @cloaca.trigger(on="import_day", poll_interval="1s")
    def inbox() -> cloaca.TriggerResult:
        return cloaca.TriggerResult.fire(answers.pop(0)) if answers else cloaca.TriggerResult.skip()

    with caplog.at_level(logging.WARNING), Runner(":memory:", clock=clock) as runner:
        clock.advance(5)
        assert only_result(runner).final_context["seen"] == {"day": "d", "limit": 100}
    assert re.search(r"inbox.*'day' must be str, not int \(1\)", caplog.text, re.DOTALL)
