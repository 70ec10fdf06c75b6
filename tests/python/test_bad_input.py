"""Bad input is refused with a helpful message, and nothing is lost or created."""

from __future__ import annotations

import datetime
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def everything_in(directory: Path) -> dict[str, bytes | None]:
    """Returns every path below a directory, with the contents of files."""
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in sorted(directory.rglob("*"))
    }


def a_file(path: Path) -> None:
    path.write_text("not a log")


def a_database(path: Path) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE executions (id TEXT)")
        database.execute("INSERT INTO executions VALUES ('dear')")
    database.close()


def a_directory(path: Path) -> None:
    path.mkdir()
    (path / "holiday.jpg").write_bytes(b"\xff\xd8")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (a_file, "is not a log: a file (a log is a directory). It was left as it is; choose another path"),
        (a_database, "is not a log: an SQLite database"),
        (a_directory, "is not a log: a directory with other files in it, such as holiday.jpg"),
    ],
)
@pytest.mark.parametrize("form", ["{}", "sqlite:///{}", "cloaca:///{}"])
def test_a_path_that_is_not_a_log_is_refused_and_not_changed(
    make: Callable[[Path], None], says: str, form: str, tmp_path: Path
) -> None:
    make(tmp_path / "place")
    before = everything_in(tmp_path)
    with pytest.raises(cloaca.ConfigurationError) as caught:
        cloaca.DefaultRunner(form.format(tmp_path / "place"))
    assert str(caught.value).startswith(str(tmp_path / "place"))
    assert says in str(caught.value)
    assert caught.value.path == str(tmp_path / "place")
    assert everything_in(tmp_path) == before


def test_a_path_through_a_file_is_refused(tmp_path: Path) -> None:
    a_file(tmp_path / "file")
    before = everything_in(tmp_path)
    with pytest.raises(cloaca.Error, match="a part of the path is a file"):
        cloaca.DefaultRunner(str(tmp_path / "file" / "log"))
    assert everything_in(tmp_path) == before


def test_an_unknown_scheme_is_refused_with_the_forms_that_work(run_python: Run, tmp_path: Path) -> None:
    done = run_python("""
        import cloaca
        try:
            cloaca.DefaultRunner("mysql://user:secret@host/db")
        except cloaca.ConfigurationError as error:
            print(error)
    """)
    assert done.stdout.startswith("mysql://host/db: unknown scheme 'mysql'; supported: \"cloaca:///relative/path\"")
    assert os.listdir(tmp_path) == []


@pytest.fixture
def unprivileged() -> Iterator[Callable[[str], str]]:
    """Runs a program as the user nobody, in a directory that `setup` has filled as root."""
    if os.getuid() != 0:
        pytest.skip("only root can become nobody")
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    prelude = """
        import asyncio, logging, os, traceback
        import cloaca
        import cloaca.runner, cloaca.result
        {setup}
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        try:
            cloaca.DefaultRunner("place/log").shutdown()
            print("opened")
        except cloaca.Error as error:
            print(type(error).__name__, error)
    """

    def run(setup: str) -> str:
        program = textwrap.dedent(prelude).format(setup=textwrap.dedent(setup))
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        yield run
    finally:
        shutil.rmtree(directory)


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_that_may_not_be_entered_or_written_is_named(unprivileged: Callable[[str], str], mode: int) -> None:
    output = unprivileged(f"os.mkdir('place'); os.chmod('place', {mode})")
    assert output.startswith("LogError cannot open the log ")
    assert "place/log" in output
    assert "Permission denied" in output


def test_a_log_that_may_not_be_written_is_named(unprivileged: Callable[[str], str]) -> None:
    output = unprivileged("cloaca.DefaultRunner('place/log').shutdown()")
    assert output.startswith("LogError cannot open the log ")
    assert "place/log" in output
    assert "Permission denied" in output


