"""What the log keeps of an exception."""

from __future__ import annotations

import errno
from types import TracebackType

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
# Errors of name resolution: their numbers are not those of errno.
_RESOLVER = {"gaierror", "herror"}


def type_names(cls: type[BaseException]) -> list[str]:
    """The names of a class: with its module, unless it is built in."""
    if cls.__module__ == "builtins":
        return [cls.__qualname__]
    return [cls.__name__, f"{cls.__module__}.{cls.__qualname__}"]


def is_transient(error: BaseException) -> bool:
    """Whether it is of the kind that passes."""
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if not isinstance(error, OSError):
        return False
    return error.errno in _NETWORK or any(cls.__name__ in _RESOLVER for cls in type(error).__mro__)


def strip(error: BaseException, own: str) -> BaseException:
    """Takes the frames of the file ``own`` off the front of the traceback: they are ours, not the task's."""
    at: TracebackType | None = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename == own:
        at = at.tb_next
    return error.with_traceback(at)


def describe(error: BaseException) -> Described:
    """What the log keeps. It never fails, whatever the exception's own ``__str__`` does."""
    import traceback

    try:
        message = str(error)
    except BaseException as broken:
        message = f"<its text cannot be had: {type(broken).__name__}>"
    try:
        text: str | None = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException:
        text = None
    lineage = [name for cls in type(error).__mro__ if cls is not object for name in type_names(cls)]
    hint = getattr(error, "_cloaca_hint", None)
    return type(error).__name__, _text(message), _text(text), lineage, is_transient(error), hint


def _text(text: str | None) -> str:
    """Texts with lone surrogates cannot be stored; they are shown instead."""
    return "" if text is None else text.encode("utf-8", "backslashreplace").decode("utf-8")
