"""Running a task's code of today on the context of a past attempt."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._cloaca import Context, TaskSpec, deeds_of, nearest, take_returned
from ._handle import TaskHandle
from .errors import WorkflowValidationError

if TYPE_CHECKING:
    from .conditions import TaskReference
    from .history import History

__all__ = ["Rerun"]


@dataclass(frozen=True)
class Rerun:
    """What a task's code of today does with the context of a past attempt.

    Example:
        >>> with cloaca.WorkflowBuilder("share"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def divide(context):
        ...         context["share"] = 100 / context["rows"]
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("share", {"rows": 0}).history()
        >>> with cloaca.WorkflowBuilder("share"):  # mended
        ...     @cloaca.task(retry_attempts=1)
        ...     def divide(context):
        ...         context["share"] = 100 / context["rows"] if context["rows"] else None
        >>> rerun = history.rerun("divide")
        >>> rerun.outcome, rerun.error, rerun.writes, rerun.differences
        ('failed', None, {'share': None}, ('share',))
    """

    task: str
    """The task."""
    attempt: int
    """The attempt whose context it had."""
    same: bool
    """Whether it wrote the same values, or failed where it had failed."""
    writes: Mapping[str, Any]
    """What it wrote now; a key that it removed is in ``removed``."""
    recorded: Mapping[str, Any]
    """What the attempt wrote then."""
    removed: frozenset[str]
    """The keys that it removed now."""
    differences: tuple[str, ...]
    """The keys where the two differ."""
    outcome: str = field(repr=False)
    """How the attempt ended then: ``completed``, ``failed``, ``running``, ``abandoned`` or ``cancelled``."""
    error: BaseException | None = None
    """What it raised now."""


def rerun(history: History, task: TaskReference, attempt: int | None) -> Rerun:
    """See [`cloaca.History.rerun`][cloaca.History.rerun]."""
    task_id = history._task_id(task)
    number, _, outcome, context, (recorded, _, _) = history._native.attempt(task_id, attempt)
    spec = _spec(history.workflow_name, task_id)
    error: BaseException | None = None
    try:
        # As the runner does: what the task sets in its context of `contextvars` is not the caller's.
        handle = TaskHandle(task_id, number, history.execution_id)
        contextvars.Context().run(_call, spec, context, handle)
    except Exception as raised:
        error = raised
    writes = deeds_of(context)[0]
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
    """The task of the registered workflow, or of the registry."""
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
    """Each value as text in which only a difference of the value is one: the order of an object's keys is none."""
    return {key: None if text is None else Context({"": _value(text)}).to_json() for key, text in writes}


def _values(writes: list[tuple[str, str | None]]) -> dict[str, Any]:
    return {key: _value(text) for key, text in writes if text is not None}


def _value(text: str) -> Any:
    return Context.from_json(f'{{"":{text}}}')[""]
