"""Testing helpers for workflows: ``cloaca.testing``, and the pytest fixtures."""

from __future__ import annotations

import textwrap
from pathlib import Path

import cloaca
import pytest
from cloaca.testing import Crash, Runner, VirtualClock, clean_registry

from conftest import LIMIT

pytest_plugins = ["pytester"]


def run(pytester: pytest.Pytester, text: str, **outcomes: int) -> pytest.RunResult:
    """Runs pytest on a project with nothing but this test."""
    pytester.makepyfile(textwrap.dedent(text))
    result = pytester.runpytest_subprocess("-q", timeout=3 * LIMIT)
    result.assert_outcomes(**outcomes)
    return result


def test_each_test_has_a_runner_with_its_own_log(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import os
        import cloaca

        def test_one(cloaca_runner, tmp_path):
            with cloaca.WorkflowBuilder("w"):
                @cloaca.task
                def task(context):
                    context["done"] = True
            assert cloaca_runner.execute("w").final_context["done"]
            assert (tmp_path / "cloaca").is_dir()

        def test_two(cloaca_runner):
            assert cloaca_runner.list_executions() == []
        """,
        passed=2,
    )


def test_the_registry_is_clean_after_each_test(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import cloaca
        import pytest

        @cloaca.task
        def of_the_module():
            return {"at": "module"}

        with cloaca.WorkflowBuilder("of_the_module") as builder:
            builder.add_task(of_the_module)

        def test_one(cloaca_runner):
            @cloaca.task
            def leaked(): ...

            @cloaca.task(id="of_the_module")
            def replaced():
                return {"at": "test"}

            with cloaca.WorkflowBuilder("of_the_module") as builder:
                builder.add_task("of_the_module")
            with cloaca.WorkflowBuilder("leaked") as builder:
                builder.add_task("leaked")
            assert cloaca_runner.execute("of_the_module").final_context["at"] == "test"

        def test_two(cloaca_runner):
            assert cloaca_runner.execute("of_the_module").final_context["at"] == "module"
            with pytest.raises(cloaca.WorkflowValidationError, match="not found in registry"):
                cloaca.WorkflowBuilder("again").add_task("leaked")
            with pytest.raises(cloaca.WorkflowNotFoundError):
                cloaca_runner.execute("leaked")
        """,
        passed=2,
    )


def test_the_clock_of_a_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
        import threading
        import cloaca
        import pytest

        @pytest.fixture
        def cloaca_config():
            return cloaca.DefaultRunnerConfig(workflow_timeout_seconds=None)

        def test_retries_of_a_day(cloaca_runner, cloaca_clock):
            with cloaca.WorkflowBuilder("patient"):
                @cloaca.task(retry_attempts=4, retry_delay_ms=6 * 3_600_000, retry_max_delay_ms=10**9,
                             retry_backoff="fixed")
                def patient(context, handle):
                    if handle.attempt < 4:
                        raise ConnectionError

            execution = cloaca_runner.submit("patient")
            cloaca_clock.advance(6 * 3600)
            assert execution.status == "Waiting"
            cloaca_clock.advance(24 * 3600)
            result = execution.result(10)
            assert result.status == "Completed"
            assert result.tasks["patient"].attempts == 4
            assert 12 * 3600 < result.duration.total_seconds() < 31 * 3600

        def test_a_timeout_of_an_hour(cloaca_clock, cloaca_runner):
            over = threading.Event()
            with cloaca.WorkflowBuilder("stuck"):
                @cloaca.task(timeout_seconds=3600, retry_attempts=1)
                def stuck():
                    over.wait(30)

            execution = cloaca_runner.submit("stuck")
            cloaca_clock.advance(3599)
            assert execution.status == "Running"
            cloaca_clock.advance(1)
            assert execution.result(10).status == "Failed"
            over.set()
        """,
        passed=2,
    )
    # Virtual days pass in moments: the run waits for nothing but the machine.
    assert result.duration < 3 * LIMIT


def test_a_crash_after_every_event_of_a_workflow(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
        import cloaca
        import pytest

        @pytest.mark.parametrize("seq", range(9))
        def test_resumes(crash_after, cloaca_runner, tmp_path, seq):
            with cloaca.WorkflowBuilder("etl"):
                @cloaca.task
                def extract(context):
                    with (tmp_path / "effects").open("a") as file:
                        file.write("extract ")
                    return {"rows": [1, 2]}

                @cloaca.task(dependencies=[extract])
                def load(context):
                    with (tmp_path / "effects").open("a") as file:
                        file.write("load ")
                    return {"loaded": len(context["rows"])}

            with crash_after(seq) as crash:
                cloaca_runner.execute("etl", {"day": 1})
            assert crash.seq >= seq
            recovered = cloaca_runner.get_execution(crash.execution_id)
            result = recovered.result(10)
            assert result.status == "Completed"
            assert result.final_context.to_dict() == {"day": 1, "rows": [1, 2], "loaded": 2}
            kinds = [event.kind for event in result.history().events]
            if crash.seq < len(kinds) - 1:
                assert cloaca_runner.recovered == [recovered]
                assert kinds.index("ExecutionRecovered") == crash.seq + 1
            effects = (tmp_path / "effects").read_text().split()
            # A task whose completion is in the log does not run again.
            completed = kinds[: crash.seq + 1].count("TaskCompleted")
            assert effects.count("extract") == 1 or completed == 0
            assert effects[-1] == "load"
        """,
        passed=9,
    )


