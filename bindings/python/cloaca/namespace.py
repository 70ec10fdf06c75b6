"""Full names of tasks: tenant, package, workflow and task."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

__all__ = ["TaskNamespace", "WorkflowContext"]

_SEPARATOR = "::"


def plain_id(task_id: str, workflow: WorkflowContext, known: Container[str]) -> str:
    """Return the plain id for a full id of a task of the workflow.

    Other ids are returned unchanged: plain ids, ids in ``known``, and full ids of other workflows.
    """
    if task_id in known:
        return task_id
    return task_id.removeprefix(f"{workflow.workflow_namespace()}{_SEPARATOR}")


def is_full_id(task_id: str) -> bool:
    """Return whether the id has the form ``tenant::package::workflow::task``."""
    parts = task_id.split(_SEPARATOR)
    return len(parts) == 4 and all(parts)


class TaskNamespace:
    """The full name of a task: ``tenant::package::workflow::task``.

    Example:
        >>> load = cloaca.TaskNamespace("acme", "sales", "etl", "load")
        >>> str(load), load == cloaca.TaskNamespace.from_string("acme::sales::etl::load")
        ('acme::sales::etl::load', True)
    """

    __slots__ = ("_parts",)

    def __init__(self, tenant_id: str, package_name: str, workflow_id: str, task_id: str) -> None:
        for part in (tenant_id, package_name, workflow_id, task_id):
            if not isinstance(part, str):
                raise TypeError(f"the parts of a namespace must be str, not {part!r}")
        self._parts = (tenant_id, package_name, workflow_id, task_id)

    @staticmethod
    def from_string(namespace_str: str) -> TaskNamespace:
        """Parse a full name.

        Raises:
            ValueError: The name does not have four parts.

        Example:
            >>> cloaca.TaskNamespace.from_string("acme::sales::etl::load").package_name
            'sales'
            >>> cloaca.TaskNamespace.from_string("etl::load")
            Traceback (most recent call last):
            ValueError: Invalid namespace format: 'etl::load' is not of the form tenant::package::workflow::task
        """
        if not is_full_id(namespace_str):
            raise ValueError(
                f"Invalid namespace format: '{namespace_str}' is not of the form tenant::package::workflow::task"
            )
        return TaskNamespace(*namespace_str.split(_SEPARATOR))

    @property
    def tenant_id(self) -> str:
        """The tenant's id.

        Example:
            >>> load.tenant_id
            'acme'
        """
        return self._parts[0]

    @property
    def package_name(self) -> str:
        """The package's name.

        Example:
            >>> load.package_name
            'sales'
        """
        return self._parts[1]

    @property
    def workflow_id(self) -> str:
        """The workflow's id.

        Example:
            >>> load.workflow_id
            'etl'
        """
        return self._parts[2]

    @property
    def task_id(self) -> str:
        """The task's id; empty in the namespace of a workflow.

        Example:
            >>> load.task_id, load.parent().task_id
            ('load', '')
        """
        return self._parts[3]

    def parent(self) -> TaskNamespace:
        """Return the namespace of the workflow: the same without the task.

        Example:
            >>> str(load.parent())
            'acme::sales::etl'
        """
        return TaskNamespace(*self._parts[:3], "")

    def is_child_of(self, parent: TaskNamespace) -> bool:
        """Return whether this is a task of the workflow with the namespace ``parent``.

        Example:
            >>> load.is_child_of(load.parent()), load.is_child_of(load)
            (True, False)
        """
        return bool(self.task_id) and self.parent() == parent

    def is_sibling_of(self, other: TaskNamespace) -> bool:
        """Return whether both are tasks of the same workflow.

        Example:
            >>> load.is_sibling_of(cloaca.TaskNamespace("acme", "sales", "etl", "extract"))
            True
        """
        return self._parts[:3] == other._parts[:3]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskNamespace) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __reduce__(self) -> tuple[type[TaskNamespace], tuple[str, str, str, str]]:
        return TaskNamespace, self._parts

    def __str__(self) -> str:
        return _SEPARATOR.join(part for part in self._parts if part or part is not self._parts[3])

    def __repr__(self) -> str:
        return f"TaskNamespace({', '.join(repr(part) for part in self._parts)})"


class WorkflowContext(NamedTuple):
    """The namespace of a workflow: the prefix of its tasks' full names.

    Example:
        >>> sales = cloaca.WorkflowContext("acme", "sales", "etl")
        >>> sales.tenant_id, sales.package_name, sales.workflow_id
        ('acme', 'sales', 'etl')
    """

    tenant_id: str
    """The tenant's id."""
    package_name: str
    """The package's name."""
    workflow_id: str
    """The workflow's id."""

    @staticmethod
    def default() -> WorkflowContext:
        """Return the default namespace.

        Example:
            >>> cloaca.WorkflowContext.default().workflow_namespace()
            'public::embedded::default'
        """
        return WorkflowContext("public", "embedded", "default")

    def task_namespace(self, task_id: str) -> TaskNamespace:
        """Return the full name of a task of this workflow.

        Example:
            >>> str(sales.task_namespace("load"))
            'acme::sales::etl::load'
        """
        return TaskNamespace(self.tenant_id, self.package_name, self.workflow_id, task_id)

    def resolve_dependency(self, task_name: str) -> TaskNamespace:
        """Return the full name of a dependency. A plain id refers to a task of this workflow.

        Raises:
            ValueError: The name contains ``::`` but does not have four parts.

        Example:
            >>> str(sales.resolve_dependency("load")), str(sales.resolve_dependency("acme::stock::etl::count"))
            ('acme::sales::etl::load', 'acme::stock::etl::count')
        """
        if _SEPARATOR in task_name:
            return TaskNamespace.from_string(task_name)
        return self.task_namespace(task_name)

    def workflow_namespace(self) -> str:
        """Return the namespace as ``tenant::package::workflow``.

        Example:
            >>> sales.workflow_namespace()
            'acme::sales::etl'
        """
        return _SEPARATOR.join(self)

    def contains_namespace(self, namespace: TaskNamespace) -> bool:
        """Return whether a full name belongs to a task of this workflow.

        Example:
            >>> sales.contains_namespace(sales.task_namespace("load"))
            True
            >>> sales.contains_namespace(cloaca.TaskNamespace("acme", "stock", "etl", "load"))
            False
        """
        return (namespace.tenant_id, namespace.package_name, namespace.workflow_id) == tuple(self)
