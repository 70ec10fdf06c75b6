"""What the log keeps of an exception, and what the process lets go of it.

An exception is a user's object: its attributes, its text and its class can raise, lie or never end. So the exception
itself is asked for nothing but its text. Everything else is read with the descriptors of `BaseException` and `type`,
which no subclass can replace.
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
# Of subprocess, and of asyncio and concurrent.futures before Python 3.11, which had classes of their own.
_TIMEOUTS = {"TimeoutError", "TimeoutExpired"}
# Errors of name resolution: their numbers are not those of errno.
_RESOLVER = {"gaierror", "herror"}

# Our own files, whose frames come before the task's in a traceback.
_OURS = {
    os.path.join(os.path.dirname(__file__), name)
    for name in ("_threads.py", "_run.py", "_loop.py", "_running.py", "_worker.py")
}

# The longest texts that are kept, in characters.
_LONGEST_MESSAGE = 64 * 1024
_LONGEST_TRACEBACK = 256 * 1024
_LONGEST_NAME = 1024
# How many related exceptions are visited, and how many are shown where Python's own formatting fails.
_FAMILY = 10_000
_SHOWN = 20
# `traceback` formats groups recursively, along every path: larger ones are not passed to it.
_PATHS = 1_000
_DEPTH = 30

_TRACEBACK = BaseException.__dict__["__traceback__"]
_CAUSE = BaseException.__dict__["__cause__"]
_CONTEXT = BaseException.__dict__["__context__"]
_SUPPRESS = BaseException.__dict__["__suppress_context__"]
# Python 3.11 and newer.
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)

Value = TypeVar("Value")


def name_of(cls: type) -> str:
    """The name of a class, whatever its metaclass says."""
    return _text(type.__dict__["__name__"].__get__(cls), _LONGEST_NAME)


def type_names(cls: type[BaseException]) -> list[str]:
    """The names of a class: with its module, unless it is built in.

    A worker process imports the program's main module as ``__mp_main__``; its classes are those of ``__main__``.
    """
    qualname = _text(type.__dict__["__qualname__"].__get__(cls), _LONGEST_NAME)
    module = type.__dict__["__dict__"].__get__(cls).get("__module__")
    if module == "builtins":
        return [qualname]
    if type(module) is not str:
        return [name_of(cls)]
    return [name_of(cls), f"{'__main__' if module == '__mp_main__' else _text(module, _LONGEST_NAME)}.{qualname}"]


def is_transient(error: BaseException) -> bool:
    """Whether it is of the kind that passes; of a group, whether all of its errors are.

    The engine knows the types and the words of errors that pass, and asks them by itself.
    """
    if _GROUP is not None and isinstance(error, _GROUP):
        return all(is_transient(member) for member in _GROUP.__dict__["exceptions"].__get__(error))
    names = {cls.__name__ for cls in type(error).__mro__}
    if not names.isdisjoint(_TIMEOUTS) or isinstance(error, ConnectionError):
        return True
    return isinstance(error, OSError) and (error.errno in _NETWORK or not names.isdisjoint(_RESOLVER))


def traceback_of(error: BaseException) -> TracebackType | None:
    """Where it was raised."""
    found: TracebackType | None = _TRACEBACK.__get__(error)
    return found


def set_traceback(error: BaseException, traceback: TracebackType | None) -> None:
    """Says where it was raised."""
    _TRACEBACK.__set__(error, traceback)


def strip(error: BaseException, earlier: Collection[TracebackType] = ()) -> TracebackType | None:
    """Takes our own frames off the front of the traceback, and an earlier attempt's off its end. Returns the rest.

    Args:
        error: An exception that a task raised.
        earlier: The tracebacks of earlier attempts. A task that raises one object again and again has them at the end.
    """
    first = traceback_of(error)
    while first is not None and first.tb_frame.f_code.co_filename in _OURS:
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
    """What the log keeps. It never fails, whatever the exception and its class do."""
    kind = type(error)
    lineage = [name for cls in type.__dict__["__mro__"].__get__(kind) if cls is not object for name in type_names(cls)]
    transient = answer(lambda: is_transient(error) is True, False)
    return name_of(kind), message_of(error), _traceback_text(error), lineage, transient, None


def release(error: BaseException) -> None:
    """Frees the local variables of the frames that an exception, its causes and its members went through.

    The next attempt may need what they hold: a port, a lock, memory. The exception and the lines of its traceback stay.
    """
    for member in _family(error):
        at = traceback_of(member)
        while at is not None:
            if not _is_suspended(at.tb_frame):
                # A frame that still runs keeps its variables.
                answer(at.tb_frame.clear, None)
            at = at.tb_next


def _family(error: BaseException) -> Iterator[BaseException]:
    """The exception, and whatever caused it or is in it, each once."""
    seen = {id(error)}
    waiting = [error]
    while waiting and len(seen) < _FAMILY:
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
    """Whether it is the frame of a generator or coroutine that may go on: to clear it would close that.

    From Python 3.13 on, such a frame refuses. Before, the instruction tells where it stands; one that ended with an
    exception thrown in at a ``yield`` looks suspended, too, and keeps its variables as long as the exception lives.
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
        return _text(str(error), _LONGEST_MESSAGE)
    except BaseException as broken:
        return f"<str() of it raised {name_of(type(broken))}>"