def test_unused_fixtures_import_nothing(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-q", timeout=3 * LIMIT)
    result.stdout.fnmatch_lines(["cloaca_clock*", "cloaca_runner*", "crash_after*"])
    run(
        pytester,
        """
        import sys

        def test_without_cloaca():
            assert "cloaca.runner" not in sys.modules
            assert "asyncio" not in sys.modules or "cloaca.runner" not in sys.modules
        """,
        passed=1,
    )


def define() -> None:
    with cloaca.WorkflowBuilder("one"):

        @cloaca.task
        def only(context: cloaca.Context) -> None:
            context["done"] = True


def test_a_crash_that_never_happens_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloaca.testing._CRASH_TIMEOUT", 0.01)
    define()
    with (
        Runner(str(tmp_path / "log")) as runner,
        pytest.raises(AssertionError, match="no execution reached event 100"),
        runner.crash_after(100),
    ):
        assert runner.execute("one", timeout=LIMIT).status == "Completed"


def test_exceptions_of_the_block_pass_through(tmp_path: Path) -> None:
    with Runner(str(tmp_path / "log")) as runner, pytest.raises(ZeroDivisionError), runner.crash_after(1):
        raise ZeroDivisionError


def test_a_crash_without_a_wait(tmp_path: Path) -> None:
    define()
    with Runner(str(tmp_path / "log")) as runner:
        with runner.crash_after(2) as crash:
            execution = runner.submit("one")
        assert crash.execution_id == execution.id
        assert repr(crash) == f"Crash(execution_id={execution.id!r}, seq={crash.seq})"
        assert execution.result(LIMIT).status == "Completed"


@pytest.mark.parametrize("seq", [-1, True, 1.0, "1"])
def test_invalid_event_numbers_are_refused(tmp_path: Path, seq: int) -> None:
    with (
        Runner(str(tmp_path / "log")) as runner,
        pytest.raises(ValueError, match="seq must be an int of at least 0"),
        runner.crash_after(seq),
    ):
        pass


def test_a_log_in_memory_does_not_outlive_a_crash() -> None:
    with (
        Runner(":memory:") as runner,
        pytest.raises(cloaca.ConfigurationError, match="create the runner with a path"),
        runner.crash_after(1),
    ):
        pass


def test_a_restart_resumes_unfinished_executions(tmp_path: Path) -> None:
    with cloaca.WorkflowBuilder("resumed"):

        @cloaca.task(retry_delay_ms=3_600_000)
        def patient(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if handle.attempt == 1:
                raise ConnectionError

    clock = VirtualClock()
    with Runner(str(tmp_path / "log"), clock=clock) as runner:
        assert runner.clock is clock
        execution = runner.submit("resumed")
        clock.advance(1)
        runner.restart()
        assert runner.recovered == [execution]
        clock.advance(2 * 3600)
        assert execution.result(LIMIT).status == "Completed"


def test_clean_registry() -> None:
    with clean_registry():
        define()
        assert cloaca.WorkflowBuilder("two").name == "two"
    with cloaca.DefaultRunner(":memory:") as runner, pytest.raises(cloaca.WorkflowNotFoundError):
        runner.execute("one")


def test_no_crash_yet() -> None:
    assert (Crash().execution_id, Crash().seq) == ("", -1)
