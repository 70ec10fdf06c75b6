"""Programs written for Cloacina's Python API: the names and URLs that they use, and the exceptions that they catch."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloaca
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


# Location of the log


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    directory = tmp_path / "here"
    directory.mkdir()
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.parametrize("scheme", ["sqlite", "cloaca"])
def test_an_absolute_path_after_two_slashes_is_warned_about(
    scheme: str, here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: users wrote f"sqlite://{path}" with an absolute path. Three slashes make it relative, so the log was
    created below the working directory, without a warning."""
    there = tmp_path / "data"
    there.mkdir()
    url = f"{scheme}://{there}/flows.db"
    relative = Path(f"{here}{there}/flows.db")
    for _ in range(2):  # the first run creates the directories; the second one gets the warning, too
        with cloaca.DefaultRunner(url):
            assert relative.is_dir()
        [warning] = warnings_of(caplog)
        assert f"this opens {relative}, not {there}/flows.db" in warning
        assert f"{scheme}:///{there}/flows.db" in warning
        caplog.clear()
    assert os.listdir(there) == []
    with cloaca.DefaultRunner(f"{scheme}:///{there}/flows.db"):
        assert (there / "flows.db").is_dir()
    assert warnings_of(caplog) == []


def test_the_warning_about_slashes_is_visible_without_logging_configuration(run_python: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    done = run_python(f"import cloaca; cloaca.DefaultRunner('sqlite://{tmp_path}/data/x.db').shutdown()")
    assert f"not {tmp_path}/data/x.db" in done.stderr


@pytest.mark.parametrize("url", ["sqlite:///x.db", "cloaca:///logs/x", "sqlite:///logs/no/such/x", "sqlite://x.db"])
def test_an_intended_relative_path_is_not_warned_about(url: str, here: Path, caplog: pytest.LogCaptureFixture) -> None:
    (here / "logs").mkdir()
    for _ in range(2):
        with cloaca.DefaultRunner(url):
            pass
    assert warnings_of(caplog) == []


def test_a_log_at_the_absolute_path_is_warned_about_before_another_one_is_created(
    here: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = tmp_path / "flows"
    with cloaca.DefaultRunner(str(name)):
        pass
    Path(f"{here}{tmp_path}").mkdir(parents=True)
    with cloaca.DefaultRunner(f"sqlite://{name}"):
        pass
    [warning] = warnings_of(caplog)
    assert f"not {name}" in warning


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "cloaca:///{}", "sqlite:///{}?mode=rwc"])
def test_an_empty_file_is_replaced_by_a_log(form: str, caplog: pytest.LogCaptureFixture) -> None:
    """Regression: test suites pass the name of a NamedTemporaryFile to a runner, which refused it as a file."""
    with tempfile.NamedTemporaryFile(suffix=".db", delete=False) as file:
        name = file.name
    with cloaca.DefaultRunner(form.format(name)):
        assert os.path.isdir(name)
    assert any(f"{name} was an empty file" in warning for warning in warnings_of(caplog))
    with cloaca.DefaultRunner(name):  # now it is an ordinary log
        pass


def test_only_an_empty_regular_file_is_replaced(tmp_path: Path) -> None:
    full, target = tmp_path / "full", tmp_path / "target"
    full.write_text("x")
    target.touch()
    (tmp_path / "link").symlink_to(target)
    os.mkfifo(tmp_path / "pipe")
    for name in ("full", "link", "pipe"):
        with pytest.raises(cloaca.ConfigurationError):
            cloaca.DefaultRunner(str(tmp_path / name))
    assert full.read_text() == "x"
    assert target.is_file()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "pipe").is_fifo()


