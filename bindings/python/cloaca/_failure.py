"""Description of exceptions for the log, and release of the resources that they hold.

An exception is a user's object: accessing its attributes, text or class can raise, return wrong data or never end. So
only its text is requested from the exception itself. Everything else is read with the descriptors of `BaseException`
and `type`, which subclasses cannot override.
"""

from __future__ import annotations

import builtins
import errno
import os
import sys
from collections.abc import Callable, Collection, Iterator
from types import FrameType, TracebackType
from typing import Any, TypeVar

# (kind, message, traceback, lineage, transient, hint)
Described = tuple[str, str, "str | None", list[str], bool, "str | None"]

_NETWORK = {
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETRESET",
        "ENETUNREACH",
        "ENOTCONN",
        "EPIPE",
        "ETIMEDOUT",
    )
    if hasattr(errno, name)
}
# TimeoutExpired is subprocess's. Before Python 3.11, asyncio and concurrent.futures had their own TimeoutError classes.
_TIMEOUTS = {"TimeoutError", "TimeoutExpired"}
# Errors of name resolution, which use other numbers than errno.
_RESOLVER = {"gaierror", "herror"}

# The package's files whose frames precede the task's in a traceback.
_OWN_FILES = {
    os.path.join(os.path.dirname(__file__), name)
    for name in ("_threads.py", "_run.py", "_loop.py", "_running.py", "_worker.py")
}

# The maximum lengths of stored texts, in characters.
_MAX_MESSAGE = 64 * 1024
_MAX_TRACEBACK = 256 * 1024
_MAX_NAME = 1024
# How many related exceptions are visited, and how many are shown if Python's own formatting fails.
_MAX_RELATED = 10_000
_MAX_SHOWN = 20
# `traceback` formats exception groups recursively, along every path: larger groups are not passed to it.
_MAX_PATHS = 1_000
_MAX_DEPTH = 30

_TRACEBACK = BaseException.__dict__["__traceback__"]
_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]
_SUPPRESS = BaseException.__dict__["__suppress_context__"]
# Python 3.11 and newer.
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)

Value = TypeVar("Value")


def name_of(cls: type) -> str:
    """Return the name of a class, bypassing its metaclass."""
    return _text(type.__dict__["__name__"].__get__(cls), _MAX_NAME)


def type_names(cls: type[BaseException]) -> list[str]:
    """Return the names of a class: its name, and its qualified name with the module unless it is built in.

    A worker process imports the program's main module as ``__mp_main__``, which is reported as ``__main__``.
    """
    qualname = _text(type.__dict__["__qualname__"].__get__(cls), _MAX_NAME)
    module = type.__dict__["__dict__"].__get__(cls).get("__module__")
    if module == "builtins":
        return [qualname]
    if type(module) is not str:
        return [name_of(cls)]
    return [name_of(cls), f"{'__main__' if module == '__mp_main__' else _text(module, _MAX_NAME)}.{qualname}"]


def is_transient(error: BaseException) -> bool:
    """Return whether an error is transient by its type; for a group, whether all of its errors are.

    The engine additionally checks the names and messages of errors.
    """
    if _GROUP is not None and isinstance(error, _GROUP):
        return all(is_transient(member) for member in _GROUP.__dict__["exceptions"].__get__(error))
    names = {cls.__name__ for cls in type(error).__mro__}
    if not names.isdisjoint(_TIMEOUTS) or isinstance(error, ConnectionError):
        return True
    return isinstance(error, OSError) and (error.errno in _NETWORK or not names.isdisjoint(_RESOLVER))


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return the traceback of an exception."""
    traceback: TracebackType | None = _TRACEBACK.__get__(error)
    return traceback


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Set the traceback of an exception."""
    _TRACEBACK.__set__(error, traceback)


def strip(error: BaseException, earlier: Collection[TracebackType] = ()) -> TracebackType | None:
    """Remove the package's frames from the start of the traceback, and those of earlier attempts from its end.

    Args:
        error: An exception that a task raised.
        earlier: The tracebacks of earlier attempts. They are at the end if a task raises the same object repeatedly.

    Returns:
        The remaining traceback.
    """
    first = traceback_of(error)
    while first is not None and first.tb_frame.f_code.co_filename in _OWN_FILES:
        first = first.tb_next
    known = {id(each) for each in earlier}
    at = first
    while at is not None and at.tb_next is not None:
        if id(at.tb_next) in known:
            at.tb_next = None
        at = at.tb_next
    set_traceback(error, first)
    return first


def describe(error: BaseException) -> Described:
    """Describe an exception for the log. Never raises, whatever the exception and its class do."""
    kind = type(error)
    lineage = [name for cls in type.__dict__["__mro__"].__get__(kind) if cls is not object for name in type_names(cls)]
    transient = safely(lambda: is_transient(error) is True, False)
    return name_of(kind), message_of(error), _traceback_text(error), lineage, transient, None


