"""What the package shows to its users, name by name, and the examples that each name has."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import functools
import importlib
import inspect
import pkgutil
import types
from collections.abc import Iterator
from typing import Any

import cloaca

#: Every module, private ones too: their docstrings may have examples.
MODULES = ["cloaca", *(f"cloaca.{module.name}" for module in pkgutil.iter_modules(cloaca.__path__))]

# What a class can have in its body that has a docstring. The two last: a native method, and a native attribute.
_ROUTINES = (staticmethod, classmethod, types.FunctionType, types.MethodDescriptorType, types.ClassMethodDescriptorType)
_ATTRIBUTES = (property, functools.cached_property, types.GetSetDescriptorType, types.MemberDescriptorType)


@dataclasses.dataclass(frozen=True)
class Named:
    """A name with what `help` says of it."""

    name: str
    doc: str
    #: The class that it belongs to; None for a class, function or module.
    owner: Named | None = None
    #: Why it needs no example of its own; None if it needs one.
    exempt: str | None = None

    @property
    def has_example(self) -> bool:
        return bool(doctest.DocTestParser().get_examples(self.doc))


def names_of(module: types.ModuleType) -> dict[str, Any]:
    """What an example can name without an import: the package, its public names, and those of its own module."""
    return {"cloaca": cloaca, **{name: getattr(cloaca, name) for name in cloaca.__all__}, **vars(module)}


def public() -> Iterator[Named]:
    """Everything that a program may name: what public modules list in their `__all__`, and the members of classes."""
    seen: set[int] = set()
    for module_name in MODULES:
        if "._" in module_name:
            continue
        module = importlib.import_module(module_name)
        yield Named(module_name, module.__doc__ or "", exempt="what it has shows what it is for")
        for name in module.__all__:
            value = getattr(module, name)
            # An alias (`PipelineResult`) is what it stands for.
            if id(value) not in seen and (inspect.isclass(value) or inspect.isroutine(value)):
                seen.add(id(value))
                yield from _with_members(value)


def documented(module: types.ModuleType) -> Iterator[list[Named]]:
    """What may have examples in a module, public or not: itself, each function, and each class with its members."""
    yield [Named(module.__name__, module.__doc__ or "")]
    for value in list(vars(module).values()):
        if (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__ == module.__name__:
            yield list(_with_members(value))


def _with_members(value: Any) -> Iterator[Named]:
    """A function; or a class, and its own members. Those that it inherits belong to the class that has them: one of
    ours, or one of Python's (`Exception.add_note`), which Python documents."""
    doc = value.__doc__ or ""
    if dataclasses.is_dataclass(value) and doc.startswith(f"{value.__name__}("):
        # Made by `dataclass` for a class that says nothing.
        doc = ""
    itself = Named(f"{value.__module__}.{value.__qualname__}", doc)
    yield itself
    if inspect.isclass(value):
        yield from (_member(value, name, found, itself) for name, found in vars(value).items() if _is_one(name, found))
        yield from _fields(value, itself)


def _is_one(name: str, found: object) -> bool:
    """Dunder methods are none: what calls them is an operator or a statement of Python, and for native classes `help`
    has Python's words alone. `test_docstrings.OPERATORS` says which ones the example of a
    class has to show."""
    return not name.startswith("_") and (isinstance(found, (*_ROUTINES, *_ATTRIBUTES)) or hasattr(found, "default"))


def _member(owner: type, name: str, found: Any, itself: Named) -> Named:
    found = getattr(found, "__func__", found)
    doc = found.__doc__ or ""
    if doc == type(found).__doc__:
        doc = ""
    exempt = None
    if owner is cloaca.DefaultRunnerConfig and doc.startswith("Accepted, without effect"):
        exempt = "a field without effect has nothing to show"
    return Named(f"{itself.name}.{name}", doc, itself, exempt)


def _fields(owner: type, itself: Named) -> Iterator[Named]:
    """The fields of dataclasses, named tuples and typed dicts. Their docstrings stand below them in the source, where
    editors and the reference find them; Python itself keeps none. (The attributes of errors are one list in the
    docstring of `Error`, and the examples of the errors show them.)"""
    if dataclasses.is_dataclass(owner):
        kind = "dataclass"
    elif issubclass(owner, tuple) and hasattr(owner, "_fields"):
        kind = "named tuple"
    elif hasattr(owner, "__total__"):
        kind = "typed dict"
    else:
        return
    [definition] = ast.parse(inspect.getsource(owner)).body
    assert isinstance(definition, ast.ClassDef)
    for field, behind in zip(definition.body, [*definition.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            says = behind.value if isinstance(behind, ast.Expr) else None
            doc = str(says.value) if isinstance(says, ast.Constant) else ""
            why = f"plain data of a {kind}: the example of its class shows it"
            yield Named(f"{itself.name}.{field.target.id}", doc, itself, why)
