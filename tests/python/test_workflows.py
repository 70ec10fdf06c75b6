"""Building workflows in both ways; every problem of a workflow is reported at once."""

from __future__ import annotations

import threading

import cloaca
import pytest


@cloaca.task
def module_extract(context: cloaca.Context) -> None: ...


@cloaca.task(dependencies=[module_extract])
def module_load(context: cloaca.Context) -> None: ...


def test_tasks_of_the_module_are_added_by_id_or_function() -> None:
    builder = cloaca.WorkflowBuilder("by_id")
    workflow = builder.add_task("module_extract").add_task(module_load).build()
    assert workflow.tasks == ["module_extract", "module_load"]


def test_setters_can_be_chained() -> None:
    builder = cloaca.WorkflowBuilder("chained").description("what it does").tag("team", "data").add_task(module_extract)
    workflow = builder.build()
    assert (workflow.name, workflow.description, workflow.tags) == ("chained", "what it does", {"team": "data"})


def diamond() -> cloaca.Workflow:
    with cloaca.WorkflowBuilder("diamond") as builder:

        @cloaca.task
        def top() -> None: ...

        @cloaca.task(dependencies=["top"])
        def left() -> None: ...

        @cloaca.task(dependencies=["top"])
        def right() -> None: ...

        @cloaca.task(dependencies=["right", "left"])
        def bottom() -> None: ...

    return builder.build()


def test_a_workflow_knows_its_graph() -> None:
    workflow = diamond()
    assert workflow.tasks == ["top", "left", "right", "bottom"]
    assert workflow.topological_sort() == ["top", "left", "right", "bottom"]
    assert workflow.get_execution_levels() == [["top"], ["left", "right"], ["bottom"]]
    assert workflow.get_roots() == ["top"]
    assert workflow.get_leaves() == ["bottom"]
    assert workflow.can_run_parallel("left", "right")
    assert not workflow.can_run_parallel("top", "bottom")
    with pytest.raises(KeyError, match="no task 'middle'"):
        workflow.can_run_parallel("top", "middle")
    workflow.validate()
    assert repr(workflow).startswith("Workflow(name='diamond', version='")


def test_a_workflow_can_be_drawn() -> None:
    assert diamond().to_mermaid().splitlines() == [
        "flowchart TD",
        '    t0["top"]',
        '    t1["left"]',
        '    t2["right"]',
        '    t3["bottom"]',
        "    t0 --> t1",
        "    t0 --> t2",
        "    t2 --> t3",
        "    t1 --> t3",
    ]


def test_an_empty_workflow_is_refused() -> None:
    with pytest.raises(cloaca.WorkflowValidationError, match="cannot be empty"):
        cloaca.WorkflowBuilder("nothing").build()
    with pytest.raises(ValueError, match="workflow name cannot be empty; workflow cannot be empty"):
        cloaca.WorkflowBuilder("").build()


def test_an_unknown_task_is_refused_with_the_nearest_name() -> None:
    builder = cloaca.WorkflowBuilder("unknown")
    with pytest.raises(
        cloaca.WorkflowValidationError,
        match="Task 'module_extrat' not found in registry; did you mean 'module_extract'\\?",
    ) as caught:
        builder.add_task("module_extrat")
    assert caught.value.task_id == "module_extrat"
    with pytest.raises(TypeError, match="a string task ID or a function object"):
        builder.add_task(123)  # type: ignore[arg-type]


def test_a_task_is_added_once() -> None:
    builder = cloaca.WorkflowBuilder("twice").add_task(module_extract)
    with pytest.raises(cloaca.WorkflowValidationError, match="Duplicate task: module_extract"):
        builder.add_task("module_extract")


def test_a_task_of_the_block_may_be_added_by_name_too() -> None:
    with cloaca.WorkflowBuilder("by_name_too") as builder:

        @cloaca.task
        def here() -> None: ...

        builder.add_task("here").add_task(module_extract)
        assert builder.build().tasks == ["here", "module_extract"]


def test_a_missing_dependency_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(cloaca.WorkflowValidationError) as caught, cloaca.WorkflowBuilder("missing"):

        @cloaca.task
        def extract() -> None: ...

        @cloaca.task(dependencies=["extrct"])
        def load() -> None: ...

    message = str(caught.value)
    assert "Missing dependency: task 'load' depends on 'extrct'" in message
    assert "did you mean 'extract'?" in message


def test_a_cycle_is_refused_as_a_path() -> None:
    with (
        pytest.raises(cloaca.WorkflowValidationError, match="Circular dependency detected: a -> b -> a"),
        cloaca.WorkflowBuilder("cycle"),
    ):

        @cloaca.task(dependencies=["b"])
        def a() -> None: ...

        @cloaca.task(dependencies=["a"])
        def b() -> None: ...


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(ValueError) as caught, cloaca.WorkflowBuilder("problems"):

        @cloaca.task(dependencies=["x"])
        def a() -> None: ...

        @cloaca.task(trigger_rules=cloaca.task_failed("y"))
        def b() -> None: ...

    assert "'a' depends on 'x'" in str(caught.value)
    assert "'b' depends on 'y'" in str(caught.value)


def test_an_exception_in_the_block_passes_through_and_nothing_is_registered(runner: cloaca.DefaultRunner) -> None:
    with pytest.raises(ZeroDivisionError), cloaca.WorkflowBuilder("interrupted"):

        @cloaca.task
        def a() -> None: ...

        raise ZeroDivisionError

    with pytest.raises(cloaca.WorkflowNotFoundError):
        runner.execute("interrupted")

    @cloaca.task
    def after_the_block() -> None: ...

    assert cloaca.WorkflowBuilder("after").add_task("after_the_block").build()


