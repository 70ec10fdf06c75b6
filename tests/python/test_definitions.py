"""Definitions: which task a function refers to, in which order and workflow. Ambiguous references are refused."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cloaca
import pytest
from cloaca import Context, WorkflowValidationError


def dependencies(workflow: cloaca.Workflow) -> dict[str, list[str]]:
    return {spec.id: spec.dependencies for spec in workflow._native.specs}


def new_function() -> Callable[[Context], None]:
    def fetch(context: Context) -> None: ...

    return fetch


# One function, several tasks.


def test_a_function_with_several_tasks_is_ambiguous_as_a_dependency() -> None:
    """Regression: a loop made three tasks of one function; as a dependency, the function always meant the last one."""
    fetch = new_function()
    with cloaca.WorkflowBuilder("parts") as builder:
        parts = [cloaca.task(id=f"fetch_{number}")(fetch) for number in range(3)]
        with pytest.raises(
            WorkflowValidationError, match=r"function 'fetch' is 3 tasks: 'fetch_0' in workflow 'parts'"
        ):
            cloaca.task(id="join", dependencies=parts)
        with pytest.raises(WorkflowValidationError, match="use the id, such as 'fetch_2'"):
            cloaca.task_success(fetch)
        with pytest.raises(WorkflowValidationError, match="is 3 tasks"):
            builder.add_task(fetch)
        cloaca.task(id="join", dependencies=["fetch_2", "fetch_0"])(new_function())
    assert dependencies(builder.build())["join"] == ["fetch_2", "fetch_0"]


def test_a_function_refers_to_its_task_at_the_time_of_the_dependency() -> None:
    step = new_function()
    with cloaca.WorkflowBuilder("chain") as builder:
        first = cloaca.task(id="step_0")(step)
        second = cloaca.task(id="step_1", dependencies=[first])(step)
        with pytest.raises(WorkflowValidationError, match="is 2 tasks"):
            cloaca.task(id="step_2", dependencies=[second])
    assert dependencies(builder.build()) == {"step_0": [], "step_1": ["step_0"]}


def test_the_same_function_under_two_ids_in_two_workflows_is_refused_in_both() -> None:
    fetch = new_function()
    with cloaca.WorkflowBuilder("orders"):
        cloaca.task(id="load_orders")(fetch)
    with cloaca.WorkflowBuilder("items"):
        cloaca.task(id="load_items")(fetch)
        with pytest.raises(
            WorkflowValidationError, match="'load_orders' in workflow 'orders', 'load_items' in workflow"
        ):
            cloaca.task(id="use", dependencies=[fetch])


def test_the_same_function_under_one_id_in_two_workflows_is_the_task_of_each() -> None:
    fetch = new_function()
    for name in ("eu", "us"):
        with cloaca.WorkflowBuilder(name) as builder:
            cloaca.task(id="load")(fetch)
            cloaca.task(id="use", dependencies=[fetch])(new_function())
        workflow = builder.build()
        assert dependencies(workflow)["use"] == ["load"]
        assert not workflow.can_run_parallel(fetch, "use")


def test_a_function_of_another_workflow_is_refused_although_its_id_is_known_here() -> None:
    """Regression: `two` had a task called `load` as well, and a dependency on the function of `one` meant that task."""
    load = new_function()
    with cloaca.WorkflowBuilder("one"):
        cloaca.task(id="load")(load)
    with cloaca.WorkflowBuilder("two"):
        cloaca.task(id="load")(new_function())
        message = "function 'fetch' is task 'load' in workflow 'one', and no task of workflow 'two'"
        with pytest.raises(WorkflowValidationError, match=message):
            cloaca.task(id="use", dependencies=[load])
        with pytest.raises(WorkflowValidationError, match=message):
            cloaca.task_failed(load)


def test_a_function_of_the_module_is_not_the_task_of_that_id_that_the_workflow_defined() -> None:
    load = cloaca.task(id="load_of_module")(new_function())
    cloaca.task(id="use_of_module", dependencies=[load])(new_function())
    builder = cloaca.WorkflowBuilder("mixed").add_task("load_of_module").add_task("use_of_module")
    assert builder.build().tasks == ["load_of_module", "use_of_module"]
    with cloaca.WorkflowBuilder("mixed") as builder:
        cloaca.task(id="load_of_module")(new_function())
    builder.add_task("use_of_module")
    with pytest.raises(WorkflowValidationError, match=r"'load_of_module' at module level, but .* is another"):
        builder.build()


def test_wrappers_methods_and_partials_refer_to_their_own_tasks() -> None:
    class Source:
        def load(self, context: Context) -> None: ...

        @staticmethod
        def check(context: Context) -> None: ...

        @cloaca.task(id="counted")
        @staticmethod
        def count(context: Context) -> None: ...

    one, other = Source(), Source()
    plain = new_function()
    wrapper = functools.wraps(plain)(lambda context: plain(context))
    part = functools.partial(lambda size, context: None, 3)
    with cloaca.WorkflowBuilder("kinds") as builder:
        cloaca.task(id="one")(one.load)
        cloaca.task(id="other")(other.load)
        cloaca.task(id="plain")(plain)
        cloaca.task(id="wrapped")(functools.wraps(plain)(wrapper))
        cloaca.task(id="part")(part)
        cloaca.task(id="static")(Source.check)
        builder.add_task(Source.count)
        named = [one.load, other.load, plain, wrapper, part, Source.check, Source.count]
        cloaca.task(id="all", dependencies=named)(new_function())
        with pytest.raises(
            ValueError, match=r"method 'load' of Source is not a task. Make it one with cloaca.task\(id="
        ):
            cloaca.task(id="none", dependencies=[Source().load])
    assert dependencies(builder.build())["all"] == ["one", "other", "plain", "wrapped", "part", "static", "counted"]


# Order.


@pytest.mark.parametrize(
    "given",
    [
        {"a", "b"},
        frozenset(["a", "b"]),
        {"a": 1, "b": 2}.keys(),
        {"a": 1, "b": 2}.items(),
        {"a": 1, "b": 2},
        (name for name in "ab"),
        iter(["a", "b"]),
        map(str, "ab"),
        "ab",
        b"ab",
        7,
    ],
)
def test_dependencies_are_a_list_or_another_ordered_container(given: Any) -> None:
    """Regression: a set has another order in each process, and so had the merge, and the version of the workflow."""
    with pytest.raises(TypeError, match="dependencies must be a list"):
        cloaca.task(id="join", dependencies=given)


def test_ordered_containers_are_taken_and_nothing_may_be_in_them_twice() -> None:
    with cloaca.WorkflowBuilder("ordered") as builder:
        for name in "ab":
            cloaca.task(id=name)(new_function())
        fetch = cloaca.task(id="c")(new_function())
        for number, given in enumerate((["b", "a"], ("b", "a"), deque("ba"))):
            cloaca.task(id=f"join_{number}", dependencies=given)(new_function())
        for twice in (["a", "b", "a"], ["c", fetch]):
            with pytest.raises(ValueError, match=r"dependencies contain task '[ac]' twice"):
                cloaca.task(id="twice", dependencies=twice)
    joins = {task_id: names for task_id, names in dependencies(builder.build()).items() if task_id.startswith("join")}
    assert list(joins.values()) == [["b", "a"]] * 3


# Blocks.


def test_two_functions_of_one_id_in_one_block_are_refused_with_both_lines() -> None:
    with pytest.raises(WorkflowValidationError) as caught, cloaca.WorkflowBuilder("twice"):
        cloaca.task(id="load")(new_function())

        @cloaca.task
        def load(context: Context) -> None: ...

    line = new_function.__code__.co_firstlineno + 1
    here = sys._getframe().f_code.co_firstlineno + 4
    assert f"Duplicate task: load, at {__file__}:{line} and at {__file__}:{here}" in str(caught.value)
    with pytest.raises(WorkflowValidationError, match="in a loop or twice; give each its own id"), _looping():
        pass


def _looping() -> cloaca.WorkflowBuilder:
    builder = cloaca.WorkflowBuilder("loop")
    with builder:
        for _ in range(2):

            @cloaca.task
            def load(context: Context) -> None: ...

    return builder


def test_a_block_that_runs_again_replaces_what_it_defined() -> None:
    """As when the cell of a notebook is run again after an edit."""
    builder = cloaca.WorkflowBuilder("cell")
    for dependencies_now in ([], ["check"]):
        with builder:
            cloaca.task(id="load", dependencies=dependencies_now)(new_function())
            cloaca.task(id="check")(new_function())
    assert dependencies(builder.build()) == {"load": ["check"], "check": []}


def test_coroutines_of_one_thread_do_not_mix_their_blocks() -> None:
    """Regression: when two coroutines awaited something inside their blocks, the tasks of one ended up in the other."""

    async def define(name: str) -> cloaca.Workflow:
        with cloaca.WorkflowBuilder(name) as builder:
            for step in ("load", "check"):
                await asyncio.sleep(0)
                cloaca.task(id=f"{step}_{name}")(new_function())
        return builder.build()

    async def both() -> list[cloaca.Workflow]:
        return list(await asyncio.gather(*(define(name) for name in ("orders", "items", "users"))))

    found = {workflow.name: workflow.tasks for workflow in asyncio.run(both())}
    assert found == {name: [f"load_{name}", f"check_{name}"] for name in ("orders", "items", "users")}


def test_a_block_covers_threads_and_coroutines_that_copy_its_context() -> None:
    async def define() -> cloaca.Workflow:
        with cloaca.WorkflowBuilder("reach") as builder:
            await asyncio.to_thread(lambda: cloaca.task(id="thread")(new_function()))
            await asyncio.create_task(_define_later("coroutine"))
            plain = threading.Thread(target=lambda: cloaca.task(id="elsewhere")(new_function()))
            plain.start()
            plain.join()
        return builder.build()

    expected = ["thread", "coroutine"]
    if getattr(sys.flags, "thread_inherit_context", False):
        expected.append("elsewhere")
    assert asyncio.run(define()).tasks == expected


async def _define_later(task_id: str) -> None:
    cloaca.task(id=task_id)(new_function())


def test_blocks_of_two_generators_that_overlap_are_refused() -> None:
    def define(name: str) -> Iterator[None]:
        with cloaca.WorkflowBuilder(name):
            yield
            cloaca.task(id=f"load_{name}")(new_function())

    one, other = define("one"), define("other")
    next(one), next(other)
    for generator in (one, other):
        with pytest.raises(WorkflowValidationError, match="overlap, and neither is inside the other"):
            next(generator)
    with pytest.raises(ValueError, match="one"), cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("one")


GENERATED = """
@cloaca.task
def generated(context): ...
"""


def test_code_that_is_executed_inside_a_block_defines_tasks_of_the_block(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    """Regression: a task that `exec` defined in the module's own namespace was missing, without a word."""
    with cloaca.WorkflowBuilder("in_function") as builder:
        exec(GENERATED, globals())
        exec(GENERATED.replace("generated", "elsewhere"), {"cloaca": cloaca})
    assert builder.build().tasks == ["generated", "elsewhere"]
    done = run_python(f"""
        import cloaca

        with cloaca.WorkflowBuilder("in_module") as builder:
            exec({GENERATED!r})
        print(builder.build().tasks)
    """)
    assert done.stdout == "['generated']\n"


