"""The declared inputs of workflows.

Declared with [`workflow_params`][cloaca.workflow_params], and checked whenever an execution is started.

>>> import cloaca
>>> with cloaca.WorkflowBuilder("import_day") as builder:
...     @cloaca.workflow_params(day=str, limit=(int, 100))
...     @cloaca.task
...     def load(context):
...         context["rows"] = [context["day"]] * context["limit"]
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from . import _json_types
from ._cloaca import Context, nearest, snapshot_of
from .errors import WorkflowInputError

if TYPE_CHECKING:
    from ._cloaca import Attempt

__all__ = ["Parameter", "workflow_params"]

Decorated = TypeVar("Decorated")

# The keys that the engine adds to the input of an execution started by a schedule.
_SCHEDULE_KEYS = ("schedule_id", "schedule_expression", "schedule_timezone", "scheduled_time")
# The attribute of a function that holds the inputs declared by decorating it, outside of a builder.
_ATTRIBUTE = "__cloaca_params__"


class Parameter(NamedTuple):
    """A declared key of a workflow's input.

    Example:
        >>> builder.build().params["limit"]
        Parameter(type='int', required=False, default=100)
    """

    type: str
    """The declared type."""
    required: bool
    """Whether every input must contain the key."""
    default: Any
    """The default value, stored when an input lacks the key; ``None`` if the key is required."""


class Part(Protocol):
    """The inputs declared by one call of ``workflow_params``."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The parameters by key, in the order of declaration."""

    @property
    def allows_extra(self) -> bool:
        """Whether undeclared keys are accepted."""

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the values to store, including defaults, and the problems found."""


class Inputs:
    """All declared inputs of a workflow."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts: list[Part] = []
        for part in parts:
            self.add(part)

    def add(self, part: Part) -> None:
        """Add the inputs of another call. Adding equal inputs again has no effect.

        Raises:
            ValueError: A key is already declared.
        """
        if part in self._parts:
            return
        repeated = [name for name in part.parameters if name in self.parameters]
        if repeated:
            raise ValueError(f"workflow_params declares {', '.join(map(repr, repeated))} a second time")
        self._parts.append(part)

    def __bool__(self) -> bool:
        """Whether anything is declared."""
        return bool(self._parts)

    def copy(self) -> Inputs:
        """Return a copy that can be extended independently."""
        return Inputs(self._parts)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """All parameters by key."""
        return {name: parameter for part in self._parts for name, parameter in part.parameters.items()}

    def complete(self, workflow: str, context: Context, *, by_schedule: bool = False) -> Context:
        """Return the input with the defaults added.

        Args:
            workflow: The workflow's name, for the message.
            context: The input. It is not modified.
            by_schedule: Whether a schedule starts the execution, which adds keys of its own.

        Raises:
            WorkflowInputError: The input does not match the declaration.
        """
        if not self._parts:
            return context
        values = context.to_dict()
        known = self.parameters
        problems = [] if any(part.allows_extra for part in self._parts) else _unknown(values, known, by_schedule)
        completed = context.copy()
        for part in self._parts:
            # The keys that a schedule adds when it fires are not missing before: placeholders stand in for them.
            added_later = _SCHEDULE_KEYS if by_schedule else ()
            own = {name: values[name] for name in values if part.allows_extra or name in part.parameters}
            pending = [name for name in added_later if name in part.parameters and name not in values]
            stored, found = part.complete({**own, **dict.fromkeys(pending, "")})
            problems += found
            for name, value in stored.items():
                if name not in pending and (name not in values or values[name] != value):
                    completed[name] = value
        if problems:
            raise WorkflowInputError(
                f"the input of workflow '{workflow}' is not valid: {'; '.join(problems)}", workflow=workflow
            )
        return completed


def _unknown(values: Mapping[str, Any], known: Mapping[str, Parameter], by_schedule: bool) -> list[str]:
    problems = []
    for name in values:
        if name in known or (by_schedule and name in _SCHEDULE_KEYS):
            continue
        near = nearest(name, [other for other in known if other not in values])
        hint = f", did you mean {near!r}?" if near else ""
        problems.append(f"{name!r} is unknown{hint}")
    return problems


class _Fields:
    """Keys with types and defaults. Those of a dataclass are also passed to its constructor, as a check."""

    def __init__(self, fields: Mapping[str, _json_types.Field], dataclass: type | None = None) -> None:
        self._fields = dict(fields)
        self._dataclass = dataclass
        self.allows_extra = False
        self.parameters = {
            name: Parameter(_json_types.shown(field.annotation), field.is_required, field.default())
            for name, field in self._fields.items()
        }

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        completed, problems = _json_types.complete(self._fields, values)
        if self._dataclass is not None and not problems:
            problems = _json_types.construction_problems(self._dataclass, completed)
        return completed, problems

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fields) and self._fields == other._fields and self._dataclass is other._dataclass

    __hash__ = None  # type: ignore[assignment]


