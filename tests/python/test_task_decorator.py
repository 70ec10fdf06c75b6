"""The task decorator: it defines everything about a task, and refuses wrong arguments at once."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

import cloaca
import pytest


def test_the_function_comes_back_unchanged() -> None:
    def double(context: cloaca.Context) -> cloaca.Context:
        context["n"] = context["n"] * 2
        return context

    assert cloaca.task(id="unchanged")(double) is double
    assert cloaca.task(double) is double
    assert double(cloaca.Context({"n": 2}))["n"] == 4


def test_the_default_id_is_the_name_of_the_function() -> None:
    with cloaca.WorkflowBuilder("ids") as builder:

        @cloaca.task
        def plain() -> None: ...

        @cloaca.task()
        def called() -> None: ...

        @cloaca.task(id="explicit")
        def other() -> None: ...

        assert builder.build().tasks == ["plain", "called", "explicit"]


def test_dependencies_are_ids_or_functions() -> None:
    with cloaca.WorkflowBuilder("dependencies") as builder:

        @cloaca.task(id="first")
        def function_with_another_name() -> None: ...

        @cloaca.task
        def second() -> None: ...

        @cloaca.task(dependencies=["second", function_with_another_name])
        def third() -> None: ...

    assert builder.build().get_execution_levels() == [["first", "second"], ["third"]]


def test_a_function_that_is_no_task_cannot_be_a_dependency() -> None:
    def helper() -> None: ...

    with pytest.raises(ValueError, match=r"function 'helper' is not a task; decorate it with @cloaca\.task"):
        cloaca.task(dependencies=[helper])
    with pytest.raises(TypeError, match=r"dependencies must be a list .*\['extract'\]"):
        cloaca.task(dependencies="extract")
    with pytest.raises(TypeError, match="string task ID or a function object"):
        cloaca.task(dependencies=[1])  # type: ignore[list-item]


def test_parameters_that_a_task_cannot_have_are_named() -> None:
    with pytest.raises(TypeError, match=r"task 'bad' .* cannot have: x, \*, y=1|task 'bad' .* cannot have: x, y=1"):

        @cloaca.task
        def bad(context, x, *, y=1): ...  # type: ignore[no-untyped-def]

    with pytest.raises(TypeError, match=r"cannot have: \*args, \*\*kwargs"):

        @cloaca.task
        def variable(*args, **kwargs): ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    "function",
    [
        lambda: None,
        lambda context: None,
        lambda anything: None,
        lambda context, handle: None,
        lambda context, task_handle: None,
        functools.partial(lambda x, context: None, 1),
    ],
)
def test_parameters_that_a_task_can_have(function) -> None:  # type: ignore[no-untyped-def]
    cloaca.task(id="can_have")(function)


def test_a_generator_is_no_task() -> None:
    with pytest.raises(TypeError, match="a task returns, it does not yield"):

        @cloaca.task
        def generator(context):  # type: ignore[no-untyped-def]
            yield 1


@pytest.mark.parametrize(
    ("keywords", "error", "says"),
    [
        (
            {"retry_backoff": "linaer"},
            ValueError,
            '"fixed", "linear", "exponential", not "linaer"; did you mean "linear"?',
        ),
        ({"retry_condition": "sometimes"}, ValueError, '"never", "transient", "all", not "sometimes"'),
        ({"retry_condition": 5}, TypeError, "an exception class or a tuple of them"),
        ({"retry_condition": (int,)}, TypeError, "an exception class or a tuple of them"),
        ({"retry_attempts": -1}, ValueError, "retry_attempts must be from 0"),
        ({"retry_attempts": 1.5}, TypeError, "retry_attempts must be an int"),
        ({"retry_attempts": True}, TypeError, "retry_attempts must be an int"),
        ({"retry_delay_ms": -1}, ValueError, "retry_delay_ms must be from 0"),
        ({"retry_max_delay_ms": "1"}, TypeError, "retry_max_delay_ms must be an int"),
        ({"retry_jitter": 1}, TypeError, "retry_jitter must be True or False"),
        ({"retry": 3}, TypeError, "retry must be a RetryPolicy, not int"),
        (
            {"retry": cloaca.RetryPolicy.default(), "retry_attempts": 2, "retry_jitter": False},
            ValueError,
            "pass retry= or retry_attempts, retry_jitter, not both",
        ),
        ({"trigger_rule": "all_sucess"}, ValueError, "none_failed, all_success, all_done, all_failed"),
        ({"trigger_rule": cloaca.always()}, TypeError, "trigger_rules takes a condition tree"),
        ({"trigger_rule": "always", "trigger_rules": cloaca.always()}, ValueError, "not both"),
        ({"trigger_rules": "always"}, TypeError, "a condition must be made by"),
        ({"timeout_seconds": 0}, ValueError, "timeout_seconds must be greater than 0"),
        ({"timeout_seconds": "1"}, TypeError, "timeout_seconds must be a number"),
        ({"id": ""}, ValueError, "a task id cannot be empty"),
        ({"id": 3}, ValueError, "a task id must be a str"),
    ],
)
def test_a_wrong_argument_is_refused_with_the_valid_values(keywords, error, says) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:

        @cloaca.task(**keywords)
        def wrong() -> None: ...

    assert says in str(caught.value)


def test_an_unknown_parameter_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="retries"):
        cloaca.task(retries=3)  # type: ignore[call-overload]


def version_of(statement: str, **keywords) -> str:  # type: ignore[no-untyped-def]
    scope: dict[str, object] = {}
    exec(f"def function(context):\n    {statement}", scope)
    with cloaca.WorkflowBuilder("version_of") as builder:
        cloaca.task(id="task", **keywords)(scope["function"])  # type: ignore[type-var]
        return builder.build().version


def test_the_version_changes_with_the_code_and_the_rules() -> None:
    one = version_of("context.set('n', 1)")
    assert one == version_of("context.set('n', 1)")
    assert len(one) == 16
    assert int(one, 16) >= 0
    different = [
        version_of("context.set('n', 2)"),
        version_of("context.set('n', 1.0)"),
        version_of("context.set('n', True)"),
        version_of("context.set('m', 1)"),
        version_of("context.get('n', 1)"),
        version_of("[lambda: context.set('n', 1)]"),
        version_of("[lambda: context.set('n', 2)]"),
        version_of("context.set('n', 1)", retry_attempts=5),
        version_of("context.set('n', 1)", trigger_rule="always"),
        version_of("context.set('n', 1)", timeout_seconds=5),
    ]
    assert len({one, *different}) == len(different) + 1


def test_the_version_does_not_depend_on_the_process_or_the_line(run_python) -> None:  # type: ignore[no-untyped-def]
    program = """
        import cloaca
        {blank}
        with cloaca.WorkflowBuilder("stable") as builder:
            @cloaca.task
            def choose(context):
                if context["kind"] in {{"a", "b", "c", "d", "e"}}:
                    return {{"f": [x for x in (1, 2.5, None, b"x")]}}
            print(builder.build().version)
    """
    versions = {
        run_python(program.format(blank="\n" * lines), env={"PYTHONHASHSEED": str(seed)}).stdout
        for lines, seed in [(0, 1), (5, 2), (9, 3)]
    }
    assert len(versions) == 1


STALE = {
    "an unclosed bracket": "x = (\n" * 40,
    "a wrong indentation": "def a():\n        if 1:\n    x\n  y\n" * 10,
    "no text": "\xff\xfe\x00".encode("latin-1") * 40,
    "an unclosed string": '"""\n' * 41,
    "deep brackets": "(" * 5_000 + "\n" + "(" * 5_000,
    "another function": "\n" * 3 + "        def other(context):\n            pass\n" * 20,
    "fewer lines": "",
}