def test_a_log_in_use_names_the_process_that_has_it(run_python: Run, tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", "import cloaca; r = cloaca.DefaultRunner('log'); print('open', flush=True); input()"],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(cloaca.LogLockedError, match=f"in use by process {holder.pid}") as caught:
            cloaca.DefaultRunner(str(tmp_path / "log"))
        assert isinstance(caught.value, cloaca.LogError)
        assert caught.value.path == str(tmp_path / "log")
    finally:
        holder.communicate("\n", timeout=LIMIT)
    with cloaca.DefaultRunner(str(tmp_path / "log")):
        pass


FILL = """
    import resource, sys
    import cloaca

    with cloaca.WorkflowBuilder("fill"):
        @cloaca.task
        def only(context):
            return {"big": str(context["n"]) + "x" * 100_000}

    runner = cloaca.DefaultRunner("log")
"""


def test_a_full_disk_loses_nothing_that_was_acknowledged(run_python: Run) -> None:
    # A file size limit simulates a full disk: it fails at the same system call.
    filled = run_python(
        FILL
        + """
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
    for n in range(1000):
        try:
            result = runner.execute("fill", {"n": n}, timeout=20)
        except cloaca.LogError as error:
            print(error)
            break
        assert result.status == "Completed"
        print(result.execution_id)
    try:
        runner.execute("fill", {"n": 0})
    except cloaca.LogError as error:
        print(error)
    """
    )
    *acknowledged, first, second = filled.stdout.splitlines()
    assert acknowledged
    assert "the log stopped" in first
    assert "too large" in first.lower()
    assert second == first
    found = run_python(
        FILL
        + """
    for execution in runner.recovered:
        execution.result(20)
    for info in reversed(runner.list_executions(limit=2000)):
        result = runner.get_execution(info.id).result(20)
        assert result.status == "Completed"
        assert result.final_context["big"] == str(result.final_context["n"]) + "x" * 100_000
        print(info.id)
    """
    ).stdout.splitlines()
    # An execution that was started but not acknowledged may be there too; then it was finished.
    assert found[: len(acknowledged)] == acknowledged
    assert len(found) <= len(acknowledged) + 1


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (
            datetime.datetime(2026, 10, 1),
            ["'report'", "['rows'][3]['when']", "datetime is not a JSON value", "isoformat"],
        ),
        (float("nan"), ["'report'", "['rows'][3]['when']", "nan"]),
        (b"raw", ["'report'", "['rows'][3]['when']", "bytes is not a JSON value"]),
        ({1, 2}, ["'report'", "['rows'][3]['when']", "set is not a JSON value"]),
    ],
)
def test_a_value_that_is_not_json_is_named_with_its_location(
    runner: cloaca.DefaultRunner, value: object, says: list[str]
) -> None:
    report = {"rows": [{}, {}, {}, {"when": value}]}
    with cloaca.WorkflowBuilder("not_json"):

        @cloaca.task(retry_attempts=1)
        def only(context: cloaca.Context) -> None:
            context["before"] = True
            context["report"] = report

    with pytest.raises((TypeError, ValueError)) as caught:
        runner.execute("not_json", {"report": report})
    assert runner.list_executions() == []
    result = runner.execute("not_json")
    assert result.status == "Failed"
    assert result.final_context == {}
    for part in says:
        assert part in str(caught.value)
        assert part in (result.error_message or "")


