"""What a workflow takes as input: declared with [`workflow_params`][cloaca.workflow_params], checked wherever an
execution is started.

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
from ._cloaca import Context, nearest, sighting_of
from .errors import WorkflowInputError

if TYPE_CHECKING:
    from ._cloaca import Attempt

__all__ = ["Parameter", "workflow_params"]

Decorated = TypeVar("Decorated")

# The engine adds these to the input of what a schedule starts.
_OF_SCHEDULES = ("schedule_id", "schedule_expression", "schedule_timezone", "scheduled_time")
# Where a function keeps what was declared on it, outside of a builder.
_ON_FUNCTION = "__cloaca_params__"


class Parameter(NamedTuple):
    """A key of a workflow's input.

    Example:
        >>> builder.build().params["limit"]
        Parameter(type='int', required=False, default=100)
    """

    type: str
    """Its type, as it was declared."""
    required: bool
    """Whether every input has to have it."""
    default: Any
    """The value that is written where an input does not have it; ``None`` where it is required, too."""


class Part(Protocol):
    """What one call of ``workflow_params`` declares."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """The keys, in the order of their declaration."""

    @property
    def takes_more(self) -> bool:
        """Whether keys that are not declared are taken."""

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The values to write, and what is wrong."""


class Inputs:
    """All that a workflow declares."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Iterable[Part] = ()) -> None:
        self._parts: list[Part] = []
        for part in parts:
            self.add(part)

    def add(self, part: Part) -> None:
        """Adds what another call declares; the same one again changes nothing.

        Raises:
            ValueError: It declares a key that is declared.
        """
        if part in self._parts:
            return
        twice = [name for name in part.parameters if name in self.parameters]
        if twice:
            raise ValueError(f"workflow_params declares {', '.join(map(repr, twice))} a second time")
        self._parts.append(part)

    def __bool__(self) -> bool:
        """Whether anything is declared."""
        return bool(self._parts)

    def copy(self) -> Inputs:
        """The same, to be added to."""
        return Inputs(self._parts)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Every key."""
        return {name: parameter for part in self._parts for name, parameter in part.parameters.items()}

    def complete(self, workflow: str, context: Context, *, by_schedule: bool = False) -> Context:
        """The input with the defaults in it.

        Args:
            workflow: The workflow's name, for the message.
            context: The input. It is not changed.
            by_schedule: Whether a schedule starts it, which adds keys of its own.

        Raises:
            WorkflowInputError: It is not what is declared.
        """
        if not self._parts:
            return context
        values = context.to_dict()
        known = self.parameters
        problems = [] if any(part.takes_more for part in self._parts) else _unknown(values, known, by_schedule)
        completed = context.copy()
        for part in self._parts:
            # What a schedule adds when it fires is not missing before.
            later = _OF_SCHEDULES if by_schedule else ()
            own = {name: values[name] for name in values if part.takes_more or name in part.parameters}
            waits = [name for name in later if name in part.parameters and name not in values]
            added, wrong = part.complete({**own, **dict.fromkeys(waits, "")})
            problems += wrong
            for name, value in added.items():
                if name not in waits and (name not in values or values[name] != value):
                    completed[name] = value
        if problems:
            raise WorkflowInputError(
                f"the input of workflow '{workflow}' is not valid: {'; '.join(problems)}", workflow=workflow
            )
        return completed


def _unknown(values: Mapping[str, Any], known: Mapping[str, Parameter], by_schedule: bool) -> list[str]:
    problems = []
    for name in values:
        if name in known or (by_schedule and name in _OF_SCHEDULES):
            continue
        near = nearest(name, [other for other in known if other not in values])
        hint = f", did you mean {near!r}?" if near else ""
        problems.append(f"{name!r} is unknown{hint}")
    return problems


class _Fields:
    """Keys with their types and defaults; those of a dataclass are also given to it."""

    def __init__(self, fields: Mapping[str, _json_types.Field], dataclass: type | None = None) -> None:
        self._fields = dict(fields)
        self._dataclass = dataclass
        self.takes_more = False
        self.parameters = {
            name: Parameter(_json_types.shown(field.annotation), field.is_required, field.default())
            for name, field in self._fields.items()
        }

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        completed, problems = _json_types.complete(self._fields, values)
        if self._dataclass is not None and not problems:
            problems = _json_types.refused_by(self._dataclass, completed)
        return completed, problems

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fields) and self._fields == other._fields and self._dataclass is other._dataclass

    __hash__ = None  # type: ignore[assignment]