@pytest.mark.parametrize("now", STALE, ids=str)
def test_a_factory_decorates_even_after_its_file_has_changed(tmp_path: Path, now: str) -> None:
    """Regression: a running service whose source was replaced could define no more tasks: `inspect` extracts the
    function from the new file, and the decorator raised TokenError."""
    file = tmp_path / "factory.py"
    factory = (
        "def {0}(number):\n        def task(context):\n            context['number'] = number\n        return task\n"
    )
    file.write_text(factory.format("known") + factory.format("new"))
    spec = importlib.util.spec_from_file_location("factory", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def made(make: Callable[[int], Callable[[cloaca.Context], None]]) -> cloaca.Workflow:
        with cloaca.WorkflowBuilder("made") as builder:
            cloaca.task(id="made")(make(1))
        return builder.build()

    before = made(module.known)
    text = STALE[now]
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    # The source of a known function stays; for another one, the text of something else is not used.
    assert made(module.known).version == before.version
    made(module.new)
    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("made")
        assert result.final_context == {"number": 1}
        assert "other" not in str(result.history().to_json())


def test_an_object_that_has_every_attribute_can_be_decorated() -> None:
    """Regression: a proxy invents an attribute for every name: unwrapping it for the function inside never ended."""

    class Proxy:
        def __call__(self, context: cloaca.Context) -> None:
            context["called"] = True

        def __getattr__(self, name: str) -> Proxy:
            return Proxy()

    with cloaca.WorkflowBuilder("proxied"):
        cloaca.task(id="proxied")(Proxy())
    with cloaca.DefaultRunner(":memory:") as runner:
        assert runner.execute("proxied").final_context == {"called": True}
