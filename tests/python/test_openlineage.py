"""``replay ID export --to openlineage``: OpenLineage's own client reads it, and writes the same again."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cloaca
import pytest
from openlineage.client.generated import base
from openlineage.client.generated.error_message_run import ErrorMessageRunFacet
from openlineage.client.generated.parent_run import Job as ParentJob
from openlineage.client.generated.parent_run import ParentRunFacet
from openlineage.client.generated.parent_run import Run as ParentRun
from openlineage.client.serde import Serde

LIMIT = 30.0


def exported(directory: Path, execution: str) -> list[dict[str, Any]]:
    program = Path(sys.executable).with_name("replay")
    words = [program, "--log", "log", execution, "export", "--to", "openlineage"]
    done = subprocess.run(words, cwd=directory, capture_output=True, text=True, timeout=LIMIT, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def facet(name: str, fields: dict[str, Any]) -> base.RunFacet:
    """Builds a facet with the client's class, which refuses unknown fields."""
    fields = {key: value for key, value in fields.items() if key != "_schemaURL"}
    producer = fields.pop("_producer")
    if name == "parent":
        run, job = ParentRun(**fields.pop("run")), ParentJob(**fields.pop("job"))
        return ParentRunFacet(run=run, job=job, producer=producer, **fields)
    assert name == "errorMessage"
    return ErrorMessageRunFacet(producer=producer, **fields)


def event(written: dict[str, Any]) -> base.RunEvent:
    """Builds an event with the client's classes, which check ids and times and refuse unknown fields."""
    fields = copy.deepcopy({key: value for key, value in written.items() if key != "schemaURL"})
    run, job = fields.pop("run"), fields.pop("job")
    facets = {name: facet(name, value) for name, value in run.pop("facets").items()}
    return base.RunEvent(
        eventType=base.EventType(fields.pop("eventType")),
        run=base.Run(facets=facets, **run),
        job=base.Job(**job),
        inputs=[base.InputDataset(**data) for data in fields.pop("inputs")],
        outputs=[base.OutputDataset(**data) for data in fields.pop("outputs")],
        **fields,
    )


def bare(value: Any) -> Any:
    """Removes the empty facets that the client adds, and we omit."""
    if isinstance(value, dict):
        empty = {"facets", "inputFacets", "outputFacets"}
        return {key: bare(of) for key, of in value.items() if not (key in empty and of == {})}
    return [bare(of) for of in value] if isinstance(value, list) else value


@pytest.fixture
def executions(tmp_path: Path) -> list[str]:
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task
        def extract(context: cloaca.Context) -> None:
            context.set("rows", [1, 2, 3])

        @cloaca.task(dependencies=[extract], retry_attempts=2, retry_delay_ms=1)
        def load(context: cloaca.Context) -> None:
            if context.get("broken"):
                message = f"{len(context.get('rows'))} bad rows"
                raise ValueError(message)
            context.set("loaded", True)

    with cloaca.DefaultRunner(str(tmp_path / "log")) as runner:
        return [runner.execute("etl", {"broken": broken}).execution_id for broken in (False, True)]


def test_the_published_client_writes_the_same_events(tmp_path: Path, executions: list[str]) -> None:
    for execution in executions:
        events = exported(tmp_path, execution)
        assert len(events) >= 6
        for written in events:
            assert bare(Serde.to_dict(event(written))) == bare(written)


def test_the_client_refuses_invalid_events(tmp_path: Path, executions: list[str]) -> None:
    first = exported(tmp_path, executions[0])[1]
    for broken in (
        {**first, "eventTime": "yesterday"},
        {**first, "eventType": "BEGIN"},
        {**first, "more": 1},
        {**first, "run": {**first["run"], "runId": "7"}},
    ):
        with pytest.raises((ValueError, TypeError)):
            event(json.loads(json.dumps(broken)))
