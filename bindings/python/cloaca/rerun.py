"""Rerunning a task's current code with the recorded context of an attempt."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._cloaca import Context, TaskSpec, changes_of, nearest, take_returned
from ._handle import TaskHandle
from .errors import WorkflowValidationError

if TYPE_CHECKING:
    from .conditions import TaskReference
    from .history import History

__all__ = ["Rerun"]


@dataclass(frozen=True)
class Rerun:
    """The result of calling a task's current code with the recorded context of an attempt.

    Example:
        >>> with cloaca.WorkflowBuilder("share"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def divide(context):
        ...         context["share"] = 100 / context["rows"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("share", {"rows": 0}).history()
        >>> with cloaca.WorkflowBuilder("share"):  # fixed
        ...     @cloaca.task(retry_attempts=1)
        ...     def divide(context):
        ...         context["share"] = 100 / context["rows"] if context["rows"] else None
        >>> rerun = history.rerun("divide")
        >>> rerun.outcome, rerun.error, rerun.writes, rerun.differences
        ('failed', None, {'share': None}, ('share',))
    """

    task: str
    """The task's id."""
    attempt: int
    """The number of the recorded attempt."""
    same: bool
    """Whether the rerun wrote the same values, and failed exactly if the recorded attempt had failed."""
    writes: Mapping[str, Any]
    """The values written by the rerun."""
    recorded: Mapping[str, Any]
    """The values written by the recorded attempt."""
    removed: frozenset[str]
    """The keys removed by the rerun."""
    differences: tuple[str, ...]
    """The keys whose values differ."""
    outcome: str = field(repr=False)
    """The outcome of the recorded attempt: ``completed``, ``failed``, ``running``, ``abandoned`` or ``cancelled``."""
    error: BaseException | None = None
    """The exception raised by the rerun; ``None`` if it raised none."""


def rerun(history: History, task: TaskReference, attempt: int | None) -> Rerun:
    """See [`cloaca.History.rerun`][cloaca.History.rerun]."""
    task_id = history._task_id(task)
    number, _, outcome, context, (recorded, _, _) = history._native.attempt(task_id, attempt)
    spec = _spec(history.workflow_name, task_id)
    error: BaseException | None = None
    try:
        # As in the runner, the task gets its own `contextvars` context, so that it cannot change the caller's.
        handle = TaskHandle(task_id, number, history.execution_id)
        contextvars.Context().run(_call, spec, context, handle)
    except Exception as raised:
        error = raised
    writes = changes_of(context)[0]
    now, then = _normal(writes), _normal(recorded)
    keys = dict.fromkeys([*then, *now])
    differences = tuple(key for key in keys if now.get(key, "") != then.get(key, ""))
    return Rerun(
        task=task_id,
        attempt=number,
        same=not differences and (error is not None) == (outcome == "failed"),
        writes=_values(writes),
        recorded=_values(recorded),
        removed=frozenset(key for key, text in writes if text is None),
        differences=differences,
        outcome=outcome,
        error=error,
    )


def _spec(workflow: str | None, task_id: str) -> TaskSpec:
    """Return the task of the registered workflow, or else of the registry."""
    from ._task import registry
    from .workflow import workflows

    registered = workflows.find(workflow) if workflow is not None else None
    specs = {} if registered is None else {spec.id: spec for spec in registered._native.specs}
    spec, defined = specs.get(task_id), registry.find(task_id)
    if spec is None and defined is not None:
        spec = defined.spec
    if spec is None:
        near = nearest(task_id, [*specs, *registry.names()])
        hint = f"; did you mean '{near}'?" if near else ""
        raise WorkflowValidationError(
            f"no task '{task_id}' is defined in this process (import the module that defines it){hint}", task_id=task_id
        )
    return spec


def _call(spec: TaskSpec, context: Context, handle: TaskHandle) -> None:
    returned = spec.function(*(context, handle)[: spec.parameters])
    if spec.is_async:
        import asyncio

        returned = asyncio.run(returned)
    take_returned(context, returned, spec.id)


def _normal(writes: list[tuple[str, str | None]]) -> dict[str, str | None]:
    """Normalize values as JSON text, to compare them independently of the order of object keys."""
    return {key: None if text is None else Context({"": _value(text)}).to_json() for key, text in writes}


def _values(writes: list[tuple[str, str | None]]) -> dict[str, Any]:
    return {key: _value(text) for key, text in writes if text is not None}


def _value(text: str) -> Any:
    return Context.from_json(f'{{"":{text}}}')[""]