def test_an_invalid_schema_is_refused_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Programs match on Cloacina's messages. Regression: options of the URL were silently dropped."""
    with pytest.raises(cloaca.ConfigurationError, match="Schema name cannot be empty"):
        cloaca.DefaultRunner.with_schema("postgresql://localhost/t", "")
    for schema in ("a/b", "a-b", "é", 5):
        with pytest.raises(ValueError, match="must contain only alphanumeric characters and underscores"):
            cloaca.DefaultRunner.with_schema(str(tmp_path / "log"), schema)  # type: ignore[arg-type]
    for words in ("Failed to create DefaultRunner with schema", "Failed to set up schema 'acme'", "PostgreSQL"):
        with pytest.raises(RuntimeError, match=words) as caught:
            cloaca.DefaultRunner.with_schema("postgresql://user:secret@localhost/t", "acme")
        assert "secret" not in str(caught.value)
    with cloaca.DefaultRunner.with_schema(f"sqlite:///{tmp_path}/log?mode=rwc", "acme"):
        assert os.listdir(tmp_path) == ["log.acme"]
    assert warnings_of(caplog) == ["the options '?mode=rwc' of the database URL are ignored"]


# Exceptions


@pytest.mark.parametrize(
    "url", ["postgresql://host.invalid/x", "invalid://connection/string", "/proc/nope/x.db", "sqlite:///", 5]
)
def test_errors_of_the_constructor_are_runtime_errors(url: Any) -> None:
    """Cloacina's own tests have `except RuntimeError` around the construction of a runner."""
    with pytest.raises(RuntimeError) as caught:
        cloaca.DefaultRunner(url)
    assert isinstance(caught.value, cloaca.Error)
    assert type(pickle.loads(pickle.dumps(caught.value))) is type(caught.value)


def test_a_log_in_use_is_a_runtime_error(tmp_path: Path) -> None:
    with cloaca.DefaultRunner(str(tmp_path / "log")), pytest.raises(RuntimeError, match="is in use"):
        cloaca.DefaultRunner(str(tmp_path / "log"))


