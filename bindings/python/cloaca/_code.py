"""The code of tasks: a fingerprint that changes with the code, and the source text."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from types import CodeType, MethodType
from typing import Any


def fingerprint(function: Callable[..., Any]) -> bytes:
    """Return the SHA-256 of the bytecode, its constants and its names.

    It is the same in every process with the same Python version, independent of the file's path and of the code around
    the function.
    """
    return _hash(_code_of(function))


def source(function: Callable[..., Any]) -> str:
    """Return the source text; empty if there is none (as in an interactive session), or the file has changed since.

    `inspect` reads the text from the current file, so the result is cached for each code object.
    """
    code = _code_of(function)
    if not isinstance(code, CodeType):
        return _read_source(function, None)
    known, text = _sources.get(id(code), (None, ""))
    if known is None or known() is not code:
        text = _read_source(function, code.co_name)
        key = id(code)
        _sources[key] = weakref.ref(code, lambda _: _sources.pop(key, None)), text
    return text


_sources: dict[int, tuple[weakref.ref[CodeType], str]] = {}


def _read_source(function: Callable[..., Any], name: str | None) -> str:
    import inspect
    import re
    import textwrap

    try:
        text = textwrap.dedent(inspect.getsource(function))
    except Exception:
        # `inspect` reads and parses an arbitrary file, and may raise anything.
        return ""
    if name is not None and name.isidentifier() and not re.search(rf"\bdef\s+{name}\b", text):
        return ""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _hash(value: Any) -> bytes:
    import hashlib

    hasher = hashlib.sha256()
    _feed(hasher.update, value)
    return hasher.digest()


def _code_of(function: Callable[..., Any]) -> Any:
    seen: list[object] = []
    while not any(function is each for each in seen):
        seen.append(function)
        function = _inner(function)
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType):
        call = getattr(type(function), "__call__", None)  # noqa: B004 - its code is needed
        code = getattr(call, "__code__", None)
    # A callable without a code object is identified by its name.
    return code if code is not None else getattr(function, "__qualname__", type(function).__qualname__)


def _inner(function: Any) -> Any:
    """Unwrap a decorated function, a method or a partial call by one level; return a plain function itself."""
    if isinstance(function, (MethodType, staticmethod, classmethod)):
        return function.__func__
    if isinstance(function, partial):
        return function.func
    return getattr(function, "__dict__", {}).get("__wrapped__", function)


def _feed(update: Callable[[bytes], object], value: Any) -> None:
    if isinstance(value, CodeType):
        update(b"code")
        for number in (value.co_argcount, value.co_kwonlyargcount, value.co_posonlyargcount, value.co_flags):
            update(b"%d," % number)
        _feed(update, value.co_code)
        _feed(update, value.co_consts)
        _feed(update, value.co_names)
        _feed(update, value.co_freevars)
        _feed(update, getattr(value, "co_exceptiontable", b""))
    elif isinstance(value, tuple):
        update(b"tuple%d," % len(value))
        for item in value:
            _feed(update, item)
    elif isinstance(value, frozenset):
        # The iteration order of a frozenset differs between processes.
        _feed(update, ("frozenset", *sorted(_hash(item) for item in value)))
    elif isinstance(value, bytes):
        update(b"bytes%d," % len(value))
        update(value)
    else:
        text = repr(value).encode("utf-8", "backslashreplace")
        update(b"%s%d," % (type(value).__name__.encode(), len(text)))
        update(text)