class _Model:
    """A pydantic model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.takes_more = model.model_config.get("extra") == "allow"
        self._names: dict[str, tuple[str, ...]] = {}
        self.parameters: dict[str, Parameter] = {}
        for name, field in model.model_fields.items():
            key = field.alias or name
            default = None if field.is_required() else _dumped(field.get_default(call_default_factory=True))
            self.parameters[key] = Parameter(_json_types.shown(field.annotation), field.is_required(), default)

    def complete(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        pydantic = sys.modules["pydantic"]
        try:
            model = self._model.model_validate(dict(values))
        except pydantic.ValidationError as error:
            return {}, [_of_pydantic(problem, self.parameters) for problem in error.errors()]
        dumped: dict[str, Any] = model.model_dump(mode="json", by_alias=True)
        return dumped, []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Model) and self._model is other._model

    __hash__ = None  # type: ignore[assignment]


def _dumped(value: Any) -> Any:
    pydantic_core = sys.modules["pydantic_core"]
    return pydantic_core.to_jsonable_python(value)


def _of_pydantic(problem: Mapping[str, Any], parameters: Mapping[str, Parameter]) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing" and place in parameters:
        return f"{place!r} ({parameters[place].type}) is missing"
    return f"{place!r}: {problem['msg']}" if place else str(problem["msg"])


class _Declaration:
    """What ``workflow_params`` returns: a decorator, for those who write it as one."""

    def __init__(self, part: Part, is_used: bool) -> None:
        self._part = part
        self._is_used = is_used

    def __call__(self, decorated: Decorated) -> Decorated:
        if self._is_used:
            return decorated
        self._is_used = True
        if not _is_function(decorated):
            raise TypeError(f"workflow_params decorates a task's function, not {decorated!r}")
        try:
            setattr(decorated, _ON_FUNCTION, self._part)
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
                "workflow_params(%s) has no effect: it was called outside of a `with cloaca.WorkflowBuilder(...)` "
                "block, and decorates no task",
                ", ".join(self._part.parameters),
            )


def _is_function(decorated: object) -> bool:
    return callable(decorated)


def workflow_params(model: type | None = None, /, **params: Any) -> Callable[[Decorated], Decorated]:
    """Declares the input of a workflow: call it inside ``with WorkflowBuilder(...)``, or decorate one of the workflow's
    tasks with it.

    From then on the input of every execution is checked before anything is written: those of
    [`execute`][cloaca.DefaultRunner.execute] and [`submit`][cloaca.DefaultRunner.submit], of a schedule when it is
    made, and of a trigger when it fires. Unknown keys, missing ones and values of another type are a
    [`WorkflowInputError`][cloaca.errors.WorkflowInputError]. Defaults are written as input, so that the history shows
    what a task saw. (A schedule that was made before its workflow was known is checked when it fires; its execution
    fails before any task runs.)

    Args:
        model: A dataclass, or a pydantic model, whose fields are the keys. What its ``__post_init__`` or its validators
            refuse is refused.
        params: Each key with its type, ``day=str``, or with a type and a default, ``limit=(int, 100)``. Types: ``str``,
            ``int``, ``float`` (takes integers), ``bool``, ``list``, ``dict``, ``Any``, and those made of them:
            ``list[int]``, ``dict[str, float]``, ``int | None``, ``Literal["a", "b"]``, dataclasses.

    Returns:
        A decorator that returns what it decorates.

    Raises:
        TypeError: A type is not one of JSON's values, or a default is not of its type.
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
        raise TypeError("workflow_params takes a model or keywords, not both")
    if isinstance(model, type) and hasattr(model, "__dataclass_fields__"):
        return _Fields(_json_types.fields_of(model), model)
    if isinstance(model, type) and hasattr(model, "model_validate") and hasattr(model, "model_fields"):
        return _Model(model)
    raise TypeError(f"workflow_params takes keywords, a dataclass or a pydantic model, not {model!r}")


def declared_on(functions: Sequence[Callable[..., Any]]) -> list[Part]:
    """What was declared on the functions of a workflow's tasks."""
    parts = (getattr(function, _ON_FUNCTION, None) for function in functions)
    # A proxy has an attribute of every name.
    return [part for part in parts if isinstance(part, (_Fields, _Model))]


def check_scheduled(inputs: Inputs, attempt: Attempt) -> None:
    """Checks the input of an execution that a schedule started, before its first task runs: the schedule may be older
    than the declaration.

    Raises:
        WorkflowInputError: It is not what is declared.
    """
    import json

    # `attempt.context` would note down that the task read all this.
    seen = {key: json.loads(text) for key, text in sighting_of(attempt.context)[0]}
    if "schedule_id" not in seen:
        return
    completed = inputs.complete(attempt.workflow, Context(seen), by_schedule=True)
    missing = [name for name in completed if name not in seen]
    if missing:
        raise WorkflowInputError(
            f"the input of workflow '{attempt.workflow}' is not valid: its schedule is older than the declaration of "
            f"{', '.join(map(repr, missing))}; delete the schedule and register it again",
            workflow=attempt.workflow,
        )