def test_tasks_of_one_id_in_two_workflows_stay_apart(runner: cloaca.DefaultRunner) -> None:
    def define(name: str) -> None:
        with cloaca.WorkflowBuilder(name):

            @cloaca.task
            def same(context: cloaca.Context) -> dict[str, str]:
                return {"name": name}

    define("apart_one")
    define("apart_two")
    assert runner.execute("apart_one").final_context["name"] == "apart_one"
    assert runner.execute("apart_two").final_context["name"] == "apart_two"


def test_decorating_an_id_again_at_module_level_replaces_the_task() -> None:
    for dependencies in (["never defined"], ["other_again"]):

        @cloaca.task(id="it_again", dependencies=dependencies)
        def it() -> None: ...

    @cloaca.task(id="other_again")
    def other() -> None: ...

    builder = cloaca.WorkflowBuilder("again").add_task("it_again").add_task("other_again")
    assert builder.build().get_execution_levels() == [["other_again"], ["it_again"]]


def test_a_block_collects_the_tasks_of_its_own_thread_only() -> None:
    def elsewhere() -> None:
        @cloaca.task
        def of_another_thread() -> None: ...

    with cloaca.WorkflowBuilder("own_thread") as builder:

        @cloaca.task
        def own() -> None: ...

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    assert builder.build().tasks == ["own"]
    assert cloaca.WorkflowBuilder("other_thread").add_task("of_another_thread").build()


def test_a_constructor_is_called_once_and_at_once(runner: cloaca.DefaultRunner) -> None:
    calls = []

    def construct() -> cloaca.Workflow:
        calls.append(1)
        return cloaca.WorkflowBuilder("constructed").add_task(module_extract).build()

    cloaca.register_workflow_constructor("constructed", construct)
    assert calls == [1]
    assert runner.execute("constructed").status == "Completed"
    assert runner.execute("constructed").status == "Completed"
    assert calls == [1]


def test_a_constructor_registers_under_the_given_name(runner: cloaca.DefaultRunner) -> None:
    cloaca.register_workflow_constructor("given", cloaca.WorkflowBuilder("own").add_task(module_extract).build)
    assert runner.execute("given").workflow_name == "given"


def test_a_constructor_that_fails_is_a_value_error_with_the_cause() -> None:
    def fail() -> cloaca.Workflow:
        raise KeyError("no such thing")

    with pytest.raises(ValueError, match="constructor of workflow 'w' raised KeyError: 'no such thing'") as caught:
        cloaca.register_workflow_constructor("w", fail)
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(ValueError, match="returned NoneType, not a Workflow"):
        cloaca.register_workflow_constructor("w", lambda: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="must be a function"):
        cloaca.register_workflow_constructor("w", 5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tree", "shown"),
    [
        ({"type": "Always"}, "always()"),
        ({"type": "TaskSuccess", "task_name": "a"}, "task_success('a')"),
        (
            {"type": "ContextValue", "key": "n", "operator": "greater_than", "value": 5},
            "context_value('n', 'GreaterThan', 5)",
        ),
        ({"type": "ContextValue", "key": "n", "operator": "Exists"}, "context_value('n', 'Exists')"),
        (
            {"type": "All", "conditions": [{"type": "Any", "conditions": []}, cloaca.task_skipped("b")]},
            "all_of(any_of(), task_skipped('b'))",
        ),
        (cloaca.none_of({"type": "TaskFailed", "task_name": "c"}), "none_of(task_failed('c'))"),
    ],
)
def test_conditions_are_built_by_functions_or_plain_dicts(tree: cloaca.Condition, shown: str) -> None:
    assert repr(cloaca.all_of(tree)) == f"all_of({shown})"
    assert cloaca.all_of(tree) == cloaca.all_of(tree)


@pytest.mark.parametrize(
    ("spellings", "shown"),
    [
        ("Equals equals EQUALS == eq", "Equals"),
        ("NotEquals not_equals notequals != ne", "NotEquals"),
        ("GreaterThan greater_than > gt", "GreaterThan"),
        ("LessThan less_than < lt", "LessThan"),
        ("Contains contains", "Contains"),
        ("NotContains not_contains NOT_CONTAINS", "NotContains"),
        ("Exists exists", "Exists"),
        ("NotExists not_exists", "NotExists"),
    ],
)
def test_operators_have_many_spellings(spellings: str, shown: str) -> None:
    for operator in spellings.split():
        assert f"'{shown}'" in repr(cloaca.context_value("key", operator, 1))


def test_a_wrong_condition_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown operator '~'; the operators are Equals"):
        cloaca.context_value("n", "~", 1)
    with pytest.raises(TypeError, match="the value for context key 'n': set is not a JSON value"):
        cloaca.context_value("n", "==", set())
    with pytest.raises(ValueError, match="unknown condition type 'Or'"):
        cloaca.all_of({"type": "Or"})
    with pytest.raises(ValueError, match="a TaskSuccess needs the entry 'task_name'"):
        cloaca.all_of({"type": "TaskSuccess"})


def test_a_short_name_with_two_swapped_letters_gets_a_hint() -> None:
    """Regression: "elt" for "etl" got no hint: with three letters, the similarity measure compared each only with the
    one in the same place."""
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task
        def extract() -> None: ...

    with cloaca.DefaultRunner(":memory:") as runner:
        with pytest.raises(cloaca.WorkflowNotFoundError, match=r"did you mean 'etl'\?"):
            runner.execute("elt")
        with pytest.raises(cloaca.WorkflowNotFoundError) as caught:
            runner.execute("xyz")
        assert "did you mean" not in str(caught.value)