def release(error: BaseException) -> None:
    """Clear the local variables of the frames in the tracebacks of an exception, its causes and its members.

    The next attempt may need the resources that they hold: a port, a lock, memory. The exception and the lines of its
    traceback are kept.
    """
    for member in _related(error):
        at = traceback_of(member)
        while at is not None:
            if not _is_suspended(at.tb_frame):
                # A frame that is still running keeps its variables: `clear` raises.
                safely(at.tb_frame.clear, None)
            at = at.tb_next


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, its causes and contexts, and the members of groups, each once."""
    seen = {id(error)}
    waiting = [error]
    while waiting and len(seen) < _MAX_RELATED:
        member = waiting.pop()
        yield member
        for other in (_CAUSE.__get__(member), _CONTEXT.__get__(member), *_members(member)):
            if other is not None and id(other) not in seen:
                seen.add(id(other))
                waiting.append(other)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    if _GROUP is None or _GROUP not in type.__dict__["__mro__"].__get__(type(error)):
        return ()
    members: tuple[BaseException, ...] = _GROUP.__dict__["exceptions"].__get__(error)
    return members


def _is_suspended(frame: FrameType) -> bool:
    """Return whether this is the frame of a suspended generator or coroutine, which clearing would close.

    Since Python 3.13, clearing such a frame raises. Before, the current instruction shows whether it is suspended. A
    generator that ended with an exception thrown in at a ``yield`` looks suspended too, and keeps its variables as
    long as the exception exists.
    """
    import inspect
    import opcode

    generators = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    if sys.version_info >= (3, 13) or not frame.f_code.co_flags & generators:
        return False
    code, at = frame.f_code.co_code, frame.f_lasti
    if sys.version_info < (3, 11) and code[at + 2 : at + 3] == bytes([opcode.opmap["YIELD_FROM"]]):
        return True
    return code[at] == opcode.opmap["YIELD_VALUE"]


def message_of(error: BaseException) -> str:
    try:
        return _text(str(error), _MAX_MESSAGE)
    except BaseException as broken:
        return f"<str() of it raised {name_of(type(broken))}>"


def _traceback_text(error: BaseException) -> str:
    import traceback

    text = None
    if _is_small(error):
        text = safely(lambda: "".join(traceback.format_exception(type(error), error, traceback_of(error))), None)
    if text is None:
        text = safely(lambda: _own_traceback_text(error), None)
    # In a worker process, the program's main module has another name.
    return _text(text or "", _MAX_TRACEBACK).replace("__mp_main__.", "")


def _is_small(error: BaseException) -> bool:
    """Return whether `traceback` can format the exception quickly."""
    chained = {id(error)}
    waiting = [(error, 0)]
    paths = 0
    while waiting:
        member, depth = waiting.pop()
        paths += 1
        if paths > _MAX_PATHS or depth > _MAX_DEPTH:
            return False
        waiting += [(inner, depth + 1) for inner in _members(member)]
        for other in (_CAUSE.__get__(member), _CONTEXT.__get__(member)):
            if other is not None and id(other) not in chained:
                chained.add(id(other))
                waiting.append((other, depth))
    return True


def _own_traceback_text(error: BaseException) -> str:
    """Format a traceback using only the exceptions' texts. Used if Python's own formatting fails."""
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < _MAX_SHOWN:
        seen.add(id(at))
        parts.append(_one_traceback_text(at))
        cause, context = _CAUSE.__get__(at), _CONTEXT.__get__(at)
        if cause is not None:
            parts.append("\nThe above exception was the direct cause of the following exception:\n\n")
        elif context is not None and not _SUPPRESS.__get__(at):
            cause = context
            parts.append("\nDuring handling of the above exception, another exception occurred:\n\n")
        at = cause
    if len(parts) % 2 == 0:
        # The cause of the last one is not shown: it was already shown, or the chain is too long.
        parts.pop()
    return "".join(reversed(parts))


def _one_traceback_text(error: BaseException) -> str:
    import traceback

    lines = ["Traceback (most recent call last):\n"]
    at = traceback_of(error)
    lines += safely(lambda: traceback.format_tb(at), []) or _format_frames(at)
    lines.append(f"{line_of(error)}\n")
    inner = [member for member in _related(error) if member is not error] if _members(error) else []
    lines += [f"  | {line_of(member)}\n" for member in inner[:_MAX_SHOWN]]
    if len(inner) > _MAX_SHOWN:
        lines.append(f"  | and {len(inner) - _MAX_SHOWN} more\n")
    return "".join(lines)


def _format_frames(at: TracebackType | None) -> Iterator[str]:
    while at is not None:
        code = at.tb_frame.f_code
        yield f'  File "{code.co_filename}", line {at.tb_lineno}, in {code.co_name}\n'
        at = at.tb_next


def line_of(error: BaseException) -> str:
    """Return the last line of a traceback: the class and the message."""
    name, message = type_names(type(error))[-1].removeprefix("__main__."), message_of(error)
    return f"{name}: {message}" if message else name


def safely(call: Callable[[], Value], default: Value) -> Value:
    """Return the result of a call that runs a user's code; a default if it raises anything."""
    try:
        return call()
    except BaseException:
        return default


def _text(text: str, limit: int) -> str:
    """Return a text that can be stored: shortened in the middle, and with lone surrogates escaped."""
    # It may be a subclass of str.
    text = str.__str__(text)
    if len(text) > limit:
        begin, end = limit // 4, limit - limit // 4
        text = f"{text[:begin]} [{len(text) - limit} characters left out] {text[-end:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
