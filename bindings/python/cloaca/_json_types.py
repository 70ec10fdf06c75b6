"""Python annotations for JSON values, and checks of values against them."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

REQUIRED: Any = object()

_PLAIN: dict[Any, type | tuple[type, ...]] = {
    str: str,
    int: int,
    float: (int, float),
    bool: bool,
    list: list,
    tuple: list,
    dict: dict,
    type(None): type(None),
}
_LISTS = (list, tuple, Sequence)
_OBJECTS = (dict, Mapping)
# A union in either notation.
_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))


class Field(NamedTuple):
    """The type of a key and a factory of its default; ``REQUIRED`` stands for no default."""

    annotation: Any
    make_default: Callable[[], Any] | Any = REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.make_default is REQUIRED

    def default(self) -> Any:
        """Return the default; ``None`` if there is none."""
        return None if self.is_required else self.make_default()


def declared(name: str, given: Any) -> Field:
    """Return the field declared by ``name=type`` or ``name=(type, default)``.

    Raises:
        TypeError: The type does not describe a JSON value, or the default does not match it.
    """
    if not isinstance(given, tuple):
        _check_type(name, given)
        return Field(given)
    if len(given) != 2:
        raise TypeError(f"parameter '{name}' must be a type, or a type and a default: {name}=(int, 100), not {given!r}")
    annotation, default = given
    _check_type(name, annotation)
    _check_default(name, annotation, default)
    return Field(annotation, _copier(default))


def _copier(default: Any) -> Callable[[], Any]:
    import copy

    return lambda: copy.deepcopy(default)


def fields_of(dataclass: Any) -> dict[str, Field]:
    """Return the fields of a dataclass.

    Raises:
        TypeError: The type of a field does not describe a JSON value.
    """
    import dataclasses

    hints = typing.get_type_hints(dataclass)
    fields = {}
    for field in dataclasses.fields(dataclass):
        if not field.init:
            continue
        annotation = hints[field.name]
        _check_type(field.name, annotation)
        if field.default_factory is not dataclasses.MISSING:
            fields[field.name] = Field(annotation, _plain_default(field.default_factory))
        elif field.default is not dataclasses.MISSING:
            fields[field.name] = Field(annotation, _plain_default(_copier(field.default)))
        else:
            fields[field.name] = Field(annotation)
        if not fields[field.name].is_required:
            _check_default(field.name, annotation, fields[field.name].default())
    return fields


def _plain_default(make: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a factory so that a default that is a dataclass instance becomes a dict of its fields."""

    def plain() -> Any:
        import dataclasses

        made = make()
        return dataclasses.asdict(made) if dataclasses.is_dataclass(made) and not isinstance(made, type) else made

    return plain


def _check_type(name: str, annotation: Any) -> None:
    unsupported = _unsupported(annotation)
    if unsupported is not None:
        raise TypeError(
            f"parameter '{name}': {unsupported} is not a type of JSON values; use str, int, float, bool, list, dict, "
            f"Any, Literal, a union or a dataclass of them"
        )


def _unsupported(annotation: Any) -> str | None:
    """Return the part of an annotation that does not describe a JSON value; ``None`` if all of it does."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object, None) or _is_plain(annotation) or origin is typing.Literal:
        return None
    if origin in _UNIONS or origin in _LISTS:
        inner = [argument for argument in arguments if argument is not Ellipsis]
    elif origin in _OBJECTS:
        if arguments[0] is not str:
            return shown(annotation)
        inner = [arguments[1]]
    elif isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__"):
        fields_of(annotation)
        return None
    else:
        return shown(annotation)
    return next((part for argument in inner if (part := _unsupported(argument)) is not None), None)


def _is_plain(annotation: Any) -> bool:
    return isinstance(annotation, type) and typing.get_origin(annotation) is None and annotation in _PLAIN


def _bare(annotation: Any) -> Any:
    """Strip ``Annotated``."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _check_default(name: str, annotation: Any, default: Any) -> None:
    from ._cloaca import Context

    # Convert to JSON first, where a tuple is a list. This also rejects values that are not JSON, with their path.
    stored = Context({name: default})[name]
    problem = mismatch(stored, annotation, name)
    if problem is not None:
        raise TypeError(f"the default of parameter {problem}")