def test_errors_of_operations_are_value_errors(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("one"):

        @cloaca.task
        def task() -> None: ...

    done = runner.execute("one").execution_id
    nobody = "00000000-0000-7000-8000-000000000000"
    operations: list[Callable[[], object]] = [
        lambda: runner.execute("none"),
        lambda: runner.get_execution(nobody),
        lambda: runner.get_execution(done).cancel(),
        lambda: runner.resume(done),
        lambda: runner.execute("one", {"text": "x" * 20_000_000}),
        lambda: runner.get_cron_schedule(nobody),
        lambda: runner.set_trigger_enabled("none", False),
    ]
    for operation in operations:
        with pytest.raises(ValueError, match=r"\w"):
            operation()
    runner.shutdown()
    for operation in operations[:1] + operations[3:]:
        with pytest.raises(ValueError, match=r"\w"):
            operation()


# Names


B = cloaca.RetryPolicy.builder


@pytest.mark.parametrize(
    "call",
    [
        lambda: cloaca.Context.from_json(json_str='{"a":1}'),
        lambda: cloaca.task_success(task_name="a"),
        lambda: cloaca.task_failed(task_name="a"),
        lambda: cloaca.task_skipped(task_name="a"),
        lambda: cloaca.context_value(key="k", operator="Equals", value=1),
        lambda: B().initial_delay(delay_seconds=1.0),
        lambda: B().max_delay(delay_seconds=1.0),
        lambda: B().max_attempts(attempts=2),
        lambda: B().backoff_strategy(strategy=cloaca.BackoffStrategy.fixed()),
        lambda: B().retry_condition(condition=cloaca.RetryCondition.never()),
        lambda: B().with_jitter(jitter=False),
        lambda: cloaca.RetryPolicy.default().should_retry(attempt=1, _error_type="x"),
        lambda: cloaca.RetryPolicy.default().should_retry(attempt=1, error="x"),
        lambda: cloaca.RetryPolicy.default().calculate_delay(attempt=1),
        lambda: cloaca.BackoffStrategy.exponential(base=2.0, multiplier=1.0),
        lambda: cloaca.BackoffStrategy.linear(multiplier=1.0),
        lambda: cloaca.RetryCondition.error_pattern(patterns=["x"]),
        lambda: cloaca.TaskNamespace.from_string(namespace_str="a::b::c::d"),
        lambda: cloaca.DefaultRunnerConfig(8),
        lambda: cloaca.trigger(name="t", on="w", poll_interval=None),
        lambda: cloaca.trigger(name="t", on="w", cron="@daily", poll_interval=None),
        lambda: cloaca.get_version(),
    ],
)
def test_cloacinas_names_exist(call: Callable[[], object]) -> None:
    call()


def test_should_retry_needs_the_error() -> None:
    with pytest.raises(TypeError, match="needs the error"):
        cloaca.RetryPolicy.default().should_retry(1)


def test_two_tasks_that_are_compared_have_names() -> None:
    with cloaca.WorkflowBuilder("pair") as builder:

        @cloaca.task
        def a() -> None: ...

        @cloaca.task
        def b() -> None: ...

    assert builder.build().can_run_parallel(task1="a", task2=b)


def test_positional_fields_of_a_config_are_in_cloacinas_order() -> None:
    config = cloaca.DefaultRunnerConfig(8, 50, 60, 120, 3, False, False, 5, 6, False, 7, 8, 9, 10)
    assert list(inspect.signature(cloaca.DefaultRunnerConfig).parameters)[:5] == [
        "max_concurrent_tasks",
        "scheduler_poll_interval_ms",
        "task_timeout_seconds",
        "workflow_timeout_seconds",
        "db_pool_size",
    ]
    assert (config.max_concurrent_tasks, config.task_timeout_seconds, config.workflow_timeout_seconds) == (8, 60, 120)
    assert (config.enable_recovery, config.cron_max_recovery_attempts) == (False, 10)


def test_programs_choose_their_url_by_the_backend() -> None:
    """Regression: get_backend() returned "sled", and such programs ended with "unsupported backend"."""
    assert cloaca.get_backend() == cloaca.__backend__ == "sqlite"


TREES = [
    (cloaca.always(), {"type": "Always"}),
    (cloaca.task_failed("a"), {"type": "TaskFailed", "task_name": "a"}),
    (cloaca.context_value("k", "==", 1), {"type": "ContextValue", "key": "k", "operator": "Equals", "value": 1}),
    (cloaca.context_value("k", "exists"), {"type": "ContextValue", "key": "k", "operator": "Exists", "value": None}),
    (
        cloaca.any_of(cloaca.none_of(cloaca.task_skipped("a")), {"type": "TaskSuccess", "task_name": "b"}),
        {
            "type": "Any",
            "conditions": [
                {"type": "None", "conditions": [{"type": "TaskSkipped", "task_name": "a"}]},
                {"type": "TaskSuccess", "task_name": "b"},
            ],
        },
    ),
]


@pytest.mark.parametrize(("condition", "tree"), TREES)
def test_a_condition_is_a_dict(condition: cloaca.Condition, tree: dict[str, Any]) -> None:
    """Regression: json.dumps of a condition failed, and so did comparing one with Cloacina's dict."""
    assert isinstance(condition, dict)
    assert condition == tree
    assert json.loads(json.dumps(condition)) == tree
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert cloaca.Condition.parse(tree) == condition
    assert repr(cloaca.Condition.parse(tree)) == repr(condition)


def test_a_changed_condition_is_checked_when_it_is_used() -> None:
    condition = cloaca.task_success("a")
    condition["type"] = "TaskSucceeded"
    assert repr(condition) == "{'type': 'TaskSucceeded', 'task_name': 'a'}"
    with pytest.raises(ValueError, match="unknown condition type 'TaskSucceeded'"):
        cloaca.task(trigger_rules=condition)


@pytest.mark.parametrize("interval", ["5s", "6s", "5000ms"])
def test_a_trigger_has_an_interval_or_an_expression(interval: str) -> None:
    """Regression: `poll_interval="5s"` with a `cron` was accepted, because five seconds are the default."""
    with pytest.raises(ValueError, match="not both"):
        cloaca.trigger(on="w", poll_interval=interval, cron="* * * * *")


# Full ids


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        ({}, "public::embedded::full"),
        ({"tenant": "acme", "package": "sales", "workflow": "etl"}, "acme::sales::etl"),
    ],
)
def test_a_full_id_names_a_task_of_its_workflow(
    names: dict[str, str], prefix: str, runner: cloaca.DefaultRunner
) -> None:
    """Regression: with Cloacina only the full id works in a rule, so programs use it; here no task had that id."""
    with cloaca.WorkflowBuilder("full", **names) as builder:

        @cloaca.task(retry_attempts=1)
        def load() -> None:
            raise ValueError("as asked")

        rule = cloaca.all_of(cloaca.task_failed(f"{prefix}::load"), cloaca.none_of(cloaca.task_success("load")))

        @cloaca.task(dependencies=[f"{prefix}::load"], trigger_rules=rule)
        def mend(context: cloaca.Context) -> None:
            context["mended"] = True

        @cloaca.task(dependencies=[cloaca.TaskNamespace.from_string(f"{prefix}::mend")])
        def tell() -> None: ...

        builder.add_task(f"{prefix}::tell")
    workflow = builder.build()
    assert workflow.topological_sort() == ["load", "mend", "tell"]
    assert not workflow.can_run_parallel(f"{prefix}::load", "tell")
    result = runner.execute("full", {})
    assert (result.status, result.final_context.to_dict()) == ("Completed", {"mended": True})


