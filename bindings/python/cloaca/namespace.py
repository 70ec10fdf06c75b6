"""Names of tasks across tenants, packages and workflows."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TaskNamespace", "WorkflowContext"]

_SEPARATOR = "::"


class TaskNamespace:
    """The full name of a task: ``tenant::package::workflow::task``.

    >>> TaskNamespace.from_string("acme::sales::etl::load").task_id
    'load'
    """

    __slots__ = ("_parts",)

    def __init__(self, tenant_id: str, package_name: str, workflow_id: str, task_id: str) -> None:
        for part in (tenant_id, package_name, workflow_id, task_id):
            if not isinstance(part, str):
                raise TypeError(f"the parts of a namespace are texts, not {part!r}")
        self._parts = (tenant_id, package_name, workflow_id, task_id)

    @staticmethod
    def from_string(namespace: str) -> TaskNamespace:
        """The namespace that the text names.

        Raises:
            ValueError: It does not have four parts.
        """
        parts = namespace.split(_SEPARATOR)
        if len(parts) != 4 or not all(parts):
            raise ValueError(
                f"Invalid namespace format: '{namespace}' is not of the form tenant::package::workflow::task"
            )
        return TaskNamespace(*parts)

    @property
    def tenant_id(self) -> str:
        """The tenant."""
        return self._parts[0]

    @property
    def package_name(self) -> str:
        """The package."""
        return self._parts[1]

    @property
    def workflow_id(self) -> str:
        """The workflow."""
        return self._parts[2]

    @property
    def task_id(self) -> str:
        """The task; empty in the namespace of a workflow."""
        return self._parts[3]

    def parent(self) -> TaskNamespace:
        """The namespace of the workflow: the same without the task."""
        return TaskNamespace(*self._parts[:3], "")

    def is_child_of(self, parent: TaskNamespace) -> bool:
        """Whether it is a task of the workflow that ``parent`` is the namespace of."""
        return bool(self.task_id) and self.parent() == parent

    def is_sibling_of(self, other: TaskNamespace) -> bool:
        """Whether both are tasks of one workflow."""
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
    """Where a workflow lives: what the names of its tasks start with.

    >>> sales = WorkflowContext("acme", "sales", "etl")
    >>> str(sales.resolve_dependency("load")), sales.workflow_namespace()
    ('acme::sales::etl::load', 'acme::sales::etl')
    """

    tenant_id: str
    package_name: str
    workflow_id: str

    @staticmethod
    def default() -> WorkflowContext:
        """Where workflows live that do not say."""
        return WorkflowContext("public", "embedded", "default")

    def task_namespace(self, task_id: str) -> TaskNamespace:
        """The full name of a task of this workflow."""
        return TaskNamespace(self.tenant_id, self.package_name, self.workflow_id, task_id)

    def resolve_dependency(self, task_name: str) -> TaskNamespace:
        """The full name of a dependency: a plain id is one of this workflow, a full name stays."""
        if _SEPARATOR in task_name:
            return TaskNamespace.from_string(task_name)
        return self.task_namespace(task_name)

    def workflow_namespace(self) -> str:
        """``tenant::package::workflow``."""
        return _SEPARATOR.join(self)

    def contains_namespace(self, namespace: TaskNamespace) -> bool:
        """Whether that is a task of this workflow."""
        return (namespace.tenant_id, namespace.package_name, namespace.workflow_id) == tuple(self)
