"""Gives the site what only the running package knows: docstrings of native classes, and of a config's fields. And has
it show examples as code."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import griffe

_NOTHING = object()
# From a prompt to the next empty line: an example with its output.
_EXAMPLE = re.compile(r"^( *)>>> .*(?:\n.*\S.*)*", re.MULTILINE)


class Native(griffe.Extension):
    """Takes over the docstrings of what stands in the stub of the native module, or is made by a descriptor."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        if pkg.path != "cloaca":
            return
        self._tell(pkg["_cloaca"], importlib.import_module("cloaca._cloaca"))
        config = importlib.import_module("cloaca.config").DefaultRunnerConfig
        self._tell(pkg["config.DefaultRunnerConfig"], config)
        for name, field in vars(config).items():
            if hasattr(field, "default"):
                pkg["config.DefaultRunnerConfig"][name].value = repr(field.default)
        _fence(pkg)

    def _tell(self, told: griffe.Object | griffe.Alias, known: object) -> None:
        for name, member in told.members.items():
            found = inspect.getattr_static(known, name, _NOTHING)
            if found is _NOTHING or name.startswith("__"):
                continue
            # What the native module calls its home is where programs import it from: an alias of the stub's.
            target = member.final_target if isinstance(member, griffe.Alias) else member
            if target.docstring is None and (text := _doc(found)):
                target.docstring = griffe.Docstring(_fenced(text), parent=target)
            if isinstance(target, griffe.Class):
                self._implement(target)
                self._tell(target, found)

    def _implement(self, told: griffe.Class) -> None:
        """A method that a stub has as overloads alone is shown as the last of them, which takes the most."""
        for name, overloads in told.overloads.items():
            if overloads and name not in told.members:
                last = overloads[-1]
                shown = griffe.Function(name, parameters=last.parameters, returns=last.returns, lineno=last.lineno)
                told.set_member(name, shown)


def _doc(found: object) -> str | None:
    """Its own docstring; not that of its type."""
    found = getattr(found, "__func__", found)
    text = getattr(found, "__doc__", None)
    return inspect.cleandoc(text) if isinstance(text, str) and text != type(found).__doc__ else None


def _fenced(text: str) -> str:
    """To Markdown, a line that begins with `>>>` is a quotation in a quotation in a quotation."""
    return text if "```pycon" in text else _EXAMPLE.sub(r"\1```pycon\n\g<0>\n\1```", text)


def _fence(told: griffe.Object) -> None:
    if told.docstring is not None:
        told.docstring.value = _fenced(told.docstring.value)
    for member in told.members.values():
        if not isinstance(member, griffe.Alias):
            _fence(member)
