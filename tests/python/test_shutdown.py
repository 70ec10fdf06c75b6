"""A runner that is shut down: what it still does, and what the next one finds."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT


def test_after_shutdown_nothing_is_started(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("down"):

        @cloaca.task
        def task() -> None: ...

    runner.shutdown()
    runner.shutdown()
    with pytest.raises(cloaca.Error, match="shut down"):
        runner.execute("down")
    assert repr(runner) == "DefaultRunner(':memory:', durability='sync', shut down)"


class ShutdownFails(cloaca.DefaultRunner):
    """A runner whose log fails last."""

    def shutdown(self) -> None:
        super().shutdown()
        raise cloaca.LogError("the disk went away")


def test_an_error_of_the_block_is_not_replaced_by_one_of_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError, match="of the program"), ShutdownFails(":memory:") as runner:
        raise KeyError("of the program")
    assert repr(runner).endswith("shut down)")
    assert "the disk went away" in caplog.text


def test_an_error_of_the_shutdown_is_raised_if_there_is_no_other() -> None:
    with pytest.raises(cloaca.LogError, match="the disk went away"), ShutdownFails(":memory:"):
        pass


def test_shutdown_wakes_who_waits() -> None:
    release = threading.Event()
    with cloaca.WorkflowBuilder("wakes"):

        @cloaca.task
        def task() -> None:
            release.wait(LIMIT)

    runner = cloaca.DefaultRunner(":memory:")
    execution = runner.submit("wakes")
    caught = []

    def wait() -> None:
        try:
            execution.result()
        except cloaca.Error as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    runner._shutdown(0.05)
    thread.join(LIMIT)
    release.set()
    assert "shut down before" in str(caught[0])
    assert caught[0].execution_id == execution.id


def test_what_one_runner_left_the_next_one_finishes(tmp_path: Path) -> None:
    first_run, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("left"):

        @cloaca.task
        def done(context: cloaca.Context) -> dict[str, int]:
            return {"done": context.get("done", 0) + 1}

        @cloaca.task(dependencies=[done])
        def interrupted(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            if not first_run.is_set():
                first_run.set()
                release.wait(LIMIT)
                return
            context["attempt"] = handle.attempt

    path = tmp_path / "log"
    runner = cloaca.DefaultRunner(f"cloaca:///{path}")
    execution = runner.submit("left")
    assert first_run.wait(LIMIT)
    runner._shutdown(0.0)
    release.set()
    with cloaca.DefaultRunner(str(path)) as second:
        assert [recovered.id for recovered in second.recovered] == [execution.id]
        result = second.recovered[0].result(LIMIT)
        assert result.final_context == {"done": 1, "attempt": 2}
