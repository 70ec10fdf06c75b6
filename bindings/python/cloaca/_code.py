"""What a task's code is: a hash that changes when it does something else, and its source."""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType
from typing import Any


def fingerprint(function: Callable[..., Any]) -> bytes:
    """SHA-256 over the bytecode, its constants and its names. The same in every process with the same Python version,
    wherever the file lies and whatever stands around the function in it."""
    return _hash(_code_of(function))


def source(function: Callable[..., Any]) -> str:
    """The source text, or nothing where there is none (an interactive session, say)."""
    import inspect
    import textwrap

    try:
        text = textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError, SyntaxError, IndexError):
        return ""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _hash(value: Any) -> bytes:
    import hashlib

    hasher = hashlib.sha256()
    _feed(hasher.update, value)
    return hasher.digest()


def _code_of(function: Callable[..., Any]) -> Any:
    seen = set()
    while id(function) not in seen:
        seen.add(id(function))
        function = getattr(function, "__wrapped__", getattr(function, "__func__", getattr(function, "func", function)))
    code = getattr(function, "__code__", None)
    if code is None:
        call = getattr(type(function), "__call__", None)  # noqa: B004 - its code is asked for
        code = getattr(call, "__code__", None)
    # A callable without code of its own is known by its name alone.
    return code if code is not None else getattr(function, "__qualname__", type(function).__qualname__)


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