def test_an_unknown_workflow_is_refused_with_the_nearest_and_nothing_is_started(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("nightly_report"):

        @cloaca.task
        def only() -> None: ...

    with pytest.raises(cloaca.WorkflowNotFoundError, match="did you mean 'nightly_report'"):
        runner.execute("nigthly_report")
    assert runner.list_executions() == []


def test_an_invalid_workflow_is_not_registered(runner: cloaca.DefaultRunner) -> None:
    def wrong(*dependencies: tuple[str, str]) -> str:
        with pytest.raises(cloaca.WorkflowValidationError) as caught, cloaca.WorkflowBuilder("wrong_graph"):
            for task_id, dependency in dependencies:
                cloaca.task(id=task_id, dependencies=[dependency])(lambda context: None)
        with pytest.raises(cloaca.WorkflowNotFoundError):
            runner.execute("wrong_graph")
        return str(caught.value)

    cycle = wrong(("load", "publish"), ("clean", "load"), ("publish", "clean"))
    assert "Circular dependency detected: " in cycle
    path = cycle.split("detected: ")[1].splitlines()[0].split(" -> ")
    assert path[0] == path[-1]
    assert set(path) == {"load", "clean", "publish"}
    near = wrong(("transform_orders", "transfrom_orders"))
    assert "Missing dependency: task 'transform_orders' depends on 'transfrom_orders'" in near
    assert "did you mean 'transform_orders'" in near


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    builder = cloaca.WorkflowBuilder("unknown_task")

    @cloaca.task(id="bad_input_known_task")
    def known() -> None: ...

    with pytest.raises(cloaca.WorkflowValidationError, match="'bad_input_known_tsak' not found in registry") as caught:
        builder.add_task("bad_input_known_tsak").build()
    assert "bad_input_known_task'" in str(caught.value)


def test_a_name_or_a_key_that_cannot_be_stored_is_refused_with_the_reason(runner: cloaca.DefaultRunner) -> None:
    """Regression: a workflow with a long name was registered, and then the log refused each of its executions."""
    with pytest.raises(cloaca.WorkflowValidationError, match="the workflow name is 5000 bytes long; the limit is"):
        cloaca.WorkflowBuilder("w" * 5000).add_task(cloaca.task(id="named_w")(lambda: None)).build()
    context = cloaca.Context()
    for use in (
        lambda: context.set("a\ud800", 1),
        lambda: "a\ud800" in context,
        lambda: cloaca.Context({"a\ud800": 1}),
    ):
        with pytest.raises(cloaca.errors.NotJsonError, match=r"context key 'a\\ud800' has a lone surrogate"):
            use()


def test_a_deep_condition_is_refused_with_a_hint_to_make_it_wide() -> None:
    tree = cloaca.always()
    for _ in range(70):
        tree = cloaca.any_of(tree, cloaca.always())
    builder = cloaca.WorkflowBuilder("deep").add_task(cloaca.task(id="of_deep", trigger_rules=tree)(lambda: None))
    with pytest.raises(cloaca.WorkflowValidationError, match=r"put conditions side by side: any_of\(\*many\)"):
        builder.build()
    flat = cloaca.any_of(*[cloaca.always()] * 1_000)
    assert cloaca.WorkflowBuilder("flat").add_task(cloaca.task(id="of_flat", trigger_rules=flat)(lambda: None)).build()


@pytest.mark.parametrize(
    ("expression", "timezone", "message"),
    [
        (
            "@reboot",
            "UTC",
            "a schedule fires by the clock; to run a workflow when the program starts, execute it there",
        ),
        ("@daily", "utc", "did you mean 'UTC'"),
        ("@daily", "europe/berlin", "did you mean 'Europe/Berlin'"),
        ("@daily", "GMT+2", r"did you mean 'Etc/GMT-2'\?; .*the sign is inverted"),
        ("@daily", "UTC-05:00", r"did you mean 'Etc/GMT\+5'"),
    ],
)
def test_syntax_of_other_schedulers_is_refused_with_the_equivalent(
    runner: cloaca.DefaultRunner, expression: str, timezone: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        runner.register_cron_workflow("any", expression, timezone)


def test_a_timeout_that_is_too_long_is_not_called_too_short() -> None:
    with pytest.raises(ValueError, match="timeout_seconds must be less than 1000000000"):
        cloaca.task(timeout_seconds=10**9)


def test_a_task_below_the_main_guard_is_refused_for_worker_processes_when_it_is_built(tmp_path: Path) -> None:
    """Regression: only the worker found out that it could not import the task, once per attempt."""
    program = tmp_path / "guarded.py"
    program.write_text(
        "import cloaca\n"
        "@cloaca.task(isolation='process')\n"
        "def above(context): ...\n"
        "if __name__ == '__main__':\n"
        "    cloaca.WorkflowBuilder('fine').add_task(above).build()\n"
        "    @cloaca.task(isolation='process')\n"
        "    def below(context): ...\n"
        "    try:\n"
        "        cloaca.WorkflowBuilder('guarded').add_task(below).build()\n"
        "    except cloaca.WorkflowValidationError as error:\n"
        "        print(error)\n"
    )
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=60, check=True)
    assert "task 'below' cannot run in a worker process: it is defined below `if __name__" in run.stdout