def test_tasks_of_a_module_imported_inside_a_block_belong_to_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shared_steps.py").write_text(
        "import cloaca\n"
        "@cloaca.task\n"
        "def shared_step(context): ...\n"
        "with cloaca.WorkflowBuilder('of_module') as builder:\n"
        "    import deeper_steps\n"
        "    @cloaca.task\n"
        "    def own_step(context): ...\n"
        "def define():\n"
        "    cloaca.task(id='by_call')(shared_step.__class__(shared_step.__code__, {}))\n"
    )
    (tmp_path / "deeper_steps.py").write_text("import cloaca\n@cloaca.task\ndef deeper_step(context): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with cloaca.WorkflowBuilder("importing") as builder:
        import shared_steps  # type: ignore[import-not-found]

        shared_steps.define()
        builder.add_task(shared_steps.shared_step)
    assert builder.build().tasks == ["by_call", "shared_step"]
    assert shared_steps.builder.build().tasks == ["own_step"]
    assert cloaca.WorkflowBuilder("later").add_task("deeper_step").build().tasks == ["deeper_step"]


# Invalid tasks.


def test_a_method_is_refused_because_self_would_get_the_context() -> None:
    for body in ("def load(self): ...", "def load(self, context): ...", "def load(cls, context): ..."):
        with pytest.raises(
            TypeError, match=r"is a method: its parameter '(self|cls)' would get the context. Make Jobs.lo"
        ):
            exec(f"class Jobs:\n    @cloaca.task\n    {body}\n", {"cloaca": cloaca})


def test_a_wrapper_that_hides_the_parameters_gets_a_hint_to_functools_wraps() -> None:
    with pytest.raises(TypeError, match=r"cannot have: \*args, \*\*kwargs. .* use functools.wraps"):
        cloaca.task(id="wrapped")(lambda *args, **kwargs: None)