def mismatch(value: Any, annotation: Any, path: str) -> str | None:
    """Return how a context value differs from a type, as text; ``None`` if it matches."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object):
        return None
    if origin in _UNIONS:
        found = [mismatch(value, argument, path) for argument in arguments]
        return None if None in found else _message(value, annotation, path)
    if origin is typing.Literal:
        is_one = any(type(value) is type(choice) and value == choice for choice in arguments)
        return None if is_one else _message(value, annotation, path)
    if origin in _LISTS:
        return _list_mismatch(value, annotation, origin, arguments, path)
    if origin in _OBJECTS:
        if not isinstance(value, dict):
            return _message(value, annotation, path)
        return _first(mismatch(part, arguments[1], f"{path}[{key!r}]") for key, part in value.items())
    if isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__"):
        return _object_mismatch(value, annotation, path)
    expected = _PLAIN[type(None) if annotation is None else annotation]
    # In Python a bool is an int; in JSON it is not a number.
    matches = isinstance(value, expected) and (not isinstance(value, bool) or annotation is bool)
    return None if matches else _message(value, annotation, path)


def _list_mismatch(value: Any, annotation: Any, origin: Any, arguments: tuple[Any, ...], path: str) -> str | None:
    if not isinstance(value, list):
        return _message(value, annotation, path)
    each: Sequence[Any] = arguments
    if origin is not tuple or arguments[-1] is Ellipsis:
        each = [arguments[0]] * len(value)
    elif len(arguments) != len(value):
        return _message(value, annotation, path)
    pairs = enumerate(zip(value, each, strict=True))
    return _first(mismatch(part, inner, f"{path}[{number}]") for number, (part, inner) in pairs)


def _object_mismatch(value: Any, dataclass: Any, path: str) -> str | None:
    if not isinstance(value, dict):
        return _message(value, dataclass, path)
    fields = fields_of(dataclass)
    for name in value:
        if name not in fields:
            return f"'{path}' has the unknown entry {name!r}"
    for name, field in fields.items():
        if name not in value and field.is_required:
            return f"'{path}' misses the entry {name!r} ({shown(field.annotation)})"
    given = ((name, field) for name, field in fields.items() if name in value)
    return _first(mismatch(value[name], field.annotation, f"{path}.{name}") for name, field in given)


def _first(problems: typing.Iterable[str | None]) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


def _message(value: Any, annotation: Any, path: str) -> str:
    text = repr(value)
    if len(text) > 40:
        text = f"{text[:37]}…"
    return f"'{path}' must be {shown(annotation)}, not {type(value).__name__} ({text})"


def complete(fields: Mapping[str, Field], values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the values with the defaults added, and the problems found."""
    completed, problems = {}, []
    for name, field in fields.items():
        if name in values:
            completed[name] = values[name]
            problem = mismatch(values[name], field.annotation, name)
            if problem is not None:
                problems.append(problem)
        elif field.is_required:
            problems.append(f"{name!r} ({shown(field.annotation)}) is missing")
        else:
            completed[name] = field.default()
    return completed, problems


def construction_problems(dataclass: Any, values: Mapping[str, Any]) -> list[str]:
    """Return the error of constructing a dataclass from the values, as a list; empty if it succeeds."""
    try:
        _construct(dataclass, values)
    except Exception as error:
        return [f"{dataclass.__name__} rejects it: {error}"]
    return []


def _construct(annotation: Any, value: Any) -> Any:
    """Construct an instance of a dataclass, including nested dataclasses."""
    if not isinstance(annotation, type) or not hasattr(annotation, "__dataclass_fields__"):
        return value
    fields = fields_of(annotation)
    return annotation(**{name: _construct(fields[name].annotation, part) for name, part in value.items()})


def shown(annotation: Any) -> str:
    """Return an annotation as source text."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")
