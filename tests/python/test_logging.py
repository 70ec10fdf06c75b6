"""What the engine says arrives in `logging`."""

from __future__ import annotations

import logging

import cloaca
import pytest


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


def test_a_warning_is_there_when_execute_returns(
    runner: cloaca.DefaultRunner, caplog: pytest.LogCaptureFixture
) -> None:
    undeclared()
    assert runner.execute("undeclared").status == "Completed"
    runner.shutdown()
    records = [record for record in caplog.records if record.name.startswith("cloaca.engine")]
    assert all(record.levelno >= logging.WARNING for record in records)
    messages = [record.getMessage() for record in records]
    told = [message for message in messages if "`reader` reads `n`, which `writer` writes" in message]
    assert len(told) == 1
    assert "add it to its dependencies" in told[0]


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