def _traceback_text(error: BaseException) -> str:
    import traceback

    text = None
    if _is_small(error):
        text = answer(lambda: "".join(traceback.format_exception(type(error), error, traceback_of(error))), None)
    if text is None:
        text = answer(lambda: _own_traceback_text(error), None)
    # A worker process knows the program's main module by another name.
    return _text(text or "", _LONGEST_TRACEBACK).replace("__mp_main__.", "")


def _is_small(error: BaseException) -> bool:
    """Whether `traceback` will be through with it in no time."""
    chained = {id(error)}
    waiting = [(error, 0)]
    paths = 0
    while waiting:
        member, depth = waiting.pop()
        paths += 1
        if paths > _PATHS or depth > _DEPTH:
            return False
        waiting += [(inner, depth + 1) for inner in _members(member)]
        for other in (_CAUSE.__get__(member), _CONTEXT.__get__(member)):
            if other is not None and id(other) not in chained:
                chained.add(id(other))
                waiting.append((other, depth))
    return True


def _own_traceback_text(error: BaseException) -> str:
    """A traceback that asks the exceptions for nothing but their text. Used where Python's own fails."""
    parts: list[str] = []
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen and len(seen) < _SHOWN:
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
        # The last one has a cause that is not shown: it was there before, or it is too far away.
        parts.pop()
    return "".join(reversed(parts))


def _one_traceback_text(error: BaseException) -> str:
    import traceback

    lines = ["Traceback (most recent call last):\n"]
    at = traceback_of(error)
    lines += answer(lambda: traceback.format_tb(at), []) or _places(at)
    lines.append(f"{line_of(error)}\n")
    inner = [member for member in _family(error) if member is not error] if _members(error) else []
    lines += [f"  | {line_of(member)}\n" for member in inner[:_SHOWN]]
    if len(inner) > _SHOWN:
        lines.append(f"  | and {len(inner) - _SHOWN} more\n")
    return "".join(lines)


def _places(at: TracebackType | None) -> Iterator[str]:
    while at is not None:
        code = at.tb_frame.f_code
        yield f'  File "{code.co_filename}", line {at.tb_lineno}, in {code.co_name}\n'
        at = at.tb_next


def line_of(error: BaseException) -> str:
    """The last line of a traceback: its class, and what it says."""
    name, message = type_names(type(error))[-1].removeprefix("__main__."), message_of(error)
    return f"{name}: {message}" if message else name


def answer(ask: Callable[[], Value], otherwise: Value) -> Value:
    """What a user's object answers; something else where it raises."""
    try:
        return ask()
    except BaseException:
        return otherwise


def _text(text: str, longest: int) -> str:
    """A text as it can be stored: not longer than that, its middle left out, and with lone surrogates shown."""
    # It may be of a class of the user's own.
    text = str.__str__(text)
    if len(text) > longest:
        begin, end = longest // 4, longest - longest // 4
        text = f"{text[:begin]} [{len(text) - longest} characters left out] {text[-end:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
