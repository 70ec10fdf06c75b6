"""A griffe extension: adds docstrings that static analysis cannot see, of native classes and config fields, and puts
examples into code blocks."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

_NOTHING = object()
# An example with its output: from a prompt to the next empty line.
_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n.*\S.*)*", re.MULTILINE)


class Native(griffe.Extension):
    """Copies docstrings from the imported package to members of the native module's stub and to config fields."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.path != "cloaca":
            return
        self._add_docstrings(pkg["_cloaca"], importlib.import_module("cloaca._cloaca"))
        config = importlib.import_module("cloaca.config").DefaultRunnerConfig
        self._add_docstrings(pkg["config.DefaultRunnerConfig"], config)
        for name, field in vars(config).items():
            if hasattr(field, "default"):
                pkg["config.DefaultRunnerConfig"][name].value = repr(field.default)
        _fence_examples(pkg)

    def _add_docstrings(self, documented: griffe.Object | griffe.Alias, imported: object) -> None:
        """Adds missing docstrings to the members of a module or class."""
        for name, member in documented.members.items():
            value = inspect.getattr_static(imported, name, _NOTHING)
            if value is _NOTHING or name.startswith("__"):
                continue
            # Native classes name `cloaca` as their module, so they can appear here as aliases of the stub's classes.
            target = member.final_target if isinstance(member, griffe.Alias) else member
            if target.docstring is None and (text := _own_docstring(value)):
                target.docstring = griffe.Docstring(_fenced(text), parent=target)
            if isinstance(target, griffe.Class):
                self._merge_overloads(target)
                self._add_docstrings(target, value)

    def _merge_overloads(self, documented: griffe.Class) -> None:
        """Documents a method that has only overloads in the stub by its last overload, which is the most general."""
        for name, overloads in documented.overloads.items():
            if overloads and name not in documented.members:
                last = overloads[-1]
                merged = griffe.Function(name, parameters=last.parameters, returns=last.returns, lineno=last.lineno)
                documented.set_member(name, merged)


def _own_docstring(value: object) -> str | None:
    """Returns the docstring of a value, unless it is inherited from the value's type."""
    value = getattr(value, "__func__", value)
    text = getattr(value, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) and text != type(value).__doc__ else None


def _fenced(text: str) -> str:
    """Puts examples into code blocks. Markdown would show a line that starts with `>>>` as nested block quotes."""
    return text if "```pycon" in text else _EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text)


def _fence_examples(documented: griffe.Object) -> None:
    """Fences the examples in all docstrings of an object and its members."""
    if documented.docstring is not None:
        documented.docstring.value = _fenced(documented.docstring.value)
    for member in documented.members.values():
        if not isinstance(member, griffe.Alias):
            _fence_examples(member)