def test_a_history_takes_full_ids(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("past"):

        @cloaca.task
        def load(context: cloaca.Context) -> None:
            context["rows"] = 3

    history = runner.execute("past").history()
    full = cloaca.WorkflowContext("public", "embedded", "past").task_namespace("load")
    assert history.context(at=full)["rows"] == history.context(at=str(full))["rows"] == 3
    assert history.rerun(str(full)).same
    with pytest.raises(cloaca.MomentNotFoundError):
        history.rerun("public::embedded::other::load")


def test_a_full_id_of_another_workflow_is_refused() -> None:
    foreign = r"acme::sales::etl::load.* of another workflow: .*mine::"
    with pytest.raises(cloaca.WorkflowValidationError, match=foreign), cloaca.WorkflowBuilder("mine"):

        @cloaca.task
        def load() -> None: ...

        @cloaca.task(dependencies=["acme::sales::etl::load"])
        def tell() -> None: ...


def test_naming_a_task_by_both_of_its_ids_is_a_double_dependency() -> None:
    with pytest.raises(cloaca.WorkflowValidationError, match="depends on 'load' twice"), cloaca.WorkflowBuilder("both"):

        @cloaca.task
        def load() -> None: ...

        @cloaca.task(dependencies=[load, "public::embedded::both::load"])
        def tell() -> None: ...


def test_an_id_with_colons_stays_if_a_task_has_it() -> None:
    with cloaca.WorkflowBuilder("colons") as builder:

        @cloaca.task(id="public::embedded::colons::load")
        def load() -> None: ...

        @cloaca.task(dependencies=["public::embedded::colons::load"])
        def tell() -> None: ...

    assert builder.build().topological_sort() == ["public::embedded::colons::load", "tell"]


# Unsupported names


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("reactor", "trigger"),
        ("ComputationGraphBuilder", "workflow"),
        ("stream_accumulator", "trigger"),
        ("boundary_schema", "trigger"),
        ("DatabaseAdmin", "with_schema"),
        ("TenantConfig", "with_schema"),
        ("TenantCredentials", "with_schema"),
        ("workflow_secrets", r"cloaca\.var"),
        ("constructor", r"@cloaca\.task"),
        ("TaskDecorator", "Callable"),
    ],
)
def test_an_unsupported_name_of_cloacina_says_why(name: str, nearest: str) -> None:
    """A plain `cannot import name 'reactor'` would leave users guessing whether the version is wrong."""
    assert not hasattr(cloaca, name)
    with pytest.raises(AttributeError, match=rf"no attribute '{name}': .*{nearest}"):
        getattr(cloaca, name)
    with pytest.raises(ImportError, match=rf"cannot import name '{name}' from 'cloaca': .*{nearest}"):
        exec(f"from cloaca import {name}")


