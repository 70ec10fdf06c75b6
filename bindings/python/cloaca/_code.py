"""What a task's code is: a hash that changes when it does something else, and its source."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import partial
from types import CodeType, MethodType
from typing import Any


def fingerprint(function: Callable[..., Any]) -> bytes:
    """SHA-256 over the bytecode, its constants and its names. The same in every process with the same Python version,
    wherever the file lies and whatever stands around the function in it."""
    return _hash(_code_of(function))


def source(function: Callable[..., Any]) -> str:
    """The source text; nothing where there is none (an interactive session, say), or where the file has changed since.

    `inspect` cuts the text out of the file as that is now. So it is asked once for each function that was compiled.
    """
    code = _code_of(function)
    if not isinstance(code, CodeType):
        return _read_source(function, None)
    known, text = _sources.get(id(code), (None, ""))
    if known is None or known() is not code:
        text = _read_source(function, code.co_name)
        place = id(code)
        _sources[place] = weakref.ref(code, lambda _: _sources.pop(place, None)), text
    return text


_sources: dict[int, tuple[weakref.ref[CodeType], str]] = {}


def _read_source(function: Callable[..., Any], name: str | None) -> str:
    import inspect
    import re
    import textwrap

    try:
        text = textwrap.dedent(inspect.getsource(function))
    except Exception:
        # `inspect` reads and parses a file that anybody may have written: there is no list of what that raises.
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
        call = getattr(type(function), "__call__", None)  # noqa: B004 - its code is asked for
        code = getattr(call, "__code__", None)
    # A callable without code of its own is known by its name alone.
    return code if code is not None else getattr(function, "__qualname__", type(function).__qualname__)


def _inner(function: Any) -> Any:
    """What a decorated function, a method or a partial call is made of; the function itself, if it is one."""
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
        # Its own order differs from process to process.
        _feed(update, ("frozenset", *sorted(_hash(item) for item in value)))
    elif isinstance(value, bytes):
        update(b"bytes%d," % len(value))
        update(value)
    else:
        text = repr(value).encode("utf-8", "backslashreplace")
        update(b"%s%d," % (type(value).__name__.encode(), len(text)))
        update(text)
