"""Resolution of references to tasks: an id, or a decorated function.

Decorators return the function unchanged, so a function decorated under two ids is an ambiguous reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple

from ._scope import MODULE_LEVEL, Scope, innermost
from .errors import WorkflowValidationError
from .namespace import TaskNamespace

if TYPE_CHECKING:
    from .conditions import TaskReference

_MAX_NAMED = 5


class Reference(NamedTuple):
    """A resolved reference to a task."""

    task_id: str
    scope: Scope | None
    """The scope that the task is defined in; ``None`` if the reference is an id."""


class _Tasks:
    """The tasks defined from one function."""

    __slots__ = ("by_name", "owner")

    def __init__(self, owner: object = None) -> None:
        # `functools.wraps` copies attributes to the wrapper, which is another function.
        self.owner = id(owner)
        # By workflow and id: a block that runs again defines the same task.
        self.by_name: dict[tuple[str | None, str], Reference] = {}

    def __reduce__(self) -> tuple[type[_Tasks], tuple[()]]:
        return _Tasks, ()


_ATTRIBUTE = "__cloaca_tasks__"
_lock = threading.Lock()
# The tasks of functions that accept no attributes, such as bound methods and built-in functions. The functions are kept
# alive so that their ids are not reused.
_others: dict[tuple[int, int], tuple[object, _Tasks]] = {}


def remember(function: Callable[..., Any], task_id: str, scope: Scope) -> None:
    """Record that a task was defined from a function."""
    functions = [function]
    if isinstance(function, staticmethod):
        # Accessing a static method through its class returns this function.
        functions.append(function.__func__)
    with _lock:
        for each in functions:
            _tasks_of(each).by_name[(scope.workflow, task_id)] = Reference(task_id, scope)


def _tasks_of(function: Any) -> _Tasks:
    if not isinstance(function, MethodType):
        tasks = getattr(function, _ATTRIBUTE, None)
        if isinstance(tasks, _Tasks) and tasks.owner == id(function):
            return tasks
        tasks = _Tasks(function)
        try:
            setattr(function, _ATTRIBUTE, tasks)
        except (AttributeError, TypeError):
            pass
        else:
            return tasks
    return _others.setdefault(_key(function), (function, _Tasks(function)))[1]


def _key(function: object) -> tuple[int, int]:
    # Each access to a method creates a new object.
    if isinstance(function, MethodType):
        return id(function.__self__), id(function.__func__)
    return id(function), 0


def _references_to(function: object) -> list[Reference]:
    with _lock:
        known = _others.get(_key(function))
        tasks = known[1] if known is not None else getattr(function, _ATTRIBUTE, None)
        return list(tasks.by_name.values()) if isinstance(tasks, _Tasks) else []


def resolve(reference: TaskReference, scope: Scope | None = None) -> Reference:
    """Resolve an id or a decorated function to a task.

    Args:
        reference: The id or the function.
        scope: The scope of the reference; by default the enclosing block.

    Raises:
        TypeError: The reference is neither an id nor a function.
        ValueError: The function is not decorated, defines several tasks, or belongs to another workflow.
    """
    if isinstance(reference, (str, TaskNamespace)):
        return Reference(str(reference), None)
    if not callable(reference):
        raise TypeError(
            f"a task is referenced by a string task ID or a function object, not by {type(reference).__name__} "
            f"({reference!r})"
        )
    name = shown(reference)
    candidates = _references_to(reference)
    if not candidates:
        raise ValueError(_not_a_task(reference, name))
    if len({task.task_id for task in candidates}) > 1:
        raise WorkflowValidationError(
            f"function '{name}' is {len(candidates)} tasks: {_listed(candidates)}. The function does not say which one "
            f"is meant; use the id, such as '{candidates[-1].task_id}'"
        )
    if scope is None:
        collector = innermost()
        scope = collector._scope if collector is not None else None
    if scope is None:
        return next((task for task in candidates if task.scope is MODULE_LEVEL), candidates[-1])
    for preferred in (scope, MODULE_LEVEL):
        for task in candidates:
            if task.scope is preferred:
                return task
    raise WorkflowValidationError(
        f"function '{name}' is task {_listed(candidates)}, and no task of workflow '{scope.workflow}'. Define it in "
        f"this workflow too, or decorate it outside of any `with` block and add it to both with add_task",
        workflow=scope.workflow,
        task_id=candidates[-1].task_id,
    )


def task_id_of(reference: TaskReference) -> str:
    """Resolve an id or a decorated function to the id of a task.

    Raises:
        TypeError, ValueError: See `resolve`.
    """
    return resolve(reference).task_id


def shown(reference: object) -> str:
    """Return a function's name for messages."""
    return getattr(reference, "__name__", None) or repr(reference)


def _listed(references: list[Reference]) -> str:
    named = [f"'{task.task_id}' {task.scope}" for task in references[:_MAX_NAMED]]
    if len(references) > _MAX_NAMED:
        named.append(f"{len(references) - _MAX_NAMED} more")
    return ", ".join(named)


def _not_a_task(function: Callable[..., Any], name: str) -> str:
    if isinstance(function, MethodType):
        return (
            f"method '{name}' of {type(function.__self__).__name__} is not a task. Make it one with "
            f"cloaca.task(id=...)(the_object.{name}), and use that id"
        )
    return f"function '{name}' is not a task; decorate it with @cloaca.task"
