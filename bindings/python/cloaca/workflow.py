"""Workflows: building, validation and registration."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from . import _isolation
from ._cloaca import NativeWorkflow, TaskSpec, nearest
from ._references import Reference, resolve, task_id_of
from ._scope import Block, Scope, close_block, open_block
from ._task import Definition, registry
from .conditions import TaskReference
from .errors import WorkflowValidationError
from .inputs import Inputs, Parameter, Part, declared_on
from .namespace import TaskNamespace, WorkflowContext, is_full_id, plain_id

__all__ = ["Workflow", "WorkflowBuilder", "register_workflow_constructor"]


class Workflow:
    """A validated, immutable workflow, built by [`WorkflowBuilder`][cloaca.WorkflowBuilder].

    The order of returned tasks is deterministic: ties follow the order of definition.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("etl") as builder:
        ...     @cloaca.task
        ...     def extract(): ...
        ...     @cloaca.task(dependencies=[extract])
        ...     def load(): ...
        ...     @cloaca.task(dependencies=[extract])
        ...     def check(): ...
        >>> workflow = builder.description("Every night.").tag("team", "sales").build()
        >>> workflow.tasks
        ['extract', 'load', 'check']
    """

    __slots__ = ("_description", "_inputs", "_namespace", "_native", "_tags")

    def __init__(
        self,
        native: NativeWorkflow,
        description: str,
        tags: dict[str, str],
        inputs: Inputs,
        namespace: WorkflowContext,
    ) -> None:
        self._native = native
        self._description = description
        self._tags = tags
        self._inputs = inputs
        self._namespace = namespace

    @property
    def name(self) -> str:
        """The name under which runners execute it.

        Example:
            >>> workflow.name
            'etl'
        """
        return self._native.name

    @property
    def description(self) -> str:
        """The description; ``""`` if none was set.

        Example:
            >>> workflow.description
            'Every night.'
        """
        return self._description

    @property
    def version(self) -> str:
        """The version: 16 hex digits, which change with the graph, the trigger rules and the code of the tasks.

        An unfinished execution resumes with changed code automatically. If the graph has changed, it is blocked until
        [`DefaultRunner.resume`][cloaca.DefaultRunner.resume] is called.

        Example:
            >>> len(workflow.version), workflow.version == builder.build().version
            (16, True)
            >>> with cloaca.WorkflowBuilder("etl") as smaller:
            ...     @cloaca.task
            ...     def extract(): ...
            >>> smaller.build().version == workflow.version
            False
        """
        return self._native.version

    @property
    def tags(self) -> dict[str, str]:
        """The tags (a copy).

        Example:
            >>> workflow.tags
            {'team': 'sales'}
        """
        return dict(self._tags)

    @property
    def params(self) -> dict[str, Parameter]:
        """The parameters declared with [`workflow_params`][cloaca.workflow_params], by key.

        Empty if none were declared; any input is accepted then.

        Example:
            >>> workflow.params
            {}
            >>> with cloaca.WorkflowBuilder("import_day") as declares:
            ...     @cloaca.workflow_params(day=str)
            ...     @cloaca.task
            ...     def load(context): ...
            >>> declares.build().params
            {'day': Parameter(type='str', required=True, default=None)}
        """
        return self._inputs.parameters

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks, in the order in which they were added.

        Example:
            >>> workflow.tasks
            ['extract', 'load', 'check']
        """
        return [spec.id for spec in self._native.specs]

    def topological_sort(self) -> list[str]:
        """Return the task ids in topological order: each after its dependencies.

        Example:
            >>> workflow.topological_sort()
            ['extract', 'load', 'check']
        """
        return self._native.topological_sort()

    def get_execution_levels(self) -> list[list[str]]:
        """Return the task ids by level: the length of the longest dependency chain before them.

        Tasks of one level can run in parallel.

        Example:
            >>> workflow.get_execution_levels()
            [['extract'], ['load', 'check']]
        """
        return self._native.levels()

    def get_roots(self) -> list[str]:
        """Return the ids of the tasks without dependencies.

        Example:
            >>> workflow.get_roots()
            ['extract']
        """
        return self._native.roots()

    def get_leaves(self) -> list[str]:
        """Return the ids of the tasks that no task depends on. Their outcomes decide the execution's.

        Example:
            >>> workflow.get_leaves()
            ['load', 'check']
        """
        return self._native.leaves()

    def can_run_parallel(self, task1: TaskReference, task2: TaskReference) -> bool:
        """Return whether two tasks can run in parallel: neither depends on the other, directly or indirectly.

        Raises:
            KeyError: The workflow has no such task.

        Example:
            >>> workflow.can_run_parallel("load", "check"), workflow.can_run_parallel("extract", "check")
            (True, False)
        """
        return self._native.independent(self._id_of(task1), self._id_of(task2))

    def _id_of(self, task: TaskReference) -> str:
        """Return the id of the referenced task of this workflow."""
        named = isinstance(task, (str, TaskNamespace))
        own = [] if named else [spec.id for spec in self._native.specs if spec.function == task]
        return own[0] if len(own) == 1 else plain_id(task_id_of(task), self._namespace, self.tasks)

    def validate(self) -> None:
        """Validate the workflow again. A built workflow is always valid, so this has no effect.

        Raises:
            WorkflowValidationError: The workflow is not valid; the message lists every problem.

        Example:
            >>> workflow.validate()
        """
        NativeWorkflow(self.name, self._native.specs)

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid flowchart. Notebooks display workflows as this chart.

        Example:
            >>> print(workflow.to_mermaid())
            flowchart TD
                t0["extract"]
                t1["load"]
                t2["check"]
                t0 --> t1
                t0 --> t2
        """
        edges = self._native.edges()
        names = {task: f"t{number}" for number, (task, _) in enumerate(edges)}
        lines = ["flowchart TD"]
        for task in names:
            text = task.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;").replace(">", "&gt;")
            lines.append(f'    {names[task]}["{text}"]')
        lines += [f"    {names[up]} --> {names[task]}" for task, ups in edges for up in ups]
        return "\n".join(lines)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        picture = self.to_mermaid()
        return {
            "text/vnd.mermaid": picture,
            "text/markdown": f"```mermaid\n{picture}\n```",
            "text/plain": repr(self),
        }

    def __repr__(self) -> str:
        return f"Workflow(name={self.name!r}, version={self.version!r}, tasks={self.tasks!r})"


class WorkflowBuilder:
    """Builds a workflow from tasks.

    As a context manager it collects the tasks defined in its block; at the end it validates and registers the
    workflow. An exception in the block propagates, and nothing is registered.

    Args:
        name: The workflow's name.
        tenant: The tenant part of its namespace; by default ``"public"``.
        package: The package part of its namespace; by default ``"embedded"``.
        workflow: The workflow part of its namespace; by default the name.

    Example:
        >>> import cloaca
        >>> with cloaca.WorkflowBuilder("etl") as builder:
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = [1, 2, 3]
        ...     @cloaca.task(dependencies=[extract])
        ...     def load(context):
        ...         context["count"] = len(context["rows"])
        >>> builder
        WorkflowBuilder(name='etl', tasks=['extract', 'load'])
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.execute("etl").final_context["count"]
        3
    """

    def __init__(
        self, name: str, *, tenant: str | None = None, package: str | None = None, workflow: str | None = None
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a workflow's name must be a str, not {type(name).__name__}")
        self._name = name
        self._description = ""
        self._tags: dict[str, str] = {}
        self._inputs = Inputs()
        # The prefix of its tasks' full ids.
        self._namespace = WorkflowContext(tenant or "public", package or "embedded", workflow or name)
        # In order of addition. The flag: added by add_task, not only defined in the block.
        self._tasks: dict[str, tuple[Definition, bool]] = {}
        self._scope = Scope(name)
        self._blocks: list[Block] = []
        # The ids of the tasks that the open block has defined, and of those that add_task has added.
        self._defined: set[str] = set()

    @property
    def name(self) -> str:
        """The workflow's name.

        Example:
            >>> builder.name
            'etl'
        """
        return self._name

    def description(self, description: str) -> WorkflowBuilder:
        """Set the workflow's description. Return the builder.

        Example:
            >>> builder.description("Every night.").build().description
            'Every night.'
        """
        if not isinstance(description, str):
            raise TypeError(f"a description must be a str, not {description!r}")
        self._description = description
        return self

    def tag(self, key: str, value: str) -> WorkflowBuilder:
        """Add a tag to the workflow, or replace the value of an existing key. Return the builder.

        Example:
            >>> builder.tag("team", "sales").tag("tier", "1").build().tags
            {'team': 'sales', 'tier': '1'}
        """
        if not isinstance(key, str) or not isinstance(value, str):
            raise TypeError(f"a tag's key and value must be str, not {key!r}: {value!r}")
        self._tags[key] = value
        return self

    def add_task(self, task: TaskReference) -> WorkflowBuilder:
        """Add a task by its id, its full id or its function. Return the builder.

        Tasks defined in the builder's ``with`` block take precedence over the registry; they are part of the workflow
        without this call.

        Raises:
            WorkflowValidationError: There is no such task, or it was already added.
            TypeError: The argument is neither an id nor a function.

        Example:
            >>> @cloaca.task
            ... def extract(): ...
            >>> @cloaca.task(dependencies=[extract])
            ... def load(): ...
            >>> cloaca.WorkflowBuilder("by_hand").add_task(extract).add_task("load").build().tasks
            ['extract', 'load']
            >>> cloaca.WorkflowBuilder("by_hand").add_task("loud")
            Traceback (most recent call last):
            cloaca.errors.WorkflowValidationError: Task 'loud' not found in registry; did you mean 'load'?
        """
        task_id = plain_id(resolve(task, self._scope).task_id, self._namespace, self._tasks)
        if not task_id:
            raise WorkflowValidationError("a task id cannot be empty", workflow=self._name)
        own = self._tasks.get(task_id)
        if own is not None and own[1]:
            raise WorkflowValidationError(
                f"workflow '{self._name}' is not valid: Duplicate task: {task_id}", workflow=self._name, task_id=task_id
            )
        definition = own[0] if own is not None else registry.find(task_id)
        if definition is None:
            names = [*self._tasks, *registry.names()]
            near = nearest(task_id, names)
            hint = f"; did you mean '{near}'?" if near else f"; known tasks: {', '.join(names) or 'none'}"
            raise WorkflowValidationError(
                f"Task '{task_id}' not found in registry{hint}", workflow=self._name, task_id=task_id
            )
        self._tasks[task_id] = (definition, True)
        self._defined.add(task_id)
        return self

    def build(self) -> Workflow:
        """Build and validate the workflow.

        Raises:
            WorkflowValidationError: The workflow is not valid: it has no tasks, missing dependencies, cycles or
                duplicates. The message lists every problem.

        Example:
            >>> builder.build().topological_sort()
            ['extract', 'load']
            >>> cloaca.WorkflowBuilder("empty").build()
            Traceback (most recent call last):
            cloaca.errors.WorkflowValidationError: workflow 'empty' is not valid: workflow cannot be empty
        """
        specs = [self._with_plain_ids(definition.spec) for definition, _ in self._tasks.values()]
        try:
            native = NativeWorkflow(self._name, specs)
        except WorkflowValidationError as error:
            foreign = self._foreign_ids(specs)
            if not foreign:
                raise
            raise WorkflowValidationError(f"{error}; {foreign}", workflow=self._name) from None
        problems = [problem for spec in specs if (problem := _isolation.problem(spec)) is not None]
        for definition, _ in self._tasks.values():
            mismatches = (self._mismatch(definition, reference) for reference in definition.references)
            problems += [problem for problem in mismatches if problem is not None]
        if problems:
            raise WorkflowValidationError(
                f"workflow '{self._name}' is not valid: {'; '.join(problems)}", workflow=self._name
            )
        return Workflow(native, self._description, dict(self._tags), self._declared(specs), self._namespace)

    def _with_plain_ids(self, spec: TaskSpec) -> TaskSpec:
        """Return the task with full ids of tasks of this workflow replaced by plain ids."""
        plain = {name: plain_id(name, self._namespace, self._tasks) for name in spec.named()}
        return spec.renamed(plain) if any(name != found for name, found in plain.items()) else spec

    def _foreign_ids(self, specs: list[TaskSpec]) -> str:
        """Return the error text about full ids of other workflows' tasks; ``""`` if there are none."""
        named = dict.fromkeys(name for spec in specs for name in spec.named())
        foreign = [f"'{name}'" for name in named if name not in self._tasks and is_full_id(name)]
        if not foreign:
            return ""
        are = "is a task" if len(foreign) == 1 else "are tasks"
        own = self._namespace.workflow_namespace()
        return f"{', '.join(foreign)} {are} of another workflow: the full ids of this one begin with '{own}::'"

    def _declared(self, specs: list[TaskSpec]) -> Inputs:
        """Return the inputs declared in the block and on the functions of its tasks."""
        inputs = self._inputs.copy()
        for part in declared_on([spec.function for spec in specs]):
            self._add_inputs(inputs, part)
        return inputs

    def _declare(self, part: Part) -> None:
        """Add inputs declared inside the ``with`` block. Called by ``workflow_params``."""
        self._add_inputs(self._inputs, part)

    def _add_inputs(self, inputs: Inputs, part: Part) -> None:
        try:
            inputs.add(part)
        except ValueError as error:
            message = f"workflow '{self._name}' is not valid: {error}"
            raise WorkflowValidationError(message, workflow=self._name) from None

    def _mismatch(self, definition: Definition, reference: Reference) -> str | None:
        """Return the error text if a function that a task depends on is not this workflow's task of the same id."""
        own = self._tasks.get(reference.task_id)
        if own is None or reference.scope is None or own[0].scope is reference.scope:
            return None
        return (
            f"task '{definition.spec.id}' depends on the function that is task '{reference.task_id}' "
            f"{reference.scope}, but '{reference.task_id}' of this workflow is another function "
            f"({own[0].location}); give one of them another id"
        )

    def _collect(self, definition: Definition) -> None:
        """Add a task defined inside the ``with`` block. Called by the decorator."""
        task_id = definition.spec.id
        earlier = self._tasks.get(task_id)
        # A block that is run again, as in a notebook, replaces its earlier definitions.
        if earlier is not None and task_id in self._defined:
            where = f"at {earlier[0].location} and at {definition.location}"
            if earlier[0].location == definition.location:
                where = (
                    f"at {definition.location}, defined in a loop or twice; give each its own id: @cloaca.task(id=...)"
                )
            raise WorkflowValidationError(
                f"workflow '{self._name}' is not valid: Duplicate task: {task_id}, {where}",
                workflow=self._name,
                task_id=task_id,
            )
        self._tasks[task_id] = (definition, False)
        self._defined.add(task_id)

    def __enter__(self) -> WorkflowBuilder:
        if not any(block.is_open for block in self._blocks):
            self._defined = {task_id for task_id, (_, added) in self._tasks.items() if added}
        self._blocks.append(open_block(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        overlaps = close_block(self._blocks.pop())
        if kind is not None:
            return
        if overlaps is not None:
            raise WorkflowValidationError(
                f"the `with` blocks of the workflows '{self._name}' and '{overlaps}' overlap, and neither is inside "
                f"the other, so tasks may be in the wrong one; neither workflow was registered. Generators share the "
                f"blocks of their thread: do not yield inside such a block",
                workflow=self._name,
            )
        workflows.register(self.build())

    def __repr__(self) -> str:
        return f"WorkflowBuilder(name={self._name!r}, tasks={list(self._tasks)!r})"


class Subscriber(Protocol):
    """A runner, notified of every workflow that is registered while it is open."""

    def _workflow_registered(self, workflow: NativeWorkflow) -> None: ...


class _Workflows:
    """The workflows of the process, by name, and the runners to notify of new ones."""

    def __init__(self) -> None:
        # Re-entrant: a subscriber may be garbage-collected while the lock is held.
        self._lock = threading.RLock()
        self._workflows: dict[str, Workflow] = {}
        self._subscribers: weakref.WeakSet[Subscriber] = weakref.WeakSet()

    def register(self, workflow: Workflow) -> None:
        with self._lock:
            self._workflows[workflow.name] = workflow
            subscribers = list(self._subscribers)
        for subscriber in subscribers:
            subscriber._workflow_registered(workflow._native)

    def find(self, name: str) -> Workflow | None:
        """Return the workflow of this name; ``None`` if there is none."""
        with self._lock:
            return self._workflows.get(name)

    def snapshot(self) -> dict[str, Workflow]:
        with self._lock:
            return dict(self._workflows)

    def restore(self, snapshot: dict[str, Workflow]) -> None:
        with self._lock:
            self._workflows = dict(snapshot)

    def subscribe(self, subscriber: Subscriber) -> list[NativeWorkflow]:
        """Return the registered workflows, and notify the subscriber of later ones."""
        with self._lock:
            self._subscribers.add(subscriber)
            return [workflow._native for workflow in self._workflows.values()]

    def unsubscribe(self, subscriber: Subscriber) -> None:
        with self._lock:
            self._subscribers.discard(subscriber)


workflows = _Workflows()


def register_workflow_constructor(name: str, constructor: Callable[[], Workflow]) -> None:
    """Call ``constructor`` immediately, and register the workflow that it returns under ``name``.

    Raises:
        ValueError: The constructor did not return a workflow, or raised (its exception is the cause).

    Example:
        >>> import cloaca
        >>> @cloaca.task
        ... def extract(context):
        ...     context["rows"] = [1, 2, 3]
        >>> def build():
        ...     return cloaca.WorkflowBuilder("nightly").description("Every night.").add_task("extract").build()
        >>> cloaca.register_workflow_constructor("nightly", build)
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.execute("nightly").final_context
        Context({"rows":[1,2,3]})
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of a workflow must be a str, not {name!r}")
    if not callable(constructor):
        raise ValueError(
            f"the constructor of workflow '{name}' must be a function returning a Workflow, not {constructor!r}"
        )
    try:
        workflow = constructor()
    except Exception as error:
        raise ValueError(f"the constructor of workflow '{name}' raised {type(error).__name__}: {error}") from error
    if not isinstance(workflow, Workflow):
        raise ValueError(
            f"the constructor of workflow '{name}' returned {type(workflow).__name__}, not a Workflow; "
            f"end it with: return builder.build()"
        )
    if workflow.name != name:
        native = NativeWorkflow(name, workflow._native.specs)
        workflow = Workflow(native, workflow.description, workflow.tags, workflow._inputs, workflow._namespace)
    workflows.register(workflow)