def test_any_other_missing_name_is_an_ordinary_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'cloaca' has no attribute 'nothing'$"):
        cloaca.nothing  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ImportError, match=r"^cannot import name 'nothing' from 'cloaca'"):
        exec("from cloaca import nothing")


def test_an_unsupported_method_of_the_runner_says_why(runner: cloaca.DefaultRunner) -> None:
    for name in ("subscribe_workflow_to_reactor", "unsubscribe_workflow_from_reactor", "list_reactor_subscriptions"):
        with pytest.raises(AttributeError, match=f"^'DefaultRunner' object has no attribute '{name}': computation"):
            getattr(runner, name)
    with pytest.raises(AttributeError, match=r"^'DefaultRunner' object has no attribute 'nothing'$"):
        runner.nothing  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("keywords", "says"),
    [
        ({"invokes": object()}, "'invokes': computation graphs .* use a workflow that a trigger starts"),
        ({"post_invocation": print}, "'post_invocation': computation graphs"),
        ({"dependecies": []}, "'dependecies'; did you mean 'dependencies'"),
        ({"zzz": 1}, "'zzz'$"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_unsupported_argument_of_a_task_says_why(keywords: dict[str, Any], says: str) -> None:
    with pytest.raises(TypeError, match=f"^@cloaca.task has no argument {says}"):
        cloaca.task(id="any", **keywords)


# Instances


def test_an_instance_is_a_schedule_with_a_name_and_an_input(tmp_path: Path) -> None:
    declared = cloaca.workflow_params(region=str, limit=(int, 100))

    with cloaca.WorkflowBuilder("report"):

        @declared
        @cloaca.task
        def write(context: cloaca.Context) -> None: ...

    for _ in range(2):  # a program registers its instances at each start
        with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
            for region in ("north", "south"):
                params = cloaca.Context({"region": region})
                runner.register_workflow_instance("report", region, "@daily", "UTC", params)
            schedules = runner.list_cron_schedules()
            assert sorted((one["name"], one["context"]["region"]) for one in schedules) == [
                ("north", "north"),
                ("south", "south"),
            ]
            assert all(one["context"]["limit"] == 100 for one in schedules)
            for other in (("@hourly", {"region": "north"}), ("@daily", {"region": "east"})):
                with pytest.raises(ValueError, match=r"has the schedule 'north' .* with another (expression|input)"):
                    runner.register_workflow_instance("report", "north", other[0], "UTC", other[1])
            with pytest.raises(ValueError, match="Failed to register"):
                runner.register_workflow_instance("report", "west", "never", "UTC", {"region": "west"})
            with pytest.raises(ValueError, match=r"'region' .str. is missing"):
                runner.register_workflow_instance("report", "west", "@daily", "UTC", {})
            with pytest.raises(ValueError, match="its name must be a non-empty str"):
                runner.register_workflow_instance("report", "", "@daily", "UTC", {"region": "west"})


# Environment variables


def test_a_variable_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOACINA_VAR_BROKER", "localhost:9092")
    assert cloaca.var("BROKER") == cloaca.var_or("BROKER", "other") == "localhost:9092"
    monkeypatch.delenv("CLOACINA_VAR_BROKER")
    assert cloaca.var_or("BROKER", "other") == "other"
    with pytest.raises(KeyError, match="CLOACINA_VAR_BROKER"):
        cloaca.var("BROKER")
