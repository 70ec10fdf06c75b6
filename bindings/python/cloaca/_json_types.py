"""Types of JSON values as Python writes them, and whether a value is of one."""

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
    """A key with its type, and how its default is made; ``REQUIRED`` has none."""

    annotation: Any
    make_default: Callable[[], Any] | Any = REQUIRED

    @property
    def is_required(self) -> bool:
        """Whether there is no default."""
        return self.make_default is REQUIRED

    def default(self) -> Any:
        """The default; ``None`` if there is none."""
        return None if self.is_required else self.make_default()


def declared(name: str, given: Any) -> Field:
    """The field that ``name=type`` or ``name=(type, default)`` declares.

    Raises:
        TypeError: It is no type of JSON's, or the default is not of its type.
    """
    if not isinstance(given, tuple):
        _check_type(name, given)
        return Field(given)
    if len(given) != 2:
        raise TypeError(f"parameter '{name}' is a type, or a type and a default: {name}=(int, 100), not {given!r}")
    annotation, default = given
    _check_type(name, annotation)
    _check_default(name, annotation, default)
    return Field(annotation, _copier(default))


def _copier(default: Any) -> Callable[[], Any]:
    import copy

    return lambda: copy.deepcopy(default)


def fields_of(dataclass: Any) -> dict[str, Field]:
    """The fields of a dataclass.

    Raises:
        TypeError: One has a type that is not one of JSON's.
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
    """A default that is a dataclass's instance, as the object of its fields."""

    def plain() -> Any:
        import dataclasses

        made = make()
        return dataclasses.asdict(made) if dataclasses.is_dataclass(made) and not isinstance(made, type) else made

    return plain


def _check_type(name: str, annotation: Any) -> None:
    problem = _no_type(annotation)
    if problem is not None:
        raise TypeError(
            f"parameter '{name}': {problem} is not a type of JSON values; take str, int, float, bool, list, dict, Any, "
            f"Literal, a union or a dataclass of them"
        )


def _no_type(annotation: Any) -> str | None:
    """What in an annotation is no type of a JSON value."""
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
    return next((problem for argument in inner if (problem := _no_type(argument)) is not None), None)


def _is_plain(annotation: Any) -> bool:
    return isinstance(annotation, type) and typing.get_origin(annotation) is None and annotation in _PLAIN


def _bare(annotation: Any) -> Any:
    """Without ``Annotated``."""
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is typing.Annotated else annotation


def _check_default(name: str, annotation: Any, default: Any) -> None:
    from ._cloaca import Context

    # As JSON has it: a tuple is a list. This also refuses what is no JSON value, with its place.
    stored = Context({name: default})[name]
    problem = wrong(stored, annotation, name)
    if problem is not None:
        raise TypeError(f"the default of parameter {problem}")


def wrong(value: Any, annotation: Any, place: str) -> str | None:
    """What is wrong with a value of a context; ``None`` if it is of the type."""
    annotation = _bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (Any, object):
        return None
    if origin in _UNIONS:
        found = [wrong(value, argument, place) for argument in arguments]
        return None if None in found else _mismatch(value, annotation, place)
    if origin is typing.Literal:
        is_one = any(type(value) is type(choice) and value == choice for choice in arguments)
        return None if is_one else _mismatch(value, annotation, place)
    if origin in _LISTS:
        return _wrong_list(value, annotation, origin, arguments, place)
    if origin in _OBJECTS:
        if not isinstance(value, dict):
            return _mismatch(value, annotation, place)
        return _first(wrong(part, arguments[1], f"{place}[{key!r}]") for key, part in value.items())
    if isinstance(annotation, type) and hasattr(annotation, "__dataclass_fields__"):
        return _wrong_object(value, annotation, place)
    wanted = _PLAIN[type(None) if annotation is None else annotation]
    # A bool is an int of Python's, and none of JSON's.
    is_right = isinstance(value, wanted) and (not isinstance(value, bool) or annotation is bool)
    return None if is_right else _mismatch(value, annotation, place)


def _wrong_list(value: Any, annotation: Any, origin: Any, arguments: tuple[Any, ...], place: str) -> str | None:
    if not isinstance(value, list):
        return _mismatch(value, annotation, place)
    each: Sequence[Any] = arguments
    if origin is not tuple or arguments[-1] is Ellipsis:
        each = [arguments[0]] * len(value)
    elif len(arguments) != len(value):
        return _mismatch(value, annotation, place)
    pairs = enumerate(zip(value, each, strict=True))
    return _first(wrong(part, inner, f"{place}[{number}]") for number, (part, inner) in pairs)


def _wrong_object(value: Any, dataclass: Any, place: str) -> str | None:
    if not isinstance(value, dict):
        return _mismatch(value, dataclass, place)
    fields = fields_of(dataclass)
    for name in value:
        if name not in fields:
            return f"'{place}' has the unknown entry {name!r}"
    for name, field in fields.items():
        if name not in value and field.is_required:
            return f"'{place}' misses the entry {name!r} ({shown(field.annotation)})"
    given = ((name, field) for name, field in fields.items() if name in value)
    return _first(wrong(value[name], field.annotation, f"{place}.{name}") for name, field in given)


def _first(problems: typing.Iterable[str | None]) -> str | None:
    return next((problem for problem in problems if problem is not None), None)


def _mismatch(value: Any, annotation: Any, place: str) -> str:
    text = repr(value)
    if len(text) > 40:
        text = f"{text[:37]}…"
    return f"'{place}' must be {shown(annotation)}, not {type(value).__name__} ({text})"


def complete(fields: Mapping[str, Field], values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values with the defaults, and what is wrong with them."""
    completed, problems = {}, []
    for name, field in fields.items():
        if name in values:
            completed[name] = values[name]
            problem = wrong(values[name], field.annotation, name)
            if problem is not None:
                problems.append(problem)
        elif field.is_required:
            problems.append(f"{name!r} ({shown(field.annotation)}) is missing")
        else:
            completed[name] = field.default()
    return completed, problems


def refused_by(dataclass: Any, values: Mapping[str, Any]) -> list[str]:
    """What a dataclass itself says of the values of its fields."""
    try:
        _made(dataclass, values)
    except Exception as error:
        return [f"{dataclass.__name__} refuses it: {error}"]
    return []


def _made(annotation: Any, value: Any) -> Any:
    """A dataclass's instance; fields that are dataclasses themselves, too."""
    if not isinstance(annotation, type) or not hasattr(annotation, "__dataclass_fields__"):
        return value
    fields = fields_of(annotation)
    return annotation(**{name: _made(fields[name].annotation, part) for name, part in value.items()})


def shown(annotation: Any) -> str:
    """An annotation as it is written."""
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")
