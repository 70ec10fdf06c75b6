"""Messages of the engine arrive in `logging`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cloaca
import pytest
from cloaca import _logging
from cloaca._loop import _new_loop

from conftest import LIMIT


def undeclared() -> None:
    with cloaca.WorkflowBuilder("undeclared"):

        @cloaca.task
        def writer(context: cloaca.Context) -> None:
            context["n"] = 1

        @cloaca.task(dependencies=[writer])
        def after() -> None: ...

        @cloaca.task(retry_delay_ms=20, retry_jitter=False)
        def reader(context: cloaca.Context) -> None:
            assert context["n"] == 1


def test_a_warning_is_logged_before_execute_returns(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    undeclared()
    assert runner.execute("undeclared").status == "Completed"
    runner.shutdown()
    records = [record for record in caplog.records if record.name.startswith("cloaca.engine")]
    assert all(record.levelno >= logging.WARNING for record in records)
    messages = [record.getMessage() for record in records]
    logged = [message for message in messages if "`reader` reads `n`, which `writer` writes" in message]
    assert logged == ["`reader` reads `n`, which `writer` writes: add it to its dependencies"]


def test_the_fields_of_a_warning_are_on_its_record(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    undeclared()
    runner.execute("undeclared")
    runner.shutdown()
    [record] = [record for record in caplog.records if "`reader` reads" in record.getMessage()]
    named = {name: getattr(record, name) for name in ("workflow", "task", "key", "writer")}
    assert named == {"workflow": "undeclared", "task": "reader", "key": "n", "writer": "writer"}


def test_a_plain_message_is_followed_by_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    fields = [("error", "no % space"), ("name", "x")]
    _logging._emit(logging.ERROR, "cloaca.engine", "it could not be shut down in order", fields)
    [record] = caplog.records
    assert record.getMessage() == "it could not be shut down in order error=no % space name=x"
    assert (record.error, record.name) == ("no % space", "cloaca.engine")  # type: ignore[attr-defined]


def test_without_logging_configuration_warnings_are_plain_sentences(
    run_python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = run_python("""
        import cloaca

        with cloaca.WorkflowBuilder("plain"):
            @cloaca.task
            def writer(context):
                context["n"] = 1
            @cloaca.task(dependencies=["writer"])
            def after(): ...
            @cloaca.task(retry_delay_ms=20, retry_jitter=False)
            def reader(context):
                assert context["n"] == 1

        with cloaca.DefaultRunner(":memory:") as runner:
            assert runner.execute("plain").status == "Completed"
    """)
    assert done.stderr == "`reader` reads `n`, which `writer` writes: add it to its dependencies\n"


def test_levels_are_those_of_logging(runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture) -> None:
    undeclared()
    with caplog.at_level(logging.ERROR, "cloaca"):
        assert runner.execute("undeclared").status == "Completed"
        runner.shutdown()
    assert not caplog.records


def test_a_handler_may_use_the_runner(runner: cloaca.DefaultRunner) -> None:
    undeclared()
    seen = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(len(runner.list_executions()))

    handler = Handler()
    logging.getLogger("cloaca").addHandler(handler)
    try:
        runner.execute("undeclared")
    finally:
        logging.getLogger("cloaca").removeHandler(handler)
    assert seen


def test_a_failed_task_is_a_warning_with_the_command_to_run(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    """Regression: a failed task was invisible unless the program looked at the result."""
    with cloaca.WorkflowBuilder("sad"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def broken() -> None:
            raise ValueError("no luck")

    result = runner.execute("sad")
    logged = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in logged] == [
        "task 'broken' of workflow 'sad' failed in attempt 2: ValueError: no luck "
        f"(replay {result.execution_id} explain broken)"
    ]
    assert (logged[0].task, logged[0].attempt) == ("broken", "2")  # type: ignore[attr-defined]


def test_the_progress_of_an_execution_is_logged_at_lower_levels(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    with cloaca.WorkflowBuilder("plain"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def once(handle_less: cloaca.Context) -> None:
            calls.append(1)
            if len(calls) == 1:
                raise ValueError("not yet")

    calls: list[int] = []
    with caplog.at_level(logging.DEBUG, "cloaca"):
        result = runner.execute("plain")
    logged = [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "cloaca.engine.execution"
    ]
    assert logged == [
        ("INFO", f"execution {result.execution_id} of workflow 'plain' started"),
        ("DEBUG", "task 'once' started, attempt 1"),
        ("INFO", "task 'once' of workflow 'plain' failed in attempt 1 and will be retried: ValueError: not yet"),
        ("DEBUG", "task 'once' started, attempt 2"),
        ("DEBUG", "task 'once' completed, attempt 2"),
        ("INFO", f"execution {result.execution_id} of workflow 'plain' completed"),
    ]


class Raises(logging.Filter):
    """A filter that raises on the records of a package, as one that expects a request id does."""

    def __init__(self, error: BaseException, of: str = "cloaca") -> None:
        super().__init__()
        self.error: BaseException | None = error
        self.of = of

    def filter(self, record: logging.LogRecord) -> bool:
        if self.error is not None and record.name.startswith(self.of):
            raise self.error
        return True


@pytest.mark.parametrize("error", [KeyError("request_id"), SystemExit("enough"), GeneratorExit()], ids=repr)
@pytest.mark.parametrize("place", ["filter", "handler", "formatter", "logger"])
def test_logging_code_that_raises_loses_no_result(
    runner: cloaca.DefaultRunner, capsys: pytest.CaptureFixture[str], place: str, error: BaseException
) -> None:
    """Regression: when a filter of the program raised KeyError, `execute` raised that instead of returning the result,
    and the thread that forwards records ended, so that nothing was logged any more."""

    class Handler(logging.StreamHandler):  # type: ignore[type-arg]
        def emit(self, record: logging.LogRecord) -> None:
            if place == "handler":
                raises.filter(record)
            logged.append(self.format(record))

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            if place == "formatter":
                raises.filter(record)
            return super().format(record)

    def odd_callback(*_: object) -> None:
        raise ValueError("in a callback")

    with cloaca.WorkflowBuilder("sad"):

        @cloaca.task(retry_attempts=1, on_failure=odd_callback)
        def broken() -> None:
            raise ValueError("no luck")

    logged: list[str] = []
    raises, handler = Raises(error), Handler()
    handler.setFormatter(Formatter())
    if place == "filter":
        handler.addFilter(raises)
    logger = logging.getLogger("cloaca")
    engine = logging.getLogger("cloaca.engine.execution")
    logger.addHandler(handler)
    if place == "logger":
        engine.addFilter(raises)
    try:
        for _ in range(3):
            assert runner.execute("sad", timeout=LIMIT).status == "Failed"
        assert not [line for line in logged if "no luck" in line]
        assert f"{type(error).__name__}" in capsys.readouterr().err
        raises.error = None
        runner.submit("sad")
        limit = time.monotonic() + LIMIT
        while not [line for line in logged if "no luck" in line]:
            assert time.monotonic() < limit
            time.sleep(0.005)
        assert runner.execute("sad", timeout=LIMIT).status == "Failed"
    finally:
        logger.removeHandler(handler)
        engine.removeFilter(raises)


def test_logging_code_that_raises_on_records_of_asyncio_fails_no_coroutine(runner: cloaca.DefaultRunner) -> None:
    """Regression: asyncio logs its selector when a loop is created; at DEBUG, a filter that raised on that record
    failed the first async task."""
    raises = Raises(KeyError("request_id"), of="asyncio")
    logger = logging.getLogger("asyncio")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addFilter(raises)
    with cloaca.WorkflowBuilder("first_async"):

        @cloaca.task(retry_attempts=1)
        async def first() -> None: ...

    try:
        assert runner.execute("first_async", timeout=LIMIT).status == "Completed"
        assert not logger.disabled
    finally:
        logger.removeFilter(raises)
        logger.setLevel(level)


def test_loops_that_are_made_at_once_leave_the_logger_of_asyncio_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each switched the logger off while it was made; the second found it off, and left it so."""
    make, both = asyncio.new_event_loop, threading.Barrier(2)
    overlaps: list[int] = []

    def slow() -> asyncio.AbstractEventLoop:
        with contextlib.suppress(threading.BrokenBarrierError):
            overlaps.append(both.wait(0.2))
        return make()

    monkeypatch.setattr(asyncio, "new_event_loop", slow)
    with ThreadPoolExecutor(2) as pool:
        for loop in pool.map(lambda _: _new_loop(), range(2)):
            loop.close()
    assert overlaps == []
    assert not logging.getLogger("asyncio").disabled


def test_logging_code_that_raises_keeps_no_runner_from_opening(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_level(self: logging.Logger) -> int:
        raise RuntimeError("no level")

    monkeypatch.setattr(logging.Logger, "getEffectiveLevel", no_level)
    raises = Raises(RuntimeError("no record"))
    logging.getLogger("cloaca.runner").addFilter(raises)
    try:
        with cloaca.DefaultRunner(f"{tmp_path}/log?pool=5") as runner:
            assert not runner.is_shut_down
    finally:
        logging.getLogger("cloaca.runner").removeFilter(raises)