class _Model:
    """A pydantic model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.allows_extra = model.model_config.get("extra") == "allow"
        self._names: dict[str, tuple[str, ...]] = {}
        self.parameters: dict[str, Parameter] = {}
        for name, field in model.model_fields.items():
            key = field.alias or name
            default = None if field.is_required() else _as_json(field.get_default(call_default_factory=True))
            self.parameters[key] = Parameter(_json_types.shown(field.annotation), field.is_required(), default)

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        pydantic = sys.modules["pydantic"]
        try:
            model = self._model.model_validate(dict(values))
        except pydantic.ValidationError as error:
            return {}, [_pydantic_problem(problem, self.parameters) for problem in error.errors()]
        dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True)
        return dumped, []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Model) and self._model is other._model

    __hash__ = None  # type: ignore[assignment]


def _as_json(value: Any) -> Any:
    pydantic_core = sys.modules["pydantic_core"]
    return pydantic_core.to_jsonable_python(value)


def _pydantic_problem(problem: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing" and path in parameters:
        return f"{path!r} ({parameters[path].type}) is missing"
    return f"{path!r}: {problem['msg']}" if path else str(problem["msg"])


class _Declaration:
    """The decorator that ``workflow_params`` returns. It does nothing if the call already declared the inputs."""

    def __init__(self, part: Part, is_used: bool) -> None:
        self._part = part
        self._is_used = is_used

    def __call__(self, decorated: Decorated) -> Decorated:
        if self._is_used:
            return decorated
        self._is_used = True
        if not _is_function(decorated):
            raise TypeError(f"workflow_params must decorate a function, not {decorated!r}")
        try:
            setattr(decorated, _ATTRIBUTE, self._part)
        except (AttributeError, TypeError):
            raise TypeError(
                f"workflow_params cannot decorate {decorated!r}; call it inside `with cloaca.WorkflowBuilder(...)`"
            ) from None
        return decorated

    def __repr__(self) -> str:
        names = (f"{name}={parameter.type}" for name, parameter in self._part.parameters.items())
        return f"workflow_params({', '.join(names)})"

    def __del__(self) -> None:
        if not self._is_used:
            from . import _logging

            _logging.warning(
                "workflow_params(%s) has no effect: call it inside a `with cloaca.WorkflowBuilder(...)` block, or "
                "decorate a task with it",
                ", ".join(self._part.parameters),
            )


def _is_function(decorated: object) -> bool:
    return callable(decorated)


def workflow_params(model: type | None = None, /, **params: Any) -> Callable[[Decorated], Decorated]:
    """Declare the input of a workflow.

    Call it inside ``with WorkflowBuilder(...)``, or decorate one of the workflow's tasks with it. The input of every
    execution is then checked before anything is written: in [`execute`][cloaca.DefaultRunner.execute] and
    [`submit`][cloaca.DefaultRunner.submit], when a schedule is created, and when a trigger fires. Unknown keys, missing
    keys and values of the wrong type raise a [`WorkflowInputError`][cloaca.errors.WorkflowInputError]. Defaults are
    stored as part of the input, so that the history shows what a task read. (If a schedule was created before its
    workflow was registered, its input is checked when it fires: the execution fails before any task runs.)

    Args:
        model: A dataclass or a pydantic model whose fields are the keys. Its ``__post_init__`` or its validators are
            applied too.
        params: Each key with its type, ``day=str``, or with a type and a default, ``limit=(int, 100)``. Types: ``str``,
            ``int``, ``float`` (accepts integers), ``bool``, ``list``, ``dict``, ``Any``, and combinations of them:
            ``list[int]``, ``dict[str, float]``, ``int | None``, ``Literal["a", "b"]``, dataclasses.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        TypeError: A type does not describe a JSON value, or a default does not match its type.
        ValueError: A key is declared a second time.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.execute("import_day", {"day": "2026-01-31"}).final_context["limit"]
        100
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.execute("import_day", {"day": "2026-01-31", "limt": 5})
        Traceback (most recent call last):
        cloaca.errors.WorkflowInputError: the input of workflow 'import_day' is not valid: 'limt' is unknown, did you mean 'limit'?
    """  # noqa: E501 - the message is one line
    from ._task import declare_in_enclosing

    part = _part(model, params)
    return _Declaration(part, declare_in_enclosing(part))


def _part(model: Any, params: Mapping[str, Any]) -> Part:
    if model is None:
        return _Fields({name: _json_types.declared(name, given) for name, given in params.items()})
    if params:
        raise TypeError("pass a model or keywords to workflow_params, not both")
    if isinstance(model, type) and hasattr(model, "__dataclass_fields__"):
        return _Fields(_json_types.fields_of(model), model)
    if isinstance(model, type) and hasattr(model, "model_validate") and hasattr(model, "model_fields"):
        return _Model(model)
    raise TypeError(f"workflow_params takes keywords, a dataclass or a pydantic model, not {model!r}")


def declared_on(functions: Sequence[Callable[..., Any]]) -> list[Part]:
    """Return the inputs declared by decorating the functions of a workflow's tasks."""
    parts = (getattr(function, _ATTRIBUTE, None) for function in functions)
    # A proxy or mock returns something for any attribute name.
    return [part for part in parts if isinstance(part, (_Fields, _Model))]


def check_scheduled(inputs: Inputs, attempt: Attempt) -> None:
    """Check the input of an execution that a schedule started, before its first task runs.

    The schedule may be older than the declaration.

    Raises:
        WorkflowInputError: The input does not match the declaration.
    """
    import json

    # Reading through `attempt.context` would be recorded as reads of the task.
    values = {key: json.loads(text) for key, text in snapshot_of(attempt.context)[0]}
    if "schedule_id" not in values:
        return
    completed = inputs.complete(attempt.workflow, Context(values), by_schedule=True)
    missing = [name for name in completed if name not in values]
    if missing:
        raise WorkflowInputError(
            f"the input of workflow '{attempt.workflow}' is not valid: its schedule is older than the declaration of "
            f"{', '.join(map(repr, missing))}; delete the schedule and register it again",
            workflow=attempt.workflow,
        )
