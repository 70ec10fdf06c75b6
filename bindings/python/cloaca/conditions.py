"""Conditions for ``trigger_rules``, which decide whether a task runs once its dependencies have ended.

>>> import cloaca
>>> cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", ">", 0))
all_of(task_success('load'), context_value('rows', 'GreaterThan', 0))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ._cloaca import checked_condition, shown_condition
from .namespace import TaskNamespace

if TYPE_CHECKING:
    from .literals import Operator

__all__ = [
    "Condition",
    "ConditionTree",
    "all_of",
    "always",
    "any_of",
    "context_value",
    "none_of",
    "task_failed",
    "task_skipped",
    "task_success",
]


class Condition(dict[str, Any]):
    """A condition on upstream tasks and context values, for ``trigger_rules``.

    Created by always(), all_of(), any_of(), none_of(), task_success(), task_failed(), task_skipped() and
    context_value(). It is a dict that equals a plain dict with the same entries, and is serialized like one; its
    ``repr`` shows the calls that create it.

    Example:
        >>> condition = cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", ">", 0))
        >>> condition
        all_of(task_success('load'), context_value('rows', 'GreaterThan', 0))
        >>> condition == cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", "gt", 0))
        True
        >>> import json
        >>> json.dumps(cloaca.task_success("load"))
        '{"type": "TaskSuccess", "task_name": "load"}'
    """

    @staticmethod
    def parse(tree: ConditionTree) -> Condition:
        """Return the condition that a plain dict describes, with the operators' full names.

        Raises:
            TypeError, ValueError: The dict is not a condition; the message names what is missing or unknown, and the
                valid choices.

        Example:
            >>> cloaca.Condition.parse({"type": "ContextValue", "key": "rows", "operator": ">", "value": 0})
            context_value('rows', 'GreaterThan', 0)
            >>> cloaca.Condition.parse({"type": "TaskSuccess"})
            Traceback (most recent call last):
            ValueError: a TaskSuccess needs the entry 'task_name'
        """
        return Condition(checked_condition(tree))

    def __repr__(self) -> str:
        try:
            return shown_condition(self)
        except (TypeError, ValueError):
            # The dict was modified and is no longer a valid condition.
            return dict.__repr__(self)


ConditionTree: TypeAlias = Condition | Mapping[str, Any]
"""A condition, or a plain dict that describes one: ``{"type": "TaskSuccess", "task_name": "load"}``."""
TaskReference: TypeAlias = str | TaskNamespace | Callable[..., Any]
"""A task: its id, its full id (``tenant::package::workflow::task``), or the decorated function."""


def always() -> Condition:
    """Return a condition that always holds.

    Example:
        >>> cloaca.always()
        always()
    """
    return Condition.parse({"type": "Always"})


def all_of(*conditions: ConditionTree) -> Condition:
    """Return a condition that holds if all conditions hold, or if there are none.

    Example:
        >>> cloaca.all_of(cloaca.task_success("load"), {"type": "TaskSkipped", "task_name": "check"})
        all_of(task_success('load'), task_skipped('check'))
    """
    return Condition.parse({"type": "All", "conditions": conditions})


def any_of(*conditions: ConditionTree) -> Condition:
    """Return a condition that holds if at least one of the conditions holds.

    Example:
        >>> cloaca.any_of(cloaca.task_failed("load"), cloaca.task_skipped("load"))
        any_of(task_failed('load'), task_skipped('load'))
    """
    return Condition.parse({"type": "Any", "conditions": conditions})


def none_of(*conditions: ConditionTree) -> Condition:
    """Return a condition that holds if none of the conditions holds.

    Example:
        >>> cloaca.none_of(cloaca.context_value("dry_run", "exists"))
        none_of(context_value('dry_run', 'Exists'))
    """
    return Condition.parse({"type": "None", "conditions": conditions})


def task_success(task_name: TaskReference) -> Condition:
    """Return a condition that holds if the task completed. Takes an id, a full id or the decorated function.

    Example:
        >>> cloaca.task_success("load")
        task_success('load')
    """
    return _on_task("TaskSuccess", task_name)


def task_failed(task_name: TaskReference) -> Condition:
    """Return a condition that holds if the task finally failed. Takes an id, a full id or the decorated function.

    Example:
        >>> cloaca.task_failed("load")
        task_failed('load')
    """
    return _on_task("TaskFailed", task_name)


def task_skipped(task_name: TaskReference) -> Condition:
    """Return a condition that holds if the task was skipped. Takes an id, a full id or the decorated function.

    Example:
        >>> cloaca.task_skipped("load")
        task_skipped('load')
    """
    return _on_task("TaskSkipped", task_name)


def context_value(key: str, operator: Operator, value: Any = None) -> Condition:
    """Return a condition that compares the value of a context key, as the task would see it.

    Args:
        key: The context key.
        operator: Equals, NotEquals, GreaterThan, LessThan, Contains, NotContains, Exists or NotExists, in any case and
            with or without ``_``; or ``== != > <``, ``eq ne gt lt``.
        value: The value to compare with; ignored for Exists and NotExists.

    Raises:
        ValueError: The operator is unknown.
        TypeError: The value is not a JSON value.

    Example:
        >>> cloaca.context_value("rows", ">", 100)
        context_value('rows', 'GreaterThan', 100)
    """
    return Condition.parse({"type": "ContextValue", "key": key, "operator": operator, "value": value})


def _on_task(kind: str, task: TaskReference) -> Condition:
    from ._references import task_id_of

    return Condition.parse({"type": kind, "task_name": task_id_of(task)})
