"""Which task a function means.

Decorated functions come back unchanged, so a function that was decorated under two ids names neither task.
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

_NAMED_AT_MOST = 5


class Reference(NamedTuple):
    """The task that a reference means."""

    task_id: str
    scope: Scope | None
    """Where that task was defined; ``None`` if an id was written."""


class _Made:
    """The tasks that were made from a function."""

    __slots__ = ("by_name", "owner")

    def __init__(self, owner: object = None) -> None:
        # A wrapper made with `functools.wraps` gets the attributes of what it wraps, but is another function.
        self.owner = id(owner)
        # By workflow and id: a block that runs again makes the same task.
        self.by_name: dict[tuple[str | None, str], Reference] = {}

    def __reduce__(self) -> tuple[type[_Made], tuple[()]]:
        return _Made, ()


_ATTRIBUTE = "__cloaca_tasks__"
_lock = threading.Lock()
# Of what takes no attributes, such as bound methods and built-in functions. Kept alive, so that their ids stay theirs.
_others: dict[tuple[int, int], tuple[object, _Made]] = {}


def remember(function: Callable[..., Any], task_id: str, scope: Scope) -> None:
    """Records that a function was made a task."""
    functions = [function]
    if isinstance(function, staticmethod):
        # What its class gives for its name.
        functions.append(function.__func__)
    with _lock:
        for each in functions:
            _own(each).by_name[(scope.workflow, task_id)] = Reference(task_id, scope)


def _own(function: Any) -> _Made:
    if not isinstance(function, MethodType):
        made = getattr(function, _ATTRIBUTE, None)
        if isinstance(made, _Made) and made.owner == id(function):
            return made
        made = _Made(function)
        try:
            setattr(function, _ATTRIBUTE, made)
        except (AttributeError, TypeError):
            pass
        else:
            return made
    return _others.setdefault(_key(function), (function, _Made(function)))[1]


def _key(function: object) -> tuple[int, int]:
    # Each access to a method makes another object.
    if isinstance(function, MethodType):
        return id(function.__self__), id(function.__func__)
    return id(function), 0


def _made_from(function: object) -> list[Reference]:
    with _lock:
        known = _others.get(_key(function))
        made = known[1] if known is not None else getattr(function, _ATTRIBUTE, None)
        return list(made.by_name.values()) if isinstance(made, _Made) else []


def resolve(reference: TaskReference, scope: Scope | None = None) -> Reference:
    """Returns the task that an id or a decorated function means.

    Args:
        reference: The id or the function.
        scope: Where it is written; the block around the caller by default.

    Raises:
        TypeError: It is neither.
        ValueError: The function is not decorated, is several tasks, or is one of another workflow.
    """
    if isinstance(reference, (str, TaskNamespace)):
        return Reference(str(reference), None)
    if not callable(reference):
        raise TypeError(
            f"a task is named by a string task ID or a function object, not by {type(reference).__name__} "
            f"({reference!r})"
        )
    name = shown(reference)
    made = _made_from(reference)
    if not made:
        raise ValueError(_not_a_task(reference, name))
    if len({task.task_id for task in made}) > 1:
        raise WorkflowValidationError(
            f"function '{name}' is {len(made)} tasks: {_listed(made)}. The function does not say which one is meant; "
            f"write the id, such as '{made[-1].task_id}'"
        )
    if scope is None:
        around = innermost()
        scope = around._scope if around is not None else None
    if scope is None:
        return next((task for task in made if task.scope is MODULE_LEVEL), made[-1])
    for where in (scope, MODULE_LEVEL):
        for task in made:
            if task.scope is where:
                return task
    raise WorkflowValidationError(
        f"function '{name}' is task {_listed(made)}, and no task of workflow '{scope.workflow}'. Define it in this "
        f"workflow too, or decorate it outside of any `with` block and add it to both with add_task",
        workflow=scope.workflow,
        task_id=made[-1].task_id,
    )


def task_id_of(reference: TaskReference) -> str:
    """Returns the id of the task that an id or a decorated function means.

    Raises:
        TypeError, ValueError: See `resolve`.
    """
    return resolve(reference).task_id


def shown(reference: object) -> str:
    """Returns a function's name for messages."""
    return getattr(reference, "__name__", None) or repr(reference)


def _listed(made: list[Reference]) -> str:
    named = [f"'{task.task_id}' {task.scope}" for task in made[:_NAMED_AT_MOST]]
    if len(made) > _NAMED_AT_MOST:
        named.append(f"{len(made) - _NAMED_AT_MOST} more")
    return ", ".join(named)


def _not_a_task(function: Callable[..., Any], name: str) -> str:
    if isinstance(function, MethodType):
        return (
            f"method '{name}' of {type(function.__self__).__name__} is not a task. Make it one with "
            f"cloaca.task(id=...)(the_object.{name}), and write that id"
        )
    return f"function '{name}' is not a task; decorate it with @cloaca.task"
